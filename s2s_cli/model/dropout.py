"""Dropout whose masks cost little on a processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): in training each element is zero with probability p, or grows by 1 / (1 - p).

    The generator of a processor is serial, and its draws were a twentieth of a training step. Here one draw of 64 bits
    decides on four elements; p is rounded to a multiple of 2**-16, and the scale is that of the rounded p.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        keep = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _LEVELS // 2
        return x * (keep.to(x.dtype) * (_LEVELS / (_LEVELS - dropped)))

    def extra_repr(self) -> str:
        return f"p={self.p}"
