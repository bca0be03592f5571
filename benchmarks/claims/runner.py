"""Makes the figures that are not there yet: trainings two at a time with a thread each, speeds one by one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.claims.experiments import SPEED_BATCH, SPEED_UPDATES, Figure, Speeds, Training
from benchmarks.claims.store import Store
from benchmarks.measure import ENVIRONMENT, Figures

THREAD = {**ENVIRONMENT, "OMP_NUM_THREADS": "1"}
"""Two processes of one thread do more than one of two."""

Item = TypeVar("Item")


class Failed(Exception):
    """A command that a figure needs ended badly; the message is the last it said."""


@dataclass
class Commands:
    """What is run for figures, in one folder; all of it can be stopped."""

    work: Path
    stopped: bool = False
    _running: set[subprocess.Popen[str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, *arguments: str, request: Mapping[str, Any] | None = None) -> str:
        """The standard output of a module's command.

        Raises:
            Failed: where it did not end with 0, or nothing is to be run any more.
        """
        command = [sys.executable, "-m", *arguments]
        with self._lock:
            if self.stopped:
                raise Failed("stopped")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.work,
                env=THREAD,
                encoding="utf-8",
                start_new_session=True,  # a Ctrl-C is ours to pass on: a second signal would let it end unsaved
            )
            self._running.add(process)
        output, errors = process.communicate(json.dumps(request, ensure_ascii=False))
        with self._lock:
            self._running.discard(process)
        if process.returncode:
            raise Failed("stopped" if self.stopped else (errors.strip().splitlines() or ["no word of why"])[-1])
        return output

    def stop(self) -> None:
        """Asks all that runs to save and end, and lets nothing new begin."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Maker:
    """Makes one figure by the real commands, in a folder of runs that are kept as long as they are needed."""

    commands: Commands
    about: Mapping[str, Any]
    """What is kept with each figure: machine and commit."""

    def make(self, figure: Figure) -> tuple[Figures, list[str]]:
        """A figure, and the translations that belong to it.

        Raises:
            Failed: where a command failed.
        """
        for training in figure.trainings:
            self._train(training)
        if isinstance(figure, Training):
            found = self._measured("translate", figure, figure.request)
        else:
            found = {"rates": self._rates(figure)}
        lines = found.pop("translations", [])
        return {"figure": figure.name, "about": self.about, **found}, lines

    def _train(self, training: Training) -> None:
        """Trains what is not trained yet."""
        run = self.run_of(training)
        config = run.with_suffix(".yaml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(training.config), encoding="utf-8")  # JSON is YAML
        self.commands.run("s2s_cli", "train", "--config", str(config), "--run", str(run))

    def _measured(self, kind: str, training: Training, request: Mapping[str, Any]) -> Figures:
        """What the worker says of a run."""
        run = str(self.run_of(training))
        found: Figures = json.loads(self.commands.run("benchmarks.claims.worker", kind, run, request=request))
        return found

    def _rates(self, speeds: Speeds) -> dict[str, dict[str, list[float]]]:
        """By variant and measurement, round by round."""
        rates: dict[str, dict[str, list[float]]] = {}
        for _ in range(speeds.rounds):
            for training in speeds.trainings:
                request = {"updates": SPEED_UPDATES, "batch": SPEED_BATCH}
                for name, rate in self._measured("speed", training, request).items():
                    rates.setdefault(training.variant, {}).setdefault(name, []).append(rate)
        return rates

    def run_of(self, training: Training) -> Path:
        """Where a training's run lies."""
        return self.commands.work / "runs" / training.name

    def forget(self, training: Training) -> None:
        """Removes a run that nothing needs any more."""
        run = self.run_of(training)
        shutil.rmtree(run, ignore_errors=True)
        run.with_suffix(".yaml").unlink(missing_ok=True)


def side_by_side(commands: Commands, make: Callable[[Item], None], items: Sequence[Item], at_once: int = 2) -> None:
    """Makes some at once, in their order; where that is stopped, all that runs is asked to save and end."""
    pool = ThreadPoolExecutor(at_once)
    try:
        list(pool.map(make, items))
    except BaseException:
        commands.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def complete(
    plan: Sequence[Figure],
    store: Store,
    maker: Maker,
    say: Callable[[str], None],
    *,
    needed: Callable[[Figure], bool] = lambda figure: True,
    at_once: int = 2,
) -> list[str]:
    """Makes what is not there yet.

    Args:
        plan: all figures, in their order.
        store: where they are kept, each as soon as it is finished.
        maker: makes one.
        say: tells the user.
        needed: which of them to make.
        at_once: trainings side by side.

    Returns:
        What failed, with the reason.
    """
    wanted = [figure for figure in plan if needed(figure)]
    open_ = [figure for figure in wanted if not store.has(figure)]
    say(f"{len(wanted) - len(open_)} of {len(wanted)} figures are there")
    failed: list[str] = []

    def make(figure: Figure) -> None:
        began = time.perf_counter()
        try:
            store.put(figure, *maker.make(figure))
        except Failed as error:
            if not maker.commands.stopped:
                failed.append(f"{figure.name}: {error}")
                say(failed[-1])
            return
        for training in figure.trainings:
            if all(store.has(other) for other in plan if training in other.trainings):
                maker.forget(training)
        left = sum(not store.has(other) for other in wanted)
        say(f"{figure.name}: {time.perf_counter() - began:.0f} s; {left} to go")

    for alone, figures in groupby(open_, lambda figure: isinstance(figure, Speeds)):
        side_by_side(maker.commands, make, list(figures), 1 if alone else at_once)
    return failed
