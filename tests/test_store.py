"""The corpus on disk: equal to the one in memory, made once, and made anew where anything is not as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from s2s_cli.config import DataConfig, ParallelText, TokenizerConfig
from s2s_cli.data import store
from s2s_cli.data.corpus import Corpus, read_corpus
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Tokenizer, train_vocabulary
from s2s_cli.errors import UserError

PAIRS = [(f"ba ke {'li ' * (i % 5)}mo", f"ra {'sho ' * (i % 7)}tin") for i in range(200)] + [("", "ra"), ("ba", " ")]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    both = train_vocabulary([side for pair in PAIRS for side in pair], TokenizerConfig(vocab_size=20), "shared")
    return Tokenizer(both, both)


@pytest.fixture
def text(tmp_path: Path) -> ParallelText:
    for name, column in (("a.src", 0), ("a.tgt", 1)):
        (tmp_path / name).write_text("".join(f"{pair[column]}\n" for pair in PAIRS), encoding="utf-8")
    return ParallelText(source=tmp_path / "a.src", target=tmp_path / "a.tgt")


@pytest.fixture
def filters(text: ParallelText) -> DataConfig:
    return DataConfig.model_validate({"train": [text.model_dump()], "valid": text.model_dump(), "max_ratio": 2})


Opened = tuple[Corpus, bool]


@pytest.fixture
def opened(tmp_path: Path, text: ParallelText, tokenizer: Tokenizer, filters: DataConfig) -> Callable[..., Opened]:
    """Opens the corpus of the text; tells too whether it was made now."""

    def call(**changes: object) -> Opened:
        made: list[bool] = []
        rules = filters.model_copy(update={"max_ratio": changes.pop("max_ratio", 2)})
        words = bool(changes.pop("keep_text", False))
        other = changes.pop("tokenizer", tokenizer)
        assert isinstance(other, Tokenizer)
        begin = lambda: made.append(True)  # noqa: E731
        corpus = open_corpus(tmp_path / "corpus", [text], other, rules, keep_text=words, begin=begin)
        return corpus, bool(made)

    return call


def same(a: Corpus, b: Corpus) -> bool:
    pieces = (("source", "items"), ("source", "offsets"), ("target", "items"), ("target", "offsets"))
    equal = all(torch.equal(getattr(getattr(a, side), part), getattr(getattr(b, side), part)) for side, part in pieces)
    texts = [None if each.texts is None else [list(side) for side in each.texts] for each in (a, b)]
    return equal and texts[0] == texts[1] and a.dropped == b.dropped and a.fingerprint == b.fingerprint


@pytest.mark.parametrize("keep_text", [False, True])
def test_it_is_the_corpus_in_memory_and_is_made_once(
    opened: Callable[..., Opened], text: ParallelText, tokenizer: Tokenizer, filters: DataConfig, keep_text: bool
) -> None:
    wanted = read_corpus([text], tokenizer, filters, keep_text=keep_text)
    assert wanted.dropped
    first, made = opened(keep_text=keep_text)
    again, made_again = opened(keep_text=keep_text)
    assert (made, made_again) == (True, False)
    assert same(first, wanted)
    assert same(again, wanted)
    if keep_text:
        assert again.texts is not None
        assert again.texts[0][3:5] == [source for source, _ in PAIRS[3:5]]


def test_text_touched_but_equal_is_not_tokenized_again(opened: Callable[..., Opened], text: ParallelText) -> None:
    opened()
    assert text.source is not None
    os.utime(text.source, (1, 1))
    assert not opened()[1]


def test_other_text_rules_or_pieces_make_it_anew(opened: Callable[..., Opened], text: ParallelText) -> None:
    before, _ = opened()
    assert text.target is not None
    data = text.target.read_bytes()
    text.target.write_bytes(data.replace(b"tin", b"nit", 1))  # of the same size
    after, made = opened()
    assert made
    assert after.fingerprint != before.fingerprint
    text.target.write_bytes(data)
    assert opened()[1]
    assert opened(keep_text=True)[1]
    assert opened(keep_text=True, max_ratio=3)[1]
    other = train_vocabulary([s for pair in PAIRS for s in pair], TokenizerConfig(type="char"), "shared")
    assert opened(keep_text=True, max_ratio=3, tokenizer=Tokenizer(other, other))[1]


FILES = [f"{side}.{kind}{offsets}" for side in store.SIDES for kind in ("ids", "text") for offsets in ("", ".offsets")]


@pytest.mark.parametrize("name", [*FILES, store.MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "empty", "gone"])
def test_damage_is_found_and_mended(
    opened: Callable[..., Opened],
    tmp_path: Path,
    text: ParallelText,
    tokenizer: Tokenizer,
    filters: DataConfig,
    name: str,
    damage: str,
) -> None:
    opened(keep_text=True)
    path = tmp_path / "corpus" / name
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    if damage == "flip":
        data[middle] ^= 1
    contents = {"flip": data, "cut": data[:middle], "longer": data + b"\0" * 8, "empty": b""}
    path.unlink()
    if damage in contents:
        path.write_bytes(contents[damage])
    mended, made = opened(keep_text=True)
    assert made or name == store.MANIFEST  # a flip in the manifest may hit a blank
    assert same(mended, read_corpus([text], tokenizer, filters, keep_text=True))
    assert not opened(keep_text=True)[1]


def test_a_manifest_of_anything_is_only_a_reason_to_make_it_anew(opened: Callable[..., Opened], tmp_path: Path) -> None:
    opened()
    path = tmp_path / "corpus" / store.MANIFEST
    content = json.loads(path.read_bytes())
    broken = [[], None, "x", 3, {}, *({**content, key: None} for key in content)]
    broken += [{**content, "pairs": -1}, {**content, "pairs": 2**70}, {**content, "arrays": ["", ""]}]
    for wrong in broken:
        path.write_text(json.dumps(wrong), encoding="utf-8")
        assert opened()[1], wrong
    path.write_bytes(b"[" * 90_000)
    assert opened()[1]


def test_a_stop_while_it_is_made_leaves_nothing_that_counts(
    opened: Callable[..., Opened], tmp_path: Path, text: ParallelText, tokenizer: Tokenizer, filters: DataConfig
) -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with pytest.raises(Enough):
        open_corpus(tmp_path / "corpus", [text], tokenizer, filters, check=check)
    assert not (tmp_path / "corpus" / store.MANIFEST).exists()
    assert opened()[1]


def test_text_that_is_missing_or_leaves_nothing_is_told(
    tmp_path: Path, tokenizer: Tokenizer, filters: DataConfig, text: ParallelText
) -> None:
    for content, words in ((None, r"a\.src: cannot read it"), ("", "no sentence pairs"), ("\n", "1 blank")):
        for path in text.files:
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match=words):
            open_corpus(tmp_path / "corpus", [text], tokenizer, filters)


GROWTH = """
import sys
from pathlib import Path
import torch
from s2s_cli.config import DataConfig
from s2s_cli.data.batches import Sampler
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Tokenizer
folder, repeat = Path(sys.argv[1]), int(sys.argv[2])
tokenizer = Tokenizer.from_files({"shared.model": (folder / "shared.model").read_bytes()})
data = DataConfig.model_validate({"train": {"tsv": folder / f"{repeat}.tsv"}, "valid": {"tsv": folder / "1.tsv"}})
def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) / 1024
open_corpus(folder / "small", [data.valid], tokenizer, data)
before = anonymous()
corpus = open_corpus(folder / f"corpus-{repeat}", data.train, tokenizer, data)
print(len(corpus), corpus.source.items.numel() + corpus.target.items.numel(), anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_needs_no_memory_for_the_corpus(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "shared.model").write_bytes(tokenizer.source.data)
    lines = "".join(f"{source}\t{target}\n" for source, target in PAIRS if source.strip() and target.strip())
    for repeat in (1, 500):
        (tmp_path / f"{repeat}.tsv").write_text(lines * repeat, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", GROWTH, tmp_path, "500"], capture_output=True, text=True, check=True)
    pairs, pieces, megabytes = (float(word) for word in done.stdout.split())
    assert pairs > 90_000
    assert megabytes < pieces * 4 / 2**20 / 4 + 2
