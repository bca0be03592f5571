"""One step loop for all searches. It knows small roles only: the model steps, filters and controls forbid, a search
chooses, and finished hypotheses are ranked.

A sentence that is done makes room for the next one, so that the products stay large until the last.
Shapes: B sentences searched together, Q hypotheses of each at this step, G groups of them, W their width, M candidates,
F those of them that end, S source, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, pad

from s2s_cli.config import DecodingConfig
from s2s_cli.errors import RunFailed
from s2s_cli.model.interface import DecoderState, Memory, Step
from s2s_cli.search.flight import Flight, Guidance, Hypothesis, Past, Pool, Sentence, Sources
from s2s_cli.search.ranking import Ranking
from s2s_cli.search.rules import EndAtLimit, Filter, Suppress, steer
from s2s_cli.search.searches import SEARCHES, Beam, Candidates

# Rows of finished sentences are given to others, or taken out, once they are this share.
FREE_SHARE = 0.1
NO_LIMIT = 2**40


class Model(Protocol):
    """What search needs of a model."""

    def encode(self, source: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]: ...

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step: ...


@torch.inference_mode()
def decode(
    model: Model,
    batches: Iterable[Sources],
    config: DecodingConfig,
    *,
    bos: int,
    eos: int,
    suppress: Sequence[int] = (),
    keep_attention: bool = False,
    check: Callable[[], None] = lambda: None,
) -> list[list[Hypothesis]]:
    """Translates sentences, no more of them at a time than the first batch has.

    Args:
        model: encodes and steps.
        batches: the sources; the next is asked for when there is room.
        config: how to search.
        bos, eos: the pieces that start and end a target.
        suppress: pieces that may not be produced.
        keep_attention: give attention weights with the hypotheses.
        check: called before each step; may raise to stop.

    Returns:
        For each sentence what its search collects (or fewer, where there is no more), best first.
    """
    search = SEARCHES[config.search](config, eos)
    stepper = _Stepper(model, config, [Suppress(suppress), EndAtLimit(eos)], search, bos, keep_attention)
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
        search: Beam,
        bos: int,
        keep_attention: bool,
    ) -> None:
        self.model, self.filters, self.search, self.bos = model, filters, search, bos
        self.stopping, self.ranking = config.stopping, Ranking(config)
        self.keep_attention = keep_attention or bool(self.ranking.coverage)
        self.found: list[list[Hypothesis]] = []
        self.free = self._pools()  # of rows that hold no sentence
        self.steers = False  # whether any sentence so far has controls

    def begin(self, sources: Sources) -> Flight:
        """Encodes sentences and takes their first step, which needs one hypothesis of each only."""
        size, device = len(sources.src_len_B), sources.src_len_B.device
        numbered = enumerate(sources.src_len_B.tolist(), len(self.found))
        guidance = sources.guidance or [Guidance()] * size
        flight = Flight(
            [
                Sentence(number, length, self._pools(), asked)
                for (number, length), asked in zip(numbered, guidance, strict=True)
            ],
            *self.model.encode(sources.source, sources.src_len_B),
            tokens_BQ=torch.full((size, 1), self.bos, device=device),
            scores_BQ=torch.zeros(size, 1, device=device),
            length_B=torch.zeros(size, dtype=torch.int64, device=device),
            limit_B=sources.limit_B.clone(),
            threshold_BG=torch.full((size, self.search.groups), -math.inf, device=device),
        )
        self.found += [[] for _ in range(size)]
        self.steers |= any(asked.controls for asked in guidance)
        self.advance(flight)
        return flight

    def _pools(self) -> list[Pool]:
        return [Pool(self.search.collects) for _ in range(self.search.groups)]

    def advance(self, flight: Flight) -> None:
        """One step: extends all hypotheses, keeps the best, and frees the rows of the sentences that are done."""
        queries = flight.tokens_BQ.shape[1]
        step = self.model.step(flight.tokens_BQ, flight.state, flight.memory)
        found, said_BM = self._extend(step, flight)
        flight.length_B += 1
        ends_BM = found.tokens_BM == self.search.eos
        scores_BQ, tokens_BQ, parents_BQ, said_BQ = self._survivors(found, said_BM, ends_BM)
        past = Past(tokens_BQ, parents_BQ, said_BQ, step.weights_BQS if self.keep_attention else None)
        for row, sentence in enumerate(flight.sentences):
            if sentence:
                sentence.trail.append((past, row))
                if self.steers and sentence.guidance.controls:
                    sentence.follow(past.tokens[row], past.parents[row])
        self._take_finished(found, said_BM, ends_BM, flight)
        scores_BGW = self._grouped(scores_BQ)
        done_BG = self.ranking.normalized(scores_BGW.amax(2), self._longest(flight)) <= flight.threshold_BG
        self._land(flight, done_BG.all(1))
        first_B1 = torch.arange(len(done_BG), device=done_BG.device)[:, None] * queries
        flight.state = step.state.select((first_B1 + parents_BQ).flatten())
        flight.tokens_BQ = tokens_BQ
        flight.scores_BQ = scores_BGW.masked_fill(done_BG[:, :, None], -math.inf).flatten(1)

    def _longest(self, flight: Flight) -> Tensor:
        """The length, (B, G) or (B, 1), at which the best living hypothesis of a group is held against the ended ones.

        At its limit it has the best score that it may still reach, if it loses no more; at its present length, the
        score that it has. A search that is full when enough have ended still waits for one that is better so far.
        """
        length_B1, limit_B1 = flight.length_B[:, None], flight.limit_B[:, None]
        if self.stopping == "exact":
            return limit_B1
        if self.stopping == "early":
            return length_B1
        enough = self.search.width
        pools = [pool for sentence in flight.sentences for pool in (sentence.pools if sentence else self.free)]
        full_BG = torch.tensor([pool.ended >= enough for pool in pools]).view(len(flight.sentences), -1)
        return torch.where(full_BG.to(length_B1.device), length_B1, limit_B1)

    def _extend(self, step: Step, flight: Flight) -> tuple[Candidates, Tensor]:
        """The extensions that are allowed and that the search considers, and what the model gives each (B, M)."""
        model_BQV = log_softmax(step.logits_BQV, dim=-1, dtype=torch.float32)
        extensions_BQV = model_BQV.clone() if self.steers else model_BQV
        for rule in self.filters:
            rule.apply(extensions_BQV, flight.length_B, flight.limit_B)
        if self.steers:
            self._steer(extensions_BQV, model_BQV, flight)
        found = self.search.choose(extensions_BQV, flight.scores_BQ, flight.sentences)
        if math.isnan(float(found.scores_BM.sum())):
            raise RunFailed("the model gives scores that are no numbers: use another checkpoint")
        at_BM = found.parents_BM * model_BQV.shape[2] + found.tokens_BM
        return found, model_BQV.flatten(1).gather(1, at_BM)

    def _steer(self, extensions_BQV: Tensor, model_BQV: Tensor, flight: Flight) -> None:
        """Lets the controls of each sentence change what its living hypotheses may say."""
        room = (flight.limit_B - flight.length_B).tolist()
        living = (flight.scores_BQ > -math.inf).tolist()
        for row, sentence in enumerate(flight.sentences):
            if sentence and sentence.guidance.controls:
                for query, states in enumerate(sentence.states):
                    if living[row][query]:
                        of_model_V = model_BQV[row, query]
                        steer(extensions_BQV[row, query], of_model_V, sentence.guidance.controls, states, room[row])

    def _survivors(self, found: Candidates, said_BM: Tensor, ends_BM: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of each group the first that do not end, (B, Q) each: scores, tokens, parents, what the model gives them."""
        scores_BM, ends_BGM = found.scores_BM.masked_fill(ends_BM, -math.inf), self._grouped(ends_BM)
        if ends_BGM.shape[2] == self.search.width:
            return scores_BM, found.tokens_BM, found.parents_BM, said_BM
        index_BGW = ends_BGM.sort(dim=2, stable=True).indices[:, :, : self.search.width]
        chosen = []
        for values_BM, filler in ((scores_BM, -math.inf), (found.tokens_BM, 0), (found.parents_BM, 0), (said_BM, 0)):
            values_BGW = self._grouped(values_BM).gather(2, index_BGW)
            if (
                missing := self.search.width - values_BGW.shape[2]
            ):  # at first a small vocabulary has fewer extensions than that
                values_BGW = pad(values_BGW, (0, missing), value=filler)
            chosen.append(values_BGW.flatten(1))
        scores_BQ, tokens_BQ, parents_BQ, said_BQ = chosen
        return scores_BQ, tokens_BQ, parents_BQ, said_BQ

    def _grouped(self, values_BM: Tensor) -> Tensor:
        """A view of candidates, (B, groups, candidates of each)."""
        return values_BM.view(len(values_BM), self.search.groups, -1)

    def _take_finished(self, found: Candidates, said_BM: Tensor, ends_BM: Tensor, flight: Flight) -> None:
        """Puts the candidates that end, of those ranked within their group's width, into the pools of their groups."""
        ends_BGM = self._grouped(ends_BM & (found.scores_BM > -math.inf))
        rows_F, groups_F, ranks_F = ends_BGM[:, :, : self.search.width].nonzero(as_tuple=True)
        if not len(rows_F):
            return
        at_F = groups_F * ends_BGM.shape[2] + ranks_F
        totals, parents, ends = (
            values_BM[rows_F, at_F].tolist() for values_BM in (found.scores_BM, found.parents_BM, said_BM)
        )
        pools: list[Pool] = []
        for row, group, total, parent, end in zip(
            rows_F.tolist(), groups_F.tolist(), totals, parents, ends, strict=True
        ):
            sentence = flight.sentences[row]
            assert sentence, "a free row has no hypotheses"
            number = len(sentence.trail) - 1
            weights_TS = sentence.weights(number, parent) if self.ranking.coverage else None
            pools.append(sentence.pools[group])
            pools[-1].add(self.ranking.score(total, number + 1, weights_TS), number, parent, end)
        flight.threshold_BG[rows_F, groups_F] = flight.threshold_BG.new_tensor([pool.threshold for pool in pools])

    def _land(self, flight: Flight, done_B: Tensor) -> None:
        """Frees the rows of sentences that are done."""
        flight.limit_B.masked_fill_(done_B, NO_LIMIT)
        for row in done_B.nonzero().flatten().tolist():
            if sentence := flight.sentences[row]:
                self.found[sentence.number] = self.search.gather(sentence.hypotheses())
                flight.sentences[row] = None
