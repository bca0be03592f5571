"""Recurrent layers: whole sequences by PyTorch's fused kernels, single steps by the cells' equations.

Sequences are dense and padded at the end, never packed: that keeps the fused kernels. A backward layer reads each
sequence reversed within its own length, so that its padding too comes last and touches nothing. What the kernels do
not know, layer normalization and dropout of the recurrence, goes step by step.
The shapes' legend is in `interface.py`; I is a layer's input, G its gates side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2s_cli.config import ModelConfig
from s2s_cli.model.dropout import Dropout
from s2s_cli.model.interface import CellState, Encoded
from s2s_cli.model.linear import StepLinear, deferred


class GateNorm(nn.Module):
    """Layer normalization (Ba et al. 2016, equation 4) of each gate by itself (Chen et al. 2018, section 4.1)."""

    def __init__(self, size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.gain, self.bias = nn.Parameter(torch.ones(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x_NG: Tensor) -> Tensor:
        gates = x_NG.view(*x_NG.shape[:-1], -1, self.hidden_size)
        return F.layer_norm(gates, (self.hidden_size,)).flatten(-2) * self.gain + self.bias


class Layer(nn.Module):
    """One recurrent layer in one direction; a kind names its module, its cell and the parts of its state."""

    module: ClassVar[type[nn.RNNBase]]
    parts: ClassVar[int] = 1
    """Tensors in a state: two for an LSTM (h, c), else one (h)."""

    def __init__(
        self, input_size: int, hidden_size: int, *, layer_norm: bool = False, recurrent_dropout: float = 0.0
    ) -> None:
        super().__init__()
        biased = not layer_norm  # there the norms have biases, behind them
        self.rnn = self.module(input_size, hidden_size, bias=biased, batch_first=True)  # type: ignore[call-arg,arg-type]
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:  # gate by gate: a gate is a layer of its own
                start = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
                for gate in torch.split(parameter.data, hidden_size):
                    start(gate)
        # The same weights for single steps: W x + b, to be computed in bulk where x is known, and U h + b (normalized:
        # without b).
        weights = dict(self.rnn.named_parameters())
        self.input = tied(input_size, weights["weight_ih_l0"], weights.get("bias_ih_l0"))
        self.recur = tied(hidden_size, weights["weight_hh_l0"], weights.get("bias_hh_l0"))
        self.recurrent_dropout = Dropout(recurrent_dropout, variational=True)
        self.normalized = layer_norm
        if layer_norm:
            self.input_norm, self.recur_norm = (GateNorm(self.input.out_features, hidden_size) for _ in range(2))

    def forward(self, x_BTI: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        """A whole sequence: the states (B, T, H), and the state after the last position, padding included."""
        if self._by_steps:
            states = self._unroll(x_BTI, state)
            return torch.stack([h_BH for h_BH, *_ in states], dim=1), states[-1]
        first = None if state is None else tuple(part.unsqueeze(0) for part in state)
        h_BTH, last = self.rnn(x_BTI, first[0] if first and len(first) == 1 else first)
        return h_BTH, tuple(part.squeeze(0) for part in (last if isinstance(last, tuple) else (last,)))

    def encode(self, x_BSI: Tensor, len_B: Tensor) -> tuple[Tensor, CellState]:
        """As `forward`, but the state is the one after each sequence's own last token; packed, so exact and slower."""
        if self._by_steps:
            parts = [torch.stack(part, dim=1) for part in zip(*self._unroll(x_BSI, None), strict=True)]
            return parts[0], tuple(last_states(part_BSH, len_B) for part_BSH in parts)
        packed = pack_padded_sequence(x_BSI, len_B.cpu(), batch_first=True, enforce_sorted=False)
        output, last = self.rnn(packed)
        h_BSH, _ = pad_packed_sequence(output, batch_first=True, total_length=x_BSI.shape[1])
        return h_BSH, tuple(part.squeeze(0) for part in (last if isinstance(last, tuple) else (last,)))

    def step(self, input_NG: Tensor, state: CellState, drop: Callable[[Tensor], Tensor] | None = None) -> CellState:
        """One position: the next state, whose first part is the output.

        Args:
            input_NG: W x + b, from `input`.
            state: the last one.
            drop: dropout of its h; from `recurrent_dropout.over_steps`.
        """
        raise TypeError(f"{type(self).__name__} has no step")

    @property
    def _by_steps(self) -> bool:
        return self.normalized or self.recurrent_dropout.active

    def _unroll(self, x_BTI: Tensor, state: CellState | None) -> list[CellState]:
        """The state after each position."""
        if state is None:
            state = (x_BTI.new_zeros(len(x_BTI), self.recur.in_features),) * self.parts
        drop = self.recurrent_dropout.over_steps(state[0])
        states: list[CellState] = []
        gates_BTG = self.input(x_BTI)
        with deferred(self):
            for gates_BG in gates_BTG.unbind(1):
                state = self.step(gates_BG, state, drop)
                states.append(state)
        return states

    def _gates(self, input_NG: Tensor, h_NH: Tensor, drop: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
        """What the input and the last state bring to the gates, each normalized where that is wanted."""
        recur_NG = self.recur(drop(h_NH) if drop else h_NH)
        return (self.input_norm(input_NG), self.recur_norm(recur_NG)) if self.normalized else (input_NG, recur_NG)


class RNN(Layer):
    """Elman 1990: h' = tanh(W x + U h + b)."""

    module = nn.RNN

    def step(self, input_NG: Tensor, state: CellState, drop: Callable[[Tensor], Tensor] | None = None) -> CellState:
        input_NG, recur_NG = self._gates(input_NG, state[0], drop)
        return (torch.tanh(input_NG + recur_NG),)


class GRU(Layer):
    """Cho et al. 2014, with the reset gate inside as in cuDNN: n = tanh(W x + r * (U h + b)), h' = (1 - z) n + z h."""

    module = nn.GRU

    def step(self, input_NG: Tensor, state: CellState, drop: Callable[[Tensor], Tensor] | None = None) -> CellState:
        (h_NH,) = state
        input_NG, recur_NG = self._gates(input_NG, h_NH, drop)
        sizes = [2 * h_NH.shape[1], h_NH.shape[1]]
        input_rz, input_n = torch.split(input_NG, sizes, dim=1)
        recur_rz, recur_n = torch.split(recur_NG, sizes, dim=1)
        r_NH, z_NH = torch.sigmoid(input_rz + recur_rz).chunk(2, dim=1)
        n_NH = torch.tanh(input_n + r_NH * recur_n)
        return ((1 - z_NH) * n_NH + z_NH * h_NH,)


class LSTM(Layer):
    """Hochreiter and Schmidhuber 1997, with forget gates: c' = f * c + i * g, h' = o * tanh(c').

    With layer normalization the cell too is normalized where it comes out: h' = o * tanh(LN(c')) (Ba et al. 2016).
    """

    module = nn.LSTM
    parts = 2

    def __init__(
        self, input_size: int, hidden_size: int, *, layer_norm: bool = False, recurrent_dropout: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm, recurrent_dropout=recurrent_dropout)
        # A forget gate that starts open (Jozefowicz et al. 2015, section 2.2); a norm would take a constant away.
        bias_G = self.input_norm.bias if layer_norm else self.input.bias
        nn.init.ones_(bias_G[hidden_size : 2 * hidden_size])
        self.cell_norm = GateNorm(hidden_size, hidden_size) if layer_norm else None

    def step(self, input_NG: Tensor, state: CellState, drop: Callable[[Tensor], Tensor] | None = None) -> CellState:
        h_NH, c_NH = state
        input_NG, recur_NG = self._gates(input_NG, h_NH, drop)
        i_NH, f_NH, g_NH, o_NH = (input_NG + recur_NG).chunk(4, dim=1)
        c_NH = torch.sigmoid(f_NH) * c_NH + torch.sigmoid(i_NH) * torch.tanh(g_NH)
        return torch.sigmoid(o_NH) * torch.tanh(self.cell_norm(c_NH) if self.cell_norm else c_NH), c_NH


CELLS: dict[str, type[Layer]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def tied(width: int, weight: nn.Parameter, bias: nn.Parameter | None) -> StepLinear:
    """A linear layer of another module's weights."""
    linear = StepLinear(width, len(weight), bias=bias is not None)
    linear.weight = weight
    if bias is not None:
        linear.bias = bias
    return linear


def reverse(x_BSI: Tensor, len_B: Tensor) -> Tensor:
    """Each sequence reversed within its own length; padding stays where it is."""
    position_S = torch.arange(x_BSI.shape[1], device=x_BSI.device)
    mirrored_BS = len_B[:, None] - 1 - position_S[None, :]
    index_BS = torch.where(mirrored_BS >= 0, mirrored_BS, position_S[None, :])
    return x_BSI.gather(1, index_BS[:, :, None].expand_as(x_BSI))


def last_states(h_BSH: Tensor, len_B: Tensor) -> Tensor:
    """The state at each sequence's last token, (B, H)."""
    return h_BSH[torch.arange(len(len_B), device=h_BSH.device), len_B - 1]


class Encoder(nn.Module):
    """Stacked recurrent layers over an embedded source, in one direction or both (Schuster and Paliwal 1997)."""

    def __init__(self, config: ModelConfig, *, keep_finals: bool) -> None:
        """Args:
        config: the model section.
        keep_finals: also give each layer's full last state, which costs packing.
        """
        super().__init__()
        own = config.encoder
        kind = CELLS[own.cell]
        widths = [config.embedding_size] + [own.hidden_size * own.directions(layer) for layer in range(own.layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(
                kind(width, own.hidden_size, layer_norm=own.layer_norm, recurrent_dropout=config.recurrent_dropout)
                for _ in range(own.directions(layer))
            )
            for layer, width in enumerate(widths)
        )
        self.residual = own.residual
        self.dropout = Dropout(config.dropout, variational=config.variational_dropout)
        self.keep_finals = keep_finals

    def forward(self, x_BSI: Tensor, len_B: Tensor) -> Encoded:
        """Encodes sources that are padded at the end."""
        finals: list[CellState] = []
        for number, directions in enumerate(self.layers):
            inputs = self.dropout(x_BSI) if number else x_BSI
            states, lasts = [], []
            for backward, layer in enumerate(cast(nn.ModuleList, directions)):
                h_BSH, last = self._read(cast(Layer, layer), reverse(inputs, len_B) if backward else inputs, len_B)
                states.append(reverse(h_BSH, len_B) if backward else h_BSH)
                lasts.append(last)
            h_BSC = torch.cat(states, dim=-1)
            x_BSI = x_BSI + h_BSC if self.residual and number and x_BSI.shape == h_BSC.shape else h_BSC
            finals.append(tuple(torch.cat(part, dim=-1) for part in zip(*lasts, strict=True)))
        mask_BS = torch.arange(x_BSI.shape[1], device=x_BSI.device)[None, :] < len_B[:, None]
        return Encoded(x_BSI, mask_BS, finals[-1][0], tuple(finals) if self.keep_finals else ())

    def _read(self, layer: Layer, x_BSI: Tensor, len_B: Tensor) -> tuple[Tensor, CellState]:
        if self.keep_finals and layer.parts > 1:  # an LSTM's c is not among its outputs
            return layer.encode(x_BSI, len_B)
        h_BSH, _ = layer(x_BSI)
        return h_BSH, (last_states(h_BSH, len_B),)
