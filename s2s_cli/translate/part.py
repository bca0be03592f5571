"""A result that grows aside until it is whole, and goes on growing after any interruption.

    out.txt.part/   output   journal   lock

The first line of the journal says what was asked. Each other one says how much of the output is whole: items, bytes,
and a CRC-32 of them all, by which it is known again. Before each line stands its own CRC-32, so that half a line is
none. Nothing needs to be on the disk in a certain order: what a power cut takes from either file is made anew.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple, Self

from s2s_cli.errors import UserError
from s2s_cli.files import cannot_make, read_regular, sync_folder, write_synced
from s2s_cli.locks import locked

SYNC_SECONDS = 5.0
READ_BYTES = 1 << 20


class Written(NamedTuple):
    """How much of the output is whole."""

    items: int = 0
    bytes: int = 0
    crc: int = 0
    counts: Mapping[str, int] = {}
    """What was noticed of these items."""


class Part:
    """The output so far, and its journal.

    Args:
        path: where the result goes.
        asked: whatever decides what the result is, by the names that the user knows it by.
        fresh: forget what another process made.

    Raises:
        UserError: where another process works here, something else was asked of what is here, or it cannot be written.
        RunFailed: where the disk refuses.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], *, fresh: bool) -> None:
        self.path, self.folder = path, path.with_name(f"{path.name}.part")
        self._output_path, self._journal_path = self.folder / "output", self.folder / "journal"
        self._asked, self._fresh = json.loads(json.dumps(asked)), fresh
        self._finished, self._synced = False, time.monotonic()
        self._open = ExitStack()
        self.whole = Written()

    def __enter__(self) -> Self:
        with self._open, self._told():
            self._open.enter_context(locked(self.folder / "lock", "translating", "choose another --output"))
            journal_bytes = self._find()
            self._output = self._open.enter_context(_appending(self._output_path))
            self._journal = self._open.enter_context(_appending(self._journal_path))
            self._output.truncate(self.whole.bytes)
            self._journal.truncate(journal_bytes)
            self._open = self._open.pop_all()  # all went well: they stay open
        return self

    def __exit__(self, *error: object) -> None:
        with self._open:
            if not self._finished and not self.whole.items:
                with suppress(OSError):
                    self._remove()

    def append(self, data: bytes, items: int, counts: Mapping[str, int]) -> None:
        """Takes up the next whole piece of the output.

        Args:
            data: the piece.
            items: all up to its last.
            counts: what was noticed of it.

        Raises:
            RunFailed: where the disk refuses.
        """
        before = self.whole
        total = {name: before.counts.get(name, 0) + count for name, count in counts.items()}
        after = Written(items, before.bytes + len(data), zlib.crc32(data, before.crc), total)
        with self._told():
            _write(self._output, data)
            _write(self._journal, _line(after._asdict()))
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._output.fileno())
                os.fsync(self._journal.fileno())
                self._synced = time.monotonic()
        self.whole = after

    def finish(self) -> None:
        """Gives the output its name, now that it is all there.

        Raises:
            RunFailed: where the disk refuses.
        """
        with self._told():
            os.fsync(self._output.fileno())
            self._output_path.replace(self.path)
            self._finished = True
            sync_folder(self.path.parent)
        with suppress(OSError):  # the result stands
            self._remove()

    def _find(self) -> int:
        """Finds what is whole, else prepares to begin anew; returns the bytes of the journal that tell of it."""
        if self._fresh:
            self._clear()
        lines = list(_lines(self._journal_path))
        if not lines:
            if self._output_path.exists() and self._output_path.stat().st_size:
                raise UserError(
                    f"{self.folder}: its journal is missing or damaged, so that nobody knows what its output is: move "
                    "that away, or discard it with --fresh"
                )
        elif found := _last_whole(self._output_path, lines[1:]):
            self._hold_to(lines[0][1])
            end, self.whole = found
            return end
        self._clear()  # no item is whole, so that nothing is lost
        header = _line(self._asked)
        write_synced(self._journal_path, header)
        sync_folder(self.folder)
        return len(header)

    def _hold_to(self, before: Mapping[str, Any]) -> None:
        changed = [name for name in {**before, **self._asked} if before.get(name) != self._asked.get(name)]
        if changed:
            told = "; ".join(f"{name} was {before.get(name)}, is {self._asked.get(name)}" for name in changed)
            raise UserError(
                f"{self.folder}: begun otherwise ({told}): go on with what was asked then, or discard what is there "
                "with --fresh"
            )

    def _clear(self) -> None:
        """The output goes before the journal that tells what it is."""
        for path in (self._output_path, self._journal_path):
            path.unlink(missing_ok=True)
            sync_folder(self.folder)

    def _remove(self) -> None:
        self._clear()
        (self.folder / "lock").unlink()
        self.folder.rmdir()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise cannot_make(error, f"{self.path}: cannot write it", where) from None


def _appending(path: Path) -> FileIO:
    return open(path, "ab", buffering=0)


def _write(file: FileIO, data: bytes) -> None:
    """All of it: one call may write less."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _line(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _lines(journal: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The whole lines of a journal, each with the place where it ends; none where there is none."""
    try:
        data = read_regular(journal)
    except FileNotFoundError:
        return
    end = 0
    for line in data.split(b"\n")[:-1]:
        crc, _, text = line.partition(b" ")
        if crc != b"%08x" % zlib.crc32(text):
            return
        end += len(line) + 1
        yield end, json.loads(text)


def _last_whole(output: Path, lines: list[tuple[int, dict[str, Any]]]) -> tuple[int, Written] | None:
    """The last line of a journal, and where it ends, up to which the output is what the journal says."""
    found = None
    crc = position = 0
    if not output.exists():
        return None
    with open(output, "rb") as file:
        for end, content in lines:
            whole = Written(**content)
            while position < whole.bytes and (data := file.read(min(READ_BYTES, whole.bytes - position))):
                crc, position = zlib.crc32(data, crc), position + len(data)
            if (position, crc) != (whole.bytes, whole.crc):
                break
            found = end, whole
    return found
