"""The text that is measured on: Multi30k where MULTI30K_DIR names it, else the demo corpus."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT
from s2s_cli.config import ParallelText, TokenizerConfig
from s2s_cli.data.corpus import Corpus, read_corpus, train_tokenizer
from s2s_cli.data.tokenizer import Tokenizer


@dataclass(frozen=True)
class Text:
    """A corpus, its tokenizer and sentences to translate."""

    name: str
    sides: dict[str, ParallelText]
    """The training text (train) and that to validate on (valid)."""
    tokenizer_config: TokenizerConfig
    tokenizer: Tokenizer
    train: Corpus
    lines: list[str]
    references: list[str]


def read_text() -> Text:
    """Reads the corpus and trains its tokenizer."""
    folder = os.environ.get("MULTI30K_DIR")
    if folder:
        name, valid, test, source, target = "Multi30k en-de", "val", "test_2016_flickr", "en", "de"
        pieces = TokenizerConfig(type="unigram", vocab_size=8000)
    else:
        name, valid, test, source, target = "demo en-ko", "valid", "test", "en", "ko"
        pieces = TokenizerConfig(type="bpe", vocab_size=3000)
    place = Path(folder).resolve() if folder else ROOT / "data" / "demo"

    def sides(stem: str) -> ParallelText:
        return ParallelText(source=place / f"{stem}.{source}", target=place / f"{stem}.{target}")

    tokenizer = train_tokenizer([sides("train")], pieces)
    lines, references = (
        (place / f"{test}.{side}").read_text(encoding="utf-8").splitlines() for side in (source, target)
    )
    train = read_corpus([sides("train")], tokenizer)
    return Text(name, {"train": sides("train"), "valid": sides(valid)}, pieces, tokenizer, train, lines, references)
