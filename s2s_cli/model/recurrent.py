"""Recurrent layers: whole sequences by PyTorch's fused kernels, single steps by the cells' equations.

Sequences are dense and padded at the end, never packed: that keeps the fused kernels. A backward layer reads each
sequence reversed within its own length, so that its padding too comes last and touches nothing.
The shapes' legend is in `interface.py`; I is a layer's input.
"""

from __future__ import annotations

from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from s2s_cli.config import EncoderConfig
from s2s_cli.model.dropout import Dropout
from s2s_cli.model.interface import CellState, Encoded
from s2s_cli.model.linear import StepLinear


class Layer(nn.Module):
    """One recurrent layer in one direction; a kind names its module, its cell and the parts of its state."""

    module: ClassVar[type[nn.RNNBase]]
    parts: ClassVar[int] = 1
    """Tensors in a state: two for an LSTM (h, c), else one (h)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.rnn = self.module(input_size, hidden_size, batch_first=True)  # type: ignore[call-arg,arg-type]
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:  # gate by gate: a gate is a layer of its own
                start = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
                for gate in torch.split(parameter.data, hidden_size):
                    start(gate)
        # The same weights for single steps: W x + b, to be computed in bulk where x is known, and U h + b.
        weights = dict(self.rnn.named_parameters())
        self.input = tied(input_size, weights["weight_ih_l0"], weights["bias_ih_l0"])
        self.recur = tied(hidden_size, weights["weight_hh_l0"], weights["bias_hh_l0"])

    def forward(self, x_BTI: Tensor, state: CellState | None = None) -> tuple[Tensor, CellState]:
        """A whole sequence: the states (B, T, H), and the state after the last position, padding included."""
        first = None if state is None else tuple(part.unsqueeze(0) for part in state)
        h_BTH, last = self.rnn(x_BTI, first[0] if first and len(first) == 1 else first)
        return h_BTH, tuple(part.squeeze(0) for part in (last if isinstance(last, tuple) else (last,)))

    def encode(self, x_BSI: Tensor, len_B: Tensor) -> tuple[Tensor, CellState]:
        """As `forward`, but the state is the one after each sequence's own last token; packed, so exact and slower."""
        packed = pack_padded_sequence(x_BSI, len_B.cpu(), batch_first=True, enforce_sorted=False)
        output, last = self.rnn(packed)
        h_BSH, _ = pad_packed_sequence(output, batch_first=True, total_length=x_BSI.shape[1])
        return h_BSH, tuple(part.squeeze(0) for part in (last if isinstance(last, tuple) else (last,)))

    def step(self, input_NG: Tensor, state: CellState) -> CellState:
        """One position, given W x + b from `input` (N, G): the next state, whose first part is the output."""
        raise TypeError(f"{type(self).__name__} has no step")


class RNN(Layer):
    """Elman 1990: h' = tanh(W x + U h + b)."""

    module = nn.RNN

    def step(self, input_NG: Tensor, state: CellState) -> CellState:
        return (torch.tanh(input_NG + self.recur(state[0])),)


class GRU(Layer):
    """Cho et al. 2014, with the reset gate inside as in cuDNN: n = tanh(W x + r * (U h + b)), h' = (1 - z) n + z h."""

    module = nn.GRU

    def step(self, input_NG: Tensor, state: CellState) -> CellState:
        (h_NH,) = state
        sizes = [2 * h_NH.shape[1], h_NH.shape[1]]
        input_rz, input_n = torch.split(input_NG, sizes, dim=1)
        recur_rz, recur_n = torch.split(self.recur(h_NH), sizes, dim=1)
        r_NH, z_NH = torch.sigmoid(input_rz + recur_rz).chunk(2, dim=1)
        n_NH = torch.tanh(input_n + r_NH * recur_n)
        return ((1 - z_NH) * n_NH + z_NH * h_NH,)


class LSTM(Layer):
    """Hochreiter and Schmidhuber 1997, with forget gates: c' = f * c + i * g, h' = o * tanh(c')."""

    module = nn.LSTM
    parts = 2

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        # A forget gate that starts open (Jozefowicz et al. 2015, section 2.2).
        nn.init.ones_(self.rnn.bias_ih_l0[hidden_size : 2 * hidden_size])  # type: ignore[index]

    def step(self, input_NG: Tensor, state: CellState) -> CellState:
        h_NH, c_NH = state
        i_NH, f_NH, g_NH, o_NH = (input_NG + self.recur(h_NH)).chunk(4, dim=1)
        c_NH = torch.sigmoid(f_NH) * c_NH + torch.sigmoid(i_NH) * torch.tanh(g_NH)
        return torch.sigmoid(o_NH) * torch.tanh(c_NH), c_NH


CELLS: dict[str, type[Layer]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def tied(width: int, weight: nn.Parameter, bias: nn.Parameter) -> StepLinear:
    """A linear layer of another module's weights."""
    linear = StepLinear(width, len(weight))
    linear.weight, linear.bias = weight, bias
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

    def __init__(self, config: EncoderConfig, input_size: int, dropout: float, *, keep_finals: bool) -> None:
        """Args:
        config: the encoder section.
        input_size: width of the embedded source, I.
        dropout: between layers.
        keep_finals: also give each layer's full last state, which costs packing.
        """
        super().__init__()
        kind, directions = CELLS[config.cell], 2 if config.bidirectional else 1
        widths = [input_size] + [config.output_size] * (config.layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(kind(width, config.hidden_size) for _ in range(directions)) for width in widths
        )
        self.dropout = Dropout(dropout)
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
            x_BSI = torch.cat(states, dim=-1)
            finals.append(tuple(torch.cat(part, dim=-1) for part in zip(*lasts, strict=True)))
        mask_BS = torch.arange(x_BSI.shape[1], device=x_BSI.device)[None, :] < len_B[:, None]
        return Encoded(x_BSI, mask_BS, finals[-1][0], tuple(finals) if self.keep_finals else ())

    def _read(self, layer: Layer, x_BSI: Tensor, len_B: Tensor) -> tuple[Tensor, CellState]:
        if self.keep_finals and layer.parts > 1:  # an LSTM's c is not among its outputs
            return layer.encode(x_BSI, len_B)
        h_BSH, _ = layer(x_BSI)
        return h_BSH, (last_states(h_BSH, len_B),)
