"""Bad numbers never reach the disk; a run has one trainer; long training needs no more memory than short."""

from __future__ import annotations

import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import child
import forks
import pytest
import safetensors.torch
import torch
import toy

from s2s_cli.config_file import load_config
from s2s_cli.data.batches import Batch
from s2s_cli.display import Display
from s2s_cli.errors import RunFailed
from s2s_cli.model.seq2seq import Losses, Seq2Seq
from s2s_cli.signals import StopRequest
from s2s_cli.train import session
from s2s_cli.train.optim import OPTIMIZERS

Rounds = Callable[[int, int], int]
Record = Callable[[str, object], None]
ROOT = Path(__file__).parent.parent.parent
CORPUS = Path(os.environ.get("MULTI30K_DIR", ROOT.parent / "shared" / "data" / "multi30k"))


def train(folder: Path, **changes: Any) -> session.TrainingOutcome:
    path = toy.write_config(folder, training__accumulate=1, training__max_steps=40, **changes)
    return session.train(load_config(path), folder / "run", Display(), StopRequest())


def is_finite(run: Path) -> bool:
    """All that lies on the disk."""
    files = list(run.glob("checkpoints/*/*.safetensors"))
    assert files
    return all(
        bool(torch.isfinite(tensor).all()) for file in files for tensor in safetensors.torch.load_file(file).values()
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The best score of a training in which nothing happens."""
    best = train(tmp_path_factory.mktemp("undisturbed")).best
    assert best is not None
    return best


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 100.0], ids=["nan", "inf", "-inf", "100x"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_bad_number_never_reaches_the_disk(
    bad: float,
    where: str,
    undisturbed: float,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rounds: Rounds,
    record_property: Record,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At random steps, never five in a row."""
    places = set(random.Random(str((bad, where))).sample(range(1, 40, 2), rounds(4, 20)))
    plain, calls = Seq2Seq.losses, iter(range(10_000))

    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        found = plain(self, batch, *weights)
        if not self.training or next(calls) not in places:
            return found
        if where == "loss":
            return Losses(found.smoothed * bad, found.nll_N * bad)
        found.smoothed.register_hook(lambda gradient: gradient * bad)  # the loss itself looks well
        return found

    monkeypatch.setattr(Seq2Seq, "losses", losses)
    outcome, run = train(tmp_path), tmp_path / "run"
    assert outcome.step == 40
    assert is_finite(run)
    skipped = capfd.readouterr().err.count("is not finite, this update is skipped")
    assert skipped == (len(places) if not math.isfinite(bad) else 0)
    assert outcome.best is not None
    assert outcome.best > undisturbed / 2, "what is clipped or skipped does no lasting harm"
    done = "skipped and told" if skipped else "clipped"
    record_property("figure", f"{where} times {bad} at {len(places)} steps: each {done}, all on the disk finite")


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever made them: here an optimizer that goes wild between two checkpoints."""
    plain = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *arguments: Any) -> Any:
        found = plain(self, *arguments)
        steps = {int(state["step"]) for state in self.state.values()}
        if steps == {15}:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.data.fill_(math.inf)
        return found

    assert "adam" in OPTIMIZERS
    monkeypatch.setattr(torch.optim.Adam, "step", step)
    with pytest.raises(RunFailed, match=r"not finite|in a row"):
        train(tmp_path)
    assert is_finite(tmp_path / "run")
    assert (tmp_path / "run" / "last").read_text() == "step-00000010\n"


def test_too_many_in_a_row_end_the_run_and_best_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, calls = Seq2Seq.losses, iter(range(10_000))

    def losses(self: Seq2Seq, batch: Batch, *weights: float) -> Losses:
        found = plain(self, batch, *weights)
        return Losses(found.smoothed * math.nan, found.nll_N) if self.training and next(calls) >= 25 else found

    monkeypatch.setattr(Seq2Seq, "losses", losses)
    with pytest.raises(RunFailed, match="5 times in a row"):
        train(tmp_path, training__max_skips=5)
    assert is_finite(tmp_path / "run")
    assert (tmp_path / "run" / "best").exists()
    assert (tmp_path / "run" / "last").read_text() == "step-00000020\n"


def test_of_many_trainers_that_start_at_once_one_works(tmp_path: Path, rounds: Rounds, record_property: Record) -> None:
    child.write_task(tmp_path, training__max_steps=100_000, training__log_every=1000)
    many = rounds(4, 20)
    command = [sys.executable, "-m", "s2s_cli", "train", "--config", "toy.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    trainers = []
    for number in range(many):
        with open(tmp_path / f"err-{number}", "wb") as told_to:
            trainers.append(subprocess.Popen(command, cwd=tmp_path, stderr=told_to, env=environment))
    try:
        deadline = time.monotonic() + 240
        while sum(trainer.poll() is None for trainer in trainers) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        working = [trainer for trainer in trainers if trainer.poll() is None]
        assert len(working) == 1
        for number, trainer in enumerate(trainers):
            if trainer not in working:
                told = (tmp_path / f"err-{number}").read_text()
                assert trainer.returncode == 2, told
                assert f"process {working[0].pid} is training here" in told
    finally:
        for trainer in trainers:
            trainer.kill()
            trainer.wait()
    after = toy.s2s("train", "--config", "toy.yaml", "--set", "training.max_steps=1", cwd=tmp_path)
    assert after.returncode == 0, "a kill leaves no lock behind"
    record_property("figure", f"{many} trainers started at once: one worked, {many - 1} were told its number")


def resident_of_training(folder: Path, *options: str) -> list[int]:
    """Megabytes that a training takes, from its first step on, every twentieth of a second."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MULTI30K_DIR": str(CORPUS)}
    command = [sys.executable, "-m", "s2s_cli", "train", "--run", "run", *options]
    found: list[int] = []
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=environment)
    log = folder / "run" / "train.log"
    try:
        while process.poll() is None:
            match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            if match and log.exists() and "step" in log.read_text():
                found.append(int(match[1]) // 1024)
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here to read memory from")
def test_long_training_needs_no_more_memory(tmp_path: Path, rounds: Rounds, record_property: Record) -> None:
    steps = rounds(600, 10_000)
    child.write_task(
        tmp_path, training__max_steps=steps, training__validate_every=steps // 20, training__log_every=50,
        training__schedule="constant",
    )  # fmt: skip
    resident = resident_of_training(tmp_path, "--config", "toy.yaml")
    early, late = max(resident[: len(resident) // 4]), max(resident[-len(resident) // 4 :])
    assert late < early + 30, resident
    record_property("figure", f"{steps} updates, 20 validations: {early} MB in the first quarter, {late} in the last")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here to read memory from")
@pytest.mark.skipif(not (CORPUS / "train.en").is_file(), reason=f"Multi30k is not in {CORPUS}: set MULTI30K_DIR")
def test_long_training_of_a_real_model_needs_no_more_memory(
    tmp_path: Path, rounds: Rounds, record_property: Record
) -> None:
    """Its batches have some two hundred shapes, each with programs of its own: the first epochs meet them all."""
    steps = rounds(0, 2_500)
    if not steps:
        pytest.skip("in the long form alone: the shapes of an epoch take minutes")
    config = str(ROOT / "configs" / "multi30k-en-de.yaml")
    limits = (f"training.max_steps={steps}", f"training.validate_every={steps // 5}", "training.log_every=10")
    resident = resident_of_training(tmp_path, "--config", config, *(f"--set={limit}" for limit in limits))
    quarter = len(resident) // 4
    first, second, third, last = (max(resident[at * quarter : (at + 1) * quarter]) for at in range(4))
    assert max(third, last) < 1.05 * second, (first, second, third, last)
    record_property("figure", f"Multi30k, {steps} updates, 5 validations: {first}, {second}, {third}, {last} MB")


def test_a_stopped_process_that_is_continued_goes_on(tmp_path: Path) -> None:
    """A laptop that sleeps, a job that is suspended: SIGSTOP, then SIGCONT."""
    child.write_task(tmp_path)
    context = forks.server()
    process = child.start(context, tmp_path, "train", "--config", "toy.yaml")
    for _ in range(3):
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.1)
    assert child.end(process, tmp_path).code == 0
