"""Layers that do once what a loop needs at each step: gradients are autograd's own, products the plain ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s_cli import device
from s2s_cli.device import onednn_linear
from s2s_cli.model import linear as module
from s2s_cli.model.linear import StepLinear, convert, deferred, product

STEPS = 5


class Loop(nn.Module):
    """h' = tanh(U h + x) over time, then a layer of its own at every second step."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.recur = StepLinear(3, 3, bias=bias)
        self.some = StepLinear(3, 2)
        self.unused = StepLinear(3, 2)

    def forward(self, x_TBH: Tensor) -> Tensor:
        h_BH, outputs = torch.zeros_like(x_TBH[0]), []
        for step, x_BH in enumerate(x_TBH):
            h_BH = torch.tanh(self.recur(h_BH) + x_BH)
            if step % 2:
                outputs.append(self.some(h_BH[:, None]))
        return torch.cat(outputs, dim=1)


def gradients(loop: Loop, x_TBH: Tensor) -> dict[str, Tensor | None]:
    return {"x": x_TBH.grad, **{name: parameter.grad for name, parameter in loop.named_parameters()}}


def forget(loop: Loop, x_TBH: Tensor) -> None:
    loop.zero_grad()
    x_TBH.grad = None


@pytest.fixture(name="x_TBH")
def inputs() -> Tensor:
    return torch.randn(STEPS, 4, 3, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("bias", [True, False])
def test_deferred_gradients_are_autograds_own(bias: bool, x_TBH: Tensor) -> None:
    loop = Loop(bias).double()
    plain = loop(x_TBH)
    plain.square().sum().backward()
    expected = gradients(loop, x_TBH)
    forget(loop, x_TBH)
    with deferred(loop):
        found = loop(x_TBH)
    torch.testing.assert_close(found, plain)
    found.square().sum().backward()
    assert expected["unused.weight"] is None
    torch.testing.assert_close(gradients(loop, x_TBH), expected)


def test_deferred_gradients_equal_differences(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()

    def run(x_TBH: Tensor, *parameters: Tensor) -> Tensor:
        with deferred(loop):
            return loop(x_TBH)

    assert torch.autograd.gradcheck(run, (x_TBH, *(p for name, p in loop.named_parameters() if "unused" not in name)))


def test_two_loops_add_their_gradients_as_two_batches_do(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()
    other_TBH = torch.randn_like(x_TBH)
    (loop(x_TBH).sum() + loop(other_TBH).square().sum()).backward()
    expected = gradients(loop, x_TBH)
    forget(loop, x_TBH)
    losses = []
    for inputs, norm in ((x_TBH, False), (other_TBH, True)):
        with deferred(loop):
            outputs = loop(inputs)
        losses.append(outputs.square().sum() if norm else outputs.sum())
    sum(losses).backward()
    torch.testing.assert_close(gradients(loop, x_TBH), expected)


def test_going_back_twice_doubles_the_gradients(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()
    with deferred(loop):
        loss = loop(x_TBH).sum()
    loss.backward(retain_graph=True)
    once = {name: grad.clone() for name, grad in gradients(loop, x_TBH).items() if grad is not None}
    loss.backward()
    for name, grad in gradients(loop, x_TBH).items():
        if grad is not None:
            torch.testing.assert_close(grad, 2 * once[name])


def test_only_part_of_the_loop_may_be_asked_for(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()
    with deferred(loop):
        outputs = loop(x_TBH)
    (found,) = torch.autograd.grad(outputs[:, 0].sum(), loop.recur.weight)
    (expected,) = torch.autograd.grad(loop(x_TBH)[:, 0].sum(), loop.recur.weight)
    torch.testing.assert_close(found, expected)


def test_frozen_weights_get_no_gradient(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double().requires_grad_(False)
    with deferred(loop):
        loop(x_TBH).sum().backward()
    found = gradients(loop, x_TBH)
    assert found.pop("x") is not None
    assert set(found.values()) == {None}


def test_outside_a_loop_and_without_gradients_it_is_a_linear_layer(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()
    with torch.no_grad(), deferred(loop):
        assert loop.recur.opened is None
        found = loop(x_TBH)
    torch.testing.assert_close(found, loop(x_TBH))


def test_an_error_inside_closes_the_loop(x_TBH: Tensor) -> None:
    loop = Loop(bias=True).double()
    with pytest.raises(KeyError), deferred(loop):
        raise KeyError
    assert loop.recur.opened is None


def test_autocast_converts_the_weights_and_keeps_gradients_in_fp32() -> None:
    loop = Loop(bias=True)
    x_TBH = torch.randn(STEPS, 4, 3)
    loop(x_TBH).sum().backward()
    expected = {name: p.grad.clone() for name, p in loop.named_parameters() if p.grad is not None}
    loop.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        with deferred(loop):
            outputs = loop(x_TBH)
        assert outputs.dtype == torch.bfloat16
    outputs.float().sum().backward()
    for name, parameter in loop.named_parameters():
        if name in expected:
            assert parameter.grad is not None and parameter.grad.dtype == torch.float32
            torch.testing.assert_close(parameter.grad, expected[name], atol=0.1, rtol=0.05)


def test_converted_products_are_made_in_bf16_and_come_back_as_they_went_in() -> None:
    loop = Loop(bias=True)
    x_TBH = torch.randn(STEPS, 4, 3)
    expected = loop(x_TBH)
    convert(loop, torch.bfloat16)
    assert loop.recur.opened is not None and loop.recur.opened[0].dtype == torch.bfloat16
    found = loop(x_TBH)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=0.02, atol=0.02)
    assert not torch.equal(found, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("onednn", [True, False])
def test_either_library_makes_the_same_products(
    onednn: bool, rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if onednn and not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        pytest.skip("this build of PyTorch has no oneDNN")
    calls: list[Tensor] = []
    monkeypatch.setattr(module, "onednn_is_faster", lambda: onednn)
    monkeypatch.setattr(module, "onednn_linear", lambda *tensors: calls.append(tensors[0]) or onednn_linear(*tensors))
    layer = StepLinear(48, 33, bias=bias)
    x = torch.randn(2, rows, 48)
    with torch.no_grad():
        expected, found = layer(x), product(x, layer.weight, layer.bias)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        convert(layer, torch.float32)
        assert torch.equal(layer(x), found)
    assert len(calls) == (2 if onednn else 0)


def test_onednn_sees_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps a program for each."""
    seen: set[int] = set()

    def multiply(x_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor, *_: object) -> torch.Tensor:
        seen.add(len(x_NI))
        return F.linear(x_NI, weight_OI, bias_O)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", multiply, raising=False)
    weight_OI, bias_O = torch.randn(3, 5), torch.randn(3)
    for rows in range(301):
        x_NI = torch.randn(rows, 5)
        torch.testing.assert_close(onednn_linear(x_NI, weight_OI, bias_O), F.linear(x_NI, weight_OI, bias_O))
    assert sorted(seen) == [0, 1, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]


@pytest.mark.parametrize(
    ("processor", "capability", "fault", "faster"),
    [
        ("AuthenticAMD", "AVX512", None, True),
        ("GenuineIntel", "AVX512", None, False),
        ("AuthenticAMD", "AVX2", None, False),
        ("AuthenticAMD", "AVX512", TypeError, False),
        (None, "AVX512", None, False),
    ],
)
def test_onednn_is_asked_on_processors_that_mkl_does_not_use_well(
    processor: str | None,
    capability: str,
    fault: type[Exception] | None,
    faster: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(path: Path, encoding: str) -> str:
        if processor is None:
            raise FileNotFoundError
        return f"vendor_id : {processor}\n"

    def multiply(*tensors: Tensor) -> None:
        if fault:
            raise fault("another signature")

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(device, "onednn_linear", multiply)
    assert device.onednn_is_faster.__wrapped__() is faster
