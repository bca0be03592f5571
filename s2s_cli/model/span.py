"""Which encoder states a step may look at: all of them, or a window around a position (Luong et al. 2015, section 3.2).

Positions count from zero. The shapes' legend is in `interface.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.model.interface import at_least_fp32
from s2s_cli.model.linear import StepLinear


class Window(NamedTuple):
    """What a step may look at."""

    mask_BQS: Tensor
    """False on padding and outside; may be one for all queries."""
    factor_BQS: Tensor | None = None
    """What the weights are multiplied by after the softmax."""

    def weights(self, scores_BQS: Tensor) -> Tensor:
        """The weights that scores lead to, exactly zero outside."""
        scores_BQS = scores_BQS.masked_fill(~self.mask_BQS, -math.inf)
        weights_BQS = torch.softmax(scores_BQS, dim=-1, dtype=at_least_fp32(scores_BQS)).to(scores_BQS.dtype)
        return weights_BQS if self.factor_BQS is None else weights_BQS * self.factor_BQS

    def for_heads(self) -> Window:
        """The same for scores of several heads, (B, Z, Q, S)."""
        return Window(self.mask_BQS[:, None], None if self.factor_BQS is None else self.factor_BQS[:, None])


class Global(nn.Module):
    """All encoder states (section 3.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def initial(self, mask_BS: Tensor) -> tuple[Tensor, ...]:
        """What is carried from step to step, a row for each sentence."""
        return ()

    def look(self, query_BQH: Tensor, mask_BS: Tensor, rows: tuple[Tensor, ...]) -> tuple[Window, tuple[Tensor, ...]]:
        """The window of each query, and what to carry on.

        Args:
            query_BQH: as for `Attention.attend`.
            mask_BS: True on tokens.
            rows: what is carried, each (N, .).
        """
        return Window(mask_BS[:, None, :]), rows


class LocalMonotonic(Global):
    """local-m: p_t = t, source and target being about in step; past the source's end, its last position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.reach = config.attention_window

    def initial(self, mask_BS: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros(len(mask_BS), 1, dtype=torch.int64, device=mask_BS.device),)

    def look(self, query_BQH: Tensor, mask_BS: Tensor, rows: tuple[Tensor, ...]) -> tuple[Window, tuple[Tensor, ...]]:
        sentences, queries, _ = query_BQH.shape
        (step_N1,) = rows
        if len(step_N1) == sentences:  # successive steps of each sentence
            step_BQ, taken = step_N1 + torch.arange(queries, device=step_N1.device), queries
        else:
            step_BQ, taken = step_N1.view(sentences, queries), 1
        center_BQ1 = torch.minimum(step_BQ, mask_BS.sum(1, keepdim=True) - 1)[:, :, None]
        inside_BQS = _distances(center_BQ1, mask_BS).abs() <= self.reach
        return Window(inside_BQS & mask_BS[:, None, :]), (step_N1 + taken,)


class LocalPredictive(Global):
    """local-p: p_t = S sigmoid(v . tanh(Wp h_t)), and a Gaussian around it with deviation D / 2 (equations 9 and 10).

    Their positions count from one; here, from zero, p_t is one less. The weights do not sum to one, as in the paper.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.reach = config.attention_window
        size = config.decoder.hidden_size
        self.position = StepLinear(size, size, bias=False)
        self.scorer = nn.Linear(size, 1, bias=False)

    def look(self, query_BQH: Tensor, mask_BS: Tensor, rows: tuple[Tensor, ...]) -> tuple[Window, tuple[Tensor, ...]]:
        length_B11 = mask_BS.sum(1)[:, None, None]
        share_BQ1 = torch.sigmoid(self.scorer(torch.tanh(self.position(query_BQH))).to(at_least_fp32(query_BQH)))
        center_BQ1 = length_B11 * share_BQ1 - 1
        distance_BQS = _distances(center_BQ1, mask_BS)
        factor_BQS = torch.exp(-2 * (distance_BQS / self.reach) ** 2).to(query_BQH.dtype)
        return Window((distance_BQS.abs() <= self.reach) & mask_BS[:, None, :], factor_BQS), rows


def _distances(center_BQ1: Tensor, mask_BS: Tensor) -> Tensor:
    """Of each source position from the centres, (B, Q, S)."""
    return torch.arange(mask_BS.shape[1], device=mask_BS.device) - center_BQ1


SPANS: dict[str, type[Global]] = {
    "global": Global,
    "local-m": LocalMonotonic,
    "local-p": LocalPredictive,
}
