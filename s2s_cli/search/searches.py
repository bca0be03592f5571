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
from s2s_cli.search.flight import Hypothesis, Sentence


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
        return Candidates(*largest(extensions_BQV, scores_BQ, 1 if self.hypotheses == 1 else 2 * self.hypotheses))

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

    What a sentence draws comes from its own seed, so that it depends on no other. A draw is the argmax of the
    log-probabilities plus Gumbel noise: rounding, which differs with the batch, hardly ever changes it.
    """

    def choose(self, extensions_BQV: Tensor, scores_BQ: Tensor, sentences: Sequence[Sentence | None]) -> Candidates:
        count = self.hypotheses
        best_BQ1 = extensions_BQV.amax(-1, keepdim=True)  # taken off first: a small temperature must not overflow
        allowed_BQV = self._truncated((extensions_BQV - best_BQ1) / self.config.temperature)
        tokens_BQ = torch.stack([self._draw(*pair) for pair in zip(sentences, allowed_BQV, strict=True)])
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
            beyond_BQV = torch.zeros_like(forbidden_BQV)
            if config.top_p < 1:  # Holtzman et al. 2020: the one that crosses stays
                beyond_BQV |= sorted_BQV.cumsum(-1) - sorted_BQV >= config.top_p
            if config.top_k:  # Fan et al. 2018
                beyond_BQV[:, :, config.top_k :] = True
            beyond_BQV[:, :, 0] = False
            forbidden_BQV |= torch.zeros_like(forbidden_BQV).scatter(2, order_BQV, beyond_BQV)
        return scores_BQV.masked_fill(forbidden_BQV, -math.inf)

    def _draw(self, sentence: Sentence | None, allowed_QV: Tensor) -> Tensor:
        """A piece for each hypothesis of a sentence, (Q)."""
        if sentence is None:
            return torch.zeros(self.hypotheses, dtype=torch.int64, device=allowed_QV.device)
        uniform_QV = torch.rand(self.hypotheses, allowed_QV.shape[1], generator=sentence.generator)
        noise_QV = uniform_QV.clamp_(min=1e-20, max=1 - 2**-24).log_().neg_().log_().neg_()
        return (allowed_QV + noise_QV.to(allowed_QV.device)).argmax(-1)


SEARCHES: dict[str, type[Beam]] = {"beam": Beam, "diverse": DiverseBeam, "sampling": Sampling}
