"""Dropout whose masks cost little on a processor. Shapes: B sequences, T positions, H units."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014): in training each element is zero with probability p, or grows by 1 / (1 - p).

    The generator of a processor is serial, and its draws were a twentieth of a training step. Here one draw of 64 bits
    decides on four elements; p is rounded to a multiple of 2**-16, and the scale is that of the rounded p.

    Args:
        p: the share that is dropped.
        variational: one mask for all positions of a sequence (Gal and Ghahramani 2016).
    """

    def __init__(self, p: float, *, variational: bool = False) -> None:
        super().__init__()
        self.p, self.variational = p, variational

    @property
    def active(self) -> bool:
        """Whether anything is dropped now."""
        return self.training and self.p > 0

    def forward(self, x_BTH: Tensor) -> Tensor:
        """Of whole sequences; or, where masks are not shared, of anything."""
        if not self.active:
            return x_BTH
        return x_BTH * self._factors(x_BTH[:, :1]) if self.variational else self._drop(x_BTH)

    def over_steps(self, like_BH: Tensor) -> Callable[[Tensor], Tensor]:
        """Of one position after the other (B, H): what to apply to each."""
        if not self.active:
            return lambda x_BH: x_BH
        if not self.variational:
            return self._drop
        factors_BH = self._factors(like_BH)
        return lambda x_BH: x_BH * factors_BH

    def _factors(self, like: Tensor) -> Tensor:
        return self._drop(torch.ones_like(like, requires_grad=False))

    def _drop(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        drawn = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        keep = drawn.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - _LEVELS // 2
        return x * (keep.to(x.dtype) * (_LEVELS / (_LEVELS - dropped)))

    def extra_repr(self) -> str:
        return f"p={self.p}{', variational' if self.variational else ''}"
