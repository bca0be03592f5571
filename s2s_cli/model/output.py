"""The output layer, and the largest of many values by passing over them once.

The shapes' legend is in `interface.py`; here also G groups of Q rows each, P blocks of a row, M largest values.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from s2s_cli.model.linear import StepLinear

BLOCK = 128
SHARPENED = 12  # more than a beam of five considers at a step; what lies beyond stays as it is


class Largest(NamedTuple):
    """The largest values of each group, best first, and where they stand."""

    values_GM: Tensor
    columns_GM: Tensor
    rows_GM: Tensor


def largest(values_GQV: Tensor, plus_GQ: Tensor, count: int) -> Largest:
    """The `count` largest of each group's values, each with its row's `plus` added.

    They lie in the `count` blocks with the largest maxima, and only those are sorted.
    """
    groups, rows, size = values_GQV.shape
    block = _block_size(size)
    blocks_GQPV = values_GQV.view(groups, rows, size // block, block)
    maxima_GP = (blocks_GQPV.amax(dim=-1) + plus_GQ[:, :, None]).flatten(1)
    index_GI = maxima_GP.topk(min(count, maxima_GP.shape[1])).indices
    rows_GI = index_GI // (size // block)
    first_G1 = torch.arange(groups, device=index_GI.device)[:, None] * maxima_GP.shape[1]
    chosen_GIV = blocks_GQPV.flatten(0, 2)[first_G1 + index_GI] + plus_GQ.gather(1, rows_GI)[:, :, None]
    values_GM, at_GM = chosen_GIV.flatten(1).topk(min(count, chosen_GIV[0].numel()))
    which_GM = at_GM // block
    columns_GM = index_GI.gather(1, which_GM) % (size // block) * block + at_GM % block
    return Largest(values_GM, columns_GM, rows_GI.gather(1, which_GM))


@cache
def _block_size(size: int) -> int:
    """The largest divisor of a vocabulary's size that is no more than BLOCK."""
    return next(block for block in range(min(BLOCK, size), 0, -1) if size % block == 0)


class Output(StepLinear):
    """From readouts to logits.

    In bf16 a logit of ten is rounded to a sixteenth, which leaves the choice between two near ones to chance. So where
    the product was made in bf16 (see `convert`), the largest logits of each row are computed again in fp32.
    """

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(x)
        if self.opened is None or self.opened[2] or self.opened[0].dtype == self.weight.dtype:
            return logits
        logits_NV, x_NR = logits.flatten(0, -2), x.flatten(0, -2)
        found = largest(logits_NV[:, None], logits_NV.new_zeros(len(logits_NV), 1), SHARPENED)
        exact_NM = (self.weight[found.columns_GM] @ x_NR[:, :, None]).squeeze(-1) + self.bias[found.columns_GM]
        return logits_NV.scatter_(1, found.columns_GM, exact_NM).view_as(logits)
