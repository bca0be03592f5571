"""Big files: translated with progress, and gone on with where they were left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

from s2s_cli.checkpoint import Checkpoint
from s2s_cli.data.tokenizer import fingerprint
from s2s_cli.distributed import Workers
from s2s_cli.errors import RunFailed, Stopped, UserError
from s2s_cli.files import destination, is_file
from s2s_cli.packing import packing
from s2s_cli.run import RunDirectory
from s2s_cli.translate.code import translating_code
from s2s_cli.translate.entry import Notices
from s2s_cli.translate.formats import Format
from s2s_cli.translate.part import Part
from s2s_cli.translate.streams import Answer, Window, Work, read_input
from s2s_cli.translate.translator import Translator


class Watcher(Protocol):
    """Is told how far it is."""

    def info(self, text: str) -> None:
        """A line for the user."""

    def translating(self) -> AbstractContextManager[None]:
        """Inside, lines are translated."""

    def translated(self, share: float | None, lines: int, figures: str) -> None:
        """So many lines are done; `share` of the way, where that is known."""


def can_go_on(source: Path | None, output: Path | None, others: Iterable[Path]) -> bool:
    """Whether a translation that is interrupted could go on: from a file to a file, and nothing comes through a pipe.

    Args:
        source, output: what is translated, and where it goes.
        others: files that decide about it too, such as terminology.
    """
    files = source is not None and output is not None and is_file(source) and not destination(output)[1]
    return files and all(map(is_file, others))


def asked_of(
    translator: Translator,
    models: Sequence[tuple[RunDirectory, Path]],
    source: Path,
    options: Mapping[str, object],
) -> dict[str, Any]:
    """Whatever decides what the translation of a file is, by the names that the user knows it by.

    Args:
        translator: of the models.
        models: as `Translator.load` takes them.
        source: the file.
        options: of the command line, that say more than the decoding section.
    """
    decoding = translator.config.model_dump(mode="json", exclude={"batch_size"})
    return {
        "s2s": translating_code(),
        "--input": _told(source),
        **{f"--model {number}": _model_sha256(*model) for number, model in enumerate(models, 1)},
        **{f"decoding.{name}": value for name, value in decoding.items()},
        **{f"--{name.replace('_', '-')}": _told(value) for name, value in options.items() if name not in decoding},
    }


def _model_sha256(run: RunDirectory, path: Path) -> str:
    tokenizer = fingerprint(run.read_tokenizer_files())
    return f"{Checkpoint(path, run.read_config(), tokenizer).told_sha256} with tokenizer {tokenizer}"


def _told(value: object) -> Any:
    """An option as it is kept; of a file, how it can be known whether it has changed."""
    if isinstance(value, list | tuple):
        return [_told(one) for one in value]
    if isinstance(value, Path):
        if not is_file(value):
            return str(value)
        about = value.stat()
        return f"{value.resolve()} ({about.st_size} bytes, changed at {about.st_mtime_ns})"
    return value


def translate_to_file(
    translator: Translator,
    source: Path,
    output: Path,
    form: Format,
    work: Work,
    asked: Mapping[str, Any],
    watcher: Watcher,
    *,
    fresh: bool,
    workers: Workers = Workers(),
) -> None:
    """Translates a file to another one, or goes on with that; after an end at any moment the same call goes on.

    All workers must call it; the first one writes.

    Args:
        translator: of the models.
        source, output: the files; a name that ends in .gz or .zst is written compressed.
        form: of both.
        work: who does it; gives nothing to the others than the first worker.
        asked: from `asked_of`.
        watcher: is told how far it is.
        fresh: forget what was begun.
        workers: those that call it.

    Raises:
        UserError: where a file cannot be read or written, or what was begun there is not what is asked.
        RunFailed: where the disk is full, or a worker died.
    """
    (place, _), encode = destination(output), packing(output)
    with ExitStack() as held:
        with workers.together():
            windows = held.enter_context(read_input(translator, source, form))
            part = held.enter_context(Part(place, asked, fresh=fresh)) if workers.first else None
        done = workers.of_first(part.whole.items if part else 0)
        if part and done:
            watcher.info(f"goes on after line {done:,} of {output}")
            translator.notices.add(**part.whole.counts)
        speed = _Speed(done)
        with workers.together(patient=True), closing(work(_after(windows, done, speed))) as answers:
            if part:
                _grow(part, answers, encode, translator.notices, speed, watcher)
            else:
                deque(answers, maxlen=0)


def _grow(
    part: Part,
    answers: Iterator[Answer],
    encode: Callable[[bytes], bytes],
    notices: Notices,
    speed: _Speed,
    watcher: Watcher,
) -> None:
    """Adds answers to what is begun, and ends it."""
    try:
        with watcher.translating():
            for found in answers:
                part.append(encode(found.output), found.items, found.counts)
                notices.add(found.why, **found.counts)
                watcher.translated(*speed.figures(found.items, found.share))
    except (Stopped, RunFailed) as error:
        if part.whole.items:
            error.args = (f"{error}; the same command goes on after line {part.whole.items:,}",)
        raise
    if not part.whole.items:
        part.append(encode(b""), 0, {})
    part.finish()


def _after(windows: Iterator[Window], done: int, speed: _Speed) -> Iterator[Window]:
    """The windows, without the items that are done."""
    for window in windows:
        skipped = max(0, done - window.first)
        if skipped >= len(window.items):
            speed.begin(window.share)
        else:
            yield window._replace(first=window.first + skipped, items=window.items[skipped:])


class _Speed:
    """How fast it goes.

    Args:
        done: items that were done before.
    """

    def __init__(self, done: int) -> None:
        self._done = done
        self._began, self._share = time.monotonic(), 0.0

    def begin(self, share: float | None) -> None:
        """Such a share of the input was done before."""
        self._began, self._share = time.monotonic(), share or 0.0

    def figures(self, items: int, share: float | None) -> tuple[float | None, int, str]:
        """The share that is done, the items, and words about speed and the time left."""
        seconds = time.monotonic() - self._began
        words = f"{(items - self._done) / max(seconds, 1e-9):,.0f} lines/s"
        if share is None or share <= self._share:
            return share, items, words
        left = (1 - share) * seconds / (share - self._share)
        return share, items, f"{words}, {_duration(left)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{round(seconds) % 60:02}"


def refuse_fresh(fresh: bool) -> None:
    """Raises `UserError` where there is nothing that --fresh could forget."""
    if fresh:
        raise UserError(
            "--fresh: only a translation of an --input FILE to an --output FILE, no pipes, without --attention and "
            "--show-attention, can be begun anew"
        )
