"""A real command in a process that dies, or whose disk refuses, at a chosen moment.

Processes are forked (forks.py), so that each begins at once. What touches the disk inside the run directory is
counted: a file opened to be written, a write, a sync, a rename, a folder made, a file or folder removed. At the chosen
one the process is killed, with half of a write done or half of an unsynced file lost; or the call fails with an error
of the system.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forks
import toy

AUDITED = {"os.rename": 2, "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1}
"""Audit events of calls that change a folder, and how many paths each has."""


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th touch of the disk."""

    at: int
    errno: int | None = None
    """The error that the call meets; None is `kill -9`."""


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal that killed it."""

    code: int
    stderr: str
    touches: int


def start(context: Any, cwd: Path, *arguments: object, fault: Fault | None = None, steps: bool = False) -> Any:
    """Starts `s2s` with some arguments. `steps`: of each update `cwd/begun` tells before it, `cwd/steps` after it."""
    for name in ("stderr", "touches", "begun", "steps"):
        (cwd / name).write_text("")
    process = context.Process(target=_work, args=(str(cwd), list(map(str, arguments)), fault, steps))
    process.start()
    return process


def end(process: Any, cwd: Path, timeout: float = 120) -> Ended:
    """Waits for a process."""
    process.join(timeout)
    assert process.exitcode is not None, "still running"
    touches = (cwd / "touches").read_text().splitlines()
    return Ended(process.exitcode, (cwd / "stderr").read_text(), len(touches))


def run(context: Any, cwd: Path, *arguments: object, fault: Fault | None = None) -> Ended:
    """Runs `s2s` with some arguments to its end."""
    return end(start(context, cwd, *arguments, fault=fault), cwd)


def _work(cwd: str, arguments: list[str], fault: Fault | None, steps: bool) -> None:
    os.chdir(cwd)
    os.dup2(os.open("stderr", os.O_WRONLY | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if steps:
        _tell_steps()
    _count_touches(fault)
    forks.become(arguments)


def _tell_steps() -> None:
    from s2s_cli.train.trainer import Trainer

    update = Trainer._update
    begun, ended = (os.open(name, os.O_WRONLY | os.O_APPEND) for name in ("begun", "steps"))

    def telling(self: Trainer) -> None:
        os.write(begun, f"{self.progress.step + 1}\n".encode())
        update(self)
        os.write(ended, f"{self.progress.step}\n".encode())

    Trainer._update = telling  # type: ignore[method-assign]


def _count_touches(fault: Fault | None) -> None:
    folder = os.path.abspath("runs") + os.sep
    told = os.open("touches", os.O_WRONLY | os.O_APPEND)
    count = 0

    def touch(what: str, before_dying: Callable[[], object] = lambda: None) -> None:
        nonlocal count
        count += 1
        os.write(told, f"{what}\n".encode())
        if fault is None or count != fault.at:
            return
        before_dying()
        if fault.errno is None:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(fault.errno, os.strerror(fault.errno), what)

    def is_inside(path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and os.path.abspath(os.fsdecode(path)).startswith(folder)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in AUDITED and any(map(is_inside, arguments[: AUDITED[event]])):
            touch(event)

    class Written:
        """A file that is being written."""

        def __init__(self, file: Any, name: str) -> None:
            self.file, self.name = file, name

        def write(self, data: Any) -> Any:
            touch(f"write {self.name}", lambda: (self.file.write(data[: len(data) // 2]), self.file.flush()))
            return self.file.write(data)

        def writelines(self, lines: Any) -> None:
            for line in lines:
                self.write(line)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> Written:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

    plain_open, plain_sync = builtins.open, os.fsync

    def opened(file: Any, mode: str = "r", *arguments: Any, **names: Any) -> Any:
        if not set(mode) & set("wax+") or not is_inside(file):
            return plain_open(file, mode, *arguments, **names)
        touch(f"open {file}")
        return Written(plain_open(file, mode, *arguments, **names), str(file))

    def synced(descriptor: Any) -> None:
        def lose_half() -> None:  # what a power cut may do to what is not yet on the disk
            if not os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)

        touch("sync", lose_half)
        plain_sync(descriptor)

    builtins.open = opened
    os.fsync = synced
    sys.addaudithook(audit)


def write_task(folder: Path, **changes: Any) -> Path:
    """The toy task, made short: four validations in twelve updates, everything random switched on."""
    settings: dict[str, Any] = {
        "model__dropout": 0.2,
        "model__word_dropout": 0.1,
        "training__average_decay": 0.9,
        "training__r_drop": 5.0,
        "training__accumulate": 2,
        "training__schedule": "cosine",
        "training__warmup_steps": 4,
        "training__batch_tokens": 128,
        "training__max_steps": 12,
        "training__validate_every": 3,
        "training__log_every": 1,
        "decoding__beam": 1,
    }
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.src").exists():
        toy.write_corpus(folder, train=300, held_out=12)
    return toy.write_config(folder, **{**settings, **changes})
