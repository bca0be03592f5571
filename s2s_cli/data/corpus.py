"""Parallel text: strict reading, filters, and a compact corpus of piece ids; or of feature vectors beside text."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from s2s_cli.config import DataConfig, ParallelText, SourceConfig, TokenizerConfig
from s2s_cli.data.features import FeatureSequences, FeatureSource, Vectors, open_features
from s2s_cli.data.mixture import Mixture, tempered
from s2s_cli.data.sequences import Block, Lines, Sequences, digest
from s2s_cli.data.tokenizer import Tokenizer, TooLarge, Vocabulary, train_vocabulary
from s2s_cli.errors import UserError
from s2s_cli.files import json_sha256, matching
from s2s_cli.packing import open_unpacked

CHUNK = 4096  # sentences given to SentencePiece at once
TEXT = SourceConfig()
_WILDCARD = re.compile(r"(\*|\?|\[!?\]?[^]]*\])")

Source = str | Vectors
"""A sentence, or a sequence of feature vectors."""


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, unpacked; a line ends with LF and nothing else (a CR before it is dropped).

    Raises:
        UserError: naming file and line, where the file cannot be read or is not UTF-8.
    """
    number = 0
    try:
        with open_unpacked(path) as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); repair the file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot read it: {reason}") from None


READERS: dict[str, Callable[[Path, SourceConfig], Iterable[Any]]] = {
    "text": lambda path, source: read_lines(path),
    "features": lambda path, source: open_features([path], source.size),
}


def shards(text: ParallelText) -> list[ParallelText]:
    """The texts of one file or two that a text's names stand for, ordered by what their wildcards stand for.

    Raises:
        UserError: where a name matches no file, or a file of one side has no partner on the other.
    """
    files = {name: _by_wildcards(getattr(text, name)) for name in ("source", "target", "tsv") if getattr(text, name)}
    for source, target in itertools.permutations(files, 2):
        if alone := sorted(files[source].keys() - files[target].keys()):
            counts = " and ".join(f"{getattr(text, name)} {len(found):,}" for name, found in files.items())
            raise UserError(
                f"{files[source][alone[0]]} has no partner: the wildcards of both names must stand for the same "
                f"(files found: {counts})"
            )
    every = sorted(next(iter(files.values())))
    return [text.model_copy(update={name: found[key] for name, found in files.items()}) for key in every]


def _by_wildcards(path: Path) -> dict[tuple[str, ...], Path]:
    """The files that a name stands for, by what each of its wildcards stands for."""
    found = matching(path)
    if not found:
        raise UserError(f"{path}: no file matches")
    if found == [path]:
        return {(): path}
    pattern = "".join(
        ("(.*)" if part == "*" else "(.)") if at % 2 else re.escape(part)
        for at, part in enumerate(_WILDCARD.split(path.name))
    )
    files = {}
    for file in found:
        match = re.fullmatch(pattern, file.name, re.DOTALL)
        assert match, f"{path} matches {file}"
        files[match.groups()] = file
    return files


def read_pairs(text: ParallelText, source: SourceConfig = TEXT) -> Iterator[tuple[Any, str]]:
    """The pairs of a parallel text, in order.

    Args:
        text: its files.
        source: what their sources are.

    Raises:
        UserError: where the sides do not have the same number of lines, or a TSV line lacks its tab; and as `shards`.
    """
    for shard in shards(text):
        yield from _read_shard(shard, source)


def _read_shard(text: ParallelText, source: SourceConfig) -> Iterator[tuple[Any, str]]:
    """The pairs of one file or two."""
    if text.tsv is not None:
        for number, line in enumerate(read_lines(text.tsv), 1):
            columns = line.split("\t")
            if len(columns) < 2:
                raise UserError(f"{text.tsv}:{number}: no tab: a line is the source, a tab, and the target")
            yield columns[0], columns[1]
        return
    assert text.source is not None and text.target is not None
    sides = itertools.zip_longest(READERS[source.kind](text.source, source), read_lines(text.target))
    for number, (given, target) in enumerate(sides, 1):
        if given is None or target is None:
            short, long = (text.source, text.target) if given is None else (text.target, text.source)
            total = number + sum(1 for _ in sides)
            what = "lines" if source.kind == "text" else "lines or items"
            raise UserError(f"{short} ends after {number - 1} {what}, but {long} has {total}: the sides are misaligned")
        yield given, target


