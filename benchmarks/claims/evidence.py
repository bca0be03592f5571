"""What the kept figures say, brought together: scores by length, tests of significance, speeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np

from benchmarks.claims.experiments import Figure, Form, Speeds, Training, planned
from benchmarks.claims.statistics import Bleu, Estimate, Metric, Share, estimate, ratio, relative_slope, slope
from benchmarks.claims.store import Store
from benchmarks.claims.tasks import Task
from s2s_cli.config import EvaluationConfig
from s2s_cli.evaluate import Comparison, compare

TEN = 10
"""Words, by which slopes are told."""


@dataclass(frozen=True)
class Curve:
    """One system's score by length."""

    labels: tuple[str, ...]
    places: tuple[float, ...]
    """The mean length of each group."""
    counts: tuple[int, ...]
    groups: tuple[Estimate, ...]
    trained: int
    """How many of the groups have lengths that were trained on; the others come after."""
    overall: Estimate
    """Of all sentences in those."""

    @property
    def slope(self) -> Estimate:
        """The change of the score for ten words more, over the lengths that were trained on."""
        return slope(*self._trained_on)

    @property
    def relative_slope(self) -> Estimate:
        """The same change in percent of the score, so that what has little to lose is not said to lose little."""
        return relative_slope(*self._trained_on)

    @property
    def _trained_on(self) -> tuple[Sequence[Estimate], list[float]]:
        """The groups that were trained on, and their places in tens of words."""
        return self.groups[: self.trained], [place / TEN for place in self.places[: self.trained]]

    @property
    def beyond(self) -> Estimate | None:
        """The change from the longest group that was trained on to the longest of all."""
        return self.groups[-1] - self.groups[self.trained - 1] if self.trained < len(self.groups) else None


@dataclass(frozen=True)
class Rate:
    """Measurements of one speed, turn by turn."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    def times(self, other: Rate) -> Estimate:
        """The logarithm of how many times as fast it is as another of the same turns."""
        return ratio(self.values, other.values)


class Evidence:
    """All of a form that is there."""

    def __init__(self, form: Form, tasks: dict[str, Task], store: Store) -> None:
        self.form, self.tasks, self.store = form, tasks, store
        self.figures: list[Figure] = planned(form, tasks)
        (self.speeds,) = (figure for figure in self.figures if isinstance(figure, Speeds))
        self._curves: dict[tuple[str, ...], Curve] = {}
        """By the names of trainings."""

    @cached_property
    def missing(self) -> list[str]:
        """Figures that are not there yet."""
        return [figure.name for figure in self.figures if not self.store.has(figure)]

    @cached_property
    def _done(self) -> dict[tuple[str, str], dict[int, Training]]:
        """Trainings that are there, by task and variant, then by seed."""
        found: dict[tuple[str, str], dict[int, Training]] = {}
        for figure in self.figures:
            if isinstance(figure, Training) and self.store.has(figure):
                found.setdefault((figure.task.name, figure.variant), {})[figure.seed] = figure
        return found

    def trainings(self, task: str, among: Sequence[str]) -> dict[str, list[Training]]:
        """By variant, those of the seeds that are compared: the same for all among which they are compared.

        Where not all is there yet, they are the seeds that every variant has which has begun; where there is none such,
        the one that most have.
        """
        done = {variant: seeds for (name, variant), seeds in self._done.items() if name == task and variant in among}
        if not done:
            return {}
        shared = set.intersection(*(set(seeds) for seeds in done.values()))
        shared = shared or {max(self.form.seeds, key=lambda seed: sum(seed in seeds for seeds in done.values()))}
        return {
            variant: [seeds[seed] for seed in sorted(shared)]
            for variant in among
            if shared <= set(seeds := done.get(variant, {}))
        }

    def contents(self, task: str, among: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """What was kept of the trainings of each variant that is there, seed by seed."""
        trainings = self.trainings(task, among).items()
        return {variant: [content for one in each if (content := self.store.get(one))] for variant, each in trainings}

    def curves(self, task: str, among: Sequence[str]) -> dict[str, Curve]:
        """The score by length of each variant that is there."""
        trainings = self.trainings(task, among).items()
        return {variant: self._curve(self.tasks[task], each) for variant, each in trainings}

    def _curve(self, task: Task, trainings: Sequence[Training]) -> Curve:
        key = tuple(one.name for one in trainings)
        if key not in self._curves:
            self._curves[key] = self._drawn(task, trainings)
        return self._curves[key]

    def _drawn(self, task: Task, trainings: Sequence[Training]) -> Curve:
        metric: Metric = Bleu(task.tokenize) if task.tokenize else Share()
        references = task.test.references[0]
        statistics = [metric.statistics(self.store.translations(one), references) for one in trainings]
        labels, rows = zip(*task.groups, strict=True)
        places = tuple(float(np.mean([task.lengths[row] for row in group])) for group in rows)
        trained = sum(max(task.lengths[row] for row in group) <= task.longest for group in rows)
        *groups, overall = estimate(metric, statistics, [*rows, task.within])
        return Curve(labels, places, tuple(map(len, rows)), tuple(groups), trained, overall)

    def comparisons(self, task: str, variant: str, baseline: str, among: Sequence[str]) -> list[Comparison]:
        """BLEU beside a baseline's over all lengths trained on, seed by seed, by sacreBLEU's paired tests."""
        settings = EvaluationConfig.model_validate({"metrics": ("bleu",), "tokenize": self.tasks[task].tokenize})
        trainings, rows = self.trainings(task, among), self.tasks[task].within
        references = [self.tasks[task].test.references[0][row] for row in rows]

        def lines(one: Training) -> list[str]:
            every = self.store.translations(one)
            return [every[row] for row in rows]

        return [
            compare(lines(one), lines(other), [references], settings)[0]
            for one, other in zip(trainings.get(variant, ()), trainings.get(baseline, ()), strict=False)
        ]

    def rates(self, variant: str, name: str) -> Rate | None:
        """The measurements of a speed; None where there is none."""
        content = self.store.get(self.speeds) or {"rates": {}}
        return Rate(tuple(content["rates"][variant][name])) if variant in content["rates"] else None
