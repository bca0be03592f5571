"""Sentences that are searched together, and what is found of each.

Shapes: B rows, one sentence each, Q hypotheses of each, G groups of them, S source, T target, F width of a feature
vector.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from s2s_cli.model.interface import DecoderState, Memory
from s2s_cli.search.rules import Control


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation."""

    ids: tuple[int, ...]
    """Pieces, without the end of sentence."""
    token_scores: tuple[float, ...]
    """The model's log-probability of each piece and of the end of sentence, in nats."""
    score: float
    """What it is ranked by: its log-probability over the length penalty, and what else counts."""
    attention: Tensor | None = None
    """Weights of each step on the source, (T, S), where they were asked for."""

    @property
    def log_probability(self) -> float:
        """In nats, the end of sentence included."""
        return math.fsum(self.token_scores)


class Pool:
    """The best finished hypotheses of one group: (score, step, row, log-probability of the end)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ended = 0
        """Hypotheses that were added, kept or not."""
        self.items: list[tuple[float, int, int, float]] = []

    def add(self, score: float, step: int, row: int, end: float) -> None:
        """Takes a hypothesis up, if it is good enough: the step at which it ended, and which one it continues."""
        self.ended += 1
        item = (score, -step, -row, end)  # of equal scores, the earlier one stays
        (heapq.heappush if len(self.items) < self.size else heapq.heappushpop)(self.items, item)

    @property
    def threshold(self) -> float:
        """What a hypothesis must exceed to come in."""
        return self.items[0][0] if len(self.items) == self.size else -math.inf


class Past:
    """One step of many sentences, to walk back along."""

    def __init__(self, tokens_BQ: Tensor, parents_BQ: Tensor, said_BQ: Tensor, weights_BQS: Tensor | None) -> None:
        self._tokens_BQ, self._parents_BQ, self._said_BQ = tokens_BQ, parents_BQ, said_BQ
        self.weights_BQS = weights_BQS

    @cached_property
    def tokens(self) -> list[list[int]]:
        """The pieces that were chosen, (B, Q)."""
        return self._tokens_BQ.tolist()

    @cached_property
    def parents(self) -> list[list[int]]:
        """The hypotheses that they continue, (B, Q)."""
        return self._parents_BQ.tolist()

    @cached_property
    def said(self) -> list[list[float]]:
        """The model's log-probabilities of the pieces, (B, Q)."""
        return self._said_BQ.tolist()


@dataclass(frozen=True)
class Guidance:
    """What is asked of the translations of one sentence, beside the source."""

    controls: tuple[Control, ...] = ()
    """What may be said; an earlier one goes before a later one."""
    seed: int = 0
    """Of what is drawn for it."""


@dataclass
class Sentence:
    """What was found of one sentence."""

    number: int
    source_length: int
    pools: list[Pool]
    """One for each group of hypotheses."""
    guidance: Guidance
    trail: list[tuple[Past, int]] = field(default_factory=list)
    """Its steps, and its row in each."""
    states: list[tuple[Any, ...]] = field(default_factory=list)
    """Of each hypothesis, the states of the controls."""

    def __post_init__(self) -> None:
        self.states = [tuple(control.start() for control in self.guidance.controls)]

    @cached_property
    def generator(self) -> torch.Generator:
        """Of what is drawn for it."""
        return torch.Generator().manual_seed(self.guidance.seed)

    def follow(self, tokens: Sequence[int], parents: Sequence[int]) -> None:
        """Moves the states of the controls on, where there are any, with the hypotheses that were chosen."""
        if controls := self.guidance.controls:
            self.states = [
                tuple(control.after(state, token) for control, state in zip(controls, self.states[parent], strict=True))
                for token, parent in zip(tokens, parents, strict=True)
            ]

    def hypotheses(self) -> list[Hypothesis]:
        """The best first."""
        items = sorted(item for pool in self.pools for item in pool.items)
        return [self._trace(*item) for item in items[::-1]]

    def weights(self, step: int, query: int) -> Tensor | None:
        """The attention, where it is kept, of the hypothesis that ends at a step and continues one: (T, S)."""
        found: list[Tensor] = []
        for number in range(step, -1, -1):
            past, row = self.trail[number]
            if past.weights_BQS is None:
                return None
            found.append(past.weights_BQS[row, query, : self.source_length])
            if number:
                past, row = self.trail[number - 1]
                query = past.parents[row][query]
        return torch.stack(found[::-1])

    def _trace(self, score: float, step: int, query: int, end: float) -> Hypothesis:
        """Walks back from the step at which a hypothesis ended; a pool's steps and rows are negative."""
        ids: list[int] = []
        said = [end]
        query = last = -query
        for number in range(-step - 1, -1, -1):
            past, row = self.trail[number]
            ids.append(past.tokens[row][query])
            said.append(past.said[row][query])
            query = past.parents[row][query]
        return Hypothesis(tuple(ids[::-1]), tuple(said[::-1]), score, self.weights(-step, last))


class Sources(NamedTuple):
    """Sentences that are encoded together."""

    source: Tensor
    """Piece ids (B, S) or feature vectors (B, S, F), padded at the end."""
    src_len_B: Tensor
    limit_B: Tensor
    """Most pieces of each translation, the end of sentence included."""
    guidance: Sequence[Guidance] | None = None
    """One for each sentence, where something is asked."""


@dataclass
class Flight:
    """Sentences that are searched together: row b of each tensor is of `sentences[b]`; None where a row is free."""

    sentences: list[Sentence | None]
    memory: Memory
    state: DecoderState
    tokens_BQ: Tensor
    scores_BQ: Tensor
    """Log-probabilities so far; minus infinity where there is no hypothesis."""
    length_B: Tensor
    limit_B: Tensor
    threshold_BG: Tensor
    """What a finished hypothesis of each group must exceed to count."""

    def rows(self, *, free: bool) -> list[int]:
        """The rows that are free, or those that are not."""
        return [row for row, sentence in enumerate(self.sentences) if (sentence is None) == free]

    def keep(self, rows: list[int]) -> Flight:
        """Some of the sentences."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.limit_B.device)
        return Flight(
            [self.sentences[row] for row in rows],
            self.memory.select(index),
            self.state.select(self._hypotheses(index)),
            *(tensor[index] for tensor in self._tensors),
        )

    def take_in(self, others: Flight) -> None:
        """Puts others, no more than there are free rows, into those."""
        rows = self.rows(free=True)[: len(others.sentences)]
        for row, sentence in zip(rows, others.sentences, strict=True):
            self.sentences[row] = sentence
        index = torch.tensor(rows, dtype=torch.int64, device=self.limit_B.device)
        self.memory = self.memory.replace(index, others.memory).trimmed()
        self.state = self.state.replace(self._hypotheses(index), others.state).of_width(self.memory.width)
        for mine, theirs in zip(self._tensors, others._tensors, strict=True):
            mine[index] = theirs  # a past may hold `tokens_BQ`: of these rows it is no longer asked

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.tokens_BQ, self.scores_BQ, self.length_B, self.limit_B, self.threshold_BG

    def _hypotheses(self, rows: Tensor) -> Tensor:
        queries = self.tokens_BQ.shape[1]
        return (rows[:, None] * queries + torch.arange(queries, device=rows.device)).flatten()
