"""One step loop for all searches. It knows small roles only: the model steps, filters forbid, a search chooses, and
finished hypotheses are ranked by their length-normalized score.

A sentence that is done makes room for the next one, so that the products stay large until the last.
Shapes: B sentences searched together, Q hypotheses of each at this step, M candidates, S source, V vocabulary.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from s2s_cli.config import DecodingConfig
from s2s_cli.errors import RunFailed
from s2s_cli.model.interface import DecoderState, Memory, Step

# Rows of finished sentences are given to others, or taken out, once they are this share.
FREE_SHARE = 0.1
BLOCK = 128
NO_LIMIT = 2**40


class Model(Protocol):
    """What search needs of a model."""

    def encode(self, src_BS: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]: ...

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step: ...


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


class Candidates(NamedTuple):
    """The extensions a search considers, best first in each sentence."""

    scores_BM: Tensor
    tokens_BM: Tensor
    parents_BM: Tensor


class Search(Protocol):
    """Chooses among the extensions of the hypotheses."""

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor) -> Candidates:
        """Args: log-probabilities of the extensions, after the filters; and of the hypotheses so far."""
        ...


class Greedy:
    """The best extension."""

    def __init__(self, config: DecodingConfig) -> None:
        self.width = 1

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor) -> Candidates:
        """The `width` best extensions of each sentence.

        They lie in the `width` blocks of the vocabulary with the largest maxima, and only those are sorted: the whole
        of it is passed over once.
        """
        sentences, queries, size = extensions_BQV.shape
        block = _block_size(size)
        blocks_BQPV = extensions_BQV.view(sentences, queries, -1, block)
        maxima_BP = (blocks_BQPV.amax(dim=-1) + scores_BQ[:, :, None]).flatten(1)
        index_BI = maxima_BP.topk(min(self.width, maxima_BP.shape[1])).indices
        parents_BI = index_BI // (size // block)
        first_B1 = torch.arange(sentences, device=index_BI.device)[:, None] * maxima_BP.shape[1]
        chosen_BIV = blocks_BQPV.flatten(0, 2)[first_B1 + index_BI] + scores_BQ.gather(1, parents_BI)[:, :, None]
        scores_BM, at_BM = chosen_BIV.flatten(1).topk(min(self.width, chosen_BIV[0].numel()))
        which_BM = at_BM // block
        tokens_BM = index_BI.gather(1, which_BM) % (size // block) * block + at_BM % block
        return Candidates(scores_BM, tokens_BM, parents_BI.gather(1, which_BM))


class Beam(Greedy):
    """The 2K best extensions: enough for K that go on, even where K end."""

    def __init__(self, config: DecodingConfig) -> None:
        self.width = 2 * config.beam


SEARCHES: dict[str, type[Greedy]] = {"greedy": Greedy, "beam": Beam}


@cache
def _block_size(size: int) -> int:
    """The largest divisor of a vocabulary's size that is no more than BLOCK."""
    return next(block for block in range(min(BLOCK, size), 0, -1) if size % block == 0)


class Filter(Protocol):
    """Forbids extensions by setting their log-probabilities to minus infinity, in place."""

    def apply(self, extensions_BQV: Tensor, length_B: Tensor, limit_B: Tensor) -> None:
        """Args: the log-probabilities; pieces so far; the most pieces of each sentence, the end included."""
        ...


class Suppress:
    """Pieces that never stand in a translation."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)

    def apply(self, extensions_BQV: Tensor, length_B: Tensor, limit_B: Tensor) -> None:
        extensions_BQV[:, :, self.ids] = -math.inf


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


Length = TypeVar("Length", int, Tensor)


def length_penalty(length: Length, alpha: float) -> Length:
    """Wu et al. 2016, equation 14: ((5 + |Y|) / 6) ** alpha, the end of sentence counted."""
    penalty: Length = ((5 + length) / 6) ** alpha
    return penalty


class _Pool:
    """The best finished hypotheses of one sentence: (score, log-probability, step, row)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: list[tuple[float, float, int, int]] = []

    def add(self, score: float, log_probability: float, step: int, row: int) -> None:
        item = (score, log_probability, -step, -row)  # of equal scores, the earlier one stays
        (heapq.heappush if len(self.items) < self.size else heapq.heappushpop)(self.items, item)

    @property
    def threshold(self) -> float:
        """What a hypothesis must exceed to come in."""
        return self.items[0][0] if len(self.items) == self.size else -math.inf


