"""Coverage: what attention knows of where it has looked, so that nothing is translated twice and nothing left out.

For every encoder state a vector of D numbers goes from step to step and enters the additive score.
The shapes' legend is in `interface.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.model.interface import at_least_fp32
from s2s_cli.model.linear import StepLinear

# The most target words that an encoder state may have in mind, N of Tu et al. 2016, section 3.1.1.
MOST_FERTILE = 2.0


class NoCoverage(nn.Module):
    """Nothing is known. The other kinds inherit the protocol."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.size = 0

    def memorize(self, states_BSC: Tensor) -> tuple[Tensor, ...]:
        """What depends on the source alone, each (B, S, .)."""
        return ()

    def initial(self, states_BSC: Tensor) -> tuple[Tensor, ...]:
        """What is carried from step to step, each (B, S, .)."""
        return ()

    def seen(self, columns: tuple[Tensor, ...], extras: tuple[Tensor, ...], queries: int) -> Tensor | None:
        """What enters the score of Q queries a sentence, (B, Q, S, D).

        Args:
            columns: what is carried, each (B x Q, S, .).
            extras: from `memorize`.
            queries: Q.
        """
        return None

    def after(
        self, columns: tuple[Tensor, ...], weights_BQS: Tensor, query_BQH: Tensor, extras: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """What is carried on, once these queries have had these weights."""
        return ()


class SumCoverage(NoCoverage):
    """See et al. 2017, equation 10: the sum of all weights so far."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size = 1

    def initial(self, states_BSC: Tensor) -> tuple[Tensor, ...]:
        # sums over many steps: in bf16 they would stand still
        return (states_BSC.new_zeros(*states_BSC.shape[:2], self.size, dtype=at_least_fp32(states_BSC)),)

    def seen(self, columns: tuple[Tensor, ...], extras: tuple[Tensor, ...], queries: int) -> Tensor | None:
        return _by_sentence(columns[0], queries)

    def after(
        self, columns: tuple[Tensor, ...], weights_BQS: Tensor, query_BQH: Tensor, extras: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        return (columns[0] + weights_BQS.flatten(0, 1)[:, :, None],)


class FertilityCoverage(SumCoverage):
    """Tu et al. 2016, section 3.1.1: the same over the fertility of each state, N sigmoid(Uf h_j)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.fertility = nn.Linear(config.encoder.output_size, 1, bias=False)

    def memorize(self, states_BSC: Tensor) -> tuple[Tensor, ...]:
        return (MOST_FERTILE * torch.sigmoid(self.fertility(states_BSC)),)

    def seen(self, columns: tuple[Tensor, ...], extras: tuple[Tensor, ...], queries: int) -> Tensor | None:
        return _by_sentence(columns[0], queries) / extras[0][:, None]


class GatedCoverage(SumCoverage):
    """Tu et al. 2016, section 3.1.2: a GRU over the steps for each state, from its weight, itself and the query."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.size = config.coverage_size
        gates = 3 * self.size
        self.from_state = nn.Linear(config.encoder.output_size, gates)
        self.from_query = StepLinear(config.decoder.hidden_size, gates, bias=False)
        self.from_weight = StepLinear(1, gates, bias=False)
        self.recur = StepLinear(self.size, gates)

    def memorize(self, states_BSC: Tensor) -> tuple[Tensor, ...]:
        return (self.from_state(states_BSC),)

    def after(
        self, columns: tuple[Tensor, ...], weights_BQS: Tensor, query_BQH: Tensor, extras: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        covered_BQSD = _by_sentence(columns[0], query_BQH.shape[1])
        input_BQSG = (
            self.from_weight(weights_BQS[..., None]) + extras[0][:, None] + self.from_query(query_BQH)[:, :, None]
        )
        recur_BQSG = self.recur(covered_BQSD)
        input_r, input_z, input_n = input_BQSG.chunk(3, dim=-1)
        recur_r, recur_z, recur_n = recur_BQSG.chunk(3, dim=-1)
        z_BQSD = torch.sigmoid(input_z + recur_z)
        n_BQSD = torch.tanh(input_n + torch.sigmoid(input_r + recur_r) * recur_n)
        return (((1 - z_BQSD) * n_BQSD + z_BQSD * covered_BQSD).flatten(0, 1),)


def _by_sentence(covered_NSD: Tensor, queries: int) -> Tensor:
    return covered_NSD.view(-1, queries, *covered_NSD.shape[1:])


COVERAGES: dict[str, type[NoCoverage]] = {
    "none": NoCoverage,
    "sum": SumCoverage,
    "fertility": FertilityCoverage,
    "gru": GatedCoverage,
}
