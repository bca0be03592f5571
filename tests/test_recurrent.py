"""Recurrent layers against their equations in plain Python, and the padded encoder against single sentences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from s2s_cli.config import EncoderConfig, ModelConfig
from s2s_cli.model.interface import CellState
from s2s_cli.model.recurrent import CELLS, Encoder, Layer, last_states, reverse

INPUT, HIDDEN = 4, 3
LENGTHS = [5, 1, 7, 3]
Vector = list[float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def affine(weight: list[Vector], x: Vector, bias: Vector) -> Vector:
    return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def normalized(values: Vector, norm: nn.Module) -> Vector:
    """Each gate less its mean, over its deviation; then gain and bias."""
    found: Vector = []
    for start in range(0, len(values), HIDDEN):
        gate = values[start : start + HIDDEN]
        mean = sum(gate) / HIDDEN
        deviation = math.sqrt(sum((value - mean) ** 2 for value in gate) / HIDDEN + 1e-5)
        found += [(value - mean) / deviation for value in gate]
    return [g * value + b for g, value, b in zip(norm.gain.tolist(), found, norm.bias.tolist(), strict=True)]


def reference_step(name: str, layer: Layer, x: Vector, state: tuple[Vector, ...]) -> tuple[Vector, ...]:
    """One position of one sentence, gate by gate: Elman 1990; Cho et al. 2014; Hochreiter and Schmidhuber 1997.

    With layer normalization: Ba et al. 2016, each gate by itself, and an LSTM's cell where it comes out.
    """
    weights = {key.removesuffix("_l0"): tensor.tolist() for key, tensor in layer.rnn.named_parameters()}
    none = [0.0] * len(weights["weight_ih"])  # a norm has its bias behind it
    from_x = affine(weights["weight_ih"], x, weights.get("bias_ih", none))
    from_h = affine(weights["weight_hh"], state[0], weights.get("bias_hh", none))
    units = range(HIDDEN)
    if layer.normalized:
        from_x, from_h = normalized(from_x, layer.input_norm), normalized(from_h, layer.recur_norm)

    def gate(number: int, unit: int) -> tuple[float, float]:
        return from_x[number * HIDDEN + unit], from_h[number * HIDDEN + unit]

    if name == "rnn":
        return ([math.tanh(sum(gate(0, k))) for k in units],)
    if name == "gru":
        r = [sigmoid(sum(gate(0, k))) for k in units]
        z = [sigmoid(sum(gate(1, k))) for k in units]
        n = [math.tanh(gate(2, k)[0] + r[k] * gate(2, k)[1]) for k in units]
        return ([(1 - z[k]) * n[k] + z[k] * state[0][k] for k in units],)
    i, f, o = ([sigmoid(sum(gate(number, k))) for k in units] for number in (0, 1, 3))
    g = [math.tanh(sum(gate(2, k))) for k in units]
    c = [f[k] * state[1][k] + i[k] * g[k] for k in units]
    out = normalized(c, layer.cell_norm) if layer.normalized else c
    return [o[k] * math.tanh(out[k]) for k in units], c


@pytest.fixture
def build(shake: Callable[[nn.Module], None]) -> Callable[..., Layer]:
    def build(name: str, layer_norm: bool = False) -> Layer:
        layer = CELLS[name](INPUT, HIDDEN, layer_norm=layer_norm)
        shake(layer)
        return layer.double()

    return build


def random_state(layer: Layer, rows: int) -> CellState:
    return tuple(torch.randn(rows, HIDDEN, dtype=torch.float64) for _ in range(layer.parts))


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_whole_sequence_equals_its_steps(name: str, layer_norm: bool, build: Callable) -> None:
    layer = build(name, layer_norm)
    x_BTI, state = torch.randn(3, 6, INPUT, dtype=torch.float64), random_state(layer, 3)
    states_BTH, last = layer(x_BTI, state)
    for position in range(6):
        state = layer.step(layer.input(x_BTI[:, position]), state)
        torch.testing.assert_close(state[0], states_BTH[:, position])
    assert len(last) == layer.parts
    for part, expected in zip(last, state, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("given_state", [False, True])
@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_whole_sequence_follows_the_equations(
    name: str, given_state: bool, layer_norm: bool, build: Callable
) -> None:
    layer = build(name, layer_norm)
    x_BTI = torch.randn(2, 5, INPUT, dtype=torch.float64)
    first = random_state(layer, 2)
    states_BTH, last = layer(x_BTI, first if given_state else None)
    for row in range(2):
        state = tuple(part[row].tolist() if given_state else [0.0] * HIDDEN for part in first)
        for position in range(5):
            state = reference_step(name, layer, x_BTI[row, position].tolist(), state)
            assert states_BTH[row, position].tolist() == pytest.approx(state[0], abs=1e-12)
        for part, expected in zip(last, state, strict=True):
            assert part[row].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("layer_norm", [False, True])
def test_encode_gives_the_state_after_each_last_token(name: str, layer_norm: bool, build: Callable) -> None:
    layer = build(name, layer_norm)
    x_BSI, len_B = torch.randn(len(LENGTHS), max(LENGTHS), INPUT, dtype=torch.float64), torch.tensor(LENGTHS)
    states_BSH, last = layer.encode(x_BSI, len_B)
    assert states_BSH.shape == (len(LENGTHS), max(LENGTHS), HIDDEN)
    for row, length in enumerate(LENGTHS):
        alone_BSH, alone_last = layer(x_BSI[row : row + 1, :length])
        torch.testing.assert_close(states_BSH[row, :length], alone_BSH[0])
        for part, expected in zip(last, alone_last, strict=True):
            torch.testing.assert_close(part[row], expected[0])


def make_encoder(
    name: str,
    layers: int,
    bidirectional: bool | str,
    keep_finals: bool,
    shake: Callable,
    recurrent_dropout: float = 0.0,
    **settings: bool,
) -> Encoder:
    encoder = EncoderConfig(cell=name, layers=layers, hidden_size=HIDDEN, bidirectional=bidirectional, **settings)
    config = ModelConfig(encoder=encoder, embedding_size=INPUT, dropout=0.3, recurrent_dropout=recurrent_dropout)
    encoder = Encoder(config, keep_finals=keep_finals)
    shake(encoder)
    return encoder.double().eval()


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("keep_finals", [False, True])
def test_a_padded_batch_equals_single_sentences(
    name: str, layers: int, bidirectional: bool, keep_finals: bool, shake: Callable
) -> None:
    encoder = make_encoder(name, layers, bidirectional, keep_finals, shake)
    len_B = torch.tensor(LENGTHS)
    x_BSI = torch.randn(len(LENGTHS), max(LENGTHS), INPUT, dtype=torch.float64)
    x_BSI[torch.arange(max(LENGTHS))[None, :] >= len_B[:, None]] = 50.0  # what stands in the padding must not matter
    together = encoder(x_BSI, len_B)
    assert together.mask_BS.sum(1).tolist() == LENGTHS
    for row, length in enumerate(LENGTHS):
        alone = encoder(x_BSI[row : row + 1, :length], len_B[row : row + 1])
        torch.testing.assert_close(together.states_BSC[row, :length], alone.states_BSC[0])
        torch.testing.assert_close(together.last_BC[row], alone.last_BC[0])
        assert len(together.finals) == (layers if keep_finals else 0)
        for cell, alone_cell in zip(together.finals, alone.finals, strict=True):
            for part, alone_part in zip(cell, alone_cell, strict=True):
                torch.testing.assert_close(part[row], alone_part[0])


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_states_and_finals_are_those_of_the_stacked_torch_module(
    name: str, layers: int, bidirectional: bool, shake: Callable
) -> None:
    encoder = make_encoder(name, layers, bidirectional, True, shake)
    stacked = CELLS[name].module(INPUT, HIDDEN, layers, batch_first=True, bidirectional=bidirectional).double()
    with torch.no_grad():
        for number, directions in enumerate(encoder.layers):
            for backward, layer in enumerate(directions):
                for key, parameter in layer.rnn.named_parameters():
                    mine = f"{key.removesuffix('_l0')}_l{number}{'_reverse' if backward else ''}"
                    getattr(stacked, mine).copy_(parameter)
    x_1SI = torch.randn(1, 6, INPUT, dtype=torch.float64)
    found = encoder(x_1SI, torch.tensor([6]))
    expected_1SC, last = stacked(x_1SI)
    torch.testing.assert_close(found.states_BSC, expected_1SC)
    parts = last if isinstance(last, tuple) else (last,)
    assert len(found.finals) == layers
    for number, cell in enumerate(found.finals):
        for part, expected in zip(cell, parts, strict=True):
            # torch: (layers x directions, 1, H), the directions of a layer side by side
            rows = expected.view(layers, -1, HIDDEN)[number].flatten()
            torch.testing.assert_close(part[0], rows)
    torch.testing.assert_close(found.last_BC, found.finals[-1][0])


@pytest.mark.parametrize("name", sorted(CELLS))
def test_an_encoder_without_finals_gives_the_same_states(name: str, shake: Callable) -> None:
    encoder = make_encoder(name, 2, True, True, shake)
    x_BSI, len_B = torch.randn(len(LENGTHS), max(LENGTHS), INPUT, dtype=torch.float64), torch.tensor(LENGTHS)
    with_finals = encoder(x_BSI, len_B)
    encoder.keep_finals = False
    without = encoder(x_BSI, len_B)
    mask_BS = with_finals.mask_BS
    torch.testing.assert_close(without.states_BSC[mask_BS], with_finals.states_BSC[mask_BS])
    torch.testing.assert_close(without.last_BC, with_finals.last_BC)


@st.composite
def padded(draw: st.DrawFn) -> tuple[Tensor, list[int]]:
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    width = max(lengths) + draw(st.integers(0, 2))
    return torch.arange(len(lengths) * width * 2).view(len(lengths), width, 2), lengths


@given(padded())
def test_reverse_mirrors_each_sequence_within_its_length(example: tuple[Tensor, list[int]]) -> None:
    x_BSI, lengths = example
    turned = reverse(x_BSI, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        assert turned[row, :length].tolist() == x_BSI[row, :length].tolist()[::-1]
        assert turned[row, length:].tolist() == x_BSI[row, length:].tolist()
    assert torch.equal(reverse(turned, torch.tensor(lengths)), x_BSI)


@given(padded())
def test_last_states_are_those_at_the_last_tokens(example: tuple[Tensor, list[int]]) -> None:
    x_BSI, lengths = example
    found = last_states(x_BSI, torch.tensor(lengths))
    assert found.tolist() == [x_BSI[row, length - 1].tolist() for row, length in enumerate(lengths)]


@pytest.mark.parametrize("name", sorted(CELLS))
@pytest.mark.parametrize("bidirectional", [True, False, "bottom"])
def test_residual_layers_add_what_came_in_where_it_is_as_wide(
    name: str, bidirectional: bool | str, shake: Callable
) -> None:
    """Layer by layer, from the same layers without: Wu et al. 2016, sections 3.1 and 3.2."""
    encoder = make_encoder(name, 4, bidirectional, False, shake, residual=True)
    directions = [len(layer) for layer in encoder.layers]
    assert directions == {True: [2] * 4, False: [1] * 4, "bottom": [2, 1, 1, 1]}[bidirectional]
    x_1SI, len_1 = torch.randn(1, 6, INPUT, dtype=torch.float64), torch.tensor([6])
    found = encoder(x_1SI, len_1)
    assert found.states_BSC.shape[2] == HIDDEN * directions[-1]
    added = 0
    for number, both in enumerate(encoder.layers):
        sides = [layer(x_1SI.flip(1) if backward else x_1SI)[0] for backward, layer in enumerate(both)]
        out_1SC = torch.cat([side.flip(1) if backward else side for backward, side in enumerate(sides)], dim=2)
        fits = number > 0 and out_1SC.shape == x_1SI.shape
        added += fits
        last_1C = torch.cat([side[:, -1] for side in sides], dim=1)
        x_1SI = out_1SC + x_1SI if fits else out_1SC
    assert added == (2 if bidirectional == "bottom" else 3)
    torch.testing.assert_close(found.states_BSC, x_1SI)
    torch.testing.assert_close(found.last_BC, last_1C)


@pytest.mark.parametrize("name", sorted(CELLS))
def test_recurrent_dropout_zeroes_the_same_units_at_every_step(name: str) -> None:
    """Gal and Ghahramani 2016, equation 7: what a dropped unit says is not heard at any step of its sequence."""
    plain = CELLS[name](INPUT, HIDDEN, recurrent_dropout=0.5).double()
    assert plain.eval()._by_steps is False
    x_BTI = torch.randn(3, 5, INPUT, dtype=torch.float64)
    torch.manual_seed(4)
    found_BTH, _ = plain.train()(x_BTI)
    torch.manual_seed(4)
    keep_BH = plain.recurrent_dropout.over_steps(x_BTI.new_zeros(3, HIDDEN))(x_BTI.new_ones(3, HIDDEN))
    assert 0 < int((keep_BH == 0).sum()) < keep_BH.numel()
    state = tuple(x_BTI.new_zeros(3, HIDDEN) for _ in range(plain.parts))
    for position in range(5):
        heard = (state[0] * keep_BH, *state[1:])
        own = plain.step(plain.input(x_BTI[:, position]), heard)
        if name == "gru":  # which keeps the state itself too, undropped
            _, z_BH, _ = (plain.input(x_BTI[:, position]) + plain.recur(heard[0])).chunk(3, dim=1)
            own = (own[0] + torch.sigmoid(z_BH) * (state[0] - heard[0]),)
        state = own
        torch.testing.assert_close(found_BTH[:, position], state[0])


@pytest.mark.parametrize("name", sorted(CELLS))
def test_an_encoder_with_layer_normalization_follows_the_equations(name: str, shake: Callable) -> None:
    encoder = make_encoder(name, 2, False, False, shake, layer_norm=True)
    x_1SI = torch.randn(1, 5, INPUT, dtype=torch.float64)
    found = encoder(x_1SI, torch.tensor([5])).states_BSC[0].tolist()
    states = [tuple([0.0] * HIDDEN for _ in range(CELLS[name].parts))] * 2
    for position, heard in enumerate(x_1SI[0].tolist()):
        for number, (layer,) in enumerate(encoder.layers):
            assert layer.normalized
            states[number] = reference_step(name, layer, heard, states[number])
            heard = states[number][0]
        assert found[position] == pytest.approx(heard, abs=1e-10)


def test_recurrent_dropout_of_an_encoder_is_in_each_of_its_layers(shake: Callable) -> None:
    encoder = make_encoder("lstm", 2, True, False, shake, recurrent_dropout=0.5)
    shares = [layer.recurrent_dropout.p for directions in encoder.layers for layer in directions]
    assert shares == [0.5] * 4
    x_1SI, len_1 = torch.randn(1, 5, INPUT, dtype=torch.float64), torch.tensor([5])
    assert torch.equal(encoder(x_1SI, len_1).states_BSC, encoder(x_1SI, len_1).states_BSC)
    for module in encoder.modules():  # that of the recurrence alone
        if isinstance(module, Layer):
            module.train()
    assert not torch.equal(encoder(x_1SI, len_1).states_BSC, encoder(x_1SI, len_1).states_BSC)


def test_a_new_lstm_starts_with_open_forget_gates() -> None:
    layer = CELLS["lstm"](INPUT, HIDDEN)
    biases = layer.rnn.bias_ih_l0.detach() + layer.rnn.bias_hh_l0.detach()
    assert biases.tolist() == [0.0] * HIDDEN + [1.0] * HIDDEN + [0.0] * 2 * HIDDEN
    normed = CELLS["lstm"](INPUT, HIDDEN, layer_norm=True)
    at_zero_G = normed.input_norm(torch.zeros(1, 4 * HIDDEN)) + normed.recur_norm(torch.zeros(1, 4 * HIDDEN))
    assert at_zero_G[0].tolist() == biases.tolist()
