"""A training that is asked to stop, at any moment, goes on to what an undisturbed one ends with, bit for bit."""

from __future__ import annotations

import math
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import child
import pytest
import toy
from test_train import assert_same_checkpoint

from s2s_cli.config_file import load_config
from s2s_cli.data.batches import Sampler
from s2s_cli.display import Display
from s2s_cli.errors import Stopped
from s2s_cli.signals import StopRequest
from s2s_cli.train import session

END = "step-00000030"


class StopAt(StopRequest):
    """Asks to stop at the n-th moment: each look at it is one (before a step, within a validation), and each batch."""

    def __init__(self, moment: float) -> None:
        self.moment, self.passed = moment, 0

    def tick(self) -> None:
        self.passed += 1

    @property
    def signal(self) -> int | None:
        self.tick()
        return signal.SIGTERM if self.passed >= self.moment else None


def train(folder: Path, name: str, stop: StopRequest) -> None:
    session.train(load_config(folder / "toy.yaml"), folder / name, Display(), stop)


def test_stopped_at_a_moment_it_goes_on_bit_for_bit(
    tmp_path: Path,
    rounds: Callable[[int, int], int],
    record_property: Callable[[str, object], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child.write_task(tmp_path, training__validate_every="epoch", training__max_steps=30)
    counting = StopAt(math.inf)
    current = counting
    plain = Sampler._take

    def take(self: Sampler) -> Any:
        current.tick()  # mid-accumulation too: two batches make a step
        return plain(self)

    monkeypatch.setattr(Sampler, "_take", take)
    train(tmp_path, "whole", counting)
    moments = list(range(1, counting.passed + 1))
    wanted = rounds(5, 100)
    points = moments if wanted >= len(moments) else sorted(random.Random(1).sample(moments[:-1], wanted))
    stopped = 0
    for moment in {**dict.fromkeys(points), len(moments): None}:
        current = StopAt(moment)
        try:
            train(tmp_path, f"run-{moment}", current)
            assert moment == len(moments), "only once all is done a stop comes too late"
        except Stopped as stop:
            assert stop.exit_code == 143
            stopped += 1
        current = counting
        train(tmp_path, f"run-{moment}", current)
        assert_same_checkpoint(tmp_path / "whole", tmp_path / f"run-{moment}", END)
        rows = [
            [{key: value for key, value in row.items() if key != "seconds"} for row in toy.metrics(tmp_path / name)]
            for name in ("whole", f"run-{moment}")
        ]
        assert rows[0] == rows[1]
    record_property("figure", f"stopped at {stopped} of {len(moments)} moments: weights, optimizer, state, log equal")
