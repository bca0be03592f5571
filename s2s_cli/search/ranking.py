"""How finished hypotheses of different lengths are held against each other.

Shapes: T steps of a hypothesis, S source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from s2s_cli.config import DecodingConfig

Length = TypeVar("Length", int, Tensor)


def gnmt(length: Length, alpha: float) -> Length:
    """Wu et al. 2016, equation 14: ((5 + |Y|) / 6) ** alpha, the end of sentence counted."""
    penalty: Length = ((5 + length) / 6) ** alpha
    return penalty


def average(length: Length, alpha: float) -> Length:
    """|Y| ** alpha; with an alpha of one, the score is the mean log-probability of a piece."""
    penalty: Length = length**alpha
    return penalty


def none(length: Length, alpha: float) -> Length:
    """One: the score is the log-probability itself."""
    penalty: Length = length**0
    return penalty


NORMALIZATIONS: dict[str, Callable[..., float | Tensor]] = {"average": average, "gnmt": gnmt, "none": none}


class Ranking:
    """The score of a hypothesis: its log-probability over the length penalty, plus the coverage penalty."""

    def __init__(self, config: DecodingConfig) -> None:
        self._penalty, self._alpha = NORMALIZATIONS[config.normalization], config.length_penalty
        self.coverage = config.coverage_penalty
        """The weight beta of the coverage penalty; where it is zero, no attention is needed."""

    def normalized(self, total: Tensor, length: Tensor) -> Tensor:
        """Totals over the penalties of their lengths."""
        return total / self._penalty(length, self._alpha)

    def score(self, total: float, length: int, weights_TS: Tensor | None) -> float:
        """Of a finished hypothesis; its attention where coverage counts."""
        score = total / float(self._penalty(length, self._alpha))
        return score if weights_TS is None else score + self.coverage * coverage(weights_TS)


def coverage(weights_TS: Tensor) -> float:
    """Wu et al. 2016, equation 14: the sum over the source of log(min(sum over steps of the weights, 1))."""
    return float(weights_TS.sum(0).clamp(min=1e-9, max=1).log().sum())