@dataclass(frozen=True)
class Corpus:
    """Tokenized pairs; `texts` beside them where subword sampling or scoring needs the words (or the items)."""

    source: Sequences | FeatureSequences
    target: Sequences
    texts: tuple[Sequence[Source], Sequence[str]] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    mixture: Mixture | None = None
    """How many pairs an epoch takes of each text, where it is not every pair once."""

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the pieces, and over the mixture: a run that goes on must go on with the same corpus."""
        return digest(self.source, self.target, *([self.mixture] if self.mixture else []))

    @cached_property
    def targets_fingerprint(self) -> str:
        """SHA-256 over the target texts, which are kept: those of equal pieces may differ, in case for example."""
        assert self.texts is not None
        return json_sha256(list(self.texts[1]))


class Chunk(NamedTuple):
    """Some pairs of a text, to be tokenized together."""

    shard: str
    """Where they will belong to."""
    first: int
    """The number of the first of them in the text."""
    pairs: Sequence[tuple[Any, str]]


class Tokenized(NamedTuple):
    """What a corpus stores of a chunk."""

    shard: str
    lines: int
    """Pairs before the filters."""
    columns: dict[str, Block]
    dropped: Counter[str]
    """How many pairs are not stored, by reason."""


@dataclass(frozen=True)
class Tokenizing:
    """Makes of pairs what a corpus stores of them, and a corpus of that."""

    tokenizer: Tokenizer
    filters: DataConfig | None = None
    """Where given, pairs with a blank side, too many pieces or too unequal lengths are dropped and counted."""
    keep_text: bool = False
    """Store the sentences themselves too."""

    @classmethod
    def like(cls, files: dict[str, bytes], source: SourceConfig, filters: DataConfig | None, keep_text: bool) -> Self:
        """The same, in a process that has the tokenizer's files alone."""
        return cls(Tokenizer.from_files(files, source=source), filters, keep_text)

    @property
    def of_text(self) -> bool:
        """Whether sources are sentences."""
        return self.tokenizer.source.config.kind == "text"

    @property
    def columns(self) -> dict[str, str]:
        """The names of what is stored, with the typecode of an item."""
        words = {"source.text": "B", "target.text": "B"} if self.of_text else {"target.text": "B"}
        return {"source.ids": "i", "target.ids": "i", **(words if self.keep_text else {})}

    def __call__(self, chunk: Chunk) -> Tokenized:
        source, target, dropped = self.tokenizer.source, self.tokenizer.target, Counter[str]()
        encoded = zip(
            source.encode([s for s, _ in chunk.pairs]), target.encode([t for _, t in chunk.pairs]), strict=True
        )
        kept: list[tuple[Any, ...]] = []
        for number, (pair, (src, tgt)) in enumerate(zip(chunk.pairs, encoded, strict=True), chunk.first):
            if self.filters and (reason := _reason_to_drop(len(src), len(tgt), self.filters, self.of_text)):
                dropped[reason] += 1
            else:
                words = pair[not self.of_text :] if self.keep_text else ()
                kept.append((source.stored(number, src), tgt, *(side.encode() for side in words)))
        rows = list(zip(*kept, strict=True)) or [()] * len(self.columns)
        columns = {name: Block.of(own, code) for (name, code), own in zip(self.columns.items(), rows, strict=True)}
        return Tokenized(chunk.shard, len(chunk.pairs), columns, dropped)

    def corpus(self, texts: Sequence[ParallelText], stored: Sequence[Stored]) -> Corpus:
        """The corpus of which that is stored.

        Args:
            texts: one after the other.
            stored: of each text.

        Raises:
            UserError: where nothing is left, or nothing of a text that is to be mixed; as `shards`.
        """
        columns = [each.columns for each in stored]
        sizes = [len(each["target.ids"]) for each in columns]
        dropped = dict(sum((each.dropped for each in stored), Counter[str]()))
        if not any(sizes):
            names = ", ".join(str(path) for text in texts for path in text.files)
            lost = f"; dropped: {describe_dropped(dropped)}" if dropped else ""
            raise UserError(f"{names}: no sentence pairs are left to use{lost}")
        paths = [[shard.source for shard in shards(text) if shard.source] for text in texts]
        source = self.tokenizer.source.restored([each["source.ids"] for each in columns], paths)
        target = Sequences.joined(each["target.ids"] for each in columns)
        corpus = Corpus(source, target, None, dropped, mixture_of(texts, sizes, self.filters))
        if not self.keep_text:
            return corpus
        words = [Lines(Sequences.joined(each[name] for each in columns)) for name in [*self.columns][2:]]
        return replace(corpus, texts=(source if isinstance(source, FeatureSequences) else words[0], words[-1]))


class Stored(NamedTuple):
    """What is stored of a text."""

    columns: dict[str, Sequences]
    dropped: Counter[str]


