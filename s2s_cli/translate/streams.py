"""Files and pipes through a translator: N lines in, N lines out."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import chain, islice, product
from pathlib import Path
from typing import BinaryIO, NamedTuple

from s2s_cli.data.features import FEATURE_FILES, FeatureSequences, open_features
from s2s_cli.errors import UserError
from s2s_cli.packing import is_unpacking, open_unpacked
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.documents import Given
from s2s_cli.translate.entry import Notices, Refused, Translation
from s2s_cli.translate.formats import Format, Item, choose_format
from s2s_cli.translate.translator import Translator


class Window(NamedTuple):
    """Items that are translated together."""

    first: int
    """The number of the first, from 0."""
    items: Sequence[Item]
    counts: dict[str, int]
    """What was noticed in reading them."""
    share: float | None = None
    """Of the input up to the last of them, where its size is known."""


class Answer(NamedTuple):
    """A window as it is written."""

    items: int
    """Up to its last."""
    output: bytes
    counts: dict[str, int]
    """All that was noticed of them."""
    share: float | None
    """As the window's."""
    why: str = ""
    """What is wrong with the first of them that is damaged."""


Work = Callable[[Iterator[Window]], Generator[Answer, None, None]]
"""How windows become answers, in order."""


def answer(translator: Translator, form: Format, window: Window, watches: Sequence[Watch] = ()) -> Answer:
    """Translates a window; of what is noticed, the translator keeps nothing.

    A line of which something is asked that contradicts itself is answered as a blank one, and counts as damaged.
    """
    total, translator.notices = translator.notices, Notices()
    lines = []
    try:
        items, found = _translated(translator, window)
        for index, (item, translations) in enumerate(zip(items, found, strict=True), window.first):
            best = form.best(item, translations)
            lines.append(form.render(index, item, best))
            for watch, one in product(watches, best):
                watch(one)
        damaged = [item.error for item in items if item.error]
        translator.notices.add(lines=len(lines), damaged=len(damaged))
        counts = {name: count + window.counts[name] for name, count in translator.notices.take().items()}
    finally:
        translator.notices = total
    return Answer(window.first + len(lines), "".join(lines).encode(), counts, window.share, *damaged[:1])


def _translated(translator: Translator, window: Window) -> tuple[list[Item], list[list[list[Translation]]]]:
    """The items of a window, and the translations of the entries of each."""
    items = list(window.items)
    asked = [item.document.entries for item in items]
    try:
        found = translator.translate(list(chain.from_iterable(asked)))
    except Refused as error:
        owners = [at for at, entries in enumerate(asked) for _ in entries]
        for place, why in reversed(error.messages.items()):
            at = owners[place]
            message = f"line {window.first + at + 1}: {why}"
            items[at] = items[at]._replace(document=Given(translator.blank), error=message)
        asked = [item.document.entries for item in items]
        found = translator.translate(list(chain.from_iterable(asked)))
    rest = iter(found)
    return items, [list(islice(rest, len(entries))) for entries in asked]


def alone(translator: Translator, form: Format, watches: Sequence[Watch] = ()) -> Work:
    """One window after the other, by this process."""
    return lambda windows: (answer(translator, form, window, watches) for window in windows)


@contextmanager
def read_input(translator: Translator, path: Path | None, form: Format) -> Iterator[Iterator[Window]]:
    """What the model reads: the lines of a file, or of standard input where none is named, or the items of a file of
    feature vectors.

    Raises:
        UserError: where the file cannot be read, or is of another kind.
    """
    source = translator.tokenizer.source.config
    if source.kind == "features":
        if path is None:
            raise UserError(
                "this model reads feature vectors, which standard input cannot hold: name a file with --input "
                f"({' or '.join(FEATURE_FILES)})"
            )
        yield _windows(form, open_features([path], source.size))
        return
    if path is not None and path.suffix in FEATURE_FILES:
        raise UserError(f"{path}: feature vectors, but this model reads lines of text (its source.kind is text)")
    with nullcontext(sys.stdin.buffer) if path is None else open_unpacked(path) as lines:
        yield _windows(form, lines)


def translate_file(translator: Translator, path: Path | None, output: BinaryIO, form: Format, work: Work) -> None:
    """Translates what the model reads, as it comes.

    Raises:
        UserError: as `read_input`.
    """
    with read_input(translator, path, form) as windows:
        _write(translator.notices, work(windows), output)


def translate_lines(
    translator: Translator,
    source: BinaryIO | FeatureSequences,
    output: BinaryIO,
    form: Format | None = None,
    watches: Sequence[Watch] = (),
) -> None:
    """Translates lines as they come, whatever bytes they hold, or items: N in, N out, in order.

    Args:
        translator: says how to decode too.
        source: lines with a descriptor, or items.
        output: each window of lines is written and flushed when it is done.
        form: of both; default: lines of text.
        watches: are shown each translation that is written.
    """
    form = form or choose_format(translator.config, translator.tokenizer.source.config.kind)
    _write(translator.notices, alone(translator, form, watches)(_windows(form, source)), output)


def _write(notices: Notices, answers: Generator[Answer, None, None], output: BinaryIO) -> None:
    with closing(answers):
        for found in answers:
            output.write(found.output)
            notices.add(found.why, **found.counts)
            output.flush()


def _windows(form: Format, source: BinaryIO | FeatureSequences) -> Iterator[Window]:
    """What is read, numbered."""
    first, done, read = 0, 0, Notices()
    for items in form.windows(source, read):
        counts = read.take()
        done += counts["bytes"]
        yield Window(first, items, counts, _share(source, first + len(items), done))
        first += len(items)


def _share(source: BinaryIO | FeatureSequences, items: int, bytes_: int) -> float | None:
    """How much of a source so many items, or bytes of lines, are; of a compressed file, what was read of it."""
    if isinstance(source, FeatureSequences):
        return items / len(source)
    size = os.fstat(source.fileno()).st_size
    if not size:  # a pipe has none
        return None
    if is_unpacking(source):
        bytes_ = os.lseek(source.fileno(), 0, os.SEEK_CUR)
    return min(1.0, bytes_ / size)
