"""Sentences that are searched together, and what is found of each.

Shapes: B rows, one sentence each, Q hypotheses of each, S source, T target.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from s2s_cli.model.interface import DecoderState, Memory


@dataclass(frozen=True)
class Hypothesis:
    """A finished translation."""

    ids: tuple[int, ...]
    """Pieces, without the end of sentence."""
    log_probability: float
    """In nats, the end of sentence included."""
    score: float
    """The log-probability over the length penalty."""
    attention: Tensor | None = None
    """Weights of each step on the source, (T, S), where they were asked for."""


class Pool:
    """The best finished hypotheses of one sentence: (score, log-probability, step, row)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: list[tuple[float, float, int, int]] = []

    def add(self, score: float, log_probability: float, step: int, row: int) -> None:
        """Takes a hypothesis up, if it is good enough: the step at which it ended, and which one it continues."""
        item = (score, log_probability, -step, -row)  # of equal scores, the earlier one stays
        (heapq.heappush if len(self.items) < self.size else heapq.heappushpop)(self.items, item)

    @property
    def threshold(self) -> float:
        """What a hypothesis must exceed to come in."""
        return self.items[0][0] if len(self.items) == self.size else -math.inf


class Past:
    """One step of many sentences, to walk back along."""

    def __init__(self, tokens_BQ: Tensor, parents_BQ: Tensor, weights_BQS: Tensor | None) -> None:
        self._tokens_BQ, self._parents_BQ, self.weights_BQS = tokens_BQ, parents_BQ, weights_BQS

    @cached_property
    def tokens(self) -> list[list[int]]:
        """The pieces that were chosen, (B, Q)."""
        return self._tokens_BQ.tolist()

    @cached_property
    def parents(self) -> list[list[int]]:
        """The hypotheses that they continue, (B, Q)."""
        return self._parents_BQ.tolist()


@dataclass
class Sentence:
    """What was found of one sentence."""

    number: int
    source_length: int
    pool: Pool
    ended: int = 0
    """Hypotheses that have ended."""
    trail: list[tuple[Past, int]] = field(default_factory=list)
    """Its steps, and its row in each."""

    def hypotheses(self) -> list[Hypothesis]:
        """The best first."""
        return [self._trace(*item) for item in sorted(self.pool.items)[::-1]]

    def _trace(self, score: float, log_probability: float, step: int, query: int) -> Hypothesis:
        """Walks back from the step at which a hypothesis ended; a pool's steps and rows are negative."""
        ids: list[int] = []
        weights: list[Tensor] = []
        query = -query
        for number in range(-step, -1, -1):
            past, row = self.trail[number]
            if past.weights_BQS is not None:
                weights.append(past.weights_BQS[row, query, : self.source_length])
            if number:
                past, row = self.trail[number - 1]
                ids.append(past.tokens[row][query])
                query = past.parents[row][query]
        attention = torch.stack(weights[::-1]) if weights else None
        return Hypothesis(tuple(ids[::-1]), log_probability, score, attention)


class Sources(NamedTuple):
    """Sentences that are encoded together."""

    src_BS: Tensor
    """Piece ids, padded at the end."""
    src_len_B: Tensor
    limit_B: Tensor
    """Most pieces of each translation, the end of sentence included."""


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
    threshold_B: Tensor
    """What a finished hypothesis must exceed to count."""

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
        return self.tokens_BQ, self.scores_BQ, self.length_B, self.limit_B, self.threshold_B

    def _hypotheses(self, rows: Tensor) -> Tensor:
        queries = self.tokens_BQ.shape[1]
        return (rows[:, None] * queries + torch.arange(queries, device=rows.device)).flatten()
