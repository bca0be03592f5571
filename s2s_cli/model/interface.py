"""What the parts of a model owe each other: the values that pass between encoder, attention and decoder.

Shapes, in this package: B batch (sentences), S source length, T target length, Q queries a sentence (target positions
in training, K hypotheses in search), N decoder rows (B x Q), C encoder state, H decoder state, A attention network,
D coverage, E embedding, R readout, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
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
    extras: tuple[Tensor, ...] = ()
    """What else a kind of attention needs of each encoder state, each (B, S, .); last, with a lexical decoder, the
    embedded source."""

    @property
    def width(self) -> int:
        """S, padding included."""
        return self.mask_BS.shape[1]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, in the order of the fields."""
        return self.values_BSC, self.keys_BSA, self.mask_BS, self.last_BC, *self.extras

    def of(self, tensors: Iterable[Tensor]) -> Memory:
        """A memory of this kind made of other tensors, in their order."""
        values_BSC, keys_BSA, mask_BS, last_BC, *extras = tensors
        return Memory(values_BSC, keys_BSA, mask_BS, last_BC, tuple(extras))

    def select(self, sentences: Tensor) -> Memory:
        """The memory of some sentences."""
        return self.of(tensor.index_select(0, sentences) for tensor in self.tensors)

    def replace(self, sentences: Tensor, others: Memory) -> Memory:
        """With the memory of others in the place of some sentences; it takes over the tensors of this one."""
        width = max(self.width, others.width)
        pairs = zip(self._of_width(width).tensors, others._of_width(width).tensors, strict=True)
        return self.of(tensor.index_copy_(0, sentences, other) for tensor, other in pairs)

    def _of_width(self, width: int) -> Memory:
        if width == self.width:
            return self
        values_BSC, keys_BSA, mask_BS, *extras = (
            of_width(tensor, width) for tensor in (self.values_BSC, self.keys_BSA, self.mask_BS, *self.extras)
        )
        return Memory(values_BSC, keys_BSA, mask_BS, self.last_BC, tuple(extras))

    def trimmed(self) -> Memory:
        """Without columns in which all is padding."""
        return self._of_width(int(self.mask_BS.any(0).sum()))


def of_width(tensor: Tensor, width: int) -> Tensor:
    """A tensor (rows, S, ...) with zeros added at the end of S, or what stands there cut off."""
    extra = width - tensor.shape[1]
    return tensor[:, :width] if extra <= 0 else pad(tensor, (*(0, 0) * (tensor.dim() - 2), 0, extra))


class AttentionState(NamedTuple):
    """What attention carries from step to step; for most kinds nothing."""

    rows: tuple[Tensor, ...] = ()
    """Each (N, .)."""
    columns: tuple[Tensor, ...] = ()
    """Of every encoder state, each (N, S, .); as wide as the memory."""


class Attended(NamedTuple):
    """What attention found for each query."""

    context_BQC: Tensor
    weights_BQS: Tensor
    state: AttentionState


@dataclass(frozen=True)
class DecoderState:
    """All that a decoder carries from one step to the next. It belongs to a hypothesis: every tensor has N rows."""

    cells: tuple[CellState, ...]
    feed_NR: Tensor
    """The last attentional state; of width 0 without input feeding."""
    attention: AttentionState

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it, in the order in which `map` goes."""
        cells = (part for cell in self.cells for part in cell)
        return *cells, self.feed_NR, *self.attention.rows, *self.attention.columns

    def select(self, rows: Tensor) -> DecoderState:
        """The states of some rows, in a new order; a row may stand there more than once."""
        return self.map(lambda tensor: tensor.index_select(0, rows))

    def replace(self, rows: Tensor, others: DecoderState) -> DecoderState:
        """With the states of others in the place of some rows."""
        width = max([tensor.shape[1] for state in (self, others) for tensor in state.attention.columns], default=0)
        theirs = iter(others.of_width(width).tensors)
        return self.of_width(width).map(lambda tensor: tensor.index_copy(0, rows, next(theirs)))

    def of_width(self, width: int) -> DecoderState:
        """For a memory of that width."""
        if not self.attention.columns:
            return self
        columns = tuple(of_width(tensor, width) for tensor in self.attention.columns)
        return replace(self, attention=AttentionState(self.attention.rows, columns))

    def map(self, change: Callable[[Tensor], Tensor]) -> DecoderState:
        """With every tensor changed."""
        cells = tuple(tuple(change(part) for part in cell) for cell in self.cells)
        feed_NR = change(self.feed_NR)
        rows, columns = (tuple(change(tensor) for tensor in tensors) for tensors in self.attention)
        return DecoderState(cells, feed_NR, AttentionState(rows, columns))


class Step(NamedTuple):
    """One step of a decoder, for Q hypotheses of each sentence."""

    logits_BQV: Tensor
    weights_BQS: Tensor
    state: DecoderState


def at_least_fp32(x: Tensor) -> torch.dtype:
    """The type for sums that bf16 would bring to a standstill."""
    return torch.promote_types(x.dtype, torch.float32)
