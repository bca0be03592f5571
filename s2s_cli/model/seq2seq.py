"""The encoder-decoder: embeddings, encoder, decoder and output. The shapes' legend is in `interface.py`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from s2s_cli.config import ModelConfig
from s2s_cli.data.batches import Batch
from s2s_cli.data.tokenizer import Specials, Tokenizer
from s2s_cli.model.attention import NoAttention
from s2s_cli.model.decoder import Decoder
from s2s_cli.model.dropout import Dropout
from s2s_cli.model.interface import DecoderState, Memory, Step
from s2s_cli.model.linear import convert
from s2s_cli.model.loss import coverage_loss, linear_cross_entropy
from s2s_cli.model.output import Output
from s2s_cli.model.recurrent import Encoder


class Losses(NamedTuple):
    """Of the N target pieces of a batch, sentence by sentence, padding left out."""

    smoothed: Tensor
    """What training minimizes: their sum, label-smoothed, and what coverage adds."""
    nll_N: Tensor
    """The negative log-likelihood of each in nats; carries no gradient."""


def embedding_dropout(config: ModelConfig) -> Dropout:
    """What stands behind the embeddings of both sides."""
    share = config.dropout if config.embedding_dropout is None else config.embedding_dropout
    return Dropout(share, variational=config.variational_dropout)


class TokenEmbedding(nn.Embedding):
    """Piece ids (...) to embeddings (..., E), times sqrt(E) (Vaswani et al. 2017, section 3.4): small enough for an
    output, of unit size as input."""

    def __init__(self, size: int, config: ModelConfig, specials: Specials | None) -> None:
        """Args:
        size: pieces.
        config: the model section.
        specials: what word dropout spares, and puts in the place of others; None for no word dropout.
        """
        super().__init__(size, config.embedding_size)
        nn.init.normal_(self.weight, std=config.embedding_size**-0.5)
        self.dropout = embedding_dropout(config)
        self.word_dropout, self.specials = config.word_dropout, specials

    def forward(self, tokens: Tensor) -> Tensor:
        x_E: Tensor = self.dropout(super().forward(self._drop_words(tokens)) * math.sqrt(self.embedding_dim))
        return x_E

    def _drop_words(self, tokens: Tensor) -> Tensor:
        """Word dropout (Bowman et al. 2016, section 3.1): tokens of text become unknown at random."""
        special = self.specials
        if not self.training or not self.word_dropout or special is None:
            return tokens
        drop = torch.rand(tokens.shape, device=tokens.device) < self.word_dropout
        return tokens.masked_fill(drop & (tokens != special.eos) & (tokens != special.bos), special.unk)


class FeatureProjection(nn.Linear):
    """Feature vectors (..., F) to what stands for their embeddings, W x + b (..., E): of unit size where they are."""

    def __init__(self, size: int, config: ModelConfig, specials: None = None) -> None:
        super().__init__(size, config.embedding_size)
        nn.init.normal_(self.weight, std=size**-0.5)
        nn.init.zeros_(self.bias)
        self.dropout = embedding_dropout(config)

    def forward(self, vectors: Tensor) -> Tensor:
        x_E: Tensor = self.dropout(super().forward(vectors))
        return x_E


# Each takes the pieces of the vocabulary or the width of a vector, the model section, and the special pieces.
SOURCES: dict[str, Callable[[int, ModelConfig, Any], nn.Module]] = {
    "text": TokenEmbedding,
    "features": FeatureProjection,
}


class Seq2Seq(nn.Module):
    """A recurrent encoder-decoder (Sutskever et al. 2014; Cho et al. 2014) with selectable attention.

    Args:
        config: the model section.
        source_size, target_size: pieces in each vocabulary; of features the width of a vector.
        source, target: their special pieces; features have none.
        kind: of source, one of SOURCES.
    """

    def __init__(
        self,
        config: ModelConfig,
        source_size: int,
        target_size: int,
        source: Specials | None,
        target: Specials,
        kind: str = "text",
    ) -> None:
        super().__init__()
        self.source, self.target = source, target
        self.dropout, self.encoder_dropout = (
            Dropout(share, variational=config.variational_dropout) for share in (config.dropout, config.encoder_dropout)
        )
        self.source_embedding = SOURCES[kind](source_size, config, source)
        self.target_embedding = TokenEmbedding(target_size, config, target)
        self.output = Output(config.readout, target_size)
        nn.init.zeros_(self.output.bias)
        if config.tie_embeddings == "all":
            self.target_embedding.weight = cast(nn.Parameter, self.source_embedding.weight)
        if config.tie_embeddings != "none":
            self.output.weight = self.target_embedding.weight
        keep_finals = config.decoder.initial_state == "last"
        self.encoder = Encoder(config, keep_finals=keep_finals)
        self.decoder = Decoder(config)

    @property
    def is_blind(self) -> bool:
        """Whether the decoder has no attention: what it sees of the source is one vector."""
        return isinstance(self.decoder.attention, NoAttention)

    def encode(self, source: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]:
        """Reads sources: what the decoder looks at, and the state it starts from, one row for each.

        Args:
            source: piece ids (B, S), or feature vectors (B, S, F).
            src_len_B: their lengths.
        """
        embedded_BSE = self.source_embedding(source)
        encoded = self.encoder(embedded_BSE, src_len_B)
        seen = replace(encoded, states_BSC=self.encoder_dropout(encoded.states_BSC))
        return self.decoder.memorize(seen, embedded_BSE), self.decoder.start(encoded)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Teacher forcing: attentional states of all target positions (B, T, R), and weights (B, T, S)."""
        memory, state = self.encode(batch.source, batch.src_len_B)
        readout_BTR, weights_BTS = self.decoder(self.target_embedding(batch.tgt_in_BT), state, memory)
        return readout_BTR, weights_BTS

    def losses(self, batch: Batch, label_smoothing: float = 0.0, coverage: float = 0.0, r_drop: float = 0.0) -> Losses:
        """The losses of a batch; padding is left out before the output layer, its largest product.

        Args:
            batch: the pairs; with r_drop twice, one copy after the other.
            label_smoothing: share of the probability spread over the vocabulary.
            coverage: weight of `coverage_loss`.
            r_drop: weight of the divergence between the two copies, which dropout makes different (Liang et al. 2021);
                all losses are then their means.
        """
        passes = 2 if r_drop else 1
        size = len(batch.tgt_len_B) // passes
        readout_BTR, weights_BTS = self(batch)
        position_T = torch.arange(batch.tgt_out_BT.shape[1], device=batch.tgt_len_B.device)
        mask_BT = position_T[None, :] < batch.tgt_len_B[:, None]
        readout_NR = self.dropout(readout_BTR)[mask_BT]
        targets_N = batch.tgt_out_BT[:size][mask_BT[:size]]
        smoothed, nll_N = linear_cross_entropy(
            readout_NR, self.output.weight, self.output.bias, targets_N, label_smoothing, r_drop
        )
        if coverage:
            smoothed = smoothed + coverage / passes * coverage_loss(weights_BTS, mask_BT)
        return Losses(smoothed, nll_N)

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        """One step of search for Q hypotheses of each sentence; rows of `state` are sentence by sentence."""
        return self.step_from(self.inputs(tokens_BQ.flatten()), state, memory)

    def inputs(self, tokens_N: Tensor) -> Tensor:
        """What the decoder's first layer makes of target tokens, (N, G)."""
        return self.decoder.inputs(self.target_embedding(tokens_N))

    def step_from(self, gates_NG: Tensor, state: DecoderState, memory: Memory) -> Step:
        """As `step`, from what `inputs` gave."""
        readout_BQR, weights_BQS, state = self.decoder.step(gates_NG, state, memory)
        return Step(self.output(readout_BQR), weights_BQS, state)


