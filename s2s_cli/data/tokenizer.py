"""SentencePiece tokenizers (Kudo and Richardson 2018): trained on the corpus or given, saved in the run.

Feature vectors have no pieces: then the source side is a `FeatureSource`, and the target's vocabulary the only one.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Protocol

import sentencepiece as spm
from torch import Tensor

from s2s_cli.config import SamplingConfig, SourceConfig, TokenizerConfig
from s2s_cli.data.features import FeatureSequences, FeatureSource
from s2s_cli.data.pieces import read_pieces
from s2s_cli.data.sequences import PaddedSources, Sequences, pad_rows
from s2s_cli.data.spelling import SPACE, Spelling
from s2s_cli.data.subwords import Draw, drawing
from s2s_cli.data.words import Spans, Words, words_of
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


class SourceSide(Protocol):
    """What a tokenizer does with sources, of the kind that its config names."""

    config: SourceConfig

    def __len__(self) -> int:
        """Pieces, or the width of a feature vector."""

    @property
    def specials(self) -> Specials | None:
        """The pieces that are not text, where there are any."""

    def encode(self, sources: Sequence[Any]) -> list[Any]:
        """A row for each source: what the model reads, that has a length and a beginning `[:most]`."""

    def sample(self, sources: Sequence[Any], sampling: SamplingConfig, seed: int) -> list[Any]:
        """As `encode`, with what can be drawn at random drawn."""

    def positions(self, lengths: Tensor) -> Tensor:
        """The positions in a batch of rows of some lengths."""

    def pad(self, rows: Sequence[Any]) -> PaddedSources:
        """Rows as one tensor."""

    def names(self, row: Any) -> tuple[str, ...]:
        """What to call the positions of a row."""

    def words(self, source: Any, row: Any) -> Words:
        """The words of each position of a row, that stands for a source or its beginning."""

    def stored(self, number: int, row: Any) -> Sequence[int]:
        """What a corpus stores of the n-th source of a text."""

    def restored(self, stored: Sequence[Sequences], paths: Sequence[Sequence[Path]]) -> Sequences | FeatureSequences:
        """The sources of some texts, of which that was stored.

        Args:
            stored: of each text.
            paths: the files of its sources.
        """


class Vocabulary:
    """One SentencePiece model: text to piece ids and back.

    Raises:
        UserError: where `data` is no SentencePiece model, or one without an end-of-sentence piece.
    """

    config = SourceConfig()

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
        self._draws: dict[SamplingConfig, Draw] = {}

    def __len__(self) -> int:
        return int(self._processor.get_piece_size())

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """Piece ids of each sentence, without specials."""
        if len(sentences) < SHORT_LIST:
            return [self._processor.encode(sentence) for sentence in sentences]
        ids: list[list[int]] = self._processor.encode(list(sentences), num_threads=1)
        return ids

    def sample(self, sentences: Sequence[str], sampling: SamplingConfig, seed: int) -> list[list[int]]:
        """As `encode`, with a segmentation drawn at random; equal seeds draw equally, in every process.

        Raises:
            UserError: where the model cannot be sampled from so.
        """
        if sampling not in self._draws:
            self._draws[sampling] = drawing(self._processor, read_pieces(self.data), sampling)
        draw, random = self._draws[sampling], Random(seed)
        return [draw(sentence, random) for sentence in sentences]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The written form of each piece."""
        return [self._written[i] for i in ids]

    @cached_property
    def _written(self) -> list[str]:
        return [str(piece) for piece in self._processor.id_to_piece(list(range(len(self))))]

    def spans(self, sentence: str) -> Spans:
        """Where in a sentence, as it was given, each of its pieces stands, the unknown ones too."""
        found: Spans = self._processor.encode(sentence, return_type="offset_mapping")["offsets"]
        return found

    @cached_property
    def spelling(self) -> Spelling:
        """The texts of the pieces."""
        return Spelling([self._text(piece) for piece in range(len(self))], self.specials.unk)

    def _text(self, piece: int) -> bytes:
        model, written = self._processor, self._written[piece]
        if model.is_byte(piece):
            return bytes([int(written[1:-1], 16)])
        if piece == self.specials.unk:
            return str(model.decode([piece])).encode()
        return b"" if model.is_control(piece) or model.is_unused(piece) else written.replace(SPACE, " ").encode()

    def positions(self, lengths: Tensor) -> Tensor:
        """Positions in a batch: the end of sentence is added."""
        return lengths + 1

    def pad(self, rows: Sequence[Sequence[int]]) -> PaddedSources:
        """Adds the end of sentence to each row, and pads."""
        src_BS, src_len_B = pad_rows([[*row, self.specials.eos] for row in rows], self.specials.pad)
        return PaddedSources(src_BS, None, src_len_B)

    def names(self, row: Sequence[int]) -> tuple[str, ...]:
        """The written forms of the pieces and of the end of sentence."""
        return tuple(self.pieces([*row, self.specials.eos]))

    def words(self, source: str, row: Sequence[int]) -> Words:
        """The words of each piece in the text as it was given, whatever normalization made of it; the end of sentence
        has none."""
        return (*words_of(source, self.spans(source)[: len(row)]), ())

    def stored(self, number: int, row: Sequence[int]) -> Sequence[int]:
        """The pieces."""
        return row

    def restored(self, stored: Sequence[Sequences], paths: Sequence[Sequence[Path]]) -> Sequences:
        """The pieces."""
        return Sequences.joined(stored)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of piece ids, as one line."""
        text = str(self._processor.decode(list(ids)))
        return " ".join(text.splitlines()) if len(text.splitlines()) > 1 else text.rstrip("\n\r")

    def spoken(self, ids: Sequence[int]) -> tuple[str, Spans]:
        """Text of piece ids as it is, and where in it each piece stands."""
        found = self._processor.decode(list(ids), return_type="offset_mapping")
        return found["text"], found["offsets"]

    def ids(self, pieces: Sequence[str]) -> list[int]:
        """The pieces of those written forms.

        Raises:
            KeyError: where one is none of this vocabulary.
        """
        found = [int(self._processor.piece_to_id(piece)) for piece in pieces]
        for piece, written in zip(pieces, self.pieces(found), strict=True):
            if piece != written:
                raise KeyError(piece)
        return found


class Tokenizer:
    """Both sides; one vocabulary twice where they share it."""

    def __init__(self, source: SourceSide, target: Vocabulary) -> None:
        self.source = source
        self.target = target

    @property
    def shared(self) -> bool:
        """Whether both sides use one vocabulary."""
        return self.source is self.target

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """By name: the shared one; or the target's, and the source's where it has one."""
        if self.shared:
            return {"shared": self.target}
        source = {"source": self.source} if isinstance(self.source, Vocabulary) else {}
        return {**source, "target": self.target}

    @property
    def files(self) -> dict[str, bytes]:
        """File name to content, as `from_files` takes them."""
        return {f"{name}.model": vocabulary.data for name, vocabulary in self.vocabularies.items()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the model files: a checkpoint names the tokenizer that it was trained with."""
        return fingerprint(self.files)

    def check_symbols(self, symbols: Sequence[str]) -> None:
        """Raises `UserError` where one is no piece of a model."""
        for name, vocabulary in self.vocabularies.items():
            for symbol in symbols:
                try:
                    vocabulary.ids([symbol])
                except KeyError:
                    told = f"{symbol!r} is no piece of the {name} model that was given: leave it out"
                    raise UserError(f"tokenizer.user_symbols: {told}") from None

    def check_sampling(self, sampling: SamplingConfig) -> None:
        """Raises `UserError` where a model has one segmentation only."""
        for vocabulary in self.vocabularies.values():
            vocabulary.sample(["a"], sampling, 0)

    @classmethod
    def from_files(
        cls, files: dict[str, bytes], names: dict[str, str] | None = None, source: SourceConfig | None = None
    ) -> Tokenizer:
        """The tokenizer whose `files` these are.

        Args:
            files: by name.
            names: what to call them in errors.
            source: what the source is; default: text.

        Raises:
            UserError: where one is missing, or no SentencePiece model.
        """
        called = names or {}

        def vocabulary(name: str) -> Vocabulary:
            if name not in files:
                raise UserError(f"{called.get(name, name)}: missing from the tokenizer")
            return Vocabulary(files[name], called.get(name, name))

        if source and source.kind == "features":
            return cls(FeatureSource(source), vocabulary("target.model"))
        if "shared.model" in files:
            both = vocabulary("shared.model")
            return cls(both, both)
        return cls(vocabulary("source.model"), vocabulary("target.model"))


