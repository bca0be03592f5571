"""Several workers train what one trains, go on where others stopped, and end together."""

from __future__ import annotations

import errno
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import forks
import pytest
import torch
import toy
import workers
from test_train import assert_same_checkpoint, saved
from workers import Ended

from s2s_cli.run import RunDirectory
from s2s_cli.train.trainer import Trainer

TRAIN = ("train", "--config", "toy.yaml")
RANDOM = {
    "model__dropout": 0.2,
    "model__word_dropout": 0.1,
    "training__average_decay": 0.9,
    "training__r_drop": 5.0,
    "tokenizer__type": "unigram",
    "tokenizer__vocab_size": 24,
    "tokenizer__sampling": {"alpha": 0.3},
}
TOLERANCE = 1e-5
"""Of losses, relative: sums of gradients in another order, in fp32."""


@pytest.fixture(scope="module")
def context() -> Any:
    return forks.server()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    toy.write_config(folder)
    return folder


@pytest.fixture
def folder(corpus: Path, tmp_path: Path) -> Path:
    for path in corpus.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "toy.yaml").unlink()
    return tmp_path


def train(
    context: Any, folder: Path, size: int, run: str, prepare: workers.Prepare | None = None, **changes: Any
) -> Ended:
    toy.write_config(folder, **{"decoding__beam": 1, **changes})
    return workers.run(context, folder, size, *TRAIN, "--run", run, prepare=prepare)


def trained(context: Any, folder: Path, size: int, run: str, **changes: Any) -> list[dict[str, Any]]:
    """The metrics of a training that went well."""
    ended = train(context, folder, size, run, **changes)
    assert ended.codes == [0] * size, ended.told
    assert not any(ended.told[1:]), "the first one alone tells"
    return toy.metrics(folder / run)


def assert_same_metrics(one: list[dict[str, Any]], other: list[dict[str, Any]], tolerance: float = TOLERANCE) -> None:
    assert len(one) == len(other)
    for row, beside in zip(one, other, strict=True):
        assert {**row, "loss": 0, "seconds": 0, "scores": 0} == {**beside, "loss": 0, "seconds": 0, "scores": 0}
        assert row.get("loss", 0) == pytest.approx(beside.get("loss", 0), rel=tolerance)
        assert row.get("scores", {}) == pytest.approx(beside.get("scores", {}), rel=100 * tolerance)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_and_three_workers_learn_what_one_learns(context: Any, folder: Path, accumulate: int) -> None:
    changes = {"training__accumulate": accumulate, "training__average_last": 2, "training__average_decay": 0.9}
    alone = trained(context, folder, 1, "1", **changes)
    tensors, state = saved(folder / "1", "step-00000020")
    for size in (2, 3) if accumulate == 1 else (2,):
        assert_same_metrics(alone, trained(context, folder, size, str(size), **changes))
        others, other_state = saved(folder / str(size), "step-00000020")
        assert len(other_state.pop("random_of_others")) == size - 1
        assert other_state["sampler"] == state["sampler"]
        for name, tensor in tensors.items():
            torch.testing.assert_close(others[name], tensor, rtol=1e-3, atol=1e-4)


@toy.needs_bf16
def test_in_bf16_workers_learn_what_one_learns(context: Any, folder: Path) -> None:
    runs = [trained(context, folder, size, str(size), training__precision="bf16") for size in (1, 2)]
    assert_same_metrics([row for row in runs[0] if "loss" in row], [row for row in runs[1] if "loss" in row], 5e-3)


def test_a_run_goes_on_with_other_numbers_of_workers(context: Any, folder: Path) -> None:
    """No sentence twice or never: the losses are those of a run that one worker did, over the end of an epoch."""
    changes: dict[str, Any] = {"training__batch_tokens": 1024, "training__validate_every": 4, "training__log_every": 1}
    alone = trained(context, folder, 1, "alone", **changes, training__max_steps=16)
    assert alone[-1]["epoch"] > 1
    for size, steps in ((2, 5), (3, 10), (1, 16)):
        last = trained(context, folder, size, "changing", **changes, training__max_steps=steps)
    assert_same_metrics([row for row in alone if "loss" in row], [row for row in last if "loss" in row])


