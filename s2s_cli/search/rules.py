"""What may not be said. Filters look at all hypotheses at once; a control steers those of one sentence, one by one.

Shapes: B sentences, Q hypotheses of each, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from s2s_cli.data.spelling import Surface


class Filter(Protocol):
    """Forbids extensions by setting their log-probabilities to minus infinity, in place."""

    def apply(self, extensions_BQV: Tensor, length_B: Tensor, limit_B: Tensor) -> None:
        """Args: the log-probabilities; pieces so far; the most pieces of each sentence, the end included."""
        ...


class Suppress:
    """Pieces that never stand in a translation."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = torch.tensor(ids, dtype=torch.int64)

    def apply(self, extensions_BQV: Tensor, length_B: Tensor, limit_B: Tensor) -> None:
        self.ids = self.ids.to(extensions_BQV.device)
        extensions_BQV.index_fill_(2, self.ids, -math.inf)


class EndAtLimit:
    """At its limit a sentence can only end; a limit of its own makes it independent of its batch."""

    def __init__(self, eos: int) -> None:
        self.eos = eos

    def apply(self, extensions_BQV: Tensor, length_B: Tensor, limit_B: Tensor) -> None:
        at_limit_B = limit_B <= length_B + 1
        if bool(at_limit_B.any()):
            end_BQ = extensions_BQV[:, :, self.eos].clone()
            extensions_BQV.masked_fill_(at_limit_B[:, None, None], -math.inf)
            extensions_BQV[:, :, self.eos] = end_BQ


class Control:
    """Steers the hypotheses of one sentence. Its state is a value that belongs to a hypothesis and is never changed.

    This one allows everything; the others inherit what they leave alone.
    """

    least = 0
    """Pieces without which the control cannot be kept: the limit of its sentence leaves room for those of all."""
    shortest = 0
    """Pieces that the translation must have, those of other controls among them: the limit leaves room for so many."""
    goals = 0
    """Pieces that a hypothesis must still reach; see `reached`."""

    def start(self) -> Any:
        """The state before the first piece."""
        return ()

    def after(self, state: Any, piece: int) -> Any:
        """The state once a piece was said."""
        return state

    def only(self, state: Any, room: int) -> Sequence[int] | None:
        """The only pieces that may be said, where that is so. They may be ones that a filter forbids.

        Args:
            state: of the hypothesis.
            room: the most pieces that may still be said, the end included.
        """
        return None

    def wanted(self, state: Any, room: int) -> Sequence[int]:
        """Pieces that bring a hypothesis nearer to its goals. They may be ones that a filter forbids."""
        return ()

    def change(self, scores_V: Tensor, state: Any, room: int) -> None:
        """Changes log-probabilities in place. What would leave nothing to say is undone."""

    def surfaces(self, ids: Sequence[int]) -> Sequence[Surface]:
        """What stands in the text of a finished hypothesis for some of its pieces."""
        return ()

    def reached(self, state: Any) -> int:
        """How many of its goals a hypothesis has reached: it competes with those that have reached as many."""
        return 0


@dataclass(frozen=True)
class MinimumLength(Control):
    """No end before a number of pieces."""

    eos: int
    shortest: int

    def start(self) -> int:
        return 0

    def after(self, state: int, piece: int) -> int:
        return state + 1

    def change(self, scores_V: Tensor, state: int, room: int) -> None:
        if state < self.shortest:
            scores_V[self.eos] = -math.inf


@dataclass(frozen=True)
class NoRepeatedNgrams(Control):
    """No n pieces in a row that stand there already (Paulus et al. 2018, section 2.5)."""

    n: int

    def start(self) -> tuple[int, ...]:
        return ()

    def after(self, state: tuple[int, ...], piece: int) -> tuple[int, ...]:
        return (*state, piece)

    def change(self, scores_V: Tensor, state: tuple[int, ...], room: int) -> None:
        before = state[len(state) - self.n + 1 :]
        ends = range(self.n - 1, len(state))
        said = [state[end] for end in ends if state[end - self.n + 1 : end] == before]
        scores_V[said] = -math.inf


@dataclass(frozen=True)
class RepetitionPenalty(Control):
    """Makes what was said less probable: its log-probabilities times a factor (Keskar et al. 2019, section 4.1)."""

    factor: float

    def start(self) -> frozenset[int]:
        return frozenset()

    def after(self, state: frozenset[int], piece: int) -> frozenset[int]:
        return state | {piece}

    def change(self, scores_V: Tensor, state: frozenset[int], room: int) -> None:
        said = sorted(state)
        scores_V[said] = scores_V[said] * self.factor


class Exactly(Control):
    """What is said is given, piece by piece: it is not searched but scored."""

    def __init__(self, pieces: Sequence[int]) -> None:
        """Args: the pieces, the end of sentence included."""
        self.pieces = pieces
        self.least = len(pieces)

    def start(self) -> int:
        return 0

    def after(self, state: int, piece: int) -> int:
        return state + 1

    def only(self, state: int, room: int) -> Sequence[int]:
        return self.pieces[state : state + 1]


def steer(scores_V: Tensor, model_V: Tensor, controls: Sequence[Control], states: Sequence[Any], room: int) -> None:
    """Changes what one hypothesis may say, in place.

    Args:
        scores_V: log-probabilities after the filters.
        model_V: the same before them.
        controls, states: an earlier one goes before a later one.
        room: the most pieces that may still be said, the end included.
    """
    only: Sequence[int] | None = None
    for control, state in zip(controls, states, strict=True):
        pieces = control.only(state, room)
        if pieces is not None:
            both = pieces if only is None else sorted({*only} & {*pieces})
            only = both or only
    if only is not None:
        scores_V.fill_(-math.inf)
        scores_V[only] = model_V[only]
    elif wanted := [piece for pair in zip(controls, states, strict=True) for piece in pair[0].wanted(pair[1], room)]:
        scores_V[wanted] = model_V[wanted]
    for control, state in zip(controls, states, strict=True):
        before_V = scores_V.clone()
        control.change(scores_V, state, room)
        if float(scores_V.max()) == -math.inf:
            scores_V.copy_(before_V)
