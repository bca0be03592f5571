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
from s2s_cli.search.flight import Sentence


class Candidates(NamedTuple):
    """The extensions that a search considers: group after group, and in each those first that it likes best."""

    scores_BM: Tensor
    tokens_BM: Tensor
    parents_BM: Tensor


class Beam:
    """Beam search: the 2K best extensions, enough for K that go on, even where K end. A beam of one is greedy search.

    Each search says how many hypotheses it keeps, in groups of equal size that do not compete with each other, and how
    many finished ones it collects.
    """

    def __init__(self, config: DecodingConfig, eos: int) -> None:
        self.config, self.eos = config, eos
        self.hypotheses, self.groups = config.beam, 1
        self.collects = config.beam if config.mbr else config.n_best

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        """Args: log-probabilities of the extensions, after the filters; of the hypotheses so far; the sentences."""
        if self.hypotheses == 1:
            return Candidates(*largest(extensions_BQV, scores_BQ, 1))
        best = Candidates(*largest(extensions_BQV, scores_BQ, 2 * self.hypotheses))
        for row, sentence in enumerate(sentences):
            if sentence and any(control.goals for control in sentence.guidance.controls):
                parts = spread(extensions_BQV[row], scores_BQ[row], sentence, [values_BM[row] for values_BM in best])
                for values_BM, values_M in zip(best, parts, strict=True):
                    values_BM[row] = values_M
        return best


class DiverseBeam(Beam):
    """Groups of beams, one after the other; each avoids the pieces that those before it have just chosen (Vijayakumar
    et al. 2018, algorithm 1, with the Hamming distance)."""

    def __init__(self, config: DecodingConfig, eos: int) -> None:
        super().__init__(config, eos)
        self.groups = config.groups

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        width = self.hypotheses // self.groups
        count_BV = torch.zeros_like(extensions_BQV[:, 0])
        found = []
        for group in range(self.groups):
            first = 0 if extensions_BQV.shape[1] == 1 else group * width  # the first step has one hypothesis for all
            rows = slice(first, first + width)
            penalty_BV = self.config.diversity * count_BV
            best = largest(extensions_BQV[:, rows] - penalty_BV[:, None], scores_BQ[:, rows], 2 * width)
            scores_BM, tokens_BM, parents_BM = best
            found.append(Candidates(scores_BM + penalty_BV.gather(1, tokens_BM), tokens_BM, parents_BM + first))
            living_BM = (scores_BM > -math.inf) & (tokens_BM != self.eos)
            kept_BM = living_BM & (living_BM.cumsum(1) <= width)
            count_BV.scatter_add_(1, tokens_BM, kept_BM.to(count_BV.dtype))
        return Candidates(*(torch.cat(parts, dim=1) for parts in zip(*found, strict=True)))


class Sampling(Beam):
    """Draws each piece by its probability: a hypothesis is a group of its own, and all that end are collected.

    What a sentence draws comes from its own seed, so that it depends on no other. A draw is the argmax of the
    log-probabilities plus Gumbel noise.
    """

    def __init__(self, config: DecodingConfig, eos: int) -> None:
        super().__init__(config, eos)
        self.hypotheses = self.groups = self.collects = config.samples or config.n_best

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        count, size = self.hypotheses, extensions_BQV.shape[2]
        allowed_BQV = self._truncated(extensions_BQV / self.config.temperature).expand(-1, count, -1)
        noise_BQV = torch.stack([self._noise(sentence, count, size) for sentence in sentences])
        tokens_BQ = (allowed_BQV + noise_BQV.to(extensions_BQV.device)).argmax(-1)
        said_BQ = extensions_BQV.expand(-1, count, -1).gather(2, tokens_BQ[:, :, None]).squeeze(2)
        parents_Q = torch.arange(count, device=tokens_BQ.device) % extensions_BQV.shape[1]
        return Candidates(scores_BQ[:, parents_Q] + said_BQ, tokens_BQ, parents_Q.expand_as(tokens_BQ))

    def _truncated(self, scores_BQV: Tensor) -> Tensor:
        """Without what is too improbable to be drawn."""
        config = self.config
        probabilities_BQV = torch.softmax(scores_BQV, dim=-1)
        forbidden_BQV = torch.zeros_like(scores_BQV, dtype=torch.bool)
        if config.min_p:  # Nguyen et al. 2024
            forbidden_BQV |= probabilities_BQV < config.min_p * probabilities_BQV.amax(-1, keepdim=True)
        if config.top_k or config.top_p < 1:
            sorted_BQV, order_BQV = probabilities_BQV.sort(dim=-1, descending=True, stable=True)
            beyond_BQV = (
                sorted_BQV.cumsum(-1) - sorted_BQV >= config.top_p
            )  # Holtzman et al. 2020: the one that crosses stays
            if config.top_k:  # Fan et al. 2018
                beyond_BQV[:, :, config.top_k :] = True
            beyond_BQV[:, :, 0] = False
            forbidden_BQV |= torch.zeros_like(forbidden_BQV).scatter(2, order_BQV, beyond_BQV)
        return scores_BQV.masked_fill(forbidden_BQV, -math.inf)

    def _noise(self, sentence: Sentence | None, count: int, size: int) -> Tensor:
        if sentence is None:
            return torch.zeros(count, size)
        uniform_QV = torch.rand(count, size, generator=sentence.generator)
        return -torch.log(-torch.log(uniform_QV.clamp_(min=1e-20, max=1 - 2**-24)))


SEARCHES: dict[str, type[Beam]] = {"beam": Beam, "diverse": DiverseBeam, "sampling": Sampling}
