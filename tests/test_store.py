"""The corpus on disk: equal to the one in memory, made once, and made anew where anything is not as it was."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import zstandard

from s2s_cli.config import DataConfig, ParallelText, TokenizerConfig
from s2s_cli.data import corpus as corpora
from s2s_cli.data import store
from s2s_cli.data.corpus import Corpus, read_corpus
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Tokenizer, train_vocabulary
from s2s_cli.errors import UserError
from s2s_cli.files import json_sha256
from s2s_cli.processes import share

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
    every = range(len(a))
    equal = (
        len(a) == len(b)
        and a.source.rows(every) == b.source.rows(every)
        and a.target.rows(every) == b.target.rows(every)
    )
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


SHARD, MANIFEST = "0-00000", "0-00000.json"
FILES = [
    f"{SHARD}.{side}.{end}" for side in ("source", "target") for end in ("ids", "ids.offsets", "text", "text.offsets")
]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
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
    assert made or name == MANIFEST  # a flip in the manifest may hit a blank
    assert same(mended, read_corpus([text], tokenizer, filters, keep_text=True))
    assert not opened(keep_text=True)[1]


def test_a_manifest_of_anything_is_only_a_reason_to_make_it_anew(opened: Callable[..., Opened], tmp_path: Path) -> None:
    opened()
    path = tmp_path / "corpus" / MANIFEST
    content = json.loads(path.read_bytes())
    broken = [[], None, "x", 3, {}, *({**content, key: None} for key in content)]
    del content["sha256"]
    wrongly_sealed = [{**content, key: value} for key in content for value in (None, -1, 2**70, {}, "x")]
    broken += [{**wrong, "sha256": json_sha256(wrong)} for wrong in wrongly_sealed]
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
    assert not (tmp_path / "corpus" / MANIFEST).exists()
    assert opened()[1]


# Shards


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 64 pairs, tokenized 16 at a time: the text fills three, and begins a fourth."""
    monkeypatch.setattr(store, "SHARD_PAIRS", 64)
    monkeypatch.setattr(corpora, "CHUNK", 16)


def manifests(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "corpus").glob("*.json")}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("threads", [1, 2])
def test_shards_made_by_one_process_or_several_are_the_corpus_in_memory(
    opened: Callable[..., Opened],
    tmp_path: Path,
    text: ParallelText,
    tokenizer: Tokenizer,
    filters: DataConfig,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
) -> None:
    monkeypatch.setattr(store, "ALONE", 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    asked: list[object] = []
    monkeypatch.setattr(store, "share", lambda *a, **k: asked.append(a) or share(*a, **k))
    wanted = read_corpus([text], tokenizer, filters, keep_text=True)
    assert [same(opened(keep_text=True)[0], wanted) for _ in range(2)] == [True, True]
    assert len(asked) == threads - 1
    assert sorted(manifests(tmp_path)) == [f"0-{number:05}.json" for number in range(4)]


@pytest.mark.usefixtures("small")
def test_however_many_files_a_text_lies_in_it_is_the_same_corpus(
    opened: Callable[..., Opened], tmp_path: Path, tokenizer: Tokenizer, filters: DataConfig
) -> None:
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    for column, ending in enumerate(pack):
        for number, start in enumerate(range(0, len(PAIRS), 45)):
            lines = "".join(f"{pair[column]}\n" for pair in PAIRS[start : start + 45])
            (tmp_path / f"part-{number}.{column}{ending}").write_bytes(pack[ending](lines.encode()))
    text = ParallelText(source=tmp_path / "part-*.0.gz", target=tmp_path / "part-*.1.zst")
    divided = [open_corpus(tmp_path / "divided", [text], tokenizer, filters) for _ in range(2)]
    assert all(same(each, opened()[0]) for each in divided)


@pytest.mark.usefixtures("small")
def test_a_text_that_fills_its_last_shard_is_whole(
    opened: Callable[..., Opened], text: ParallelText, tokenizer: Tokenizer, filters: DataConfig
) -> None:
    for path in text.files:
        path.write_text("ba\n" * 128, encoding="utf-8")
    assert [made for _, made in (opened(), opened())] == [True, False]
    assert same(opened()[0], read_corpus([text], tokenizer, filters))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("number", range(4))
def test_only_what_is_damaged_is_made_again(
    opened: Callable[..., Opened],
    tmp_path: Path,
    text: ParallelText,
    tokenizer: Tokenizer,
    filters: DataConfig,
    number: int,
) -> None:
    opened()
    before = manifests(tmp_path)
    (tmp_path / "corpus" / f"0-{number:05}.target.ids").write_bytes(b"")
    mended, made = opened()
    assert made
    assert same(mended, read_corpus([text], tokenizer, filters))
    after = manifests(tmp_path)
    assert [name for name in before if before[name] != after[name]] == [f"0-{number:05}.json"]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("looks", [1, 4, 5, 9, 12])
def test_making_that_was_ended_goes_on_after_the_last_whole_shard(
    opened: Callable[..., Opened],
    tmp_path: Path,
    text: ParallelText,
    tokenizer: Tokenizer,
    filters: DataConfig,
    looks: int,
) -> None:
    left = list(range(looks))
    with pytest.raises(IndexError):
        open_corpus(tmp_path / "corpus", [text], tokenizer, filters, check=lambda: left.remove(left[0]))
    before = manifests(tmp_path)
    assert len(before) == looks // 4
    assert same(opened()[0], read_corpus([text], tokenizer, filters))
    assert before.items() <= manifests(tmp_path).items()


@pytest.mark.usefixtures("small")
def test_shards_of_text_that_is_gone_and_of_the_first_format_are_removed(
    opened: Callable[..., Opened], tmp_path: Path, text: ParallelText
) -> None:
    opened(keep_text=True)
    corpus = tmp_path / "corpus"
    ours = ["corpus.json", "source.ids", "target.text.offsets", "1-00000.json", "1-00000.source.ids"]
    others = ["notes.txt", "0-1.json"]
    for name in (*ours, *others):
        (corpus / name).touch()
    assert not opened(keep_text=True)[1]
    assert {path.name for path in corpus.iterdir() if path.stat().st_size == 0} == set(others)
    for path in text.files:
        path.write_text("ba\n" * 3, encoding="utf-8")
    opened()
    assert len([path for path in corpus.iterdir() if path.name not in others]) == 5


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
data = DataConfig.model_validate({"train": {"tsv": folder / f"{repeat}.tsv"}, "valid": {"tsv": folder / "25.tsv"}})
def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) / 1024
open_corpus(folder / "small", [data.valid], tokenizer, data)
before = anonymous()
corpus = open_corpus(folder / f"corpus-{repeat}", data.train, tokenizer, data)
print(len(corpus), corpus.source.total + corpus.target.total, anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_needs_no_memory_for_the_corpus(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "shared.model").write_bytes(tokenizer.source.data)
    lines = "".join(f"{source}\t{target}\n" for source, target in PAIRS if source.strip() and target.strip())
    for repeat in (25, 500):  # more than a chunk first, so that what one takes is not counted
        (tmp_path / f"{repeat}.tsv").write_text(lines * repeat, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", GROWTH, tmp_path, "500"], capture_output=True, text=True, check=True)
    pairs, pieces, megabytes = (float(word) for word in done.stdout.split())
    assert pairs > 90_000
    assert megabytes < pieces * 4 / 2**20 / 4 + 2
