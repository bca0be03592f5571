"""Gates: what must hold for a build to go on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from s2s_cli.errors import UserError, suggest
from s2s_cli.evaluate import Comparison, Score


@dataclass(frozen=True)
class Conditions:
    """What was asked for."""

    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)
    drops: Mapping[str, float] = field(default_factory=dict)
    """The most by which a metric may be worse than the baseline's, significant or not."""
    no_regression: bool = False
    """No metric may be significantly worse than the baseline's."""
    level: float = 0.05
    """Of significance: the share of false alarms that is accepted."""


@dataclass(frozen=True)
class Gate:
    """One condition, and whether it held."""

    kind: Literal["min", "max", "max-drop", "regression"]
    metric: str
    value: float
    """The score; for max-drop by how much it is worse than the baseline's; for regression the larger p-value."""
    limit: float
    passed: bool

    @property
    def text(self) -> str:
        """The condition and what was found, for people."""
        if self.kind == "regression":
            worse = f"worse than the baseline with p = {self._shown(4)}" if self.value < 1 else "not worse"
            return f"{self.metric} {worse}, a regression where p < {self.limit:g}"
        if self.kind == "max-drop":
            worse = self._shown(2) if self.value > 0 else "0.00"
            return f"{self.metric} worse than the baseline by {worse}, at most {self.limit:g} wanted"
        bound = "at least" if self.kind == "min" else "at most"
        return f"{self.metric} {self._shown(2)}, {bound} {self.limit:g} wanted"

    def _shown(self, digits: int) -> str:
        """The value, in full where the gate is missed by less than the digits show."""
        value = f"{self.value:.{digits}f}"
        return repr(self.value) if not self.passed and float(value) == self.limit else value


def judge(scores: Mapping[str, Score], comparisons: Sequence[Comparison], conditions: Conditions) -> tuple[Gate, ...]:
    """Holds each condition against what was found.

    A regression is a score that is worse than the baseline's, where both paired tests find the difference significant.
    Approximate randomization raises fewer false alarms (Riezler and Maxwell 2005), but as sacreBLEU counts, a trial
    speaks against a difference only where its own is larger: systems that differ in a line or two always look
    different. There the bootstrap is the sober one.

    Raises:
        UserError: where a score is no number.
    """
    gates = []
    for metric, floor in conditions.floors.items():
        value = _finite(metric, scores[metric].value)
        gates.append(Gate("min", metric, value, floor, value >= floor))
    for metric, ceiling in conditions.ceilings.items():
        value = _finite(metric, scores[metric].value)
        gates.append(Gate("max", metric, value, ceiling, value <= ceiling))
    for found in comparisons:
        gain = _finite(found.metric, found.gain)
        if found.metric in conditions.drops:
            limit = conditions.drops[found.metric]
            gates.append(Gate("max-drop", found.metric, -gain, limit, -gain <= limit))
        if conditions.no_regression:
            p_value = max(found.p_bootstrap, found.p_randomization) if gain < 0 else 1.0
            gates.append(Gate("regression", found.metric, p_value, conditions.level, p_value >= conditions.level))
    return tuple(gates)


def _finite(metric: str, value: float) -> float:
    if not math.isfinite(value):
        raise UserError(f"{metric}: cannot be judged: the score is {value}")
    return value


def parse_limit(option: str, text: str, metrics: Iterable[str]) -> tuple[str, float]:
    """METRIC=VALUE.

    Args:
        option: its name, for messages.
        text: what was given.
        metrics: those allowed.

    Raises:
        UserError: where it is not of this form, or the metric is unknown.
    """
    metric, _, value = text.partition("=")
    if metric not in metrics:
        raise UserError(f"{option} {text}: unknown metric: {suggest(metric, metrics)}")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise UserError(f"{option} {text}: write METRIC=VALUE, for example {option} {metric}=30")
    return metric, limit
