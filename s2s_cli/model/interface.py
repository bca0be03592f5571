"""What the parts of a model owe each other: the values that pass between encoder, attention and decoder.

Shapes, in this package: B batch (sentences), S source length, T target length, Q queries a sentence (target positions
in training, K hypotheses in search), N decoder rows (B x Q), C encoder state, H decoder state, A attention network,
E embedding, R readout, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

CellState = tuple[Tensor, ...]
"""State of one recurrent layer, each (N, H): (h, c) of an LSTM, (h,) of the others."""


@dataclass(frozen=True)
class Encoded:
    """What an encoder makes of a batch of sources."""

    states_BSC: Tensor
    """Encoder states of the top layer."""
    mask_BS: Tensor
    """True on tokens, False on padding."""
    last_BC: Tensor
    """The top layer's last states: after the last token, and for the backward direction after the first."""
    finals: tuple[CellState, ...]
    """The last state of each layer, both directions side by side; empty unless they were asked for."""


@dataclass(frozen=True)
class Memory:
    """What attention looks at. It belongs to a sentence, and is never copied for its hypotheses."""

    values_BSC: Tensor
    keys_BSA: Tensor
    """The source's part of the score, computed once a sentence."""
    mask_BS: Tensor
    last_BC: Tensor

    def select(self, sentences: Tensor) -> Memory:
        """The memory of some sentences."""
        return Memory(*(tensor.index_select(0, sentences) for tensor in vars(self).values()))


class Attended(NamedTuple):
    """What attention found for each query."""

    context_BQC: Tensor
    weights_BQS: Tensor
    state: tuple[Tensor, ...]


@dataclass(frozen=True)
class DecoderState:
    """All that a decoder carries from one step to the next. It belongs to a hypothesis: every tensor has N rows."""

    cells: tuple[CellState, ...]
    feed_NR: Tensor
    """The last attentional state; of width 0 without input feeding."""
    attention: tuple[Tensor, ...] = ()

    def select(self, rows: Tensor) -> DecoderState:
        """The states of some rows, in a new order; a row may stand there more than once."""

        def pick(tensor: Tensor) -> Tensor:
            return tensor.index_select(0, rows)

        cells = tuple(tuple(pick(part) for part in cell) for cell in self.cells)
        return DecoderState(cells, pick(self.feed_NR), tuple(pick(tensor) for tensor in self.attention))


class Step(NamedTuple):
    """One step of a decoder, for Q hypotheses of each sentence."""

    logits_BQV: Tensor
    weights_BQS: Tensor
    state: DecoderState