def build_model(config: ModelConfig, tokenizer: Tokenizer) -> Seq2Seq:
    """The model that a config describes, for a tokenizer, with fresh weights from torch's generator."""
    source, target = tokenizer.source, tokenizer.target
    return Seq2Seq(config, len(source), len(target), source.specials, target.specials, source.config.kind)


def count_parameters(model: nn.Module) -> int:
    """Weights, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


class SearchModel:
    """A model made ready for many steps of search. It holds for the weights as they are now.

    The decoder's large products are made in `dtype`, with weights that are converted once; all other weights are
    shared with the model. After `make_table` the `inputs` of target pieces are looked up, which leaves out an eighth of
    a step's products.
    """

    def __init__(self, model: Seq2Seq, dtype: torch.dtype) -> None:
        shared = {id(weight): weight for weight in model.parameters()}
        self.model = copy.deepcopy(model, shared).eval()
        self.table_VG: Tensor | None = None
        for part in (self.model.decoder, self.model.output):
            convert(part, dtype)

    def make_table(self) -> None:
        """Computes the `inputs` of all target pieces."""
        pieces = torch.arange(self.model.target_embedding.num_embeddings, device=self.model.output.weight.device)
        self.table_VG = self.model.inputs(pieces)

    def encode(self, source: Tensor, src_len_B: Tensor) -> tuple[Memory, DecoderState]:
        """As the model's."""
        return self.model.encode(source, src_len_B)

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        """As the model's."""
        if self.table_VG is None:
            return self.model.step(tokens_BQ, state, memory)
        return self.model.step_from(self.table_VG.index_select(0, tokens_BQ.flatten()), state, memory)