def stopped_in_the_fourth_and_the_twelfth_update(rank: int) -> None:
    plain = Trainer._update

    def update(self: Trainer) -> None:
        if self.progress.step in (3, 11) and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        plain(self)

    Trainer._update = update  # type: ignore[method-assign]


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_stopped_and_resumed_by_as_many_workers_it_is_the_same_bit_for_bit(
    context: Any, folder: Path, size: int
) -> None:
    """Everything random switched on; of three workers the order of sums matters."""
    changes = {**RANDOM, "training__accumulate": 2}
    whole = trained(context, folder, size, "whole", **changes)
    for _ in range(2):
        ended = train(context, folder, size, "parts", stopped_in_the_fourth_and_the_twelfth_update, **changes)
        assert ended.codes == [143] * size, ended.told
    assert_same_metrics(whole, trained(context, folder, size, "parts", **changes), 0)
    assert_same_checkpoint(folder / "whole", folder / "parts")


def wait_for(path: Path, text: str = "") -> None:
    began = time.monotonic()
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() - began < 60, f"{path} does not come"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "rank"), [(signal.SIGINT, 0), (signal.SIGTERM, 1)], ids=["INT", "TERM"])
def test_a_signal_to_one_worker_stops_all_with_everything_saved(
    context: Any, folder: Path, number: signal.Signals, rank: int
) -> None:
    toy.write_config(folder, training__max_steps=100_000, training__validate_every=50_000)
    started = workers.start(context, folder, 2, *TRAIN, "--run", "run")
    wait_for(folder / "run" / "metrics.jsonl")
    os.kill(started.processes[rank].pid, number)
    ended = started.end()
    assert ended.codes == [128 + number] * 2, ended.told
    assert ended.told[0].count(f"stopped by {number.name}") == 1
    assert not ended.told[1]
    step = int((folder / "run" / "last").read_text().removeprefix("step-"))
    assert step // 5 * 5 == toy.metrics(folder / "run")[-1]["step"] >= 5


def slow_validation(rank: int) -> None:
    from s2s_cli.train import validation

    plain = validation.losses

    def losses(*arguments: Any) -> Any:
        Path(f"validates-{rank}").touch()
        while not Path("signalled").exists():
            time.sleep(0.01)
        return plain(*arguments)

    validation.losses = losses


def test_a_signal_to_one_worker_in_a_validation_stops_all(context: Any, folder: Path) -> None:
    toy.write_config(folder, training__max_steps=100_000, training__validate_every=3, training__log_every=1)
    started = workers.start(context, folder, 2, *TRAIN, "--run", "run", prepare=slow_validation)
    wait_for(folder / "validates-1")
    os.kill(started.processes[1].pid, signal.SIGTERM)
    (folder / "signalled").touch()
    ended = started.end()
    assert ended.codes == [143, 143], ended.told
    assert (folder / "run" / "last").read_text() == "step-00000003\n"
    assert not any("scores" in row for row in toy.metrics(folder / "run"))


def bad_gradients_of_the_second(rank: int, steps: range = range(3, 5)) -> None:
    plain = Trainer._backward
    calls = iter(range(10_000))

    def backward(self: Trainer, *arguments: Any) -> float:
        found = plain(self, *arguments)
        if rank == 1 and next(calls) in steps:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(math.nan)
        return found

    Trainer._backward = backward  # type: ignore[method-assign]


def only_bad_gradients_of_the_second(rank: int) -> None:
    bad_gradients_of_the_second(rank, range(12, 10_000))


