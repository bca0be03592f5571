"""The configuration: one frozen, typed section for each part of a run, read from strict YAML.

Every key is listed here with its default and its meaning. Checks that need several keys are made here too, so that a
config that cannot work is refused before any work begins, with the keys to change.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SourceKind = Literal["text", "features"]
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
SearchName = Literal["beam", "diverse", "sampling"]
NormalizationName = Literal["average", "gnmt", "none"]
EnsembleName = Literal["probabilities", "log-probabilities"]
BridgeName = Literal["bridge", "last", "mean", "zeros"]
OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "plateau", "inverse-sqrt", "linear", "cosine"]
MetricName = Literal["bleu", "chrf", "chrf++", "ter"]
MonitorName = Literal["loss", "perplexity", "bleu", "chrf", "chrf++", "ter"]
LOWER_IS_BETTER = frozenset({"ter", "loss", "perplexity"})
BleuTokenizer = Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200", "none"]
Precision = Literal["auto", "fp32", "bf16"]
Positive = Annotated[int, Field(gt=0, le=10**12)]
Width = Annotated[int, Field(gt=0, le=65_536)]
Layers = Annotated[int, Field(gt=0, le=100)]
File = Annotated[Path, Field(strict=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]


def better(metric: str, value: float, than: float | None) -> bool:
    """Whether a score is an improvement; one that is no number never is."""
    return not math.isnan(value) and (than is None or (value < than if metric in LOWER_IS_BETTER else value > than))


class Section(BaseModel):
    """A part of the config: frozen, strict about types, with no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class SourceConfig(Section):
    """What a source is: a sentence, or a sequence of feature vectors, such as image regions or audio frames."""

    kind: SourceKind = "text"
    """text: the source files hold sentences. features: vectors, in files that end in .npy or .safetensors."""
    size: Width | None = None
    """features: width of a vector, F."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "features" and self.size is None:
            raise ValueError("kind features needs size, the width of a feature vector")
        if self.kind == "text" and self.size is not None:
            raise ValueError("size has no use with kind text: leave it out, or set kind to features")
        return self


class ParallelText(Section):
    """Sentence pairs: two text files (one sentence a line) or one TSV (source, tab, target), `.gz` and `.zst` too.

    A name may stand for several files, as in `part-*.en.gz`: see docs/data.md.
    """

    name: str = "test"
    """What to call a test set, for `s2s evaluate --test NAME`."""
    source: File | None = None
    """File of source sentences, or of feature vectors (`source.kind`)."""
    target: File | None = None
    """File of target sentences, line by line the translations of `source`."""
    tsv: File | None = None
    """One file of both, instead of `source` and `target`."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        pair = self.source is not None and self.target is not None
        if pair == (self.tsv is not None) or (self.source is None) != (self.target is None):
            raise ValueError("give either source and target, or tsv alone")
        return self

    @property
    def files(self) -> tuple[Path, ...]:
        """The names of its files, each of which may stand for several."""
        return tuple(path for path in (self.source, self.target, self.tsv) if path is not None)


class TrainingText(ParallelText):
    """A text to train on, and its part of an epoch where several are mixed."""

    weight: Annotated[float, Field(gt=0)] | None = None
    """An epoch's pairs are divided among the texts in proportion to this; all have a weight, or none."""


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


# A before-validator leaves JSON mode, where strictness refuses a list as a tuple and a string as a path.
_Some = Annotated[tuple[TrainingText, ...], Field(min_length=1)]
OneOrMore = Annotated[_Some, BeforeValidator(_as_list, json_schema_input_type=TrainingText | _Some)]
NoneOrMore = Annotated[
    tuple[ParallelText, ...],
    BeforeValidator(_as_list, json_schema_input_type=ParallelText | tuple[ParallelText, ...]),
]


