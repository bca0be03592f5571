"""Cross-entropy of an output layer, with its gradient computed on the way, a slice of rows at a time.

The plain form, `cross_entropy(readout @ W.T + b)`, holds several float32 copies of all logits (N x V) until the
backward pass. Here each slice of logits becomes its own gradient in place and is gone: memory does not grow with N x V.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits held at once, and of those in fp32: 2**20 float32 are 4 MB, which a processor's cache holds.
SLICE_ELEMENTS, SOFTMAX_ELEMENTS = 2**23, 2**20
UNDERFLOW = 1e-30  # the logarithm of a smaller probability is not taken


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readout_NR: Tensor,
        weight_VR: Tensor,
        bias_V: Tensor,
        targets_N: Tensor,
        smoothing: float,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        size = len(weight_VR)
        on_cpu = readout_NR.device.type == "cpu"
        rows = max(1, SLICE_ELEMENTS // size)
        softmax_rows = max(1, SOFTMAX_ELEMENTS // size) if on_cpu else rows
        weight, bias = weight_VR.to(readout_NR.dtype), bias_V.to(readout_NR.dtype)
        grad_readout = torch.empty_like(readout_NR) if wanted else None
        grad_weight = torch.zeros_like(weight_VR) if wanted else None
        grad_bias = torch.zeros_like(bias_V) if wanted else None
        full = torch.promote_types(readout_NR.dtype, torch.float32)  # float64 stays as it is
        loss = torch.zeros((), dtype=torch.float64 if on_cpu else full, device=readout_NR.device)
        nll_N = torch.empty(len(readout_NR), dtype=full, device=readout_NR.device)
        # Uniform smoothing: the target distribution is (1 - s) at the target plus s / V everywhere. Of the second part
        # the loss needs the mean of all logits, and the gradients the same constant everywhere: no pass over logits.
        mean_weight_R, sum_R = weight_VR.mean(0), readout_NR.sum(0, dtype=full)
        loss -= smoothing * (sum_R @ mean_weight_R + len(readout_NR) * bias_V.mean())
        for start in range(0, len(readout_NR), rows):
            piece = readout_NR[start : start + rows]
            logits = F.linear(piece, weight, bias)
            targets = targets_N[start : start + rows, None]
            columns = (logits, targets, nll_N[start : start + rows, None])
            for part, target, nll in zip(*(torch.split(x, softmax_rows) for x in columns), strict=True):
                p = torch.softmax(part, dim=1, dtype=full)
                p_target = p.gather(1, target)
                nll.copy_(-p_target.log())
                if bool((p_target < UNDERFLOW).any()):  # rare, and then a second softmax does not matter
                    nll.copy_(-torch.log_softmax(part, dim=1, dtype=full).gather(1, target))
                loss += (nll + smoothing * part.gather(1, target)).sum()
                if grad_bias is not None:
                    p.scatter_add_(1, target, torch.full_like(nll, smoothing - 1))
                    grad_bias += p.sum(0)
                    part.copy_(p)  # the logits become their own gradient
            if grad_readout is not None and grad_weight is not None:
                grad_readout[start : start + rows] = logits @ weight - smoothing * mean_weight_R
                grad_weight += logits.t() @ piece
        if grad_weight is not None and grad_bias is not None:
            grad_weight -= smoothing / size * sum_R
            grad_bias -= smoothing / size * len(readout_NR)
        if wanted:
            ctx.save_for_backward(grad_readout, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll_N)
        return loss.to(full), nll_N

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scale = grads[0]
        readout, weight, bias = ctx.saved_tensors
        return readout * scale.to(readout.dtype), weight * scale, bias * scale, None, None, None


def linear_cross_entropy(
    readout_NR: Tensor, weight_VR: Tensor, bias_V: Tensor, targets_N: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy (Szegedy et al. 2016, section 7) of `readout @ weight.T + bias`.

    The products run in the readout's precision, the softmax in fp32 at least.

    Returns:
        The smoothed loss summed over rows, which carries the gradient, and the plain negative log-likelihood of each
        row (N), which does not.
    """
    device = readout_NR.device.type
    # Inside a Function the gradient mode is off: whether anyone wants gradients must be asked out here.
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (readout_NR, weight_VR, bias_V))
    with torch.autocast(device, enabled=False):
        loss, nll_N = _LinearCrossEntropy.apply(readout_NR, weight_VR, bias_V, targets_N, smoothing, wanted)  # type: ignore[no-untyped-call]
    return loss, nll_N


def coverage_loss(weights_BTS: Tensor, mask_BT: Tensor) -> Tensor:
    """See et al. 2017, equation 12, summed over target pieces: of each weight, what lies where others were before."""
    before_BTS = weights_BTS.cumsum(1) - weights_BTS
    return torch.minimum(weights_BTS, before_BTS).sum(-1)[mask_BT].sum()
