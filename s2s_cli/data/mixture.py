"""Several texts mixed: how many pairs an epoch takes of each of them, and which."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from s2s_cli.data.sequences import Digest


@dataclass(frozen=True)
class Mixture:
    """Texts that lie one behind the other in a corpus, each with its part of every epoch.

    An epoch has as many pairs as the corpus. A text gives its pairs in random order, all of them before any comes
    again, and goes on in the next epoch where it stopped: what an epoch takes is a function of seed and epoch alone.
    """

    sizes: tuple[int, ...]
    """Pairs of each text."""
    weights: tuple[float, ...]
    """What the parts of an epoch are proportional to."""

    @cached_property
    def quotas(self) -> tuple[int, ...]:
        """Pairs that an epoch takes of each text; where shares are no whole numbers, the largest remainders go up."""
        total, weight = sum(self.sizes), sum(self.weights)
        shares = [total * (own / weight) for own in self.weights]
        quotas = [int(share) for share in shares]
        by_remainder = sorted(range(len(shares)), key=lambda text: quotas[text] - shares[text])
        for text in by_remainder[: total - sum(quotas)]:
            quotas[text] += 1
        return tuple(quotas)

    def rows(self, seed: int, epoch: int) -> Tensor:
        """The pairs that an epoch takes, text after text (N,)."""
        found, generator = torch.empty(sum(self.quotas), dtype=torch.int64), torch.Generator()
        at = first = 0
        for text, (size, quota) in enumerate(zip(self.sizes, self.quotas, strict=True)):
            start, end = epoch * quota, (epoch + 1) * quota
            while start < end:
                number, begin = divmod(start, size)
                generator.manual_seed((seed * 1_000_003 + text * 6_700_417 + number * 15_485_863 + 2_750_159) % 2**63)
                drawn = torch.randperm(size, generator=generator)[begin : begin + end - start]
                found[at : at + len(drawn)] = first + drawn
                at, start = at + len(drawn), start + len(drawn)
            first += size
        return found

    def add_to(self, digest: Digest) -> None:
        """All that decides which pairs an epoch takes."""
        digest.update(json.dumps([self.sizes, self.quotas]).encode())


def tempered(sizes: Sequence[int], temperature: float) -> tuple[float, ...]:
    """Weights n ** (1 / T), which draw more of small texts the higher the temperature T (Arivazhagan et al. 2019)."""
    return tuple(size ** (1 / temperature) for size in sizes)