class DataConfig(Section):
    """Which text to train, validate and test on."""

    train: OneOrMore
    """Training text. Of several, an epoch takes every pair once, unless they have weights or a temperature."""
    temperature: Annotated[float, Field(ge=1, le=1000)] | None = None
    """An epoch's pairs are divided among the texts in proportion to n ** (1 / this), n being a text's pairs: 1 is their
    own proportion, and the higher it is the more is drawn of small ones (Arivazhagan et al. 2019; 5 there)."""
    valid: ParallelText
    """Validation text, decoded every `training.validate_every`."""
    test: NoneOrMore = ()
    """Test sets for `s2s evaluate`; the first is its default."""
    max_length: Positive = 150
    """Training pairs with more pieces or feature vectors than this on a side are dropped."""
    max_ratio: Annotated[float, Field(ge=1)] = 9.0
    """Training pairs of text are dropped where one side has this many times the pieces of the other."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        weighted = [text.weight is not None for text in self.train]
        if any(weighted) and not all(weighted):
            raise ValueError(f"train: give every text a weight, or none (train.{weighted.index(False)} has none)")
        if any(weighted) and self.temperature is not None:
            raise ValueError("the texts of train have weights: leave them out, or temperature")
        return self

    @property
    def weights(self) -> tuple[float, ...] | None:
        """Those of the training texts, where they have any."""
        return tuple(text.weight for text in self.train if text.weight is not None) or None


class SamplingConfig(Section):
    """Subword sampling in training (Kudo 2018; for bpe: dropout of merges, Provilkov et al. 2020)."""

    alpha: Annotated[float, Field(ge=0, le=10)] = 0.0
    """0 is off. unigram: smoothing, 0.1 to 0.5 is usual. bpe: the share of merges dropped, 0.1 is usual."""
    nbest: Annotated[int, Field(ge=-1, le=512)] = -1
    """unigram: sample from the best N segmentations, 2 to 512; -1 from all."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nbest in (0, 1):
            raise ValueError(f"nbest {self.nbest} leaves nothing to sample from: use -1 (all), or 2 to 512")
        return self


class TokenizerConfig(Section):
    """SentencePiece (Kudo and Richardson 2018), trained on the training text when the run has no tokenizer yet."""

    type: Literal["unigram", "bpe", "char", "word"] = "unigram"
    """The segmentation model."""
    vocab_size: Annotated[int, Field(ge=8, le=10_000_000)] = 8000
    """Pieces a vocabulary holds, the four special ones included; for char and word an upper limit."""
    shared: bool = True
    """One vocabulary for both sides, or one for each; features have none, so that there is the target's alone."""
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = 1.0
    """Share of the characters to cover; 0.9995 suits languages of many characters."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's normalization rule; `_cf` folds case."""
    byte_fallback: bool = False
    """Unknown characters become bytes instead of the unknown piece."""
    user_symbols: tuple[str, ...] = ()
    """Words that are always one piece of their own."""
    max_sentences: Positive = 2_000_000
    """The vocabulary is trained on this many sentences at most, taken evenly from the text."""
    sampling: SamplingConfig = SamplingConfig()
    """Subword sampling in training."""
    model: Path | None = None
    """An existing SentencePiece model for both sides (with features, for the target), instead of training one."""
    source_model: Path | None = None
    """An existing model for the source alone; needs `target_model` and `shared: false`."""
    target_model: Path | None = None
    """An existing model for the target alone."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source_model is None) != (self.target_model is None):
            raise ValueError("source_model and target_model go together")
        if self.source_model and (self.shared or self.model):
            raise ValueError("source_model and target_model need shared: false, and no model")
        if self.model and not self.shared:
            raise ValueError("model serves both sides: set shared: true, or give source_model and target_model")
        for symbol in self.user_symbols:
            if symbol in ("<pad>", "<unk>", "<s>", "</s>"):
                raise ValueError(f"user_symbols: {symbol!r} cannot be one: it is a special piece")
        if self.type in ("char", "word") and self.sampling.alpha:
            raise ValueError(f"sampling.alpha needs type unigram or bpe: {self.type} has one segmentation only")
        if self.type == "bpe" and self.sampling.alpha >= 1:
            raise ValueError("sampling.alpha must be under 1 for bpe, where it is the share of merges dropped")
        return self


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
    """none (Sutskever et al. 2014); bahdanau (2015), -normed (Salimans and Kingma 2016); luong-dot, -general, -concat,
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
    """On the encoder's states, as attention sees them."""
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
                f"attention_span {self.attention_span} needs an attention with a score for each state: "
                f"{self.attention} has none; set attention_span to global, or attention to luong-general"
            )
        if self.coverage != "none" and self.attention not in (*BAHDANAU, "luong-concat"):
            raise ValueError(
                f"coverage {self.coverage} enters an additive score: set attention to bahdanau, bahdanau-normed or "
                "luong-concat, or coverage to none"
            )


