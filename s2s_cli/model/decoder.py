"""The recurrent decoder: how it starts, one step, and a whole target at once where nothing is fed back.

The shapes' legend is in `interface.py`; F is what is fed into the cell beside the embedding, G a cell's gates,
U what enters a layer above the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.model.attention import ATTENTIONS
from s2s_cli.model.dropout import Dropout
from s2s_cli.model.interface import Attended, CellState, DecoderState, Encoded, Memory
from s2s_cli.model.linear import StepLinear, deferred
from s2s_cli.model.recurrent import CELLS, Layer


class InitialState(nn.Module):
    """Zeros: the decoder starts from nothing. The other kinds inherit what they share."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers, self.hidden_size = config.decoder.layers, config.decoder.hidden_size
        self.parts = CELLS[config.decoder.cell].parts

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        """The first state of each layer."""
        zeros = encoded.last_BC.new_zeros(len(encoded.last_BC), self.hidden_size)
        return tuple((zeros,) * self.parts for _ in range(self.layers))


class Bridge(InitialState):
    """tanh(W x + b) for every part of every layer's state, x the encoder's last state (Bahdanau et al. 2015, A.2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.encoder.output_size, self.layers * self.parts * self.hidden_size)

    def summary(self, encoded: Encoded) -> Tensor:
        """What the state is made from, (B, C)."""
        return encoded.last_BC

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        parts = torch.split(torch.tanh(self.projection(self.summary(encoded))), self.hidden_size, dim=-1)
        return tuple(tuple(parts[i : i + self.parts]) for i in range(0, len(parts), self.parts))


class MeanBridge(Bridge):
    """As the bridge, x the mean of all encoder states (Sennrich et al. 2017, Nematus)."""

    def summary(self, encoded: Encoded) -> Tensor:
        mask_BS1 = encoded.mask_BS[:, :, None].to(encoded.states_BSC.dtype)
        return (encoded.states_BSC * mask_BS1).sum(1) / mask_BS1.sum(1)


class LastState(InitialState):
    """Layer by layer the encoder's last state itself (Sutskever et al. 2014)."""

    def forward(self, encoded: Encoded) -> tuple[CellState, ...]:
        return encoded.finals


INITIAL_STATES: dict[str, type[InitialState]] = {
    "bridge": Bridge,
    "last": LastState,
    "mean": MeanBridge,
    "zeros": InitialState,
}


class Decoded(NamedTuple):
    """A whole target, teacher-forced."""

    readout_BTR: Tensor
    weights_BTS: Tensor


class _Advanced(NamedTuple):
    """One step, before its readout; with input feeding, the readout is the state's `feed_NR`."""

    h_BQH: Tensor
    context_BQC: Tensor
    weights_BQS: Tensor
    state: DecoderState


class _Drops(NamedTuple):
    """Dropout inside a loop over time: on what each layer hands to the next one, and to its own next step."""

    upwards: tuple[Callable[[Tensor], Tensor], ...]
    onwards: tuple[Callable[[Tensor], Tensor], ...]


