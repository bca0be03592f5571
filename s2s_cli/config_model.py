"""The sections of the configuration that say what the network is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from s2s_cli.config_section import Layers, Rate, Section, Width

CellName = Literal["rnn", "gru", "lstm"]
AttentionName = Literal[
    "none",
    "bahdanau",
    "bahdanau-normed",
    "luong-dot",
    "luong-scaled-dot",
    "luong-general",
    "luong-concat",
    "luong-location",
    "multi-head",
    "multi-head-additive",
]
BAHDANAU = frozenset({"bahdanau", "bahdanau-normed"})
DOT = frozenset({"luong-dot", "luong-scaled-dot"})
MULTI_HEAD = frozenset({"multi-head", "multi-head-additive"})
SpanName = Literal["global", "local-m", "local-p"]
CoverageName = Literal["none", "sum", "fertility", "gru"]
BridgeName = Literal["bridge", "last", "mean", "zeros"]


class EncoderConfig(Section):
    """The recurrent encoder."""

    cell: CellName = "lstm"
    """rnn (tanh, Elman 1990), gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997)."""
    layers: Layers = 1
    """Stacked layers."""
    hidden_size: Width = 256
    """Units of a layer, in each direction."""
    bidirectional: Literal[True, False, "bottom"] = True
    """Read the source from both ends (Schuster and Paliwal 1997): in every layer, in none, or in the bottom one alone
    (Wu et al. 2016, section 3.2)."""
    residual: bool = False
    """Add a layer's input to its output from the second layer on, where as wide (Wu et al. 2016, section 3.1)."""
    layer_norm: bool = False
    """Layer normalization in the cell (Ba et al. 2016), gate by gate (Chen et al. 2018). Slower: step by step."""

    def directions(self, layer: int) -> int:
        """In how many directions a layer, from 0, reads."""
        return 2 if self.bidirectional is True or (self.bidirectional == "bottom" and layer == 0) else 1

    @property
    def output_size(self) -> int:
        """Width of an encoder state, C: the directions of the top layer side by side."""
        return self.hidden_size * self.directions(self.layers - 1)


class DecoderConfig(Section):
    """The recurrent decoder."""

    cell: CellName = "lstm"
    """As for the encoder."""
    layers: Layers = 1
    """Stacked layers."""
    hidden_size: Width = 512
    """Units of a layer, H."""
    input_feeding: bool = True
    """Feed what attention gave at one step into the next (Luong et al. 2015, section 3.3)."""
    initial_state: BridgeName = "bridge"
    """From the encoder: tanh(W last) (bridge), its last state itself (last), tanh(W mean) (mean), or zeros."""
    conditional: bool = False
    """Two cells in the first layer, attention between them (the conditional GRU of Nematus, Sennrich et al. 2017)."""
    attend_after: Literal["last", "first"] = "last"
    """The layer whose state asks the encoder's. first: all layers above read the answer, too (Wu et al. 2016)."""
    lexical: bool = False
    """What attention looks at goes to the output as embedded pieces, too (Nguyen and Chiang 2018): for rare words."""
    residual: bool = False
    """As for the encoder."""
    layer_norm: bool = False
    """As for the encoder."""


