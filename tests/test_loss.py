"""The fused output layer and cross-entropy against torch's plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from s2s_cli.model import loss as module
from s2s_cli.model.loss import linear_cross_entropy

ROWS, WIDTH, PIECES = 17, 6, 23


@pytest.fixture
def operands() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Readout (N, R), weight (V, R), bias (V), targets (N)."""
    tensors = (torch.randn(ROWS, WIDTH), torch.randn(PIECES, WIDTH), torch.randn(PIECES))
    return *(tensor.requires_grad_() for tensor in tensors), torch.randint(PIECES, (ROWS,))


def slices_of(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of so many rows at once, and in each a softmax of two rows at a time."""
    monkeypatch.setattr(module, "SLICE_ELEMENTS", rows * PIECES)
    monkeypatch.setattr(module, "SOFTMAX_ELEMENTS", 2 * PIECES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("rows_at_once", [0, 1, 5, ROWS, 1000])
def test_values_and_gradients_equal_torch(
    smoothing: float, rows_at_once: int, operands: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices_of(rows_at_once, monkeypatch)
    readout, weight, bias, targets = operands
    found, nll = linear_cross_entropy(readout, weight, bias, targets, smoothing)
    logits = readout.double() @ weight.double().t() + bias.double()
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(nll, F.cross_entropy(logits, targets, reduction="none").float(), rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad(found, operands[:3])
    theirs = torch.autograd.grad(expected, operands[:3])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows_at_once", [5, 1000])
def test_gradients_equal_differences(
    smoothing: float, rows_at_once: int, operands: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices_of(rows_at_once, monkeypatch)
    *inputs, targets = operands
    doubles = [tensor.detach().double().requires_grad_() for tensor in inputs]
    assert torch.autograd.gradcheck(lambda *t: linear_cross_entropy(*t, targets, smoothing)[0], doubles)


@pytest.fixture
def passes(operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Operands with the readouts of two passes."""
    readout, weight, bias, targets = operands
    again = readout.detach() + torch.randn(ROWS, WIDTH) / 2
    return torch.cat([readout.detach(), again]).requires_grad_(), weight, bias, targets


@pytest.mark.parametrize("weight_of_divergence", [0.5, 5.0])
@pytest.mark.parametrize("rows_at_once", [0, 2, 10, 2000])
def test_two_passes_equal_the_plain_form_of_r_drop(
    weight_of_divergence: float, rows_at_once: int, passes: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices_of(rows_at_once, monkeypatch)
    readout, weight, bias, targets = passes
    found, nll = linear_cross_entropy(readout, weight, bias, targets, 0.1, weight_of_divergence)
    logits_2NV = (readout.double() @ weight.double().t() + bias.double()).view(2, ROWS, PIECES)
    each = [F.cross_entropy(part, targets, label_smoothing=0.1, reduction="sum") for part in logits_2NV]
    p, q = torch.log_softmax(logits_2NV, -1)
    both = F.kl_div(p, q, reduction="sum", log_target=True) + F.kl_div(q, p, reduction="sum", log_target=True)
    expected = (sum(each) + weight_of_divergence * both / 2) / 2
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    plain = torch.stack([F.cross_entropy(part, targets, reduction="none") for part in logits_2NV]).mean(0)
    torch.testing.assert_close(nll, plain.float(), rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad(found, passes[:3])
    theirs = torch.autograd.grad(expected, passes[:3])
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_two_equal_passes_are_one(operands: tuple[Tensor, ...]) -> None:
    readout, *others = operands
    alone, nll = linear_cross_entropy(*operands, 0.1)
    twice, nll_of_both = linear_cross_entropy(torch.cat([readout, readout]), *others, 0.1, 5.0)
    torch.testing.assert_close(twice, alone)
    torch.testing.assert_close(nll_of_both, nll)


@pytest.mark.parametrize("scale", [0.0, 0.25, -3.0])
def test_gradients_scale_with_what_comes_from_above(scale: float, operands: tuple[Tensor, ...]) -> None:
    *inputs, targets = operands
    plain = torch.autograd.grad(linear_cross_entropy(*inputs, targets, 0.1)[0], inputs)
    scaled = torch.autograd.grad(linear_cross_entropy(*inputs, targets, 0.1)[0] * scale, inputs)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a * scale, b)


def test_the_plain_likelihood_carries_no_gradient(operands: tuple[Tensor, ...]) -> None:
    smoothed, nll = linear_cross_entropy(*operands, 0.1)
    assert smoothed.requires_grad
    assert not nll.requires_grad


def test_inputs_that_need_no_gradient_get_none(operands: tuple[Tensor, ...]) -> None:
    readout, weight, bias, targets = operands
    smoothed, nll = linear_cross_entropy(readout.detach(), weight.detach(), bias.detach(), targets, 0.1)
    assert not smoothed.requires_grad
    assert not nll.requires_grad
    smoothed, _ = linear_cross_entropy(readout, weight.detach(), bias.detach(), targets, 0.1)
    smoothed.backward()
    torch.testing.assert_close(readout.grad, torch.autograd.grad(linear_cross_entropy(*operands, 0.1)[0], readout)[0])
    assert weight.grad is None
    assert bias.grad is None


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
        return func(*args, **(kwargs or {}))


def test_without_gradients_only_the_logits_are_computed(operands: tuple[Tensor, ...]) -> None:
    """Validation runs under `inference_mode` with weights that otherwise train: it must not pay for their gradient."""
    with torch.no_grad(), Products() as products:
        linear_cross_entropy(*operands, 0.1)
    assert products.count == 1


@pytest.mark.parametrize("rows_at_once", [2, 1000])
def test_nothing_of_the_size_of_all_logits_is_kept(
    rows_at_once: int, operands: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices_of(rows_at_once, monkeypatch)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (saved.append(tensor), tensor)[1], lambda t: t):
        smoothed, _ = linear_cross_entropy(*operands, 0.1)
    assert {tuple(tensor.shape) for tensor in saved} == {(1, ROWS, WIDTH), (PIECES, WIDTH), (PIECES,)}
    smoothed.backward()
    assert operands[0].grad is not None


class Largest(TorchDispatchMode):
    """Notes the most elements that any result has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_no_more_logits_are_held_at_once_than_a_slice(
    operands: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    slices_of(4, monkeypatch)
    with Largest() as largest:
        linear_cross_entropy(*operands, 0.1)
    assert largest.elements <= max(4 * PIECES, PIECES * WIDTH) < ROWS * PIECES


def test_large_logits_do_not_overflow() -> None:
    readout = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0], [0.5]], requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    smoothed, nll = linear_cross_entropy(readout, weight, bias, torch.tensor([0, 0]), 0.1)
    smoothed.backward()
    assert float(nll.sum()) == pytest.approx(2e4)
    assert all(torch.isfinite(t.grad).all() for t in (readout, weight, bias))


def test_no_rows_at_all_are_no_loss() -> None:
    weight = torch.randn(PIECES, WIDTH, requires_grad=True)
    smoothed, nll = linear_cross_entropy(
        torch.zeros(0, WIDTH), weight, torch.zeros(PIECES), torch.zeros(0, dtype=torch.int64), 0.1
    )
    smoothed.backward()
    assert float(smoothed.detach()) == float(nll.sum()) == 0
    assert torch.equal(weight.grad, torch.zeros_like(weight))


def test_bf16_products_keep_an_fp32_softmax(operands: tuple[Tensor, ...]) -> None:
    readout, weight, bias, targets = operands
    exact, _ = linear_cross_entropy(readout, weight, bias, targets, 0.1)
    rough, nll = linear_cross_entropy(readout.bfloat16(), weight, bias, targets, 0.1)
    assert rough.dtype == nll.dtype == torch.float32
    assert float(rough.detach()) == pytest.approx(float(exact.detach()), rel=0.02)
    rough.backward()
    assert weight.grad.dtype == bias.grad.dtype == readout.grad.dtype == torch.float32
