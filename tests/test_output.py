"""The output layer and the largest values, against plain sorting and plain products."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s2s_cli.model import output as module
from s2s_cli.model.linear import convert
from s2s_cli.model.output import Output, largest


@given(
    groups=st.integers(1, 3),
    rows=st.integers(1, 4),
    size=st.sampled_from([1, 2, 7, 12, 30, 256, 257]),
    count=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_the_largest_are_those_of_a_sort(groups: int, rows: int, size: int, count: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    values_GQV = torch.randn(groups, rows, size, generator=draw)
    values_GQV[torch.rand(values_GQV.shape, generator=draw) < 0.2] = 1.0  # ties
    values_GQV[torch.rand(values_GQV.shape, generator=draw) < 0.2] = -math.inf
    plus_GQ = torch.randn(groups, rows, generator=draw)
    plus_GQ[torch.rand(plus_GQ.shape, generator=draw) < 0.2] = -math.inf
    found = largest(values_GQV, plus_GQ, count)
    sums_GQV = values_GQV + plus_GQ[:, :, None]
    expected = sums_GQV.flatten(1).sort(descending=True).values[:, : found.values_GM.shape[1]]
    assert found.values_GM.shape[1] == min(count, rows * size)
    for chosen in torch.stack((found.rows_GM, found.columns_GM), dim=-1).tolist():
        assert len(set(map(tuple, chosen))) == len(chosen)
    torch.testing.assert_close(found.values_GM, expected)
    group_G1 = torch.arange(groups)[:, None]
    torch.testing.assert_close(sums_GQV[group_G1, found.rows_GM, found.columns_GM], found.values_GM)


@pytest.fixture
def output(shake: Callable[[nn.Module], None]) -> Output:
    layer = Output(16, 40)
    shake(layer)
    return layer


def test_in_bf16_the_largest_logits_are_those_of_fp32(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARPENED", 5)
    x = 3 * torch.randn(2, 3, 16)
    with torch.no_grad():
        exact, best = output(x), output(x).topk(3).indices
        convert(output, torch.bfloat16)
        rough = output(x)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.gather(-1, best), exact.gather(-1, best))
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.1)
    changed = (rough - exact).abs() > 1e-4
    assert int(changed.sum(-1).min()) >= 20
    assert int(changed.sum(-1).max()) <= 35


def test_in_fp32_it_is_a_linear_layer(output: Output) -> None:
    x = torch.randn(2, 3, 16, requires_grad=True)
    expected = nn.functional.linear(x, output.weight, output.bias)
    torch.testing.assert_close(output(x), expected)
    convert(output, torch.float32)
    torch.testing.assert_close(output(x.detach()), expected.detach())