def read_corpus(
    texts: Sequence[ParallelText], tokenizer: Tokenizer, filters: DataConfig | None = None, *, keep_text: bool = False
) -> Corpus:
    """Reads and tokenizes parallel text into memory.

    Args:
        texts: the sets, read one after the other.
        tokenizer: gives the pieces.
        filters, keep_text: as for `Tokenizing`.

    Raises:
        UserError: where a file is missing, misaligned, not UTF-8, or nothing is left.
    """
    tokenizing = Tokenizing(tokenizer, filters, keep_text)

    def read(text: ParallelText) -> Stored:
        found = list(map(tokenizing, chunks(read_pairs(text, tokenizer.source.config))))
        columns = {
            name: Sequences([one.columns[name].part(typecode) for one in found])
            for name, typecode in tokenizing.columns.items()
        }
        return Stored(columns, sum((one.dropped for one in found), Counter[str]()))

    return tokenizing.corpus(texts, [read(text) for text in texts])


def chunks(pairs: Iterator[tuple[Any, str]], shard: str = "", first: int = 0) -> Iterator[Chunk]:
    """Pairs in chunks, at least one.

    Args:
        pairs: of a text.
        shard: the one that they belong to.
        first: the number of the first of them in the text.
    """
    some = list(itertools.islice(pairs, CHUNK))
    yield Chunk(shard, first, some)
    while some:
        first += len(some)
        if some := list(itertools.islice(pairs, CHUNK)):
            yield Chunk(shard, first, some)


def mixture_of(texts: Sequence[ParallelText], sizes: Sequence[int], filters: DataConfig | None) -> Mixture | None:
    """How texts are mixed; None where an epoch takes every pair once.

    Args:
        texts: one after the other.
        sizes: their pairs.
        filters: where given, has the weights of these texts or a temperature, if they are mixed.

    Raises:
        UserError: where nothing is left of one that is to be mixed.
    """
    if filters is None or (filters.weights is None and filters.temperature is None):
        return None
    for text, size in zip(texts, sizes, strict=True):
        if not size:
            raise UserError(f"{text.files[0]}: no sentence pairs are left of it to mix with others: leave it out")
    return Mixture(tuple(sizes), filters.weights or tempered(sizes, filters.temperature or 1))


def _reason_to_drop(source: int, target: int, filters: DataConfig, comparable: bool) -> str | None:
    if not source or not target:
        return "blank"
    if max(source, target) > filters.max_length:
        return "too long"
    if comparable and max(source, target) > filters.max_ratio * min(source, target):
        return "unequal lengths"
    return None


def describe_dropped(dropped: dict[str, int]) -> str:
    """For example "3 blank, 12 too long"."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))


def train_tokenizer(texts: Sequence[ParallelText], config: TokenizerConfig, source: SourceConfig = TEXT) -> Tokenizer:
    """Trains the vocabularies that the config asks for: on both sides of the training text, or beside features on the
    target alone. One that the text cannot fill has as many pieces as it can."""
    total = sum(1 for _ in itertools.chain.from_iterable(read_pairs(text, source) for text in texts))
    if not total:
        raise UserError(f"{', '.join(str(path) for text in texts for path in text.files)}: no lines to train on")
    features = source.kind == "features"
    shared = config.shared and not features
    stride = max(1, -(-total * (1 + shared) // config.max_sentences))

    def side(*columns: int) -> Iterator[str]:
        pairs = itertools.chain.from_iterable(read_pairs(text, source) for text in texts)
        chosen = (pair[column] for pair in itertools.islice(pairs, 0, None, stride) for column in columns)
        return itertools.islice(chosen, config.max_sentences)

    def vocabulary(name: str, *columns: int) -> Vocabulary:
        try:
            return train_vocabulary(side(*columns), config, name)
        except TooLarge as error:
            smaller = config.model_copy(update={"vocab_size": error.largest})
            return train_vocabulary(side(*columns), smaller, name)

    if shared:
        both = vocabulary("shared", 0, 1)
        return Tokenizer(both, both)
    first = FeatureSource(source) if features else vocabulary("source", 0)
    return Tokenizer(first, vocabulary("target", 1))


def unknown_rate(sequences: Sequences, unk: int) -> float:
    """Share of pieces that are the unknown piece, from 0 to 1."""
    unknown = sum(int((part.items == unk).sum()) for part in sequences.parts)
    return unknown / sequences.total if sequences.total else 0.0


def count_overlap(train: Sequence[ParallelText], held_out: Sequence[ParallelText]) -> list[int]:
    """How many source sentences of each held-out set stand in the training set too; one pass over that."""
    sets = [[source.strip() for source, _ in read_pairs(text)] for text in held_out]
    wanted = set(itertools.chain.from_iterable(sets)) - {""}
    seen = {s.strip() for text in train for s, _ in read_pairs(text) if s.strip() in wanted}
    return [sum(sentence in seen for sentence in sentences) for sentences in sets]
