"""Several real commands that train one model together, as torchrun starts them, in processes that begin at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forks

Prepare = Callable[[int], None]
"""Called in a worker, with its rank, before the command begins; a function of a module."""


@dataclass
class Ended:
    """How workers ended, by rank."""

    codes: list[int]
    told: list[str]
    """What each wrote on standard error."""


@dataclass
class Started:
    """Workers that are at work."""

    processes: list[Any]
    logs: list[Path]

    def end(self, timeout: float = 120) -> Ended:
        """Waits for all."""
        for process in self.processes:
            process.join(timeout)
        running = [process.pid for process in self.processes if process.exitcode is None]
        for process in self.processes:
            process.kill()
        assert not running, "some hang"
        return Ended([process.exitcode for process in self.processes], [log.read_text() for log in self.logs])


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start(context: Any, cwd: Path, size: int, *arguments: object, prepare: Prepare | None = None) -> Started:
    """Starts `s2s` on some workers of one machine."""
    port, logs = free_port(), [cwd / f"worker-{rank}" for rank in range(size)]
    started = []
    for rank, log in enumerate(logs):
        log.write_text("")
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        environment = {**{name: str(value) for name, value in variables.items()}, "MASTER_ADDR": "127.0.0.1"}
        target = (str(cwd), str(log), list(map(str, arguments)), environment, rank, prepare)
        process = context.Process(target=_work, args=target)
        process.start()
        started.append(process)
    return Started(started, logs)


def run(context: Any, cwd: Path, size: int, *arguments: object, prepare: Prepare | None = None) -> Ended:
    """Runs `s2s` on some workers to its end."""
    return start(context, cwd, size, *arguments, prepare=prepare).end()


def _work(
    cwd: str, log: str, arguments: list[str], environment: Mapping[str, str], rank: int, prepare: Prepare | None
) -> None:
    os.chdir(cwd)
    os.environ.update(environment)
    os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if prepare:
        prepare(rank)
    forks.become(arguments)


def torchrun(cwd: Path, size: int, *arguments: object, restarts: int = 0) -> subprocess.Popen[bytes]:
    """The same by torchrun, in a session of its own."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", size]
    command = [*launcher, "--max-restarts", restarts, "-m", "--", "s2s_cli", *arguments]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
