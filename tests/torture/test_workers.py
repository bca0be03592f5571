"""Several workers, of which one is killed at any moment: torchrun starts them again, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

import child
import workers
from test_train import assert_same_checkpoint

TRAIN = ("train", "--config", "toy.yaml", "--run", "run")
END = "step-00000100"


def write_task(folder: Path) -> None:
    child.write_task(folder, training__max_steps=100, training__validate_every=20)


def test_workers_killed_at_any_moment_end_as_if_nothing_had_happened(
    tmp_path: Path, rounds: Callable[[int, int], int], record_property: Callable[[str, object], None]
) -> None:
    """While they start, tokenize, train, validate and save; several times in a run."""
    write_task(tmp_path / "whole")
    began = time.monotonic()
    whole = workers.torchrun(tmp_path / "whole", 2, *TRAIN)
    _, told = whole.communicate(timeout=120)
    assert whole.returncode == 0, told.decode()
    seconds = time.monotonic() - began
    draw, killed, runs = random.Random(4), 0, 0
    while killed < rounds(2, 20):
        folder, runs = tmp_path / str(runs), runs + 1
        write_task(folder)
        process = workers.torchrun(folder, 2, *TRAIN, restarts=100)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            for _ in range(min(4, rounds(2, 20) - killed)):
                with suppress(TimeoutExpired):
                    process.wait(draw.uniform(0.3, 1) * seconds)
                    break
                with suppress(ProcessLookupError, IndexError, FileNotFoundError):
                    os.kill(int(children.read_text().split()[draw.randrange(2)]), signal.SIGKILL)
                    killed += 1
            _, told = process.communicate(timeout=180)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 0, told.decode()
        assert_same_checkpoint(tmp_path / "whole" / "run", folder / "run", END)
        assert not list((folder / "run").rglob(".*.tmp"))
    record_property("figure", f"{killed} kills of one of two workers at random times in {runs} runs: same end")
