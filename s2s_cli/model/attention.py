"""Attention: for every query, a score for each encoder state, a softmax over them, and their weighted sum.

What depends on the source alone is projected once a sentence (`memorize`); `attend` then serves one decoder step, all
hypotheses of a beam, or all target positions at once. The shapes' legend is in `interface.py`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.model.interface import Attended, Encoded, Memory
from s2s_cli.model.linear import StepLinear

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

    def keys(self, states_BSC: Tensor) -> Tensor:
        """The source's part of the score, (B, S, A)."""
        return states_BSC

    def score(self, query_BQH: Tensor, keys_BSA: Tensor) -> Tensor:
        """Scores of all encoder states for each query, (B, Q, S)."""
        raise TypeError(f"{type(self).__name__} has no score")

    def memorize(self, encoded: Encoded) -> Memory:
        """Projects the source, once a sentence."""
        return Memory(encoded.states_BSC, self.keys(encoded.states_BSC), encoded.mask_BS, encoded.last_BC)

    def initial_state(self, rows: int) -> tuple[Tensor, ...]:
        """What this kind carries from step to step: nothing, for those that look anew each time."""
        return ()

    def attend(self, query_BQH: Tensor, memory: Memory, state: tuple[Tensor, ...]) -> Attended:
        """Looks at the memory.

        Args:
            query_BQH: decoder states.
            memory: what `memorize` gave.
            state: what the last call returned.

        Returns:
            Contexts (B, Q, C), weights (B, Q, S) that sum to one and are exactly zero on padding, and the next state.
        """
        scores_BQS = self.score(query_BQH, memory.keys_BSA)
        scores_BQS = scores_BQS.masked_fill(~memory.mask_BS[:, None, :], -math.inf)
        weights_BQS = torch.softmax(scores_BQS, dim=-1, dtype=torch.float32).to(query_BQH.dtype)
        return Attended(weights_BQS @ memory.values_BSC, weights_BQS, state)


class NoAttention(Attention):
    """Sutskever et al. 2014: the source is one vector, the encoder's last state; all weights are zero."""

    def attend(self, query_BQH: Tensor, memory: Memory, state: tuple[Tensor, ...]) -> Attended:
        sentences, queries, _ = query_BQH.shape
        context_BQC = memory.last_BC[:, None, :].expand(-1, queries, -1)
        return Attended(context_BQC, query_BQH.new_zeros(sentences, queries, memory.mask_BS.shape[1]), state)


class LuongDot(Attention):
    """Luong et al. 2015, equation 8: score(h_t, h_s) = h_t . h_s."""

    def score(self, query_BQH: Tensor, keys_BSA: Tensor) -> Tensor:
        return query_BQH @ keys_BSA.transpose(1, 2)


class LuongGeneral(LuongDot):
    """Luong et al. 2015, equation 8: score(h_t, h_s) = h_t . (Wa h_s); Wa h_s is the key."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.key_projection = StepLinear(self.context_size, self.query_size, bias=False)

    def keys(self, states_BSC: Tensor) -> Tensor:
        keys_BSH: Tensor = self.key_projection(states_BSC)
        return keys_BSH


class LuongConcat(Attention):
    """Luong et al. 2015, equation 8: score = v . tanh(Wa[h_t; h_s]), Wa split into its part for each state."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        size = config.attention_size or self.query_size
        self.query_projection = StepLinear(self.query_size, size, bias=False)
        self.key_projection = StepLinear(self.context_size, size)
        self.scorer = nn.Linear(size, 1, bias=False)

    def keys(self, states_BSC: Tensor) -> Tensor:
        keys_BSA: Tensor = self.key_projection(states_BSC)
        return keys_BSA

    def score(self, query_BQH: Tensor, keys_BSA: Tensor) -> Tensor:
        query_BQA = self.query_projection(query_BQH)
        queries_at_once = max(1, ADDITIVE_LIMIT // keys_BSA.numel())
        scores = [
            self.scorer(torch.tanh(part[:, :, None, :] + keys_BSA[:, None, :, :])).squeeze(-1)
            for part in query_BQA.split(queries_at_once, dim=1)
        ]
        return torch.cat(scores, dim=1)


class Bahdanau(LuongConcat):
    """Bahdanau et al. 2015, appendix A.1.2: e_ij = v . tanh(Wa s_(i-1) + Ua h_j).

    The same network as Luong's concat; what differs is the query, the state *before* the cell, and that the context
    is the cell's input (their equation for s_i), not only the readout's.
    """

    before_cell = True


ATTENTIONS: dict[str, type[Attention]] = {
    "none": NoAttention,
    "bahdanau": Bahdanau,
    "luong-dot": LuongDot,
    "luong-general": LuongGeneral,
    "luong-concat": LuongConcat,
}
