"""Lines of bytes as they come, and as text."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from functools import partial
from gzip import GzipFile
from typing import BinaryIO

from s2s_cli.packing import is_unpacking
from s2s_cli.translate.entry import MAX_LINE_BYTES, Entry

FIRST_WINDOW, LAST_WINDOW = 64, 1024  # lines translated together: few at first, so that output comes early
PAUSE_SECONDS = 0.02
WINDOW_BYTES = 1 << 22  # the same for long lines
READ_BYTES = 1 << 16

# To Unicode these too end a line or are no text: one input line must stay one line, here and for whoever reads on.
BLANKS = dict.fromkeys(map(ord, "\0\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")
SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""No text: what JSON's escapes and the command line can hold all the same."""
REPAIRS = BLANKS | SURROGATES | {ord("\ufeff"): ""}


def repair(line: bytes) -> tuple[Entry, bool]:
    """A line as text, and whether it had to be repaired: broken bytes and characters that are no text are replaced."""
    cut = len(line) > MAX_LINE_BYTES
    if cut:
        line = line[:MAX_LINE_BYTES]
        while len(line) > MAX_LINE_BYTES - 4 and line[-1] & 0xC0 == 0x80:  # the cut may have hit a character
            line = line[:-1]
        line = line[:-1] if line[-1] >= 0xC0 else line
    text = line.removesuffix(b"\r").decode("utf-8", errors="replace").translate(REPAIRS)
    return Entry(text, cut=cut), text.encode() != line


def read_windows(source: BinaryIO) -> Iterator[list[bytes]]:
    """Lines in windows that grow, given out as soon as the input pauses; a line ends with LF and nothing else.

    Of a line longer than MAX_LINE_BYTES, one byte more than that is kept, so that memory is bounded.
    """
    descriptor = source.fileno()
    size = FIRST_WINDOW
    lines: list[bytes] = []
    rest = b""
    read = source.read1 if is_unpacking(source) else partial(os.read, descriptor)
    while chunk := read(READ_BYTES):
        first, *others = chunk.split(b"\n")
        rest = (rest + first)[: MAX_LINE_BYTES + 1]
        if others:
            lines.append(rest)
            lines.extend(others[:-1])
            rest = others[-1]
        while lines and (len(lines) >= size or sum(map(len, lines)) >= WINDOW_BYTES or _pauses(descriptor)):
            yield lines[:size]
            del lines[:size]
            size = min(2 * size, LAST_WINDOW)
    if rest:
        lines.append(rest)
    for start in range(0, len(lines), LAST_WINDOW):
        yield lines[start : start + LAST_WINDOW]


def count_lines(source: BinaryIO) -> int | None:
    """How many lines of a file are still to come; of a pipe, or one file that cannot be unpacked twice, nobody knows.
    They can be read afterwards."""
    if not source.seekable():
        return None
    try:
        here = os.lseek(source.fileno(), 0, os.SEEK_CUR)
    except OSError:
        return None
    count = sum(map(len, read_windows(source)))
    if isinstance(source, GzipFile):
        source.seek(0)
    else:
        os.lseek(source.fileno(), here, os.SEEK_SET)
    return count


def _pauses(descriptor: int) -> bool:
    try:
        ready, _, _ = select.select([descriptor], [], [], PAUSE_SECONDS)
    except (OSError, ValueError):  # not every system can wait for every kind of file
        return False
    return not ready
