"""The configuration: one frozen, typed section for each part of a run, read from strict YAML.

Every key is listed with its default and its meaning: here, those of the model in `config_model`, and those of decoding
in `config_decoding`. Checks that need several keys are made beside them, so that a config that cannot work is refused
before any work begins, with the keys to change.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from s2s_cli.config_decoding import DecodingConfig as DecodingConfig
from s2s_cli.config_model import BAHDANAU as BAHDANAU
from s2s_cli.config_model import DOT as DOT
from s2s_cli.config_model import DecoderConfig as DecoderConfig
from s2s_cli.config_model import EncoderConfig as EncoderConfig
from s2s_cli.config_model import ModelConfig as ModelConfig
from s2s_cli.config_section import Beam, File, Positive, Precision, Rate, Section, Width
from s2s_cli.errors import printable

SourceKind = Literal["text", "features"]
OptimizerName = Literal["adam", "adamw", "sgd"]
ScheduleName = Literal["constant", "plateau", "inverse-sqrt", "linear", "cosine"]
MetricName = Literal["bleu", "chrf", "chrf++", "ter"]
MonitorName = Literal["loss", "perplexity", "bleu", "chrf", "chrf++", "ter"]
LOWER_IS_BETTER = frozenset({"ter", "loss", "perplexity"})
BleuTokenizer = Literal["13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "spm", "flores101", "flores200", "none"]


def better(metric: str, value: float, than: float | None) -> bool:
    """Whether a score is an improvement; one that is no number never is."""
    return not math.isnan(value) and (than is None or (value < than if metric in LOWER_IS_BETTER else value > than))


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

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if printable(name) != name:
            raise ValueError("must be one line, without control characters")
        return name

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
    sides: Literal["both", "source", "target"] = "both"
    """What to sample: both, source or target. With training.r_drop the second pass alone reads drawn sources."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nbest in (0, 1):
            raise ValueError(f"nbest {self.nbest} leaves nothing to sample from: use -1 (all), or 2 to 512")
        return self


class TokenizerConfig(Section):
    """SentencePiece (Kudo and Richardson 2018), trained on the training text when the run has no tokenizer yet."""

    type: Literal["unigram", "bpe", "char", "word"] = "unigram"
    """The segmentation model: unigram, bpe, char or word."""
    vocab_size: Annotated[int, Field(ge=8, le=10_000_000)] = 8000
    """Pieces that a vocabulary holds, the four special ones included; fewer where the text cannot fill it."""
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

    def idle_settings(self) -> Iterator[str]:
        """Keys that were set, and do nothing where no tokenizer is trained, in words."""
        trained_by = ("type", "vocab_size", "character_coverage", "normalization", "byte_fallback", "max_sentences")
        for key in filter(self._is_set, trained_by):
            yield f"tokenizer.{key} {str(getattr(self, key)).lower()} has no effect"

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
    validation_beam: Beam | None = None
    """Beam at validation; default: `decoding.beam`. 1 (greedy) saves time."""
    patience: Positive | None = None
    """Stop after this many validations without a better `monitor`."""
    monitor: MonitorName | None = None
    """What decides the best checkpoint, early stopping and plateaus; default: the first of evaluation.metrics."""
    batch_tokens: Positive = 4096
    """Tokens (or feature vectors) a batch holds, padding included, on the longer of its two sides; before subword
    sampling, which makes more of them."""
    accumulate: Positive = 1
    """Batches whose gradients make one update, on however many workers."""
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
    """The learning rate after the warm-up: constant, linear, cosine, inverse-sqrt or plateau."""
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
    r_drop: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the divergence between two passes of each batch, which dropout makes different (Liang et al. 2021,
    equation 4; 5 there): for small corpora. It doubles the work of an update."""
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
    worker_timeout: Annotated[float, Field(gt=0, le=86_400)] = 600
    """Seconds after which a worker that does not answer the others is given up (docs/scaling.md)."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Everything random follows from this."""
    precision: Precision = "auto"
    """Of the large products; auto is bf16 where that is faster (CUDA with bf16, AMX, AMD's AVX-512), else fp32."""
    device: str = "auto"
    """auto (CUDA, MPS, else CPU), cpu, cuda, cuda:1, mps."""
    log_every: Positive = 50
    """Updates between lines in the log and in metrics.jsonl."""
    samples: Annotated[int, Field(ge=0)] = 2
    """Translations shown at each validation."""
    init_from: Path | None = None
    """Start from the best weights and the tokenizer of this run (fine-tuning)."""

    def idle_settings(self) -> Iterator[str]:
        """Keys that were set and do nothing beside the others, in words."""
        adam, ends = self.optimizer != "sgd", self.schedule in ("linear", "cosine")
        needs = {
            "betas": (adam, "optimizer adam or adamw"),
            "momentum": (not adam, "optimizer sgd"),
            "schedule_steps": (ends, "schedule linear or cosine"),
            "final_rate": (ends, "schedule linear or cosine"),
            "plateau_factor": (self.schedule == "plateau", "schedule plateau"),
            "plateau_patience": (self.schedule == "plateau", "schedule plateau"),
        }
        return self._idle("training", needs)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_steps is None and self.max_epochs is None and self.max_minutes is None and self.patience is None:
            raise ValueError("nothing ends this training: set max_steps, max_epochs, max_minutes or patience")
        if self.schedule in ("linear", "cosine") and not (self.schedule_steps or self.max_steps):
            raise ValueError(f"schedule {self.schedule} needs a horizon in updates: set schedule_steps or max_steps")
        if self.schedule == "inverse-sqrt" and not self.warmup_steps:
            raise ValueError("schedule inverse-sqrt needs warmup_steps")
        return self


class EvaluationConfig(Section):
    """How to score."""

    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = ("bleu", "chrf")
    """The scores to compute, all by sacreBLEU."""
    tokenize: BleuTokenizer = "13a"
    """sacreBLEU's tokenizer for BLEU: char, zh, ja-mecab or ko-mecab suit Chinese, Japanese and Korean."""
    lowercase: bool = False
    """Score without regard to case."""
    min: Mapping[MetricName, float] = {}
    """Floors: `s2s evaluate` exits with 1 where a score is below."""
    max: Mapping[MonitorName, float] = {}
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
        if self.training.r_drop and not self.model.is_random:
            raise ValueError(
                "training.r_drop compares two passes that dropout makes different, and there is none: set it to 0, or "
                "model.dropout to 0.3"
            )
        if self.monitor not in ("loss", "perplexity", *self.evaluation.metrics):
            raise ValueError(f"training.monitor {self.monitor} is not computed: add it to evaluation.metrics")
        if self.model.attention == "none":
            values = {
                "decoding.coverage_penalty": self.decoding.coverage_penalty,
                "training.coverage_loss": self.training.coverage_loss,
            }
            for key in (key for key, value in values.items() if value):
                raise ValueError(f"{key} needs attention: set it to 0, or model.attention to luong-general")
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
    for key in (
        "max_steps",
        "max_epochs",
        "max_minutes",
        "patience",
        "keep_last",
        "log_every",
        "samples",
        "worker_timeout",
    )
)
