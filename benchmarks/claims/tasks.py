"""What is learned: translating captions, translating sentences of every length, copying at a distance."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.claims import copying, longtext
from benchmarks.measure import ROOT
from s2s_cli.config import ParallelText
from s2s_cli.data.corpus import read_lines
from s2s_cli.files import sha256
from s2s_cli.score.analysis import grouped
from s2s_cli.score.testset import TestSet, digest

CORPORA = ROOT / "build" / "claims" / "corpora"
"""Generated text, each in a folder that its makers' hash names."""
SEED = 20150920
SPLITS = ("train", "valid", "test")
COPIED = ("src", "tgt")
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sizes:
    """How much text is generated."""

    pairs: int
    """To train on, of each generated text."""
    trained_to: int
    """Words of the longest sentences that are trained on."""
    doublings: int
    """Of the distance over which is copied, from one filler on."""
    tested: int
    """Sentences of each group of lengths."""


@dataclass(frozen=True)
class Task:
    """A parallel text, and how it is learned and scored."""

    name: str
    title: str
    folder: Path
    stems: tuple[str, str, str]
    """Files to train, validate and test on, in this order."""
    sides: tuple[str, str]
    edges: tuple[int, ...]
    """The first source length of each group that the test set is parted into."""
    longest: int
    """Longer sources are tested as lengths that were not trained on."""
    tokenizer: Mapping[str, Any]
    tokenize: str
    """sacreBLEU's tokenizer; nothing where a line is right or wrong."""
    unit: str = "words of the source"

    def text(self, split: str) -> ParallelText:
        """The files of one of SPLITS."""
        stem = self.stems[SPLITS.index(split)]
        source, target = (self.folder / f"{stem}.{side}" for side in self.sides)
        return ParallelText(name=split, source=source, target=target)

    @cached_property
    def test(self) -> TestSet:
        """What is translated."""
        text = self.text("test")
        sources, references = (tuple(read_lines(path)) for path in text.files)
        return TestSet(self.name, (references,), tuple(map(str, text.files)), sources)

    @property
    def sources(self) -> list[str]:
        """Of the test set."""
        return [str(line) for line in self.test.texts]

    @cached_property
    def groups(self) -> list[tuple[str, list[int]]]:
        """The test set's rows by source length; a group of one length is named by it."""
        found = grouped(self.lengths, self.edges)
        lengths = [{self.lengths[row] for row in rows} for _, rows in found]
        names = (str(*own) if len(own) == 1 else label for (label, _), own in zip(found, lengths, strict=True))
        return [(name, rows) for name, (_, rows) in zip(names, found, strict=True)]

    @cached_property
    def within(self) -> list[int]:
        """The test set's rows of lengths that were trained on."""
        return [row for row, length in enumerate(self.lengths) if length <= self.longest]

    @cached_property
    def lengths(self) -> list[int]:
        """Of the test set's sources."""
        skipped = 0 if self.tokenize else copying.KEPT
        return [len(line.split()) - skipped for line in self.sources]

    @cached_property
    def shown(self) -> tuple[str, str]:
        """A test pair in which clauses change places: the first of a dozen words that ends in its reason."""
        pairs = zip(self.sources, self.test.references[0], strict=True)
        fits = (pair for pair in pairs if " because " in pair[0] and "," not in pair[0])
        return next((pair for pair in fits if 10 <= len(pair[0].split()) <= 14), ("", ""))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that is trained, validated and tested on."""
        files = [path for split in SPLITS for path in self.text(split).files]
        return sha256("".join(digest(list(read_lines(path))) for path in files).encode())

    @cached_property
    def ordered(self) -> list[longtext.Ordered]:
        """Clauses whose verbs change places; none where the text was not generated."""
        path = self.folder / "ordered.json"
        return [longtext.Ordered(*row) for row in json.loads(path.read_bytes())] if path.exists() else []


def captions() -> Task | None:
    """Multi30k, English to German; None where MULTI30K_DIR names no folder."""
    folder = os.environ.get("MULTI30K_DIR")
    if not folder:
        return None
    return Task(
        name="multi30k",
        title="Multi30k en-de",
        folder=Path(folder).resolve(),
        stems=("train", "val", "test_2016_flickr"),
        sides=("en", "de"),
        edges=(1, 9, 12, 15, 19),
        longest=1000,
        tokenizer={"type": "unigram", "vocab_size": 4000},
        tokenize="13a",
    )


def long_sentences(sizes: Sizes) -> Task:
    """English to Korean by the demo's grammar, as many sentences of each length; tested half as far again."""
    last = sizes.trained_to
    step = 10 if last >= 40 else 5
    edges = (5, *range(11, last * 3 // 2, step))
    most = edges[-1] + step - 1

    def make(folder: Path) -> None:
        random, taken = Random(SEED), set[str]()
        splits = {
            "test": longtext.of_lengths(random, range(5, most), sizes.tested * len(edges), taken),
            "valid": longtext.of_lengths(random, range(5, last + 1), 100, taken),
        }
        ordered = longtext.ordered(random, 100, taken)
        splits["train"] = longtext.of_lengths(random, range(5, last + 1), sizes.pairs, taken)
        _write(folder, splits, ("en", "ko"))
        (folder / "ordered.json").write_text(json.dumps(ordered, ensure_ascii=False), encoding="utf-8")

    sources = [*sorted(longtext.GRAMMAR.glob("*.py")), Path(longtext.__file__), Path(__file__)]
    return Task(
        name="long",
        title="generated sentences",
        folder=_made("long", sizes, sources, make),
        stems=SPLITS,
        sides=("en", "ko"),
        edges=edges,
        longest=last,
        tokenizer={"type": "bpe", "vocab_size": 3000},
        tokenize="char",
    )


def copies(sizes: Sizes) -> Task:
    """Copying at distances that double, each as often as the others, in training and in the test."""
    distances = (0, *(2**power for power in range(sizes.doublings + 1)))

    def make(folder: Path) -> None:
        random, taken = Random(SEED), set[str]()
        counts = {"test": sizes.tested * len(distances), "valid": 100, "train": sizes.pairs}
        _write(folder, {name: copying.rows(random, distances, count, taken) for name, count in counts.items()}, COPIED)

    return Task(
        name="copy",
        title=f"copying {copying.KEPT} letters",
        folder=_made("copy", sizes, [Path(copying.__file__), Path(__file__)], make),
        stems=SPLITS,
        sides=COPIED,
        edges=distances,
        longest=distances[-1],
        tokenizer={"type": "word", "vocab_size": 100},
        tokenize="",
        unit="fillers between",
    )


def _made(name: str, sizes: Sizes, makers: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """The folder of a generated text, which is made where it is not there yet."""
    key = sha256(repr(sizes).encode() + b"".join(path.read_bytes() for path in makers))[:12]
    folder = CORPORA / f"{name}-{key}"
    if not folder.exists():
        aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        aside.mkdir(parents=True)
        try:
            make(aside)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def _write(folder: Path, splits: Mapping[str, Pairs], sides: tuple[str, str]) -> None:
    for name, pairs in splits.items():
        for column, side in enumerate(sides):
            text = "".join(f"{pair[column]}\n" for pair in pairs)
            (folder / f"{name}.{side}").write_text(text, encoding="utf-8")
