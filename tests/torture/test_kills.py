"""Training that is killed, refused by its disk, or stopped by a signal, at any moment: nothing is lost."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import child
import forks
import pytest
import workers
from child import Fault
from test_train import assert_same_checkpoint

from s2s_cli.checkpoint import load_model
from s2s_cli.run import RunDirectory, find_model
from s2s_cli.signals import ONE_WISH

TRAIN = ("train", "--config", "toy.yaml")
END = "step-00000012"
Rounds = Callable[[int, int], int]
Record = Callable[[str, object], None]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(scope="module")
def context() -> Any:
    return forks.server()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, context: Any) -> tuple[Path, list[int], float]:
    """A run that nothing disturbed; the numbers of its touches of the disk; and its seconds."""
    folder = tmp_path_factory.mktemp("whole")
    child.write_task(folder)
    child.run(context, folder, *TRAIN)  # the server starts
    began = time.perf_counter()
    (folder / "runs").rename(folder / "first")
    ended = child.run(context, folder, *TRAIN)
    assert ended.code == 0, ended.stderr
    seconds = time.perf_counter() - began
    touches = len((folder / "touches").read_text().splitlines())
    return folder / "runs" / "toy", list(range(1, touches + 1)), seconds


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    child.write_task(tmp_path)
    return tmp_path


def touches_of_saves(folder: Path) -> list[int]:
    """The numbers of the touches that lie between the first and the last touch of a checkpoint, pointers included."""
    told = (folder / "touches").read_text().splitlines()
    inside = [number for number, what in enumerate(told, 1) if re.search(r"\.step-|last|best", what)]
    return [number for number in range(inside[0], inside[-1] + 1) if "train.log" not in told[number - 1]]


def goes_on_to_the_same_end(context: Any, folder: Path, whole: Path) -> None:
    ended = child.run(context, folder, *TRAIN)
    assert ended.code == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    run = folder / "runs" / "toy"
    assert_same_checkpoint(whole, run, END)
    assert not list(run.rglob(".*.tmp")), "what a kill left is cleaned up"
    for pointer in ("best", "last"):
        assert (run / pointer).read_text() == (whole / pointer).read_text()


def anew(folder: Path) -> None:
    """Forgets the run."""
    for number in range(10_000):
        aside = folder / "old" / str(number)
        if not aside.exists():
            aside.parent.mkdir(exist_ok=True)
            (folder / "runs").rename(aside)
            return


def chosen(numbers: list[int], count: int, seed: int) -> Iterator[int]:
    """All of them, or as many spread at random."""
    yield from numbers if count >= len(numbers) else sorted(random.Random(seed).sample(numbers, count))


def test_killed_at_a_touch_of_the_disk_it_goes_on_to_the_same_end(
    folder: Path, context: Any, whole: tuple[Path, list[int], float], rounds: Rounds, record_property: Record
) -> None:
    """Each of them: of the tokenizer, the corpus, saves, pointers, the log."""
    run, touches, _ = whole
    killed = 0
    for at in chosen(touches, rounds(4, len(touches)), 1):
        assert child.run(context, folder, *TRAIN, fault=Fault(at)).code == -signal.SIGKILL
        killed += 1
        goes_on_to_the_same_end(context, folder, run)
        anew(folder)
    record_property(
        "figure", f"{killed} touches of the disk in a training, of all saves each: killed, restarted, same end"
    )


def test_killed_in_saves_again_and_again_it_goes_on_to_the_same_end(
    folder: Path, context: Any, whole: tuple[Path, list[int], float], rounds: Rounds, record_property: Record
) -> None:
    run, _, _ = whole
    draw, killed, wanted = random.Random(2), 0, rounds(3, 100)
    while killed < wanted:
        saves = touches_of_saves(run.parent.parent)
        while child.run(context, folder, *TRAIN, fault=Fault(draw.choice(saves))).code == -signal.SIGKILL:
            killed += 1
        goes_on_to_the_same_end(context, folder, run)
        anew(folder)
    record_property("figure", f"{killed} kills inside saves, several in a run: restarted, same end")


def test_killed_at_any_time_it_goes_on_to_the_same_end(
    folder: Path, context: Any, whole: tuple[Path, list[int], float], rounds: Rounds, record_property: Record
) -> None:
    run, _, seconds = whole
    draw, killed = random.Random(3), 0
    while killed < rounds(3, 100):
        process = child.start(context, folder, *TRAIN)
        process.join(draw.uniform(0, seconds))
        if process.exitcode is None:
            process.kill()
            killed += 1
        process.join()
        if draw.random() < 0.3:
            goes_on_to_the_same_end(context, folder, run)
            anew(folder)
    goes_on_to_the_same_end(context, folder, run)
    record_property("figure", f"{killed} kills at random times: restarted, same end")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_a_disk_that_refuses_ends_the_run_with_3_and_costs_nothing(
    number: int,
    folder: Path,
    context: Any,
    whole: tuple[Path, list[int], float],
    rounds: Rounds,
    record_property: Record,
) -> None:
    run, touches, _ = whole
    refused: dict[int, int] = {}
    for at in chosen(touches, rounds(4, len(touches)), number):
        ended = child.run(context, folder, *TRAIN, fault=Fault(at, number))
        what = (folder / "touches").read_text().splitlines()[at - 1]
        assert ended.code in (0, 3), (what, ended)
        refused[ended.code] = refused.get(ended.code, 0) + 1
        lines = [line for line in ended.stderr.splitlines() if line.startswith("s2s: error:")]
        assert len(lines) == (1 if ended.code else 0), (what, ended.stderr)
        assert "Traceback" not in ended.stderr, (what, ended.stderr)
        if lines:
            assert ("disk is full" if number == errno.ENOSPC else os.strerror(number)) in lines[0]
        made = RunDirectory(folder / "runs" / "toy")
        if (made.path / "last").exists():
            load_model(*find_model(made.path))
        goes_on_to_the_same_end(context, folder, run)
        anew(folder)
    record_property(
        "figure",
        f"{errno.errorcode[number]} at {sum(refused.values())} touches, of all saves each: {refused.get(3, 0)} ended "
        f"with exit 3 and one line, {refused.get(0, 0)} did not matter (cleaning up); the older loads; same end",
    )


@pytest.mark.parametrize("number", SIGNALS, ids=["INT", "TERM"])
def test_a_signal_is_obeyed_within_a_step(
    number: signal.Signals,
    folder: Path,
    context: Any,
    whole: tuple[Path, list[int], float],
    rounds: Rounds,
    record_property: Record,
) -> None:
    run, _, seconds = whole
    draw, sent, most = random.Random(int(number)), 0, 0
    while sent < rounds(2, 50):
        process = child.start(context, folder, *TRAIN, steps=True)
        while not (folder / "steps").read_text() and process.exitcode is None:
            process.join(0.01)  # signals before that are another test
        process.join(draw.uniform(0, 0.7) * seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGSTOP)  # so that it takes no step while we look
        before = int(["0", *(folder / "steps").read_text().split()][-1])
        if process.exitcode is None:
            os.kill(process.pid, number)
            os.kill(process.pid, signal.SIGCONT)
        ended = child.end(process, folder)
        if ended.code == 0:  # it was too late
            anew(folder)
            continue
        assert ended.code == 128 + number, ended
        sent += 1
        saved = int((folder / "runs" / "toy" / "last").read_text().strip().removeprefix("step-"))
        after = int((folder / "steps").read_text().split()[-1])
        assert saved == after
        most = max(most, after - before)
        assert after - before <= 1
        if draw.random() < 0.3:
            goes_on_to_the_same_end(context, folder, run)
            anew(folder)
    goes_on_to_the_same_end(context, folder, run)
    record_property("figure", f"{sent} times: saved, exit {128 + number}, at most {most} steps later; same end")


@pytest.mark.parametrize("number", SIGNALS, ids=["INT", "TERM"])
def test_a_second_signal_ends_at_once(
    number: signal.Signals, folder: Path, context: Any, whole: tuple[Path, list[int], float]
) -> None:
    child.write_task(folder, training__batch_tokens=20_000, training__accumulate=1000)  # steps of many seconds
    process = child.start(context, folder, *TRAIN, steps=True)
    while not (folder / "begun").read_text():  # a signal before the step has nothing to wait for
        process.join(0.05)
        assert process.exitcode is None
    for _ in range(2):  # two at once are one: `timeout` and schedulers send them
        os.kill(process.pid, number)
        time.sleep(0.05)
    time.sleep(2 * ONE_WISH)
    assert process.exitcode is None
    began = time.perf_counter()
    os.kill(process.pid, number)
    assert child.end(process, folder).code == 128 + number
    assert time.perf_counter() - began < 5
    assert not (folder / "runs" / "toy" / "last").exists(), "it did not wait for the step, nor for a save"


@pytest.mark.parametrize("how", ["torchrun", "slurm"])
def test_a_scheduler_that_takes_the_machine_back_loses_nothing(how: str, folder: Path) -> None:
    """torchrun hands SIGTERM on to its workers; Slurm sends SIGCONT and SIGTERM to every process of the step, too."""
    process = workers.torchrun(folder, 2, *TRAIN, "--set", "training.max_steps=100000")
    last, metrics = folder / "runs" / "toy" / "last", folder / "runs" / "toy" / "metrics.jsonl"
    try:
        began = time.monotonic()
        while not last.exists() and time.monotonic() - began < 120:
            time.sleep(0.05)
        started = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.terminate()
        for worker in started if how == "slurm" else ():
            for number in (signal.SIGCONT, signal.SIGTERM):
                os.kill(int(worker), number)
        _, told = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert told.count(b"s2s: stopped by SIGTERM") == 1, told.decode()
    saved = int(last.read_text().strip().removeprefix("step-"))
    assert f'"step": {saved},' in metrics.read_text().splitlines()[-1]
    load_model(*find_model(last.parent))
