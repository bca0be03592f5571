"""Cross-entropy of an output layer, with its gradient computed on the way, a slice of rows at a time.

The plain form, `cross_entropy(readout @ W.T + b)`, holds several float32 copies of all logits (N x V) until the
backward pass. Here each slice of logits becomes its own gradient in place and is gone: memory does not grow with N x V.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from s2s_cli.model.interface import at_least_fp32

# Logits held at once, and of those in fp32: 2**19 float32 are 2 MB, which with as much beside it a cache holds.
SLICE_ELEMENTS, SOFTMAX_ELEMENTS = 2**23, 2**19
UNDERFLOW = 1e-30  # the logarithm of a smaller probability is not taken


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        readout_PNR: Tensor,
        weight_VR: Tensor,
        bias_V: Tensor,
        targets_N: Tensor,
        smoothing: float,
        r_drop: float,
        wanted: bool,
    ) -> tuple[Tensor, Tensor]:
        size, (passes, count, _) = len(weight_VR), readout_PNR.shape
        on_cpu = readout_PNR.device.type == "cpu"
        rows = max(1, SLICE_ELEMENTS // (passes * size))
        softmax_rows = max(1, SOFTMAX_ELEMENTS // (passes * size)) if on_cpu else rows
        weight, bias = weight_VR.to(readout_PNR.dtype), bias_V.to(readout_PNR.dtype)
        grad_readout = torch.empty_like(readout_PNR) if wanted else None
        grad_weight = torch.zeros_like(weight_VR) if wanted else None
        grad_bias = torch.zeros_like(bias_V) if wanted else None
        full = at_least_fp32(readout_PNR)
        loss = torch.zeros((), dtype=torch.float64 if on_cpu else full, device=readout_PNR.device)
        nll_PN = torch.empty(passes, count, dtype=full, device=readout_PNR.device)
        # Uniform smoothing: the target distribution is (1 - s) at the target plus s / V everywhere. Of the second part
        # the loss needs the mean of all logits, and the gradients the same constant everywhere: no pass over logits.
        mean_weight_R, sum_R = weight_VR.mean(0), readout_PNR.sum((0, 1), dtype=full)
        loss -= smoothing * (sum_R @ mean_weight_R + passes * count * bias_V.mean())
        for start in range(0, count, rows):
            piece = readout_PNR[:, start : start + rows].flatten(0, 1)  # a product of matrices, not of stacks of them
            logits = F.linear(piece, weight, bias).view(passes, -1, size)
            targets = targets_N[start : start + rows].expand(passes, -1)[:, :, None]
            columns = (logits, targets, nll_PN[:, start : start + rows, None])
            for part, target, nll in zip(*(torch.split(x, softmax_rows, 1) for x in columns), strict=True):
                p = torch.softmax(part, dim=-1, dtype=full)
                p_target, chosen = p.gather(-1, target), part.gather(-1, target)
                nll.copy_(-p_target.log())
                if bool((p_target < UNDERFLOW).any()):  # rare, and then a second softmax does not matter
                    nll.copy_(-torch.log_softmax(part, dim=-1, dtype=full).gather(-1, target))
                loss += (nll + smoothing * chosen).sum()
                if r_drop:
                    divergence, slope = _divergence(p, part, nll + chosen)
                    loss += r_drop / 2 * divergence.sum()
                    p.add_(slope, alpha=r_drop / 2)
                if grad_bias is not None:
                    p.scatter_add_(-1, target, torch.full_like(nll, smoothing - 1))
                    grad_bias += p.sum((0, 1))
                    part.copy_(p)  # the logits become their own gradient
            if grad_readout is not None and grad_weight is not None:
                grad_readout[:, start : start + rows] = logits @ weight - smoothing * mean_weight_R
                grad_weight += logits.flatten(0, 1).t() @ piece
        if grad_weight is not None and grad_bias is not None:
            grad_weight -= smoothing / size * sum_R
            grad_bias -= smoothing / size * passes * count
        if wanted:
            ctx.save_for_backward(grad_readout, grad_weight, grad_bias)
        ctx.mark_non_differentiable(nll_PN)
        return loss.to(full), nll_PN

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        scale = grads[0]
        readout, weight, bias = ctx.saved_tensors
        return readout * scale.to(readout.dtype), weight * scale, bias * scale, None, None, None, None


def _divergence(p_2NV: Tensor, logits_2NV: Tensor, log_sum_2N1: Tensor) -> tuple[Tensor, Tensor]:
    """D(p0 || p1) + D(p1 || p0) of two distributions, (N), and its gradient by their logits, (2, N, V).

    With r = log(p0 / p1), the gradient of D(p0 || p1) is p0 (r - D(p0 || p1)) by the logits of p0 and p1 - p0 by those
    of p1.
    """
    p0_NV, p1_NV = p_2NV
    ratio_NV = (logits_2NV[0] - log_sum_2N1[0]).sub_(logits_2NV[1]).add_(log_sum_2N1[1])
    divergence_2N = torch.stack((torch.linalg.vecdot(p0_NV, ratio_NV), -torch.linalg.vecdot(p1_NV, ratio_NV)))
    slope_2NV = p_2NV * (1 - divergence_2N[:, :, None])
    slope_2NV[0].addcmul_(p0_NV, ratio_NV).sub_(p1_NV)
    slope_2NV[1].addcmul_(p1_NV, ratio_NV, value=-1).sub_(p0_NV)
    return divergence_2N.sum(0), slope_2NV


def linear_cross_entropy(
    readout_NR: Tensor,
    weight_VR: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    smoothing: float = 0.0,
    r_drop: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy (Szegedy et al. 2016, section 7) of `readout @ weight.T + bias`.

    The products run in the readout's precision, the softmax in fp32 at least.

    Args:
        readout_NR: attentional states; with r_drop those of two passes, one after the other (2N, R).
        weight_VR, bias_V: the output layer.
        targets_N: piece ids.
        smoothing: share of the probability spread over the vocabulary.
        r_drop: weight of the divergence between the two passes. The loss is then half of that of Liang et al. 2021,
            equation 4, the mean of the passes.

    Returns:
        The smoothed loss summed over rows, which carries the gradient, and the plain negative log-likelihood of each
        row (N), which does not.
    """
    device, passes = readout_NR.device.type, 2 if r_drop else 1
    # Inside a Function the gradient mode is off: whether anyone wants gradients must be asked out here.
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (readout_NR, weight_VR, bias_V))
    with torch.autocast(device, enabled=False):
        loss, nll_PN = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            readout_NR.view(passes, len(targets_N), readout_NR.shape[1]),
            weight_VR,
            bias_V,
            targets_N,
            smoothing,
            r_drop,
            wanted,
        )
    return loss / passes, nll_PN.mean(0)


def coverage_loss(weights_BTS: Tensor, mask_BT: Tensor) -> Tensor:
    """See et al. 2017, equation 12, summed over target pieces: of each weight, what lies where others were before."""
    weights_BTS = weights_BTS.to(at_least_fp32(weights_BTS))
    before_BTS = weights_BTS.cumsum(1) - weights_BTS
    return torch.minimum(weights_BTS, before_BTS).sum(-1)[mask_BT].sum()
