"""One step loop for all searches. It knows small roles only: the model steps, filters forbid, a search chooses, and
finished hypotheses are ranked by their length-normalized score.

Shapes: B sentences still searched, Q hypotheses of each at this step, M candidates, S source, V vocabulary.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from s2s_cli.config import DecodingConfig
from s2s_cli.errors import RunFailed
from s2s_cli.model.interface import DecoderState, Memory, Step

# Finished sentences are taken out of a batch once they are this share of it.
COMPACT_SHARE = 0.25


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

    def choose(self, logits_BQV: Tensor, lse_BQ: Tensor, scores_BQ: Tensor) -> Candidates:
        """Args: logits after the filters; the logsumexp before them; the hypotheses' log-probabilities so far."""
        ...


class Greedy:
    """The single best extension."""

    def __init__(self, config: DecodingConfig) -> None:
        pass

    def choose(self, logits_BQV: Tensor, lse_BQ: Tensor, scores_BQ: Tensor) -> Candidates:
        best_B1, tokens_B1 = logits_BQV.squeeze(1).max(dim=-1, keepdim=True)
        return Candidates(scores_BQ + best_B1 - lse_BQ, tokens_B1, torch.zeros_like(tokens_B1))


class Beam:
    """The 2K best extensions: enough for K that go on, even where K end. Top-k on logits, so V is passed over once."""

    def __init__(self, config: DecodingConfig) -> None:
        self.width = 2 * config.beam

    def choose(self, logits_BQV: Tensor, lse_BQ: Tensor, scores_BQ: Tensor) -> Candidates:
        best_BQM, tokens_BQM = logits_BQV.topk(min(self.width, logits_BQV.shape[-1]), dim=-1)
        total_BQM = best_BQM + (scores_BQ - lse_BQ)[:, :, None]
        each = total_BQM.shape[-1]
        flat = total_BQM.flatten(1)
        scores_BM, index_BM = flat.topk(min(self.width, flat.shape[1]), dim=-1)
        return Candidates(scores_BM, tokens_BQM.flatten(1).gather(1, index_BM), index_BM // each)


SEARCHES: dict[str, type[Greedy] | type[Beam]] = {"greedy": Greedy, "beam": Beam}


class Filter(Protocol):
    """Forbids extensions by setting their logits to minus infinity, in place."""

    def apply(self, logits_BQV: Tensor, length: int, limit_B: Tensor) -> None:
        """Args: the logits; pieces so far; the most pieces of each sentence, the end included."""
        ...


class Suppress:
    """Pieces that never stand in a translation."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)

    def apply(self, logits_BQV: Tensor, length: int, limit_B: Tensor) -> None:
        logits_BQV[:, :, self.ids] = -math.inf


class EndAtLimit:
    """At its limit a sentence can only end; a limit of its own makes it independent of its batch."""

    def __init__(self, eos: int) -> None:
        self.eos = eos

    def apply(self, logits_BQV: Tensor, length: int, limit_B: Tensor) -> None:
        at_limit_B = limit_B <= length + 1
        if bool(at_limit_B.any()):
            end_BQ = logits_BQV[:, :, self.eos].clone()
            logits_BQV.masked_fill_(at_limit_B[:, None, None], -math.inf)
            logits_BQV[:, :, self.eos] = end_BQ


def length_penalty(length: int, alpha: float) -> float:
    """Wu et al. 2016, equation 14: ((5 + |Y|) / 6) ** alpha, the end of sentence counted."""
    return float(((5 + length) / 6) ** alpha)


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


@dataclass(frozen=True)
class _Past:
    """One step of all sentences, to walk back along."""

    rows: dict[int, int]  # sentence to its row in the tensors
    tokens_BQ: Tensor
    parents_BQ: Tensor
    weights_BQS: Tensor | None


@dataclass
class _Alive:
    """The sentences still searched and their hypotheses: row b of each tensor is of sentence `sentences[b]`."""

    sentences: list[int]
    memory: Memory
    state: DecoderState
    tokens_BQ: Tensor
    scores_BQ: Tensor
    limit_B: Tensor
    threshold_B: Tensor
    """What a finished hypothesis must exceed to count."""

    @property
    def rows(self) -> dict[int, int]:
        """The row of each sentence."""
        return {sentence: row for row, sentence in enumerate(self.sentences)}

    def go_on(self, tokens_BQ: Tensor, scores_BQ: Tensor, parents_BQ: Tensor, after: DecoderState) -> None:
        """Takes up the next hypotheses, each from its parent; sentences without any leave once they are many.

        Args:
            tokens_BQ, scores_BQ, parents_BQ: the hypotheses; minus infinity where a sentence is done.
            after: the states of the hypotheses before them.
        """
        first_B1 = torch.arange(len(self.sentences), device=parents_BQ.device)[:, None] * self.tokens_BQ.shape[1]
        self.tokens_BQ, self.scores_BQ, choice_BQ = tokens_BQ, scores_BQ, first_B1 + parents_BQ
        keep = (scores_BQ[:, 0] > -math.inf).nonzero().squeeze(1)
        if len(keep) <= len(self.sentences) * (1 - COMPACT_SHARE):
            self.sentences = [self.sentences[row] for row in keep.tolist()]
            self.memory = self.memory.select(keep)
            self.tokens_BQ, self.scores_BQ, choice_BQ = tokens_BQ[keep], scores_BQ[keep], choice_BQ[keep]
            self.limit_B, self.threshold_B = self.limit_B[keep], self.threshold_B[keep]
        if self.sentences:
            self.state = after.select(choice_BQ.flatten())


@torch.inference_mode()
def decode(
    model: Model,
    src_BS: Tensor,
    src_len_B: Tensor,
    limit_B: Tensor,
    config: DecodingConfig,
    *,
    bos: int,
    eos: int,
    suppress: Sequence[int] = (),
    search: Search | None = None,
    keep_attention: bool = False,
) -> list[list[Hypothesis]]:
    """Translates a batch.

    Args:
        model: encodes and steps.
        src_BS, src_len_B: padded sources.
        limit_B: most pieces of each translation, the end of sentence included.
        config: beam, n_best, length penalty, stopping.
        bos, eos: the pieces that start and end a target.
        suppress: pieces that may not be produced.
        search: chooses the extensions; default: greedy for a beam of one, else beam search.
        keep_attention: give attention weights with the hypotheses.

    Returns:
        For each sentence its `n_best` hypotheses (fewer where there are no more), best first.
    """
    chooser = search or SEARCHES["greedy" if config.beam == 1 else "beam"](config)
    filters: list[Filter] = [Suppress(suppress), EndAtLimit(eos)]
    pools = [_Pool(config.n_best) for _ in range(len(src_BS))]
    bos_B1 = torch.full((len(src_BS), 1), bos, device=src_BS.device)
    zero_B1 = torch.zeros(bos_B1.shape, device=src_BS.device)
    threshold_B = torch.full((len(src_BS),), -math.inf, device=src_BS.device)
    alive = _Alive(list(range(len(src_BS))), *model.encode(src_BS, src_len_B), bos_B1, zero_B1, limit_B, threshold_B)
    longest = int(limit_B.max())
    past: list[_Past] = []
    while alive.sentences:
        length = len(past) + 1
        step = model.step(alive.tokens_BQ, alive.state, alive.memory)
        found = _extend(step, alive, filters, chooser, len(past))
        ends_BM = found.tokens_BM == eos
        _take_finished(found, ends_BM[:, : config.beam], alive, pools, len(past), config.length_penalty)
        width = min(config.beam, ends_BM.shape[1])
        scores_BQ, index_BQ = found.scores_BM.masked_fill(ends_BM, -math.inf).topk(width, dim=-1)
        tokens_BQ, parents_BQ = found.tokens_BM.gather(1, index_BQ), found.parents_BM.gather(1, index_BQ)
        past.append(_Past(alive.rows, tokens_BQ, parents_BQ, step.weights_BQS if keep_attention else None))
        # The best that a living hypothesis may still reach: its score at this length, or (exact) at any length.
        reach = length_penalty(longest if config.stopping == "exact" else length, config.length_penalty)
        done_B = scores_BQ[:, 0] / reach <= alive.threshold_B
        alive.go_on(tokens_BQ, scores_BQ.masked_fill(done_B[:, None], -math.inf), parents_BQ, step.state)
    return [[_trace(past, sentence, *item) for item in sorted(pool.items)[::-1]] for sentence, pool in enumerate(pools)]


def _extend(step: Step, alive: _Alive, filters: Sequence[Filter], search: Search, length: int) -> Candidates:
    """The extensions that the filters allow and the search considers."""
    logits_BQV = step.logits_BQV.float()
    lse_BQ = torch.logsumexp(logits_BQV, dim=-1)
    if not bool(torch.isfinite(lse_BQ).all()):
        raise RunFailed("the model gives scores that are no numbers: use another checkpoint")
    for rule in filters:
        rule.apply(logits_BQV, length, alive.limit_B)
    return search.choose(logits_BQV, lse_BQ, alive.scores_BQ)


def _take_finished(
    found: Candidates, ends_BM: Tensor, alive: _Alive, pools: Sequence[_Pool], step: int, alpha: float
) -> None:
    """Puts the candidates that end, of those ranked within the beam, into the pools of their sentences."""
    penalty = length_penalty(step + 1, alpha)
    finished_BM = ends_BM & (found.scores_BM[:, : ends_BM.shape[1]] > -math.inf)
    for row, rank in finished_BM.nonzero().tolist():
        total, parent = float(found.scores_BM[row, rank]), int(found.parents_BM[row, rank])
        pool = pools[alive.sentences[row]]
        pool.add(total / penalty, total, step, parent)
        alive.threshold_B[row] = pool.threshold


def _trace(
    past: Sequence[_Past], sentence: int, score: float, log_probability: float, step: int, row: int
) -> Hypothesis:
    """Walks back from the step at which a hypothesis ended."""
    ids: list[int] = []
    weights: list[Tensor] = []
    query = -row
    for number in range(-step, -1, -1):
        now = past[number]
        if now.weights_BQS is not None:
            weights.append(now.weights_BQS[now.rows[sentence], query])
        if number:
            before = past[number - 1]
            at = before.rows[sentence]
            ids.append(int(before.tokens_BQ[at, query]))
            query = int(before.parents_BQ[at, query])
    attention = torch.stack(weights[::-1]) if weights else None
    return Hypothesis(tuple(ids[::-1]), log_probability, score, attention)
