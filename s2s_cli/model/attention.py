"""Attention: for every query, a score for each encoder state, a softmax over them, and their weighted sum.

What depends on the source alone is projected once a sentence (`memorize`); `attend` then serves one decoder step, all
hypotheses of a beam, or all target positions at once. A kind gives the score; which states it may look at (`span.py`)
and what it knows of where it has looked (`coverage.py`) are chosen apart. The shapes' legend is in `interface.py`;
here also P positions of luong-location and Z heads, each A / Z wide.
"""

from __future__ import annotations

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.model.coverage import COVERAGES
from s2s_cli.model.interface import Attended, AttentionState, Encoded, Memory
from s2s_cli.model.linear import StepLinear, deferred
from s2s_cli.model.span import SPANS, Window

# An additive score makes a (B, Q, S, A) tensor; more elements than this at once are computed in slices of Q.
ADDITIVE_LIMIT = 2**24


class Attention(nn.Module):
    """The protocol, and all that the kinds share; a kind gives its keys and its score."""

    before_cell: ClassVar[bool] = False
    """True where the query is the previous decoder state and the context enters the cell."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.query_size = config.decoder.hidden_size
        self.context_size = config.encoder.output_size
        self.span = SPANS[config.attention_span](config)
        self.coverage = COVERAGES[config.coverage](config)
        self.key_projection: StepLinear | None = None

    def keys(self, states_BSC: Tensor) -> Tensor:
        """The source's part of the score, (B, S, A)."""
        return states_BSC if self.key_projection is None else cast(Tensor, self.key_projection(states_BSC))

    def values(self, states_BSC: Tensor) -> Tensor:
        """What the context is a weighted sum of, (B, S, .)."""
        return states_BSC

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        """Scores of all encoder states for each query, (B, Q, S); some kinds take coverage into account."""
        raise TypeError(f"{type(self).__name__} has no score")

    def read(self, scores_BQS: Tensor, window: Window, values_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Contexts (B, Q, C) and weights (B, Q, S)."""
        weights_BQS = window.weights(scores_BQS)
        return weights_BQS @ values_BSC, weights_BQS

    def memorize(self, encoded: Encoded) -> Memory:
        """Projects the source, once a sentence."""
        states_BSC = encoded.states_BSC
        extras = self.coverage.memorize(states_BSC)
        return Memory(self.values(states_BSC), self.keys(states_BSC), encoded.mask_BS, encoded.last_BC, extras)

    def initial_state(self, encoded: Encoded) -> AttentionState:
        """What this kind carries from step to step: nothing, for those that look anew each time."""
        return AttentionState(self.span.initial(encoded.mask_BS), self.coverage.initial(encoded.states_BSC))

    def attend(self, query_BQH: Tensor, memory: Memory, state: AttentionState) -> Attended:
        """Looks at the memory.

        Args:
            query_BQH: decoder states: of Q hypotheses, where `state` has a row for each; else, where it has one for
                each sentence, of Q successive steps.
            memory: what `memorize` gave.
            state: what the last call returned.

        Returns:
            Contexts (B, Q, C), weights (B, Q, S) that are exactly zero on padding, and the next state. The weights sum
            to one, but for the span local-p.
        """
        if state.columns and len(state.columns[0]) < query_BQH.shape[0] * query_BQH.shape[1]:
            return self._attend_in_turn(query_BQH, memory, state)
        window, rows = self.span.look(query_BQH, memory.mask_BS, state.rows)
        covered_BQSD = self.coverage.seen(state.columns, memory.extras, query_BQH.shape[1])
        scores_BQS = self.score(query_BQH, memory.keys_BSA, covered_BQSD)
        context_BQC, weights_BQS = self.read(scores_BQS, window, memory.values_BSC)
        columns = self.coverage.after(state.columns, weights_BQS, query_BQH, memory.extras)
        return Attended(context_BQC, weights_BQS, AttentionState(rows, columns))

    def _attend_in_turn(self, query_BTH: Tensor, memory: Memory, state: AttentionState) -> Attended:
        """Step by step, since each must know where the last one looked."""
        contexts, weights = [], []
        with deferred(self):
            for query_B1H in torch.split(query_BTH, 1, dim=1):
                context_B1C, weights_B1S, state = self.attend(query_B1H, memory, state)
                contexts.append(context_B1C)
                weights.append(weights_B1S)
        return Attended(torch.cat(contexts, dim=1), torch.cat(weights, dim=1), state)


class NoAttention(Attention):
    """Cho et al. 2014: the source is one vector, the encoder's last state, at every step; all weights are zero."""

    def attend(self, query_BQH: Tensor, memory: Memory, state: AttentionState) -> Attended:
        sentences, queries, _ = query_BQH.shape
        context_BQC = memory.last_BC[:, None, :].expand(-1, queries, -1)
        return Attended(context_BQC, query_BQH.new_zeros(sentences, queries, memory.width), state)


class LuongDot(Attention):
    """Luong et al. 2015, section 3.1: score(h_t, h_s) = h_t . h_s."""

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        return query_BQH @ keys_BSA.transpose(1, 2)


class LuongScaledDot(LuongDot):
    """Vaswani et al. 2017, equation 1: the dot product over sqrt(H), whose size does not grow with the states'."""

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        return super().score(query_BQH / math.sqrt(self.query_size), keys_BSA)


class LuongGeneral(LuongDot):
    """Luong et al. 2015, section 3.1: score(h_t, h_s) = h_t . (Wa h_s); Wa h_s is the key."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.key_projection = StepLinear(self.context_size, self.query_size, bias=False)


class LuongLocation(Attention):
    """Luong et al. 2015, section 3.1: a_t = softmax(Wa h_t), from the decoder state alone.

    Wa has a row for each of P source positions; of a longer source, those beyond P are never looked at.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.positions = StepLinear(self.query_size, config.attention_positions, bias=False)

    def keys(self, states_BSC: Tensor) -> Tensor:
        return states_BSC[:, :, :1]  # of which only the number counts

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        scores_BQP: Tensor = self.positions(query_BQH)
        width = keys_BSA.shape[1]
        return F.pad(scores_BQP[:, :, :width], (0, max(0, width - scores_BQP.shape[2])), value=-math.inf)


class LuongConcat(Attention):
    """Luong et al. 2015, section 3.1: score = v . tanh(Wa[h_t; h_s]), Wa split into its part for each state.

    With coverage there is a third part, for what was covered (Tu et al. 2016, section 3.2; See et al. 2017, eq. 11).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        size = config.attention_size or self.query_size
        self.query_projection = StepLinear(self.query_size, size, bias=False)
        self.key_projection = StepLinear(self.context_size, size)
        if self.coverage.size:
            self.coverage_projection = StepLinear(self.coverage.size, size, bias=False)
        self.scorer = nn.Linear(size, 1, bias=False)

    def scores_of(self, hidden_BQSA: Tensor) -> Tensor:
        """From the network's hidden layer to scores, (B, Q, S)."""
        scores_BQS: Tensor = self.scorer(hidden_BQSA).squeeze(-1)
        return scores_BQS

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        query_BQA = self.query_projection(query_BQH)
        queries_at_once = max(1, ADDITIVE_LIMIT // keys_BSA.numel())
        scores = []
        for start in range(0, query_BQA.shape[1], queries_at_once):
            part = slice(start, start + queries_at_once)
            sum_BQSA = query_BQA[:, part, None, :] + keys_BSA[:, None, :, :]
            if covered_BQSD is not None:
                sum_BQSA = sum_BQSA + self.coverage_projection(covered_BQSD[:, part])
            scores.append(self.scores_of(torch.tanh(sum_BQSA)))
        return torch.cat(scores, dim=1)


class Bahdanau(LuongConcat):
    """Bahdanau et al. 2015, appendix A.1.2: e_ij = v . tanh(Wa s_(i-1) + Ua h_j).

    The same network as Luong's concat; what differs is the query, the state *before* the cell, and that the context
    is the cell's input (their equation for s_i), not only the readout's.
    """

    before_cell = True


class BahdanauNormed(Bahdanau):
    """As bahdanau, v normalized: g v / |v|, g learned (Salimans and Kingma 2016, equation 2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.gain = nn.Parameter(self.scorer.weight.detach().norm().view(1))  # as it starts, nothing is changed

    def scores_of(self, hidden_BQSA: Tensor) -> Tensor:
        v_1A = self.scorer.weight
        return F.linear(hidden_BQSA, self.gain * v_1A / v_1A.norm()).squeeze(-1)


class MultiHead(Attention):
    """Vaswani et al. 2017, section 3.2.2: Z scaled dot products, each of its own projections, side by side.

    The weights that are told are the mean over heads. For a recurrent decoder: Chen et al. 2018, section 4.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        size = config.attention_size or self.query_size
        self.heads = config.attention_heads
        self.query_projection = StepLinear(self.query_size, size, bias=False)
        self.key_projection = StepLinear(self.context_size, size, bias=False)
        self.value_projection = StepLinear(self.context_size, size, bias=False)
        self.context_projection = StepLinear(size, self.context_size, bias=False)

    def values(self, states_BSC: Tensor) -> Tensor:
        values_BSA: Tensor = self.value_projection(states_BSC)
        return values_BSA

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        """Scores of each head, (B, Z, Q, S)."""
        query_BZQA, keys_BZSA = self._split(self.query_projection(query_BQH)), self._split(keys_BSA)
        return query_BZQA @ keys_BZSA.transpose(2, 3) / math.sqrt(query_BZQA.shape[-1])

    def read(self, scores_BQS: Tensor, window: Window, values_BSC: Tensor) -> tuple[Tensor, Tensor]:
        weights_BZQS = window.for_heads().weights(scores_BQS)
        context_BQZA = (weights_BZQS @ self._split(values_BSC)).transpose(1, 2)
        return self.context_projection(context_BQZA.flatten(2)), weights_BZQS.mean(1)

    def _split(self, x_BSA: Tensor) -> Tensor:
        return x_BSA.view(*x_BSA.shape[:2], self.heads, -1).transpose(1, 2)


class MultiHeadAdditive(MultiHead):
    """As multi-head, with Bahdanau's score in each head: v_z . tanh(q_z + k_z) (Chen et al. 2018, section 4)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        size = self.query_projection.out_features
        self.scorer = nn.Parameter(nn.Linear(size // self.heads, self.heads, bias=False).weight.detach())

    def score(self, query_BQH: Tensor, keys_BSA: Tensor, covered_BQSD: Tensor | None = None) -> Tensor:
        query_BZQA, keys_BZSA = self._split(self.query_projection(query_BQH)), self._split(keys_BSA)
        queries_at_once = max(1, ADDITIVE_LIMIT // keys_BSA.numel())
        scores = [
            (torch.tanh(part[:, :, :, None, :] + keys_BZSA[:, :, None]) @ self.scorer[:, None, :, None]).squeeze(-1)
            for part in torch.split(query_BZQA, queries_at_once, dim=2)
        ]
        return torch.cat(scores, dim=2)


ATTENTIONS: dict[str, type[Attention]] = {
    "none": NoAttention,
    "bahdanau": Bahdanau,
    "bahdanau-normed": BahdanauNormed,
    "luong-dot": LuongDot,
    "luong-scaled-dot": LuongScaledDot,
    "luong-general": LuongGeneral,
    "luong-concat": LuongConcat,
    "luong-location": LuongLocation,
    "multi-head": MultiHead,
    "multi-head-additive": MultiHeadAdditive,
}