def model_files(config: TokenizerConfig, source: SourceConfig) -> set[str]:
    """The names of a tokenizer's files."""
    if source.kind == "features":
        return {"target.model"}
    return {"shared.model"} if config.shared else {"source.model", "target.model"}


def fingerprint(files: dict[str, bytes]) -> str:
    """SHA-256 over model files by name; it can be compared before anything parses them."""
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def read_given(config: TokenizerConfig, source: SourceConfig | None = None) -> Tokenizer | None:
    """The existing model or models that the config names, if it names any."""
    given = {"shared.model": config.model, "source.model": config.source_model, "target.model": config.target_model}
    if source and source.kind == "features":
        given = {"target.model": config.model}
    paths = {name: path for name, path in given.items() if path is not None}
    try:
        files = {name: path.read_bytes() for name, path in paths.items()}
    except OSError as error:
        raise UserError(f"tokenizer: cannot read {error.filename}: {error.strerror}") from None
    if not files:
        return None
    tokenizer = Tokenizer.from_files(files, {name: str(path) for name, path in paths.items()}, source)
    if config.sampling.alpha:
        tokenizer.check_sampling(config.sampling)
    return tokenizer


class TooLarge(UserError):
    """A vocabulary cannot have the size that was asked for."""

    def __init__(self, message: str, largest: int) -> None:
        super().__init__(message)
        self.largest = largest
        """The most pieces that it can have."""


def train_vocabulary(sentences: Iterable[str], config: TokenizerConfig, side: str) -> Vocabulary:
    """Trains a SentencePiece model.

    Args:
        sentences: the training text.
        config: the tokenizer section.
        side: what the text is, for errors: "shared", "source" or "target".

    Raises:
        TooLarge: where the text cannot fill a vocabulary of that size; tells the size that it can.
        UserError: where it cannot be trained for another reason.
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
        raise _explained(str(error), config, side) from None
    return Vocabulary(model.getvalue(), f"{side}.model")


def _explained(message: str, config: TokenizerConfig, side: str) -> UserError:
    key, size = "tokenizer.vocab_size", config.vocab_size
    if match := re.search(r"value <= (\d+)", message):
        largest = int(match[1])
        told = f"{key}: {size} is more than the {side} text can fill; the largest that it can is {largest}"
        return TooLarge(told, largest)
    if match := re.search(r"smaller than required_chars\D+\d+\D+(\d+)", message):
        return UserError(
            f"{key}: {size} is too small for the characters of the {side} text; the smallest that holds them "
            f"is {match[1]} (or lower tokenizer.character_coverage)"
        )
    if "sentences_.empty()" in message:
        return UserError(
            f"data.train: every line of the {side} text is blank, or longer than {MAX_SENTENCE_BYTES:,} bytes (a line "
            "ends with a line feed)"
        )
    return UserError(f"tokenizer: SentencePiece cannot train on the {side} text: {' '.join(message.split())}")
