"""The real command on a terminal that is none."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

WAIT = 60.0  # seconds for an answer; far more than it needs


class Terminal:
    """`s2s` with a terminal as its input, and as its output where no file is given."""

    def __init__(self, *arguments: object, folder: Path, output: Path | None = None, **environment: str) -> None:
        self._own, theirs = pty.openpty()
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "dumb", **environment}
        with open(output or os.devnull, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "s2s_cli", *map(str, arguments)],
                cwd=folder,
                env=variables,
                stdin=theirs,
                stdout=file if output else theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
            )
        os.close(theirs)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def answer(self, until: str = "\n> ") -> str:
        """What appears until some text does, that text left out."""
        deadline = time.monotonic() + WAIT
        while until not in self.seen:
            assert time.monotonic() < deadline, f"no {until!r} in {self.seen!r}"
            assert self._reads_on(), f"it ended before {until!r}: {self.seen!r}"
        before, _, self.seen = self.seen.partition(until)
        return before

    def rest(self) -> str:
        """What else appears until the program ends."""
        deadline = time.monotonic() + WAIT
        while self._reads_on():
            assert time.monotonic() < deadline, f"it goes on: {self.seen!r}"
        return self.seen

    def _reads_on(self) -> bool:
        """Takes up what has appeared; whether there can be more."""
        if not select.select([self._own], [], [], 0.1)[0]:
            return True
        try:
            found = os.read(self._own, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.seen += found.decode(errors="replace").replace("\r\n", "\n")
        return bool(found)

    def ask(self, text: str) -> str:
        """The answer to a line; what was typed is echoed before it."""
        self.type(f"{text}\n")
        return self.answer().removeprefix(text).strip("\n")

    def end(self) -> int:
        """The exit code, once the program has ended."""
        return self.process.wait(WAIT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._own)


def screen(seen: str) -> tuple[list[str], bool]:
    """What a terminal shows that was blank: its lines, those that hold something, and whether the cursor is seen."""
    rows, row, column, cursor = [""], 0, 0, True
    for escape, mark, text in re.findall(r"(\x1b\[[?\d;]*[A-Za-z])|([\r\n])|([^\x1b\r\n]+)", seen):
        if text:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
            column += len(text)
        elif mark:
            row, column = row + (mark == "\n"), 0
            rows += [""] * (row == len(rows))
        elif escape == "\x1b[2K":
            rows[row] = ""
        elif escape == "\x1b[1A":
            row -= 1
        elif escape in ("\x1b[?25l", "\x1b[?25h"):
            cursor = escape.endswith("h")
        else:
            assert escape.endswith("m"), f"{escape!r} is no colour"
    return [line for line in rows if line], cursor