class ModelConfig(Section):
    """The encoder-decoder."""

    encoder: EncoderConfig = EncoderConfig()
    """The encoder."""
    decoder: DecoderConfig = DecoderConfig()
    """The decoder."""
    attention: AttentionName = "luong-general"
    """none (Cho et al. 2014); bahdanau (2015), -normed (Salimans and Kingma 2016); luong-dot, -general, -concat,
    -location (2015), -scaled-dot (Vaswani et al. 2017); multi-head (the same), -additive (Chen et al. 2018)."""
    attention_size: Width | None = None
    """Width of the network that scores (bahdanau, luong-concat) or of all heads; default: the decoder's hidden_size."""
    attention_heads: Annotated[int, Field(gt=0, le=1024)] = 4
    """Heads of multi-head."""
    attention_positions: Width = 200
    """luong-location: source positions that it can tell apart; what lies beyond is not looked at."""
    attention_span: SpanName = "global"
    """Look at all encoder states, or at a window (Luong et al. 2015, section 3.2): around the decoder's own position
    (local-m), or around one that is predicted (local-p)."""
    attention_window: Width = 10
    """The window of local-m and local-p reaches this far to either side, D."""
    coverage: CoverageName = "none"
    """What bahdanau and luong-concat know of where they looked: the sum of the weights (See et al. 2017), the same over
    fertility, or what a gru keeps (both Tu et al. 2016)."""
    coverage_size: Width = 10
    """Width of the gru's coverage of a state, D."""
    embedding_size: Width = 256
    """Width of an embedding, E, and of what feature vectors are projected to."""
    readout_size: Width | None = None
    """Width of the attentional state tanh(Wc[c; h]); default: embedding_size where tied, else hidden_size."""
    tie_embeddings: Literal["none", "target", "all"] = "none"
    """Share one matrix: target embedding and output (two-way), or the source embedding too (three-way)."""
    dropout: Rate = 0.2
    """Between layers and on the readout."""
    embedding_dropout: Rate | None = None
    """On embeddings; default: dropout."""
    encoder_dropout: Rate = 0.0
    """On the encoder's states, as attention sees them; none are seen without it."""
    word_dropout: Rate = 0.0
    """Share of input tokens replaced by the unknown piece in training."""
    recurrent_dropout: Rate = 0.0
    """On what a cell hands to its next step, one mask a sequence (Gal and Ghahramani 2016). Slower: step by step."""
    variational_dropout: bool = False
    """One mask for all positions of a sequence, for every dropout but that of words (Gal and Ghahramani 2016)."""

    @property
    def readout(self) -> int:
        """Width of the attentional state, R."""
        tied = self.tie_embeddings != "none"
        return self.readout_size or (self.embedding_size if tied else self.decoder.hidden_size)

    @property
    def drops_states(self) -> bool:
        """Whether training drops parts of states and embeddings."""
        seen = self.encoder_dropout if self.attention != "none" else 0
        return any((self.dropout, self.embedding_dropout, seen))

    @property
    def is_random(self) -> bool:
        """Whether training drops anything."""
        return self.drops_states or any((self.word_dropout, self.recurrent_dropout))

    def idle_settings(self) -> Iterator[str]:
        """Keys that were set and do nothing beside the others, in words."""
        needs = {
            "attention_size": (self.attention in (*BAHDANAU, *MULTI_HEAD, "luong-concat"), "attention bahdanau"),
            "attention_heads": (self.attention in MULTI_HEAD, "attention multi-head"),
            "attention_positions": (self.attention == "luong-location", "attention luong-location"),
            "attention_window": (self.attention_span != "global", "attention_span local-m or local-p"),
            "coverage_size": (self.coverage == "gru", "coverage gru"),
            "encoder_dropout": (self.attention != "none", "attention"),
            "variational_dropout": (self.drops_states, "dropout"),
        }
        return self._idle("model", needs)

    @model_validator(mode="after")
    def _check(self) -> Self:
        encoder, decoder, width = self.encoder, self.decoder, self.encoder.output_size
        if self.attention in DOT and width != decoder.hidden_size:
            raise ValueError(
                f"attention {self.attention} needs equal sizes: encoder states {width}, decoder {decoder.hidden_size}; "
                f"set decoder.hidden_size to {width}, change encoder.hidden_size, or use luong-general"
            )
        if self.attention in BAHDANAU and not decoder.input_feeding:
            raise ValueError(
                f"attention {self.attention} feeds its context into the cell by definition: "
                "set decoder.input_feeding to true, or attention to one of the luong kinds"
            )
        if decoder.conditional and not decoder.input_feeding:
            raise ValueError(
                "decoder.conditional feeds the context into its second cell by definition: "
                "set decoder.input_feeding to true, or decoder.conditional to false"
            )
        if decoder.lexical and self.attention == "none":
            raise ValueError(
                "decoder.lexical says where attention looks: set it to false, or attention to luong-general"
            )
        if decoder.attend_after == "first":
            if decoder.layers < 2:
                raise ValueError("decoder.attend_after first is for layers above it: set decoder.layers to 2 or more")
            if decoder.conditional or self.attention in BAHDANAU:
                fixed, free = (
                    ("decoder.conditional", "decoder.conditional to false")
                    if decoder.conditional
                    else (f"attention {self.attention}", "attention to luong-general")
                )
                raise ValueError(
                    f"{fixed} says by definition which state asks: set decoder.attend_after to last, or {free}"
                )
        uneven = encoder.bidirectional == "bottom" and encoder.layers > 1
        if decoder.initial_state == "last" and (
            uneven or (encoder.cell, encoder.layers, width) != (decoder.cell, decoder.layers, decoder.hidden_size)
        ):
            raise ValueError(
                "decoder.initial_state last needs the same cell and layers on both sides and decoder.hidden_size "
                f"{width}; change decoder.cell, decoder.layers or decoder.hidden_size, or use bridge"
                + ("; and encoder.bidirectional must not be bottom" if uneven else "")
            )
        if self.tie_embeddings != "none" and self.readout != self.embedding_size:
            raise ValueError(
                f"tie_embeddings needs readout_size ({self.readout}) equal to embedding_size ({self.embedding_size})"
            )
        self._check_attention()
        return self

    def _check_attention(self) -> None:
        size = self.attention_size or self.decoder.hidden_size
        if self.attention in MULTI_HEAD and size % self.attention_heads:
            raise ValueError(
                f"attention {self.attention}: attention_size ({size}) must be a multiple of attention_heads "
                f"({self.attention_heads})"
            )
        if self.attention_span != "global" and self.attention in ("none", "luong-location"):
            raise ValueError(
                f"attention_span {self.attention_span} needs an attention that scores each state by what is in it, "
                f"which {self.attention} does not: set attention_span to global, or attention to luong-general"
            )
        if self.coverage != "none" and self.attention not in (*BAHDANAU, "luong-concat"):
            raise ValueError(
                f"coverage {self.coverage} enters the one additive score of bahdanau, bahdanau-normed or luong-concat: "
                "set attention to one of them, or coverage to none"
            )