class TrainingConfig(Section):
    """How to train, how long, and what to keep."""

    max_steps: Positive | None = None
    """Stop after this many updates."""
    max_epochs: Positive | None = None
    """Stop after this many passes over the training text."""
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    """Stop after this many minutes of training and validation, over all resumptions."""
    validate_every: Positive | Literal["epoch"] = "epoch"
    """Updates between validations, or each epoch."""
    validation_beam: Positive | None = None
    """Beam at validation; default: `decoding.beam`. 1 (greedy) saves time."""
    patience: Positive | None = None
    """Stop after this many validations without a better `monitor`."""
    monitor: MonitorName | None = None
    """What decides the best checkpoint, early stopping and plateaus; default: the first of evaluation.metrics."""
    batch_tokens: Positive = 4096
    """Tokens (or feature vectors) a batch holds, padding included, on the longer of its two sides."""
    accumulate: Positive = 1
    """Batches whose gradients make one update."""
    optimizer: OptimizerName = "adam"
    """adam (Kingma and Ba 2015), adamw (Loshchilov and Hutter 2019) or sgd."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """The peak of the schedule."""
    betas: tuple[Rate, Rate] = (0.9, 0.98)
    """Adam's decay rates."""
    momentum: Rate = 0.0
    """Momentum of sgd."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay (adamw: decoupled)."""
    schedule: ScheduleName = "constant"
    """The learning rate after the warm-up, as a function of the step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Updates over which the learning rate rises from zero."""
    schedule_steps: Positive | None = None
    """Horizon of linear and cosine, in updates; default: max_steps."""
    final_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Linear and cosine end at this share of learning_rate."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Plateau: multiply the rate by this..."""
    plateau_patience: Positive = 2
    """... after this many validations without a better `monitor`."""
    label_smoothing: Rate = 0.1
    """Share of the probability spread over the vocabulary (Szegedy et al. 2016)."""
    coverage_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the penalty on attention that looks again where it has looked (See et al. 2017, equations 12 and 13; 1
    there)."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null is off."""
    average_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of an exponential moving average of the weights, which inference then uses; null is off."""
    average_last: Positive = 1
    """At the end, average the weights of this many last checkpoints, and keep that if it is better."""
    keep_last: Positive = 2
    """Checkpoints kept beside the best one."""
    max_skips: Positive = 5
    """Updates in a row that may be skipped because the loss was not finite."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Everything random follows from this."""
    precision: Precision = "auto"
    """Of the large products; auto is bf16 where the processor has it, else fp32."""
    device: str = "auto"
    """auto (CUDA, MPS, else CPU), cpu, cuda, cuda:1, mps."""
    log_every: Positive = 50
    """Updates between lines in the log and in metrics.jsonl."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Translations shown at each validation."""
    init_from: Path | None = None
    """Start from the best weights and the tokenizer of this run (fine-tuning)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None and self.patience is None:
            raise ValueError("nothing ends this training: set max_steps, max_epochs, max_minutes or patience")
        if self.schedule in ("linear", "cosine") and not (self.schedule_steps or self.max_steps):
            raise ValueError(f"schedule {self.schedule} needs a horizon in updates: set schedule_steps or max_steps")
        if self.schedule == "inverse-sqrt" and not self.warmup_steps:
            raise ValueError("schedule inverse-sqrt needs warmup_steps")
        return self


class DecodingConfig(Section):
    """How to translate."""

    search: SearchName = "beam"
    """beam; diverse (groups of beams that avoid each other's pieces: Vijayakumar et al. 2018); or sampling."""
    beam: Annotated[int, Field(ge=1, le=1000)] = 5
    """Hypotheses kept for a sentence; 1 is greedy search."""
    n_best: Positive = 1
    """Translations given for a sentence."""
    batch_size: Positive = 64
    """Sentences decoded at once, by each worker (one a core, at most four); it does not change the output."""
    length_penalty: Annotated[float, Field(ge=0, le=5)] = 1.0
    """The exponent alpha of the length penalty; 0 is off."""
    normalization: NormalizationName = "gnmt"
    """A translation's log-probability is divided by ((5 + length) / 6) ** alpha (gnmt: Wu et al. 2016, equation 14), by
    length ** alpha (average), or by nothing (none)."""
    coverage_penalty: Annotated[float, Field(ge=0, le=5)] = 0.0
    """Weight beta of what a translation loses where its attention left out parts of the source (gnmt: Wu et al. 2016,
    equation 14); 0 is off."""
    stopping: Literal["early", "full", "exact"] = "full"
    """When a beam ends: early, once nothing better is in sight at this length; full, once as many hypotheses have ended
    as the beam holds and none that lives is better so far; exact, once nothing better is possible. Early is the
    fastest, and prefers short translations."""
    beam_groups: Annotated[int, Field(ge=2, le=1000)] | None = None
    """diverse: groups that the beam is divided into; default: groups of one."""
    diversity: Annotated[float, Field(ge=0, le=100)] = 0.5
    """diverse: what a piece loses (in nats) for each time that a group before has just chosen it."""
    samples: Annotated[int, Field(ge=1, le=1000)] | None = None
    """sampling: translations drawn for a sentence, of which the n_best are given; default: n_best, or 32 with mbr if
    that is more."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 1.0
    """sampling: divides the logits; below 1 the probable becomes more so."""
    top_k: Positive | None = None
    """sampling: draw among this many of the most probable pieces (Fan et al. 2018)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """sampling: draw among the fewest pieces that have this probability together (Holtzman et al. 2020)."""
    min_p: Rate = 0.0
    """sampling: draw among pieces with at least this share of the best one's probability (Nguyen et al. 2024). Where
    several limits are given, all hold, each of the distribution at this temperature."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """sampling: what is drawn follows from this and from the source alone."""
    mbr: bool = False
    """Rank the translations found (all samples, or the beam) by their mean chrF against the others: minimum Bayes risk
    (Kumar and Byrne 2004; Eikema and Aziz 2020). Each is given once, however often it was drawn."""
    repetition_penalty: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Multiplies the log-probabilities of pieces that stand in the translation already (Keskar et al. 2019)."""
    no_repeat_ngram: Annotated[int, Field(ge=1, le=1000)] | None = None
    """No so many pieces in a row stand twice in a translation (Paulus et al. 2018)."""
    min_length: Annotated[int, Field(ge=0, le=10**6)] = 0
    """Least pieces of a translation, the end of sentence not counted..."""
    min_length_ratio: Annotated[float, Field(ge=0, le=100)] = 0.0
    """... and at least this many times the source's, as far as max_length lets."""
    max_length: Positive = 1000
    """Most pieces of a translation, the end of sentence counted..."""
    max_length_ratio: Annotated[float, Field(gt=0)] = 2.0
    """... and at most this many times the source's, plus ten."""
    max_source_length: Positive = 1000
    """Sources of more pieces or feature vectors are cut here, with a warning."""
    allow_unknown: bool = False
    """Let the unknown piece stand in a translation."""
    ensemble: EnsembleName = "probabilities"
    """What several models, given by several --model, are averaged by."""
    precision: Precision = "fp32"
    """Of the decoder's large products; fp32 gives the same translations on every machine, but for ties."""
    device: str = "auto"
    """As training.device."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key, searches in _LOOKED_AT_BY.items():
            if self.search not in searches and getattr(self, key) != _default(key):
                others = " or ".join(searches)
                raise ValueError(f"{key} has no use with search {self.search}: leave it out, or set search to {others}")
        key = "samples" if self.search == "sampling" else "beam"
        if self.n_best > self.hypotheses:
            raise ValueError(
                f"n_best ({self.n_best}) is more than {key} ({self.hypotheses}): raise {key}, or lower n_best"
            )
        if self.mbr and self.hypotheses < 2:
            raise ValueError(f"mbr chooses among several translations: raise {key}, now {self.hypotheses}")
        if self.hypotheses % self.groups:
            nearest = max(1, round(self.beam / self.groups)) * self.groups
            raise ValueError(
                f"beam ({self.beam}) must be a multiple of beam_groups ({self.groups}): set beam to {nearest}"
            )
        self._check_lengths()
        return self

    def _check_lengths(self) -> None:
        if self.min_length and self.min_length >= self.max_length:
            raise ValueError(
                f"min_length ({self.min_length}) leaves no room for the end of sentence in max_length "
                f"({self.max_length}): lower min_length, or raise max_length"
            )
        if self.min_length_ratio > self.max_length_ratio:
            raise ValueError(
                f"min_length_ratio ({self.min_length_ratio}) is more than max_length_ratio ({self.max_length_ratio}): "
                "lower the one, or raise the other"
            )

    @property
    def hypotheses(self) -> int:
        """What the search keeps of a sentence at each step."""
        if self.search != "sampling":
            return self.beam
        return self.samples or (max(self.n_best, MBR_SAMPLES) if self.mbr else self.n_best)

    @property
    def groups(self) -> int:
        """Groups of hypotheses that do not compete with each other."""
        if self.search == "sampling":
            return self.hypotheses
        return (self.beam_groups or self.beam) if self.search == "diverse" else 1

    def for_search(self, search: object) -> Self:
        """The same, to be changed to another search, or to None: without what has no use there, n_best and mbr."""
        if search in (None, self.search):
            return self
        own = [key for key, searches in _LOOKED_AT_BY.items() if search not in searches]
        return self.model_copy(update={key: _default(key) for key in (*own, "search", "n_best", "mbr")})


MBR_SAMPLES = 32  # enough for a gain, and few enough to wait for

# Which searches look at a key; all look at the others.
_BEAMS, _DIVERSE, _SAMPLING = ("beam", "diverse"), ("diverse",), ("sampling",)
_LOOKED_AT_BY = {
    "beam": _BEAMS,
    "stopping": _BEAMS,
    "beam_groups": _DIVERSE,
    "diversity": _DIVERSE,
    "samples": _SAMPLING,
    "temperature": _SAMPLING,
    "top_k": _SAMPLING,
    "top_p": _SAMPLING,
    "min_p": _SAMPLING,
    "seed": _SAMPLING,
}


def _default(key: str) -> Any:
    return DecodingConfig.model_fields[key].default


class EvaluationConfig(Section):
    """How to score."""

    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = ("bleu", "chrf")
    """The scores to compute, all by sacreBLEU."""
    tokenize: BleuTokenizer = "13a"
    """sacreBLEU's tokenizer for BLEU: char, zh, ja-mecab or ko-mecab suit Chinese, Japanese and Korean."""
    lowercase: bool = False
    """Score without regard to case."""
    min: dict[MetricName, float] = {}
    """Floors: `s2s evaluate` exits with 1 where a score is below."""
    max: dict[MonitorName, float] = {}
    """Ceilings: `s2s evaluate` exits with 1 where a ter, loss or perplexity is above."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for floor in self.min:
            if floor in LOWER_IS_BETTER:
                raise ValueError(f"min: of {floor} less is better: a floor cannot judge it, set max (--max)")
        for ceiling in self.max:
            if ceiling not in LOWER_IS_BETTER:
                raise ValueError(f"max: of {ceiling} more is better: a ceiling cannot judge it, set min (--min)")
        return self


class Config(Section):
    """A whole run."""

    data: DataConfig
    """Text."""
    source: SourceConfig = SourceConfig()
    """What the source is."""
    tokenizer: TokenizerConfig = TokenizerConfig()
    """Pieces."""
    model: ModelConfig = ModelConfig()
    """The network."""
    training: TrainingConfig
    """Learning."""
    decoding: DecodingConfig = DecodingConfig()
    """Search."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Scores."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model.tie_embeddings == "all" and not self.tokenizer.shared:
            raise ValueError("model.tie_embeddings all needs one vocabulary: set tokenizer.shared to true")
        if self.source.kind == "features":
            self._check_features()
        if self.monitor not in ("loss", "perplexity", *self.evaluation.metrics):
            raise ValueError(f"training.monitor {self.monitor} is not computed: add it to evaluation.metrics")
        if self.decoding.coverage_penalty and self.model.attention == "none":
            raise ValueError(
                "decoding.coverage_penalty needs attention: set it to 0, or model.attention to luong-general"
            )
        names = [test.name for test in self.data.test]
        if len(set(names)) < len(names):
            raise ValueError(f"data.test: each set needs a name of its own (now: {', '.join(names)})")
        return self

    def _check_features(self) -> None:
        if self.model.tie_embeddings == "all":
            raise ValueError("model.tie_embeddings all needs a source of text: with features, set it to target")
        if not self.tokenizer.shared:
            raise ValueError(
                "tokenizer.shared: false asks for a source vocabulary, which features have not: leave it out (an "
                "existing model of the target is tokenizer.model)"
            )
        if any(text.tsv for text in (*self.data.train, self.data.valid, *self.data.test)):
            raise ValueError("data: a tsv holds text only: with source.kind features, give source and target")

    @property
    def monitor(self) -> MonitorName:
        """What decides the best checkpoint."""
        return self.training.monitor or self.evaluation.metrics[0]


# Of these keys, a run that goes on may have other values than when it began: they say how long, or what to keep.
CHANGEABLE = frozenset(
    f"training.{key}"
    for key in ("max_steps", "max_epochs", "max_minutes", "patience", "keep_last", "log_every", "samples")
)