class _Past:
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
class _Sentence:
    """What was found of one sentence."""

    number: int
    source_length: int
    pool: _Pool
    trail: list[tuple[_Past, int]] = field(default_factory=list)
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
class _Flight:
    """Sentences that are searched together: row b of each tensor is of `sentences[b]`; None where a row is free."""

    sentences: list[_Sentence | None]
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

    def keep(self, rows: list[int]) -> _Flight:
        """Some of the sentences."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.limit_B.device)
        return _Flight(
            [self.sentences[row] for row in rows],
            self.memory.select(index),
            self.state.select(self._hypotheses(index)),
            *(tensor[index] for tensor in self._tensors),
        )

    def take_in(self, others: _Flight) -> None:
        """Puts others, no more than there are free rows, into those."""
        rows = self.rows(free=True)[: len(others.sentences)]
        for row, sentence in zip(rows, others.sentences, strict=True):
            self.sentences[row] = sentence
        index = torch.tensor(rows, dtype=torch.int64, device=self.limit_B.device)
        self.memory = self.memory.replace(index, others.memory).trimmed()
        self.state = self.state.replace(self._hypotheses(index), others.state)
        for mine, theirs in zip(self._tensors, others._tensors, strict=True):
            mine[index] = theirs

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return self.tokens_BQ, self.scores_BQ, self.length_B, self.limit_B, self.threshold_B

    def _hypotheses(self, rows: Tensor) -> Tensor:
        queries = self.tokens_BQ.shape[1]
        return (rows[:, None] * queries + torch.arange(queries, device=rows.device)).flatten()


@torch.inference_mode()
def decode(
    model: Model,
    batches: Iterable[Sources],
    config: DecodingConfig,
    *,
    bos: int,
    eos: int,
    suppress: Sequence[int] = (),
    search: Search | None = None,
    keep_attention: bool = False,
) -> list[list[Hypothesis]]:
    """Translates sentences, no more of them at a time than the first batch has.

    Args:
        model: encodes and steps.
        batches: the sources; the next is asked for when there is room.
        config: beam, n_best, length penalty, stopping.
        bos, eos: the pieces that start and end a target.
        suppress: pieces that may not be produced.
        search: chooses the extensions; default: greedy for a beam of one, else beam search.
        keep_attention: give attention weights with the hypotheses.

    Returns:
        For each sentence its `n_best` hypotheses (fewer where there are no more), best first.
    """
    chooser = search or SEARCHES["greedy" if config.beam == 1 else "beam"](config)
    stepper = _Stepper(model, config, [Suppress(suppress), EndAtLimit(eos)], chooser, bos, eos, keep_attention)
    coming = (stepper.begin(sources) for sources in batches)
    flight, waiting = next(coming, None), None
    while flight:
        free = flight.rows(free=True)
        if len(free) >= max(1, FREE_SHARE * len(flight.sentences)):
            waiting = waiting or next(coming, None)
            if waiting:
                ready = waiting.rows(free=False)
                flight.take_in(waiting.keep(ready[: len(free)]))
                waiting = waiting.keep(ready[len(free) :]) if len(ready) > len(free) else None
                continue
            flight = flight.keep(flight.rows(free=False)) if len(free) < len(flight.sentences) else None
        if flight:
            stepper.advance(flight)
    return stepper.found


class _Stepper:
    """Begins sentences and takes steps; `found` holds the hypotheses of each, once it is done."""

    def __init__(
        self,
        model: Model,
        config: DecodingConfig,
        filters: Sequence[Filter],
        search: Search,
        bos: int,
        eos: int,
        keep_attention: bool,
    ) -> None:
        self.model, self.config, self.filters, self.search = model, config, filters, search
        self.bos, self.eos, self.keep_attention = bos, eos, keep_attention
        self.found: list[list[Hypothesis]] = []

    def begin(self, sources: Sources) -> _Flight:
        """Encodes sentences and takes their first step, which needs one hypothesis of each only."""
        size, device = len(sources.src_BS), sources.src_BS.device
        flight = _Flight(
            [
                _Sentence(len(self.found) + i, n, _Pool(self.config.n_best))
                for i, n in enumerate(sources.src_len_B.tolist())
            ],
            *self.model.encode(sources.src_BS, sources.src_len_B),
            tokens_BQ=torch.full((size, 1), self.bos, device=device),
            scores_BQ=torch.zeros(size, 1, device=device),
            length_B=torch.zeros(size, dtype=torch.int64, device=device),
            limit_B=sources.limit_B.clone(),
            threshold_B=torch.full((size,), -math.inf, device=device),
        )
        self.found += [[] for _ in range(size)]
        self.advance(flight)
        return flight

    def advance(self, flight: _Flight) -> None:
        """One step: extends all hypotheses, keeps the best, and frees the rows of the sentences that are done."""
        beam, queries = self.config.beam, flight.tokens_BQ.shape[1]
        step = self.model.step(flight.tokens_BQ, flight.state, flight.memory)
        found = self._extend(step, flight)
        flight.length_B += 1
        ends_BM = found.tokens_BM == self.eos
        self._take_finished(found, ends_BM[:, :beam], flight)
        scores_BQ, index_BQ = found.scores_BM.masked_fill(ends_BM, -math.inf).topk(min(beam, ends_BM.shape[1]))
        tokens_BQ, parents_BQ = found.tokens_BM.gather(1, index_BQ), found.parents_BM.gather(1, index_BQ)
        missing = (0, beam - index_BQ.shape[1])
        scores_BQ, tokens_BQ, parents_BQ = (
            pad(scores_BQ, missing, value=-math.inf),
            pad(tokens_BQ, missing),
            pad(parents_BQ, missing),
        )
        past = _Past(tokens_BQ, parents_BQ, step.weights_BQS if self.keep_attention else None)
        for row, sentence in enumerate(flight.sentences):
            if sentence:
                sentence.trail.append((past, row))
        # The best that a living hypothesis may still reach: its score at this length, or (exact) at any length.
        longest_B = flight.limit_B if self.config.stopping == "exact" else flight.length_B
        done_B = scores_BQ[:, 0] / length_penalty(longest_B, self.config.length_penalty) <= flight.threshold_B
        self._land(flight, done_B)
        first_B1 = torch.arange(len(done_B), device=done_B.device)[:, None] * queries
        flight.state = step.state.select((first_B1 + parents_BQ).flatten())
        flight.tokens_BQ, flight.scores_BQ = tokens_BQ, scores_BQ.masked_fill(done_B[:, None], -math.inf)

    def _extend(self, step: Step, flight: _Flight) -> Candidates:
        """The extensions that the filters allow and the search considers."""
        extensions_BQV = log_softmax(step.logits_BQV, dim=-1, dtype=torch.float32)
        for rule in self.filters:
            rule.apply(extensions_BQV, flight.length_B, flight.limit_B)
        found = self.search.choose(extensions_BQV, flight.scores_BQ)
        if bool(found.scores_BM.isnan().any()):
            raise RunFailed("the model gives scores that are no numbers: use another checkpoint")
        return found

    def _take_finished(self, found: Candidates, ends_BM: Tensor, flight: _Flight) -> None:
        """Puts the candidates that end, of those ranked within the beam, into the pools of their sentences."""
        finished_BM = ends_BM & (found.scores_BM[:, : ends_BM.shape[1]] > -math.inf)
        rows_F, ranks_F = finished_BM.nonzero(as_tuple=True)
        totals, parents = found.scores_BM[rows_F, ranks_F].tolist(), found.parents_BM[rows_F, ranks_F].tolist()
        thresholds = []
        for row, total, parent in zip(rows_F.tolist(), totals, parents, strict=True):
            sentence = flight.sentences[row]
            assert sentence, "a free row has no hypotheses"
            step = len(sentence.trail)
            sentence.pool.add(total / length_penalty(step + 1, self.config.length_penalty), total, step, parent)
            thresholds.append(sentence.pool.threshold)
        if thresholds:
            flight.threshold_B[rows_F] = torch.tensor(thresholds, device=rows_F.device)

    def _land(self, flight: _Flight, done_B: Tensor) -> None:
        """Frees the rows of sentences that are done."""
        flight.limit_B.masked_fill_(done_B, NO_LIMIT)
        for row in done_B.nonzero().flatten().tolist():
            if sentence := flight.sentences[row]:
                self.found[sentence.number] = sentence.hypotheses()
                flight.sentences[row] = None
