"""Cross-entropy of an output layer, with its gradient computed on the way, a slice of rows at a time.

The plain form, `cross_entropy(readout @ W.T + b)`, holds several float32 copies of all logits (N x V) until the
backward pass. Here each slice of logits becomes its own gradient in place and is gone: memory does not grow with N x V.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits held at once. 2**22 float32 are 16 MB, about what a processor's cache holds.
SLICE_ELEMENTS = 2**22


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
        size, rows = weight_VR.shape[0], max(1, SLICE_ELEMENTS // weight_VR.shape[0])
        weight, bias = weight_VR.to(readout_NR.dtype), bias_V.to(readout_NR.dtype)
        grad_readout = torch.empty_like(readout_NR) if wanted else None
        grad_weight = torch.zeros(weight_VR.shape, device=weight_VR.device) if wanted else None
        grad_bias = torch.zeros(bias_V.shape, device=bias_V.device) if wanted else None
        loss = torch.zeros((), dtype=torch.float64 if readout_NR.device.type == "cpu" else torch.float32)
        loss, nll = loss.to(readout_NR.device), loss.to(readout_NR.device).clone()
        # Uniform smoothing: the target distribution is (1 - s) at the target plus s / V everywhere. Of the second part
        # the loss needs the mean of all logits, and the gradients the same constant everywhere: no pass over logits.
        mean_weight_R, sum_R = weight_VR.mean(0), readout_NR.float().sum(0)
        loss -= smoothing * (sum_R @ mean_weight_R + len(readout_NR) * bias_V.mean())
        for start in range(0, len(readout_NR), rows):
            piece, target = readout_NR[start : start + rows], targets_N[start : start + rows, None]
            logits = F.linear(piece, weight, bias)
            log_p = torch.log_softmax(logits, dim=1, dtype=torch.float32)
            nll_rows = -log_p.gather(1, target)
            nll += nll_rows.sum()
            loss += (nll_rows + smoothing * logits.gather(1, target).float()).sum()
            if grad_readout is not None and grad_weight is not None and grad_bias is not None:
                gradient = log_p.exp_()
                gradient.scatter_add_(1, target, torch.full_like(nll_rows, smoothing - 1))
                grad_bias += gradient.sum(0)
                gradient = gradient.to(readout_NR.dtype)
                grad_readout[start : start + rows] = gradient @ weight - smoothing * mean_weight_R
                grad_weight += gradient.t() @ piece
        if grad_weight is not None and grad_bias is not None:
            grad_weight -= smoothing / size * sum_R
            grad_bias -= smoothing / size * len(readout_NR)
        if wanted:
            ctx.save_for_backward(grad_readout, grad_weight, grad_bias)
        nll = nll.to(torch.float32)
        ctx.mark_non_differentiable(nll)
        return loss.to(torch.float32), nll

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scale = grads[0]
        readout, weight, bias = ctx.saved_tensors
        return readout * scale.to(readout.dtype), weight * scale, bias * scale, None, None, None


def linear_cross_entropy(
    readout_NR: Tensor, weight_VR: Tensor, bias_V: Tensor, targets_N: Tensor, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy (Szegedy et al. 2016, section 7) of `readout @ weight.T + bias`, summed over rows.

    The products run in the readout's precision, the softmax in fp32.

    Returns:
        The smoothed loss, which carries the gradient, and the plain negative log-likelihood, which does not.
    """
    device = readout_NR.device.type
    # Inside a Function the gradient mode is off: whether anyone wants gradients must be asked out here.
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (readout_NR, weight_VR, bias_V))
    with torch.autocast(device, enabled=False):
        loss, nll = _LinearCrossEntropy.apply(readout_NR, weight_VR, bias_V, targets_N, smoothing, wanted)  # type: ignore[no-untyped-call]
    return loss, nll
