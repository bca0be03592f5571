"""The real command in processes that have imported everything before, since torch alone takes seconds.

A server imports, and is forked for each command. All that it starts have the same hash seed; where that or the start
itself is what matters, `toy.s2s(..., fresh=True)` begins a new interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PRELOAD = [
    *("s2s_cli.average", "s2s_cli.cli.main", "s2s_cli.dispatch", "s2s_cli.display", "s2s_cli.report.page"),
    *("s2s_cli.score.evaluator", "s2s_cli.train.session", "s2s_cli.translate.streams", "s2s_cli.translate.workers"),
    *("sacrebleu.tokenizers.tokenizer_13a", "torch._dynamo"),  # of optimizers: two seconds
]


def server() -> Any:
    """The context whose processes are forked from the server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def s2s(
    arguments: Sequence[str], cwd: Path, stdin: bytes, timeout: float, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Runs `s2s`, as `subprocess.run` does: its input is a pipe, its output files."""
    with tempfile.TemporaryDirectory() as place:
        streams = [Path(place) / name for name in ("stdin", "stdout", "stderr")]
        os.mkfifo(streams[0])
        target = (list(arguments), str(cwd), dict(environment), list(map(str, streams)))
        process = server().Process(target=_run, args=target)
        process.start()
        threading.Thread(target=_feed, args=(streams[0], stdin), daemon=True).start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(["s2s", *arguments], timeout)
        output, told = (stream.read_bytes() for stream in streams[1:])
        return subprocess.CompletedProcess(["s2s", *arguments], process.exitcode, output, told)


def _feed(pipe: Path, data: bytes) -> None:
    with suppress(BrokenPipeError), open(pipe, "wb") as file:
        file.write(data)


def _run(arguments: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, (name, flags) in enumerate(zip(streams, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        os.dup2(os.open(name, flags), number)
    os.chdir(cwd)
    become(arguments)


def become(arguments: list[str]) -> None:
    """Does in this process what the command does, with the folder and the streams that it has."""
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    from s2s_cli.cli.main import main

    sys.argv = ["s2s", *arguments]
    main()