class Decoder(nn.Module):
    """Stacked recurrent layers that look at a memory at each step.

    Where the context enters is decided by the attention (bahdanau: the query is the last state, the context an input
    of the first layer), by `conditional` (between two cells of the first layer), by `attend_after` (the first layer
    asks, the context is an input of those above), and by input feeding (what attention gave is an input of the next
    step); else it enters the readout alone.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        own = config.decoder
        self.attention = ATTENTIONS[config.attention](config)
        self.initial_state = INITIAL_STATES[own.initial_state](config)
        self.hidden_size, self.residual = own.hidden_size, own.residual
        self.before_cell = self.attention.before_cell and not own.conditional
        feeds_readout = own.input_feeding and not self.before_cell and not own.conditional
        self.feed_size = config.readout if feeds_readout else 0
        fed_size = self.attention.context_size if self.before_cell else self.feed_size
        self.feeds_back = fed_size > 0 or own.conditional
        self.first_asks = own.attend_after == "first"
        self.upper_size = self.hidden_size + (self.attention.context_size if self.first_asks else 0)
        widths = [config.embedding_size] + [self.upper_size] * (own.layers - 1)
        kind = partial(CELLS[own.cell], layer_norm=own.layer_norm)
        self.layers = nn.ModuleList(
            kind(width, self.hidden_size, recurrent_dropout=config.recurrent_dropout) for width in widths
        )
        self.gates = self._first.input.out_features
        self.second = kind(self.attention.context_size, self.hidden_size) if own.conditional else None
        self.fed = StepLinear(fed_size, self.gates, bias=False) if fed_size else None
        if self.fed:  # the part of the first layer's W that belongs to what is fed
            for gate in torch.split(self.fed.weight.data, self.hidden_size):
                nn.init.xavier_uniform_(gate)
        self.combine = StepLinear(self.attention.context_size + self.hidden_size, config.readout, bias=False)
        self.lexical = StepLinear(config.embedding_size, config.readout, bias=False) if own.lexical else None
        self.dropout = Dropout(config.dropout, variational=config.variational_dropout)

    def memorize(self, encoded: Encoded, embedded_BSE: Tensor) -> Memory:
        """What the decoder looks at.

        Args:
            encoded: what the encoder made of the sources, as attention is to see it.
            embedded_BSE: the sources as they went into the encoder.
        """
        memory = self.attention.memorize(encoded)
        return replace(memory, extras=(*memory.extras, embedded_BSE)) if self.lexical else memory

    def start(self, encoded: Encoded) -> DecoderState:
        """The state before the first step, one row for each sentence."""
        feed_NR = encoded.last_BC.new_zeros(len(encoded.last_BC), self.feed_size)
        return DecoderState(self.initial_state(encoded), feed_NR, self.attention.initial_state(encoded))

    def forward(self, x_BTE: Tensor, state: DecoderState, memory: Memory) -> Decoded:
        """All steps of a known target.

        Args:
            x_BTE: embedded target inputs.
            state: from `start`.
            memory: the sources.
        """
        if not self.feeds_back:
            first, *others = self.layers
            h_BTH, _ = first(x_BTE, state.cells[0])
            attended = self.attention.attend(h_BTH, memory, state.attention) if self.first_asks else None
            for number, layer in enumerate(others, 1):
                out_BTH, _ = layer(self.dropout(self._upwards(h_BTH, attended)), state.cells[number])
                h_BTH = h_BTH + out_BTH if self.residual else out_BTH
            if attended is None:
                attended = self.attention.attend(h_BTH, memory, state.attention)
            readout_BTR = self._readout(attended.context_BQC, attended.weights_BQS, h_BTH, memory)
            return Decoded(readout_BTR, attended.weights_BQS)
        steps: list[_Advanced] = []
        gates_BTG = self.inputs(x_BTE)
        with deferred(self):
            drops = self._drops(state)
            for gates_NG in gates_BTG.unbind(1):
                steps.append(self._advance(gates_NG, state, memory, drops))
                state = steps[-1].state
        h_BTH, context_BTC, weights_BTS = (
            torch.cat(parts, dim=1)
            for parts in zip(*((s.h_BQH, s.context_BQC, s.weights_BQS) for s in steps), strict=True)
        )
        if self.feed_size:
            readouts = [step.state.feed_NR.view(len(h_BTH), 1, -1) for step in steps]
            return Decoded(torch.cat(readouts, dim=1), weights_BTS)
        # one product for all steps
        return Decoded(self._readout(context_BTC, weights_BTS, h_BTH, memory), weights_BTS)

    def inputs(self, x: Tensor) -> Tensor:
        """What the first layer makes of embedded tokens (..., E): W x + b (..., G), the part that needs no state.

        In search it is mostly looked up, so there it is never converted: what comes out must not depend on that.
        """
        return F.linear(x, self._first.input.weight, self._first.input.bias)

    def step(self, gates_NG: Tensor, state: DecoderState, memory: Memory) -> tuple[Tensor, Tensor, DecoderState]:
        """One step for Q hypotheses of each of B sentences, N = B x Q rows.

        Args:
            gates_NG: from `inputs`.
            state, memory: as `start` or the last step gave it, and the sources.

        Returns:
            The attentional states (B, Q, R), attention weights (B, Q, S) and the next state.
        """
        step = self._advance(gates_NG, state, memory, None)
        if self.feed_size:
            readout_BQR = step.state.feed_NR.view(*step.h_BQH.shape[:2], -1)
        else:
            readout_BQR = self._readout(step.context_BQC, step.weights_BQS, step.h_BQH, memory)
        return readout_BQR, step.weights_BQS, step.state

    @property
    def _first(self) -> Layer:
        return cast(Layer, self.layers[0])

    def _drops(self, state: DecoderState) -> _Drops | None:
        """None where nothing is dropped."""
        layers = cast(Iterable[Layer], self.layers)
        if not self.dropout.active and not any(layer.recurrent_dropout.active for layer in layers):
            return None
        like_BU = state.cells[0][0].new_empty(len(state.cells[0][0]), self.upper_size)
        upwards = tuple(self.dropout.over_steps(like_BU) for _ in state.cells)
        onwards = (layer.recurrent_dropout.over_steps(cell[0]) for layer, cell in zip(layers, state.cells, strict=True))
        return _Drops(upwards, tuple(onwards))

    def _advance(self, gates_NG: Tensor, state: DecoderState, memory: Memory, drops: _Drops | None) -> _Advanced:
        def by_sentence(h_NH: Tensor) -> Tensor:
            return h_NH.view(memory.mask_BS.shape[0], -1, self.hidden_size)

        def look(h_NH: Tensor) -> Attended:
            return self.attention.attend(by_sentence(h_NH), memory, state.attention)

        attended = look(state.cells[-1][0]) if self.before_cell else None
        if self.fed:
            gates_NG = gates_NG + self.fed(attended.context_BQC.flatten(0, 1) if attended else state.feed_NR)
        first, *others = cast(Iterable[Layer], self.layers)
        cell = first.step(gates_NG, state.cells[0], drops.onwards[0] if drops else None)
        if self.second:
            attended = look(cell[0])
            cell = self.second.step(self.second.input(attended.context_BQC.flatten(0, 1)), cell)
        elif self.first_asks:
            attended = look(cell[0])
        cells, h_NH = [cell], cell[0]
        for number, layer in enumerate(others, 1):
            inputs_NU = self._upwards(h_NH, attended)
            gates_NG = layer.input(drops.upwards[number](inputs_NU) if drops else inputs_NU)
            cell = layer.step(gates_NG, state.cells[number], drops.onwards[number] if drops else None)
            cells.append(cell)
            h_NH = h_NH + cell[0] if self.residual else cell[0]
        if attended is None:
            attended = look(h_NH)
        h_BQH = by_sentence(h_NH)
        feed_NR = state.feed_NR
        if self.feed_size:
            feed_NR = self._readout(attended.context_BQC, attended.weights_BQS, h_BQH, memory).flatten(0, 1)
        after = DecoderState(tuple(cells), feed_NR, attended.state)
        return _Advanced(h_BQH, attended.context_BQC, attended.weights_BQS, after)

    def _upwards(self, h: Tensor, attended: Attended | None) -> Tensor:
        """What a layer above the first one reads (..., U): where the first one asks, [h; c] (Wu et al. 2016)."""
        if not self.first_asks or attended is None:
            return h
        return torch.cat((h, attended.context_BQC.reshape(*h.shape[:-1], -1)), dim=-1)

    def _readout(self, context_BQC: Tensor, weights_BQS: Tensor, h_BQH: Tensor, memory: Memory) -> Tensor:
        """Luong et al. 2015, equation 5: the attentional state tanh(Wc[c; h]).

        The lexical part is tanh(Wl tanh(sum of a_s x_s)), x_s the embedded source (Nguyen and Chiang 2018, section 4,
        who add that inner tanh, too, and give both an output layer of their own).
        """
        readout_BQR = torch.tanh(self.combine(torch.cat((context_BQC, h_BQH), dim=-1)))
        if self.lexical is None:
            return readout_BQR
        words_BQE = torch.tanh(weights_BQS @ memory.extras[-1].to(weights_BQS.dtype))
        return readout_BQR + torch.tanh(self.lexical(words_BQE))
