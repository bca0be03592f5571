"""What the parts of a model owe each other: the values that pass between encoder, attention and decoder.

Shapes, in this package: B batch (sentences), S source length, T target length, Q queries a sentence (target positions
in training, K hypotheses in search), N decoder rows (B x Q), C encoder state, H decoder state, A attention network,
E embedding, R readout, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import pad

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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, in the order of the fields."""
        return self.values_BSC, self.keys_BSA, self.mask_BS, self.last_BC

    def select(self, sentences: Tensor) -> Memory:
        """The memory of some sentences."""
        return Memory(*(tensor.index_select(0, sentences) for tensor in self.tensors))

    def replace(self, sentences: Tensor, others: Memory) -> Memory:
        """With the memory of others in the place of some sentences; it takes over the tensors of this one."""
        width = max(self.mask_BS.shape[1], others.mask_BS.shape[1])
        mine, theirs = self._of_width(width), others._of_width(width)
        pairs = zip(mine.tensors, theirs.tensors, strict=True)
        return Memory(*(tensor.index_copy_(0, sentences, other) for tensor, other in pairs))

    def _of_width(self, width: int) -> Memory:
        extra = width - self.mask_BS.shape[1]
        if not extra:
            return self
        values_BSC, keys_BSA = (pad(tensor, (0, 0, 0, extra)) for tensor in (self.values_BSC, self.keys_BSA))
        return Memory(values_BSC, keys_BSA, pad(self.mask_BS, (0, extra)), self.last_BC)

    def trimmed(self) -> Memory:
        """Without columns in which all is padding."""
        width = int(self.mask_BS.any(0).sum())
        return Memory(self.values_BSC[:, :width], self.keys_BSA[:, :width], self.mask_BS[:, :width], self.last_BC)


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

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, in the order in which `map` goes."""
        return *(part for cell in self.cells for part in cell), self.feed_NR, *self.attention

    def select(self, rows: Tensor) -> DecoderState:
        """The states of some rows, in a new order; a row may stand there more than once."""
        return self.map(lambda tensor: tensor.index_select(0, rows))

    def replace(self, rows: Tensor, others: DecoderState) -> DecoderState:
        """With the states of others in the place of some rows."""
        theirs = iter(others.tensors)
        return self.map(lambda tensor: tensor.index_copy(0, rows, next(theirs)))

    def map(self, change: Callable[[Tensor], Tensor]) -> DecoderState:
        """With every tensor changed."""
        cells = tuple(tuple(change(part) for part in cell) for cell in self.cells)
        return DecoderState(cells, change(self.feed_NR), tuple(change(tensor) for tensor in self.attention))


class Step(NamedTuple):
    """One step of a decoder, for Q hypotheses of each sentence."""

    logits_BQV: Tensor
    weights_BQS: Tensor
    state: DecoderState
