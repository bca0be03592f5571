"""SentencePiece tokenizers (Kudo and Richardson 2018): trained on the corpus or given, saved in the run."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sentencepiece as spm

from s2s_cli.config import SamplingConfig, TokenizerConfig
from s2s_cli.errors import UserError

# Fixed, since the counts that threads add up, and so the vocabulary, depend on how many there are.
TRAINING_THREADS = 4
# A call for a list starts threads, which costs milliseconds; shorter lists are encoded one by one.
SHORT_LIST = 256
MAX_SENTENCE_BYTES = 8192


@dataclass(frozen=True)
class Specials:
    """Ids of the pieces that are not text. A given model may lack some: their part is then played by another."""

    pad: int
    unk: int
    bos: int
    eos: int


class Vocabulary:
    """One SentencePiece model: text to piece ids and back.

    Raises:
        UserError: where `data` is no SentencePiece model, or one without an end-of-sentence piece.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self._processor = spm.SentencePieceProcessor()
        try:
            self._processor.load_from_serialized_proto(data)
        except (RuntimeError, TypeError):
            raise UserError(f"{name}: this is no SentencePiece model") from None
        eos, bos, pad = self._processor.eos_id(), self._processor.bos_id(), self._processor.pad_id()
        if eos < 0:
            raise UserError(f"{name}: this SentencePiece model has no end-of-sentence piece; train it with eos_id >= 0")
        self.specials = Specials(
            pad=pad if pad >= 0 else eos, unk=self._processor.unk_id(), bos=bos if bos >= 0 else eos, eos=eos
        )

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Piece ids of each sentence, without specials."""
        if len(sentences) < SHORT_LIST:
            return [self._processor.encode(sentence) for sentence in sentences]
        ids: list[list[int]] = self._processor.encode(list(sentences), num_threads=1)
        return ids

    def sample(self, sentences: Sequence[str], sampling: SamplingConfig, seed: int) -> list[list[int]]:
        """As `encode`, with a segmentation drawn at random; equal seeds draw equally."""
        spm.set_random_generator_seed(seed)
        try:
            return [
                self._processor.encode(text, enable_sampling=True, alpha=sampling.alpha, nbest_size=sampling.nbest)
                for text in sentences
            ]
        except RuntimeError:
            raise UserError("tokenizer.sampling: this SentencePiece model cannot sample; set alpha to 0") from None

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The written form of each piece."""
        return [str(self._processor.id_to_piece(i)) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids, as one line."""
        text = str(self._processor.decode(list(ids)))
        return " ".join(text.splitlines()) if len(text.splitlines()) > 1 else text.rstrip("\n\r")


class Tokenizer:
    """The vocabularies of both sides; one object twice where they are shared."""

    def __init__(self, source: Vocabulary, target: Vocabulary) -> None:
        self.source = source
        self.target = target

    @property
    def shared(self) -> bool:
        """Whether both sides use one vocabulary."""
        return self.source is self.target

    @property
    def files(self) -> dict[str, bytes]:
        """File name to content, as `from_files` takes them."""
        if self.shared:
            return {"shared.model": self.source.data}
        return {"source.model": self.source.data, "target.model": self.target.data}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model files: a checkpoint names the tokenizer that it was trained with."""
        return fingerprint(self.files)

    def check_sampling(self, sampling: SamplingConfig) -> None:
        """Raises `UserError` where a model has one segmentation only."""
        for vocabulary in (self.source, self.target):
            vocabulary.sample(["a"], sampling, 0)

    @classmethod
    def from_files(cls, files: dict[str, bytes], names: dict[str, str] | None = None) -> Tokenizer:
        """The tokenizer whose `files` these are; `names` are what to call them in errors."""
        called = names or {}
        if "shared.model" in files:
            both = Vocabulary(files["shared.model"], called.get("shared.model", "shared.model"))
            return cls(both, both)
        return cls(*(Vocabulary(files[name], called.get(name, name)) for name in ("source.model", "target.model")))


def fingerprint(files: dict[str, bytes]) -> str:
    """SHA-256 over model files by name; it can be compared before anything parses them."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def read_given(config: TokenizerConfig) -> Tokenizer | None:
    """The existing model or models that the config names, if it names any."""
    given = {"shared.model": config.model, "source.model": config.source_model, "target.model": config.target_model}
    paths = {name: path for name, path in given.items() if path is not None}
    try:
        files = {name: path.read_bytes() for name, path in paths.items()}
    except OSError as error:
        raise UserError(f"tokenizer: cannot read {error.filename}: {error.strerror}") from None
    if not files:
        return None
    tokenizer = Tokenizer.from_files(files, {name: str(path) for name, path in paths.items()})
    if config.sampling.alpha:
        tokenizer.check_sampling(config.sampling)
    return tokenizer


def train_vocabulary(sentences: Iterable[str], config: TokenizerConfig, side: str) -> Vocabulary:
    """Trains a SentencePiece model.

    Args:
        sentences: the training text.
        config: the tokenizer section.
        side: what the text is, for errors: "shared", "source" or "target".

    Raises:
        UserError: where the vocabulary cannot have that size; tells the size that it can.
    """
    for symbol in config.user_symbols:
        if len(symbol.split()) != 1 or symbol.split()[0] != symbol:
            raise UserError(f"tokenizer.user_symbols: {symbol!r} cannot be one piece: it is blank or holds a space")
    model = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=(text for text in sentences if text.strip()),
            model_writer=model,
            model_type=config.type,
            vocab_size=config.vocab_size,
            hard_vocab_limit=config.type in ("unigram", "bpe"),
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            byte_fallback=config.byte_fallback,
            user_defined_symbols=list(config.user_symbols),
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            num_threads=TRAINING_THREADS,
            max_sentence_length=MAX_SENTENCE_BYTES,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(_explain(str(error), config, side)) from None
    return Vocabulary(model.getvalue(), f"{side}.model")


def _explain(message: str, config: TokenizerConfig, side: str) -> str:
    key, size = "tokenizer.vocab_size", config.vocab_size
    if match := re.search(r"value <= (\d+)", message):
        return f"{key}: {size} is more than the {side} text can fill; the largest that it can is {match[1]}"
    if match := re.search(r"smaller than required_chars\D+\d+\D+(\d+)", message):
        return (
            f"{key}: {size} is too small for the characters of the {side} text; the smallest that holds them "
            f"is {match[1]} (or lower tokenizer.character_coverage)"
        )
    if "sentences_.empty()" in message:
        return f"data.train: every line of the {side} text is blank"
    return f"tokenizer: SentencePiece cannot train on the {side} text: {' '.join(message.split())}"
