"""Which extensions of the hypotheses are looked at, and in which order they live on.

Shapes: B sentences searched together, Q hypotheses of each at this step, M candidates, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from s2s_cli.config import DecodingConfig
from s2s_cli.model.output import largest
from s2s_cli.search.constraints import spread
from s2s_cli.search.flight import Hypothesis, Sentence

MOSTLY_ENOUGH = 64  # pieces that are looked at for top_p, before all are sorted


class Candidates(NamedTuple):
    """The extensions that a search considers: group after group, and in each those first that it likes best."""

    scores_BM: Tensor
    tokens_BM: Tensor
    parents_BM: Tensor


class Beam:
    """Beam search: the 2K best extensions, enough for K that go on, even where K end. A beam of one is greedy search.

    The hypotheses that a search keeps lie in groups of equal width, which do not compete with each other: each has its
    own end, and collects so many finished ones.
    """

    def __init__(self, config: DecodingConfig, eos: int) -> None:
        self.config, self.eos = config, eos
        self.hypotheses, self.groups = config.hypotheses, config.groups
        self.width = self.hypotheses // self.groups
        self.collects = self.width if config.mbr else min(self.width, config.n_best)

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        """Args: log-probabilities of the extensions, after the filters; of the hypotheses so far; the sentences."""
        if self.hypotheses == 1:
            return Candidates(*largest(extensions_BQV, scores_BQ, 1))
        best = Candidates(*largest(extensions_BQV, scores_BQ, 2 * self.hypotheses))
        for row, sentence in enumerate(sentences):
            if sentence and sentence.guidance.controls and any(c.goals for c in sentence.guidance.controls):
                parts = spread(extensions_BQV[row], scores_BQ[row], sentence, [values_BM[row] for values_BM in best])
                for values_BM, values_M in zip(best, parts, strict=True):
                    values_BM[row] = values_M
        return best

    def gather(self, found: list[Hypothesis]) -> list[Hypothesis]:
        """What all groups collected, best first, as it is given."""
        return found


class DiverseBeam(Beam):
    """Groups of beams, one after the other; each avoids the pieces that those before it have just chosen, the end of
    sentence too (Vijayakumar et al. 2018, algorithm 1, with the Hamming distance). The first is a plain beam.
    """

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        width = self.width
        count_BV = torch.zeros_like(extensions_BQV[:, 0])
        found = []
        for group in range(self.groups):
            first = 0 if extensions_BQV.shape[1] == 1 else group * width  # the first step has one hypothesis for all
            rows = slice(first, first + width)
            penalty_BV = self.config.diversity * count_BV
            best = largest(extensions_BQV[:, rows] - penalty_BV[:, None], scores_BQ[:, rows], 2 * width)
            scores_BM, tokens_BM, parents_BM = best
            found.append(Candidates(scores_BM + penalty_BV.gather(1, tokens_BM), tokens_BM, parents_BM + first))
            count_BV.scatter_add_(1, tokens_BM, self._taken(scores_BM, tokens_BM).to(count_BV.dtype))
        return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))

    def _taken(self, scores_BM: Tensor, tokens_BM: Tensor) -> Tensor:
        """Which candidates of a group live on, or end among the first of its width."""
        living_BM = tokens_BM != self.eos
        ranks_BM = torch.where(
            living_BM, living_BM.cumsum(1) - 1, torch.arange(tokens_BM.shape[1], device=tokens_BM.device)
        )
        return (ranks_BM < self.width) & (scores_BM > -math.inf)

    def gather(self, found: list[Hypothesis]) -> list[Hypothesis]:
        """What several groups found is given once."""
        first: dict[tuple[int, ...], Hypothesis] = {}
        for hypothesis in found:
            first.setdefault(hypothesis.ids, hypothesis)
        return list(first.values())


class Sampling(Beam):
    """Draws each piece by its probability; each hypothesis is a group of its own.

    What a sentence draws comes from its own seed, so that it depends on no other. Of exponential noise over probability
    the least is drawn: rounding, which differs with the batch, hardly ever changes that.
    """

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        tokens_BQ = torch.stack([self._draw(*pair) for pair in zip(sentences, extensions_BQV, strict=True)])
        said_BQ = extensions_BQV.expand(-1, self.hypotheses, -1).gather(2, tokens_BQ[:, :, None]).squeeze(2)
        parents_Q = torch.arange(self.hypotheses, device=tokens_BQ.device) % extensions_BQV.shape[1]
        return Candidates(scores_BQ[:, parents_Q] + said_BQ, tokens_BQ, parents_Q.expand_as(tokens_BQ))

    def _draw(self, sentence: Sentence | None, extensions_QV: Tensor) -> Tensor:
        """A piece for each hypothesis of a sentence, (Q)."""
        if sentence is None:
            return torch.zeros(self.hypotheses, dtype=torch.int64, device=extensions_QV.device)
        best_Q1 = extensions_QV.amax(-1, keepdim=True)  # taken off first: a small temperature must not overflow
        shares_QV = self._truncated(((extensions_QV - best_Q1) / self.config.temperature).exp_())
        uniform_QV = torch.rand(self.hypotheses, shares_QV.shape[1], generator=sentence.generator)
        noise_QV = uniform_QV.clamp_(min=1e-20, max=1 - 2**-24).log_().to(shares_QV.device)
        return (shares_QV / noise_QV).argmin(-1)  # the noise is negative

    def _truncated(self, shares_QV: Tensor) -> Tensor:
        """Without what is too improbable to be drawn.

        Args:
            shares_QV: the probability of each piece over that of the best.
        """
        config, kept_QV = self.config, shares_QV
        if config.min_p:  # Nguyen et al. 2024
            kept_QV = shares_QV.masked_fill(shares_QV < config.min_p, 0)
        if config.top_k or config.top_p < 1:
            enough_Q1 = config.top_p * shares_QV.sum(-1, keepdim=True)
            first_QM, index_QM = self._most_probable(shares_QV, enough_Q1)
            if config.top_p < 1:  # Holtzman et al. 2020: the one that crosses stays
                beyond_QM = first_QM.cumsum(-1) - first_QM >= enough_Q1
                beyond_QM[:, 0] = False
                index_QM = torch.where(beyond_QM, index_QM[:, :1], index_QM)
            kept_QV = torch.zeros_like(kept_QV).scatter(1, index_QM, kept_QV.gather(1, index_QM))
        return kept_QV

    def _most_probable(self, shares_QV: Tensor, enough_Q1: Tensor) -> tuple[Tensor, Tensor]:
        """The top_k (Fan et al. 2018), or at least as many as have enough together: shares and pieces, (Q, M) each."""
        size = shares_QV.shape[1]
        if count := self.config.top_k:
            return shares_QV.topk(min(count, size))
        first_QM, index_QM = shares_QV.topk(min(MOSTLY_ENOUGH, size))
        enough = bool((first_QM.sum(-1) >= enough_Q1[:, 0]).all())
        return (first_QM, index_QM) if enough else shares_QV.sort(dim=-1, descending=True)


SEARCHES: dict[str, type[Beam]] = {"beam": Beam, "diverse": DiverseBeam, "sampling": Sampling}
