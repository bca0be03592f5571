"""Files and pipes through a translator: N lines in, N lines out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from s2s_cli.data.features import FORMATS, open_features
from s2s_cli.errors import UserError
from s2s_cli.files import open_binary
from s2s_cli.translate.entry import Entry, Notices
from s2s_cli.translate.formats import Format, Lines
from s2s_cli.translate.lines import LAST_WINDOW
from s2s_cli.translate.translator import Translator


class Window(NamedTuple):
    """Items that are translated together."""

    first: int
    """The number of the first, from 0."""
    items: Sequence[Any]
    counts: dict[str, int]
    """What was noticed in reading them."""
    position: int | None
    """Bytes of the input that were read so far, where there is such a number."""


class Answer(NamedTuple):
    """A window as it is written."""

    items: int
    """Up to its last."""
    output: bytes
    counts: dict[str, int]
    """All that was noticed of them."""
    position: int | None
    """As the window's."""


Work = Callable[[Format, Iterator[Window]], Generator[Answer, None, None]]
"""How windows become answers, in order."""


def answer(translator: Translator, form: Format, window: Window) -> Answer:
    """Translates a window; of what is noticed, the translator keeps nothing."""
    total, translator.notices = translator.notices, Notices()
    try:
        return _answer(translator, form, window)
    finally:
        translator.notices = total


def _answer(translator: Translator, form: Format, window: Window) -> Answer:
    asked = [form.entries(item) for item in window.items]
    found = iter(translator.translate([entry for entries in asked for entry in entries]))
    lines = [
        form.render(index, item, [next(found) for _ in entries])
        for index, (item, entries) in enumerate(zip(window.items, asked, strict=True), window.first)
    ]
    translator.notices.add(lines=len(window.items))
    counts = translator.notices.take()
    return Answer(
        window.first + len(window.items),
        "".join(lines).encode(),
        {name: count + window.counts[name] for name, count in counts.items()},
        window.position,
    )


def alone(translator: Translator) -> Work:
    """One window after the other, by this process."""
    return lambda form, windows: (answer(translator, form, window) for window in windows)


@contextmanager
def read_input(translator: Translator, path: Path | None) -> Iterator[tuple[Format, Iterator[Window]]]:
    """What the model reads: the lines of a file, or of standard input where none is named, or the items of a file of
    feature vectors.

    Raises:
        UserError: where the file cannot be read, or is of another kind.
    """
    source, form = translator.tokenizer.source.config, Lines(translator.config.n_best)
    if source.kind == "features":
        if path is None:
            raise UserError(
                "this model reads feature vectors, which standard input cannot hold: name a file with --input "
                f"({' or '.join(FORMATS)})"
            )
        items = open_features([path], source.size)
        starts = range(0, len(items), LAST_WINDOW)
        entries = ([Entry(item) for item in items[start : start + LAST_WINDOW]] for start in starts)
        yield form, _numbered(entries, Notices(), lambda: None)
        return
    if path is not None and path.suffix in FORMATS:
        raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
    with open_binary(path, sys.stdin) as lines:
        yield form, _windows(form, lines)


def translate_file(translator: Translator, path: Path | None, output: BinaryIO, work: Work) -> None:
    """Translates what the model reads, as it comes.

    Raises:
        UserError: as `read_input`.
    """
    with read_input(translator, path) as (form, windows):
        _write(translator.notices, work(form, windows), output)


def translate_lines(translator: Translator, source: BinaryIO, output: BinaryIO) -> None:
    """Translates lines as they come: N lines in, N lines out, in order, whatever bytes they hold."""
    form = Lines(translator.config.n_best)
    _write(translator.notices, alone(translator)(form, _windows(form, source)), output)


def _write(notices: Notices, answers: Generator[Answer, None, None], output: BinaryIO) -> None:
    with closing(answers):
        for found in answers:
            output.write(found.output)
            notices.add(**found.counts)
            output.flush()


def _windows(form: Format, source: BinaryIO) -> Iterator[Window]:
    """The windows of a file or a pipe."""
    read = Notices()
    return _numbered(form.windows(source, read), read, lambda: _position(source))


def _numbered(windows: Iterator[list[Any]], read: Notices, position: Callable[[], int | None]) -> Iterator[Window]:
    first = 0
    for items in windows:
        yield Window(first, items, read.take(), position())
        first += len(items)


def _position(source: BinaryIO) -> int | None:
    """Bytes read so far; of a compressed file, as they lie on the disk."""
    try:
        return os.lseek(source.fileno(), 0, os.SEEK_CUR)
    except OSError:  # a pipe has no such number
        return None