def test_an_update_that_is_no_number_for_one_worker_is_skipped_by_all(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", bad_gradients_of_the_second)
    assert ended.codes == [0, 0], ended.told
    assert ended.told[0].count("this update is skipped") == 2
    tensors, state = saved(folder / "run", "step-00000020")
    assert state["progress"]["skipped"] == 2
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def test_too_many_of_them_end_all(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", only_bad_gradients_of_the_second)
    assert ended.codes == [3, 3]
    assert "5 times in a row" in ended.told[0]
    assert not ended.told[1]
    assert (folder / "run" / "last").read_text() == "step-00000010\n"


def full_disk_of_the_second_save(rank: int) -> None:
    from s2s_cli import checkpoint

    plain = checkpoint.write_synced

    def write_synced(path: Path, data: bytes) -> None:
        if "step-00000020" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        plain(path, data)

    checkpoint.write_synced = write_synced


def test_a_full_disk_of_the_first_worker_ends_all(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", full_disk_of_the_second_save)
    assert ended.codes == [3, 3]
    assert "the disk is full" in ended.told[0]
    assert not ended.told[1]
    assert trained(context, folder, 2, "run")[-1]["step"] == 20


def full_disk_of_the_tokenizer(rank: int) -> None:
    def write_tokenizer(self: RunDirectory, tokenizer: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    RunDirectory.write_tokenizer = write_tokenizer  # type: ignore[method-assign]


def test_a_disk_that_is_full_before_the_first_step_is_told_by_the_one_that_met_it(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", full_disk_of_the_tokenizer)
    assert ended.codes == [3, 3]
    assert "the disk is full" in ended.told[0]
    assert not ended.told[1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"training__max_steps": None, "training__max_minutes": 0.01}, "max_minutes"),
        ({"training__learning_rate": 1e-9, "training__patience": 2, "training__max_steps": 400}, "no better bleu"),
    ],
)
def test_workers_reach_their_limits_together(context: Any, folder: Path, changes: dict[str, Any], reason: str) -> None:
    ended = train(context, folder, 2, "run", **changes)
    assert ended.codes == [0, 0], ended.told
    assert reason in ended.told[0]


def test_what_the_user_must_change_is_told_once(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", tokenizer__type="unigram", tokenizer__vocab_size=8)
    assert ended.codes == [2, 2]
    assert "the smallest that holds them is" in ended.told[0]
    assert not ended.told[1]


def another_folder(rank: int) -> None:
    if rank == 1:
        Path("elsewhere").mkdir(exist_ok=True)
        for path in Path().glob("*.*"):
            (Path("elsewhere") / path.name).symlink_to(path.resolve())
        os.chdir("elsewhere")


def test_a_run_directory_that_one_worker_does_not_see_is_refused(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", another_folder)
    assert ended.codes == [2, 2]
    assert "run: not seen by worker 1" in ended.told[1]
    assert not (folder / "elsewhere" / "run").exists()


def die_at_the_twelfth_update(rank: int) -> None:
    plain = Trainer._update

    def update(self: Trainer) -> None:
        if self.progress.step == 12 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(self)

    Trainer._update = update  # type: ignore[method-assign]


def hang_at_the_twelfth_update(rank: int) -> None:
    plain = Trainer._update

    def update(self: Trainer) -> None:
        if self.progress.step == 12 and rank == 1:
            time.sleep(1000)
        plain(self)

    Trainer._update = update  # type: ignore[method-assign]


def test_a_worker_that_dies_ends_the_others_and_the_next_start_goes_on(context: Any, folder: Path) -> None:
    whole = trained(context, folder, 2, "whole", **RANDOM)
    ended = train(context, folder, 2, "run", die_at_the_twelfth_update, **RANDOM)
    assert ended.codes == [3, -signal.SIGKILL]
    assert "another worker is gone" in ended.told[0]
    assert "Traceback" not in ended.told[0]
    assert_same_metrics(whole, trained(context, folder, 2, "run", **RANDOM), 0)
    assert_same_checkpoint(folder / "whole", folder / "run")


def test_a_worker_that_does_not_answer_is_given_up_in_time(context: Any, folder: Path) -> None:
    toy.write_config(folder, training__worker_timeout=2)
    began = time.monotonic()
    started = workers.start(context, folder, 2, *TRAIN, "--run", "run", prepare=hang_at_the_twelfth_update)
    started.processes[0].join(60)
    assert started.processes[0].exitcode == 3
    assert time.monotonic() - began < 30
    assert (folder / "run" / "last").read_text() == "step-00000010\n", "it had begun"
    assert "did not answer within training.worker_timeout (2 s)" in (folder / "worker-0").read_text()
    started.processes[1].kill()
    started.processes[1].join()


def slow_to_tokenize(rank: int) -> None:
    from s2s_cli.train import session

    plain = session.open_corpus

    def open_corpus(*arguments: Any, **names: Any) -> Any:
        time.sleep(0 if rank else 5)
        return plain(*arguments, **names)

    session.open_corpus = open_corpus


def test_the_others_wait_while_the_first_one_tokenizes(context: Any, folder: Path) -> None:
    ended = train(context, folder, 2, "run", slow_to_tokenize, training__worker_timeout=3, training__max_steps=5)
    assert ended.codes == [0, 0], ended.told


def test_fresh_is_refused_where_a_restart_would_begin_anew(tmp_path: Path) -> None:
    toy.write_config(tmp_path)
    done = toy.s2s("train", "--config", "toy.yaml", "--fresh", cwd=tmp_path, TORCHELASTIC_RUN_ID="1")
    assert done.returncode == 2
    assert b"--fresh: torchrun may start this again" in done.stderr
