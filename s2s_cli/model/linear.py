"""Linear layers for the inside of a loop over time, where all that can be done once for all steps is done once.

In training weight gradients wait until the loop's backward has ended. Autograd would add to a weight's gradient at
every step: T thin products and T passes over a matrix of the weight's size. All inputs and all gradients of outputs,
one below the other, give the same sum in one product. In search weights are converted to bf16 once, not at each step,
and fp32 products are made by the faster of two libraries.
T is the number of steps, N the rows of one step, I and O the widths of input and output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s_cli.device import onednn_is_faster, onednn_linear


class _Tape:
    """What the products with one weight leave behind on their way back."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def take(self) -> tuple[Tensor, Tensor] | None:
        """All inputs (T N, I) and gradients (T N, O), forgotten here; None where no product was asked for its own."""
        if not self.gradients:
            return None
        taken = torch.cat(self.inputs), torch.cat(self.gradients)
        self.inputs, self.gradients = [], []
        return taken


class _Open(torch.autograd.Function):
    """The weight and bias themselves; autograd comes back here once all products have been."""

    @staticmethod
    def forward(ctx: Any, weight_OI: Tensor, bias_O: Tensor | None, tape: _Tape) -> tuple[Tensor, Tensor | None]:
        ctx.tape, ctx.biased = tape, bias_O is not None
        ctx.set_materialize_grads(False)
        return weight_OI.view_as(weight_OI), None if bias_O is None else bias_O.view_as(bias_O)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        taken = ctx.tape.take()
        if taken is None:
            return None, None, None
        inputs, gradients = taken
        return gradients.t() @ inputs, gradients.sum(0) if ctx.biased else None, None


class _Product(torch.autograd.Function):
    """x W.T + b, which keeps for the tape what the gradients of W and b need."""

    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor, bias_O: Tensor | None, tape: _Tape) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        ctx.tape = tape
        return F.linear(x_NI, weight_OI, bias_O)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x_NI, weight_OI = ctx.saved_tensors
        ctx.tape.inputs.append(x_NI)
        ctx.tape.gradients.append(grads[0])
        return grads[0] @ weight_OI if ctx.needs_input_grad[0] else None, None, None, None


def product(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """x W.T + b without gradients, in fp32 by oneDNN where that is faster."""
    if x.dtype == torch.float32 and x.device.type == "cpu" and onednn_is_faster():
        return onednn_linear(x, weight_OI, bias_O)
    return F.linear(x, weight_OI, bias_O)


class StepLinear(nn.Linear):
    """A linear layer that may stand inside a loop over time: see `deferred` and `convert`. Elsewhere like any."""

    opened: tuple[Tensor, Tensor | None, _Tape | None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.opened is None:
            return F.linear(x, self.weight, self.bias)
        weight_OI, bias_O, tape = self.opened
        if tape is None:  # no gradients: what is around the product stays in the precision that it is in
            return product(x.to(weight_OI.dtype), weight_OI, bias_O).to(x.dtype)
        flat_NI = x.to(weight_OI.dtype).reshape(-1, self.in_features)
        y_NO: Tensor = _Product.apply(flat_NI, weight_OI, bias_O, tape)  # type: ignore[no-untyped-call]
        return y_NO.view(*x.shape[:-1], self.out_features)

    def open(self, dtype: torch.dtype, tape: _Tape | None) -> None:
        """Begins a loop: converts the weights once for all its steps; without a tape they get no gradients."""
        if tape is None:
            bias_O = None if self.bias is None else self.bias.detach().to(dtype)
            self.opened = self.weight.detach().to(dtype), bias_O, None
        else:
            bias_O = None if self.bias is None else self.bias.to(dtype)
            self.opened = (*_Open.apply(self.weight.to(dtype), bias_O, tape), tape)  # type: ignore[no-untyped-call]


@contextmanager
def deferred(module: nn.Module) -> Iterator[None]:
    """Inside, the step-linear layers of a module sum their weight gradients in one product each, in autocast's type."""
    layers = _step_layers(module) if torch.is_grad_enabled() else []
    try:
        for layer in layers:
            device = layer.weight.device.type
            autocast = torch.is_autocast_enabled(device)
            layer.open(torch.get_autocast_dtype(device) if autocast else layer.weight.dtype, _Tape())
        yield
    finally:
        for layer in layers:
            layer.opened = None


def convert(module: nn.Module, dtype: torch.dtype) -> None:
    """From now on the products of a module's step-linear layers are made in `dtype` and have no gradients."""
    for layer in _step_layers(module):
        layer.open(dtype, None)


def _step_layers(module: nn.Module) -> list[StepLinear]:
    return [part for part in module.modules() if isinstance(part, StepLinear)]
