"""A lock on a folder: of the processes on all hosts that share its disk one holds it."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from s2s_cli.errors import UserError, printable
from s2s_cli.files import read_regular

MOST_BYTES = 300
"""Of a lock's content: a number and a host."""


@contextmanager
def locked(path: Path, doing: str, advice: str) -> Iterator[None]:
    """Holds a folder for one process, by a file in it; the system lets go of it when the process ends, however it ends.

    Args:
        path: the file; its folder is made.
        doing, advice: what the holder does, and what else than to wait for it, in words.

    Raises:
        UserError: where another process holds it; names that process.
        OSError: where the folder or the file cannot be made.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+b")  # noqa: SIM115  (closed below; only the opening is guarded)
        except FileNotFoundError:  # its holder has just removed the folder
            continue
        with file:
            if not (_takes(file) or _takes(file, after=0.05)):  # `is_locked` may have had it for a moment
                raise UserError(f"{path.parent}: {_holder(file)} is {doing} here; wait, or {advice}")
            if not _is_at(path, file):
                continue
            file.truncate(0)
            file.write(f"{os.getpid()} {socket.gethostname()}\n".encode())
            file.flush()
            yield
            return


def is_locked(path: Path) -> bool:
    """Whether a process holds that lock now, on this host or on another that shares the disk."""
    try:
        number, host = _written(read_regular(path, MOST_BYTES))
        if host in ("", socket.gethostname()) and not _is_running(number):  # who begins now is not kept out
            return False
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _takes(lock: BinaryIO, after: float = 0.0) -> bool:
    """Whether a lock can be had, some seconds from now."""
    time.sleep(after)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _holder(lock: BinaryIO) -> str:
    """Who holds a lock: it writes its number just after it got it, over that of whoever held it before."""
    for _ in range(20):
        lock.seek(0)
        number, host = _written(lock.read(MOST_BYTES))
        if host not in ("", socket.gethostname()):  # of that one's processes nothing is known here
            return f"process {number} on {host}"
        if _is_running(number):
            return f"process {number}"
        time.sleep(0.05)
    return "another process"


def _written(content: bytes) -> tuple[int, str]:
    """A process and its host, as a lock holds them; -1 where it holds none."""
    number, _, host = content.decode("utf-8", "replace").strip().partition(" ")
    return (int(number) if number.isascii() and number.isdigit() else -1), printable(host)


def _is_running(process: int) -> bool:
    """Whether there is such a process."""
    if process <= 0:  # that would be many at once
        return False
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
