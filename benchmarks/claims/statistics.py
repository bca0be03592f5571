"""Scores with intervals over seeds and sentences together, and what may be said of them.

A score is the mean of the seeds'. Its 95 % interval joins two that are independent of each other. By sentences: each
sample draws those of a group again (with replacement; the same draws for all systems, so that differences are paired),
and the middle 95 % of the samples count. By seeds: Student's interval of their mean, since three are too few to be
drawn again. A distance to the end of the joint interval is the root of the sum of both squares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from s2s_cli.config import EvaluationConfig
from s2s_cli.evaluate import BOOTSTRAP_SAMPLES, METRICS

Numbers = NDArray[Any]
SEED = 12345
LEAST = 0.1
"""A score below counts as this where shares of it are compared."""
STUDENT = (12.706, 4.303, 3.182, 2.776)
"""By degrees of freedom, from one on: the multiple of the standard error that holds 95 %."""


class Metric(Protocol):
    """A corpus score that is a function of sums over sentences."""

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Numbers:
        """What is summed, a row for each sentence."""

    def score(self, totals: Numbers) -> float:
        """The score of one row of sums."""


class Bleu:
    """sacreBLEU's."""

    def __init__(self, tokenize: str) -> None:
        config = EvaluationConfig.model_validate({"tokenize": tokenize})
        self._bleu = cast(BLEU, METRICS["bleu"](config))

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Numbers:
        return np.array(self._bleu._extract_corpus_statistics(list(hypotheses), [list(references)]))

    def score(self, totals: Numbers) -> float:
        return float(self._bleu._compute_score_from_stats(totals.tolist()).score)


class Share:
    """The percentage of lines that are right."""

    def statistics(self, hypotheses: Sequence[str], references: Sequence[str]) -> Numbers:
        return np.array([(one == other, 1) for one, other in zip(hypotheses, references, strict=True)], dtype=int)

    def score(self, totals: Numbers) -> float:
        return float(100 * totals[0] / totals[1])


@dataclass(frozen=True)
class Estimate:
    """A figure, its samples by sentences, and what each seed alone gives."""

    value: float
    samples: Numbers
    by_seed: Numbers
    least: float = -math.inf
    most: float = math.inf
    """Beyond which it cannot be, nor its interval."""

    @property
    def low(self) -> float:
        below = float(np.hypot(self.value - np.percentile(self.samples, 2.5), self._by_seeds))
        return max(self.least, self.value - below)

    @property
    def high(self) -> float:
        above = float(np.hypot(np.percentile(self.samples, 97.5) - self.value, self._by_seeds))
        return min(self.most, self.value + above)

    @property
    def _by_seeds(self) -> float:
        """Half the interval of the mean of the seeds; nothing is known of it where there is one."""
        seeds = len(self.by_seed)
        return STUDENT[seeds - 2] * float(self.by_seed.std(ddof=1)) / seeds**0.5 if seeds > 1 else 0.0

    def __sub__(self, other: Estimate) -> Estimate:
        return combined([self, other], [1, -1])

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def combined(estimates: Sequence[Estimate], weights: Sequence[float]) -> Estimate:
    """A weighted sum."""
    pairs = list(zip(estimates, weights, strict=True))
    return Estimate(
        sum(weight * one.value for one, weight in pairs),
        sum((weight * one.samples for one, weight in pairs), np.zeros(())),
        sum((weight * one.by_seed for one, weight in pairs), np.zeros(())),
    )


def mapped(found: Estimate, change: Callable[[Any], Any]) -> Estimate:
    """A rising function of an estimate: of its value, its samples and its seeds."""
    return Estimate(float(change(found.value)), change(found.samples), change(found.by_seed))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Of groups, each alike."""
    return combined(estimates, [1 / len(estimates)] * len(estimates))


def slope(estimates: Sequence[Estimate], places: Sequence[float]) -> Estimate:
    """Of the line of least squares through estimates at their places."""
    apart = np.array(places) - np.mean(places)
    return combined(estimates, (apart / (apart**2).sum()).tolist())


def relative_slope(estimates: Sequence[Estimate], places: Sequence[float]) -> Estimate:
    """By how many percent estimates change from one place to the next whole one: by the slope of their logarithms."""
    logarithms = [mapped(one, lambda values: np.log(np.maximum(values, LEAST))) for one in estimates]
    return mapped(slope(logarithms, places), lambda values: 100 * np.expm1(values))


def ratio(rates: Sequence[float], others: Sequence[float]) -> Estimate:
    """The logarithm of how many times as fast one is as another, measured in turns: turn by turn, as if by seeds."""
    by_turn = np.log(np.array(rates) / np.array(others))
    return Estimate(float(by_turn.mean()), by_turn.mean(keepdims=True), by_turn)


def estimate(metric: Metric, statistics: Sequence[Numbers], groups: Sequence[Sequence[int]]) -> list[Estimate]:
    """The scores of groups of sentences.

    Args:
        metric: what is scored.
        statistics: one array of the metric's for each seed, over the same sentences.
        groups: rows of each.
    """
    found = []
    for number, rows in enumerate(groups):
        draw = np.random.default_rng([SEED, number])
        counts_BN = draw.multinomial(len(rows), [1 / len(rows)] * len(rows), size=BOOTSTRAP_SAMPLES)
        parts = [part[list(rows)] for part in statistics]
        by_seed = np.array([metric.score(part.sum(0)) for part in parts])
        scores_SB = np.array([[metric.score(totals) for totals in counts_BN @ part] for part in parts])
        found.append(Estimate(float(by_seed.mean()), scores_SB.mean(0), by_seed, least=0, most=100))
    return found


class Verdict(Enum):
    """What may be said of a claim."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "cannot be told"
    """Its interval is on both sides of the limit."""
    UNFINISHED = "not finished"
    """Figures are missing, or there is one seed alone."""


def above(found: Estimate, limit: float) -> Verdict:
    """Whether a figure is above a limit: told where all of its interval lies on one side, from two seeds on."""
    if len(found.by_seed) < 2:
        return Verdict.UNFINISHED
    return Verdict.HOLDS if found.low > limit else Verdict.FAILS if found.high < limit else Verdict.OPEN


def below(found: Estimate, limit: float) -> Verdict:
    """Whether a figure is below a limit."""
    return above(combined([found], [-1]), -limit)


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim of several parts: it holds where all do, and does not where one does not."""
    for verdict in (Verdict.FAILS, Verdict.UNFINISHED, Verdict.OPEN):
        if verdict in verdicts:
            return verdict
    return Verdict.HOLDS if verdicts else Verdict.UNFINISHED
