"""Dropout: the rate, the scale, and that no element knows of another."""

from __future__ import annotations

import pytest
import torch

from s2s_cli.model.dropout import Dropout

SIZE = 200_000


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_a_share_of_p_is_zero_and_the_mean_stays(p: float) -> None:
    dropped = Dropout(p)(torch.ones(SIZE))
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / SIZE) ** 0.5)
    scale = dropped.max().item()
    assert set(dropped.unique().tolist()) == {0.0, scale}
    assert scale == pytest.approx(1 / (1 - p), rel=1e-3)


def test_elements_that_share_a_draw_are_independent() -> None:
    keep = (Dropout(0.5)(torch.ones(SIZE)) > 0).view(-1, 8).double()
    correlation = torch.corrcoef(keep.t()) - torch.eye(8)
    assert correlation.abs().max() < 5 / len(keep) ** 0.5


def test_the_gradient_has_the_mask_of_the_output() -> None:
    x = torch.randn(5, 7, requires_grad=True)
    found = Dropout(0.4)(x)
    found.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad * x, found)


def test_the_seed_decides_and_each_call_draws_anew() -> None:
    dropout, x = Dropout(0.5), torch.ones(1001)
    torch.manual_seed(1)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (0.5, False)])
def test_where_nothing_is_dropped_nothing_is_drawn(p: float, training: bool) -> None:
    dropout, x = Dropout(p).train(training), torch.ones(8)
    state = torch.get_rng_state()
    assert dropout(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_bf16_stays_bf16_and_any_shape_will_do() -> None:
    assert Dropout(0.5)(torch.ones(3, 5, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert Dropout(0.5)(torch.ones(0, 4)).shape == (0, 4)
    assert Dropout(0.5)(torch.tensor(1.0)).shape == ()
    assert Dropout(0.5)(torch.ones(4, 6).t()).shape == (6, 4)


def test_a_variational_mask_is_one_for_all_positions_of_a_sequence() -> None:
    found_BTH = Dropout(0.5, variational=True)(torch.ones(40, 6, 50))
    assert all(torch.equal(found_BTH[:, 0], found_BTH[:, position]) for position in range(6))
    assert set(found_BTH.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(found_BTH[0], found_BTH[1])


@pytest.mark.parametrize("variational", [False, True])
def test_over_steps_draws_once_where_masks_are_shared(variational: bool) -> None:
    x_BH = torch.ones(20, 30)
    drop = Dropout(0.5, variational=variational).over_steps(x_BH)
    assert torch.equal(drop(x_BH), drop(x_BH)) == variational
    still = Dropout(0.5, variational=variational).eval().over_steps(x_BH)
    assert still(x_BH) is x_BH
