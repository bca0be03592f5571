"""One step loop for all searches. It knows small roles only: the model steps, filters forbid, a search chooses, and
finished hypotheses are ranked by their length-normalized score.

A sentence that is done makes room for the next one, so that the products stay large until the last.
Shapes: B sentences searched together, Q hypotheses of each at this step, M candidates, S source, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from s2s_cli.config import DecodingConfig
from s2s_cli.errors import RunFailed
from s2s_cli.flight import Flight, Hypothesis, Past, Pool, Sentence, Sources
from s2s_cli.model.interface import DecoderState, Memory, Step
from s2s_cli.model.output import largest

# Rows of finished sentences are given to others, or taken out, once they are this share.
FREE_SHARE = 0.1
NO_LIMIT = 2**40


class Model(Protocol):
    """What search needs of a model."""

    def encode(self, source: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]: ...

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step: ...


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
        return Candidates(*largest(extensions_BQV, scores_BQ, self.width))


class Beam(Greedy):
    """The 2K best extensions: enough for K that go on, even where K end."""

    def __init__(self, config: DecodingConfig) -> None:
        self.width = 2 * config.beam


SEARCHES: dict[str, type[Greedy]] = {"greedy": Greedy, "beam": Beam}


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


Length = TypeVar("Length", int, Tensor)


def length_penalty(length: Length, alpha: float) -> Length:
    """Wu et al. 2016, equation 14: ((5 + |Y|) / 6) ** alpha, the end of sentence counted."""
    penalty: Length = ((5 + length) / 6) ** alpha
    return penalty


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
    check: Callable[[], None] = lambda: None,
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
        check: called before each step; may raise to stop.

    Returns:
        For each sentence its `n_best` hypotheses (fewer where there are no more), best first.
    """
    chooser = search or SEARCHES["greedy" if config.beam == 1 else "beam"](config)
    stepper = _Stepper(model, config, [Suppress(suppress), EndAtLimit(eos)], chooser, bos, eos, keep_attention)
    coming = (stepper.begin(sources) for sources in batches)
    flight = waiting = next(coming, None)
    ready: list[int] = []  # rows of those that wait
    while flight:
        free = len(flight.rows(free=True))
        if free >= max(1, FREE_SHARE * len(flight.sentences)):
            while not ready and (waiting := next(coming, None)):
                ready = waiting.rows(free=False)
            if waiting and ready:
                flight.take_in(waiting.keep(ready[:free]))
                ready = ready[free:]
            else:
                flight = flight.keep(flight.rows(free=False)) if free < len(flight.sentences) else None
        if flight:
            check()
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

    def begin(self, sources: Sources) -> Flight:
        """Encodes sentences and takes their first step, which needs one hypothesis of each only."""
        size, device = len(sources.src_len_B), sources.src_len_B.device
        numbered = enumerate(sources.src_len_B.tolist(), len(self.found))
        flight = Flight(
            [Sentence(number, length, Pool(self.config.n_best)) for number, length in numbered],
            *self.model.encode(sources.source, sources.src_len_B),
            tokens_BQ=torch.full((size, 1), self.bos, device=device),
            scores_BQ=torch.zeros(size, 1, device=device),
            length_B=torch.zeros(size, dtype=torch.int64, device=device),
            limit_B=sources.limit_B.clone(),
            threshold_B=torch.full((size,), -math.inf, device=device),
        )
        self.found += [[] for _ in range(size)]
        self.advance(flight)
        return flight

    def advance(self, flight: Flight) -> None:
        """One step: extends all hypotheses, keeps the best, and frees the rows of the sentences that are done."""
        beam, queries = self.config.beam, flight.tokens_BQ.shape[1]
        step = self.model.step(flight.tokens_BQ, flight.state, flight.memory)
        found = self._extend(step, flight)
        flight.length_B += 1
        ends_BM = found.tokens_BM == self.eos
        self._take_finished(found, ends_BM[:, :beam], flight)
        scores_BQ, index_BQ = found.scores_BM.masked_fill(ends_BM, -math.inf).topk(min(beam, ends_BM.shape[1]))
        tokens_BQ, parents_BQ = found.tokens_BM.gather(1, index_BQ), found.parents_BM.gather(1, index_BQ)
        if missing := beam - index_BQ.shape[1]:  # at first a small vocabulary has fewer extensions than the beam holds
            scores_BQ = pad(scores_BQ, (0, missing), value=-math.inf)
            tokens_BQ, parents_BQ = pad(tokens_BQ, (0, missing)), pad(parents_BQ, (0, missing))
        past = Past(tokens_BQ, parents_BQ, step.weights_BQS if self.keep_attention else None)
        for row, sentence in enumerate(flight.sentences):
            if sentence:
                sentence.trail.append((past, row))
        longest_B = self._longest(flight)
        done_B = scores_BQ[:, 0] / length_penalty(longest_B, self.config.length_penalty) <= flight.threshold_B
        self._land(flight, done_B)
        first_B1 = torch.arange(len(done_B), device=done_B.device)[:, None] * queries
        flight.state = step.state.select((first_B1 + parents_BQ).flatten())
        flight.tokens_BQ, flight.scores_BQ = tokens_BQ, scores_BQ.masked_fill(done_B[:, None], -math.inf)

    def _longest(self, flight: Flight) -> Tensor:
        """The length at which the best living hypothesis of each sentence is held against the ended ones.

        At its limit it has the best score that it may still reach, if it loses no more; at its present length, the
        score that it has. A search that is full when enough have ended still waits for one that is better so far.
        """
        if self.config.stopping == "exact":
            return flight.limit_B
        if self.config.stopping == "early":
            return flight.length_B
        full = [sentence is not None and sentence.ended >= self.config.beam for sentence in flight.sentences]
        return torch.where(torch.tensor(full, device=flight.length_B.device), flight.length_B, flight.limit_B)

    def _extend(self, step: Step, flight: Flight) -> Candidates:
        """The extensions that the filters allow and the search considers."""
        extensions_BQV = log_softmax(step.logits_BQV, dim=-1, dtype=torch.float32)
        for rule in self.filters:
            rule.apply(extensions_BQV, flight.length_B, flight.limit_B)
        found = self.search.choose(extensions_BQV, flight.scores_BQ)
        if math.isnan(float(found.scores_BM.sum())):
            raise RunFailed("the model gives scores that are no numbers: use another checkpoint")
        return found

    def _take_finished(self, found: Candidates, ends_BM: Tensor, flight: Flight) -> None:
        """Puts the candidates that end, of those ranked within the beam, into the pools of their sentences."""
        finished_BM = ends_BM & (found.scores_BM[:, : ends_BM.shape[1]] > -math.inf)
        rows_F, ranks_F = finished_BM.nonzero(as_tuple=True)
        if not len(rows_F):
            return
        totals, parents = found.scores_BM[rows_F, ranks_F].tolist(), found.parents_BM[rows_F, ranks_F].tolist()
        changed: dict[int, float] = {}
        for row, total, parent in zip(rows_F.tolist(), totals, parents, strict=True):
            sentence = flight.sentences[row]
            assert sentence, "a free row has no hypotheses"
            step = len(sentence.trail)
            sentence.pool.add(total / length_penalty(step + 1, self.config.length_penalty), total, step, parent)
            sentence.ended += 1
            changed[row] = sentence.pool.threshold
        flight.threshold_B[list(changed)] = flight.threshold_B.new_tensor(list(changed.values()))

    def _land(self, flight: Flight, done_B: Tensor) -> None:
        """Frees the rows of sentences that are done."""
        flight.limit_B.masked_fill_(done_B, NO_LIMIT)
        for row in done_B.nonzero().flatten().tolist():
            if sentence := flight.sentences[row]:
                self.found[sentence.number] = sentence.hypotheses()
                flight.sentences[row] = None
