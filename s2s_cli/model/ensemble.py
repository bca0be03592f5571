"""Several models that choose each piece together. The shapes' legend is in `interface.py`.

To search, an ensemble is one model: the memories of its members lie in one memory, and their states in one state, which
are taken apart again at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, compress, islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softmax

from s2s_cli.model.interface import AttentionState, DecoderState, Memory, Step
from s2s_cli.model.seq2seq import SearchModel


def _mean_of_probabilities(logits: Sequence[Tensor]) -> Tensor:
    total_BQV = softmax(logits[0], dim=-1, dtype=torch.float32)
    for logits_BQV in logits[1:]:
        total_BQV += softmax(logits_BQV, dim=-1, dtype=torch.float32)
    return total_BQV.clamp_min_(torch.finfo(torch.float32).tiny).log_()  # less than 1e-38 may still have to be said


def _mean_of_log_probabilities(logits: Sequence[Tensor]) -> Tensor:
    total_BQV = logits[0].float()
    for logits_BQV in logits[1:]:
        total_BQV = total_BQV + logits_BQV
    return total_BQV / len(logits)


# Each takes the members' logits (B, Q, V) and gives what to choose by (B, Q, V), up to a constant for each row.
COMBINATIONS: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "probabilities": _mean_of_probabilities,
    "log-probabilities": _mean_of_log_probabilities,
}


class _Layout(NamedTuple):
    """What of a joined memory and state belongs to one member."""

    cells: int
    feed_size: int
    rows: int
    columns: int
    extras: int
    last_size: int


def _layout(memory: Memory, state: DecoderState) -> _Layout:
    rows, columns = map(len, state.attention)
    widths = state.feed_NR.shape[1], memory.last_BC.shape[1]
    return _Layout(len(state.cells), widths[0], rows, columns, len(memory.extras), widths[1])


class Ensemble:
    """The mean of the members' predictions, and of the attention weights of those that have attention.

    Args:
        members: models of the same vocabularies, made ready for search.
        combine: one of COMBINATIONS.
    """

    def __init__(self, members: Sequence[SearchModel], combine: str) -> None:
        self.members = members
        self._combine = COMBINATIONS[combine]
        looking = [not member.model.is_blind for member in members]
        self._looking = looking if any(looking) else [True] * len(members)  # where none looks, the zeros stay zeros
        self._layouts: list[_Layout] = []

    def encode(self, source: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]:
        """What all members make of the sources."""
        encoded = [member.encode(source, src_len_B) for member in self.members]
        self._layouts = [_layout(*pair) for pair in encoded]  # the same for all sources
        return _join_memories([memory for memory, _ in encoded]), _join_states([state for _, state in encoded])

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        """One step of all members."""
        states, memories = _split_state(state, self._layouts), _split_memory(memory, self._layouts)
        parts = zip(self.members, states, memories, strict=True)
        steps = [member.step(tokens_BQ, own, looked_at) for member, own, looked_at in parts]
        weights_BQS = torch.stack([step.weights_BQS for step in compress(steps, self._looking)]).mean(0)
        logits_BQV = self._combine([step.logits_BQV for step in steps])
        return Step(logits_BQV, weights_BQS, _join_states([step.state for step in steps]))

    def make_table(self) -> None:
        """Computes the `inputs` of all target pieces, for every member."""
        for member in self.members:
            member.make_table()


def _join_states(states: Sequence[DecoderState]) -> DecoderState:
    rows, columns = (tuple(chain.from_iterable(parts)) for parts in zip(*(s.attention for s in states), strict=True))
    cells = tuple(chain.from_iterable(state.cells for state in states))
    return DecoderState(cells, torch.cat([state.feed_NR for state in states], dim=1), AttentionState(rows, columns))


def _split_state(state: DecoderState, layouts: Sequence[_Layout]) -> list[DecoderState]:
    cells, rows, columns = iter(state.cells), iter(state.attention.rows), iter(state.attention.columns)
    feeds = torch.split(state.feed_NR, [layout.feed_size for layout in layouts], dim=1)
    return [
        DecoderState(
            tuple(islice(cells, layout.cells)),
            feed_NR,
            AttentionState(tuple(islice(rows, layout.rows)), tuple(islice(columns, layout.columns))),
        )
        for layout, feed_NR in zip(layouts, feeds, strict=True)
    ]


def _join_memories(memories: Sequence[Memory]) -> Memory:
    first, *others = memories
    rest = ((memory.values_BSC, memory.keys_BSA, *memory.extras) for memory in others)
    extras = (*first.extras, *chain.from_iterable(rest))
    last_BC = torch.cat([memory.last_BC for memory in memories], dim=1)
    return Memory(first.values_BSC, first.keys_BSA, first.mask_BS, last_BC, extras)


def _split_memory(memory: Memory, layouts: Sequence[_Layout]) -> list[Memory]:
    tensors = iter((memory.values_BSC, memory.keys_BSA, *memory.extras))
    lasts = torch.split(memory.last_BC, [layout.last_size for layout in layouts], dim=1)
    return [
        Memory(next(tensors), next(tensors), memory.mask_BS, last_BC, tuple(islice(tensors, layout.extras)))
        for layout, last_BC in zip(layouts, lasts, strict=True)
    ]
