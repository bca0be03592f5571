"""Parallel text: what a line is, what is refused and by which words, what is dropped, and what a corpus holds."""

from __future__ import annotations

import gzip
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from s2s_cli.config import DataConfig, ParallelText, TokenizerConfig
from s2s_cli.data import corpus as module
from s2s_cli.data.corpus import (
    Corpus,
    count_overlap,
    describe_dropped,
    read_corpus,
    read_lines,
    read_pairs,
    shards,
    train_tokenizer,
    unknown_rate,
)
from s2s_cli.data.sequences import Block, Sequences, digest
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary
from s2s_cli.errors import UserError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def write(path: Path, content: bytes | str) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(PACKERS.get(path.suffix, bytes)(data))
    return path


def lines_of(folder: Path, content: bytes | str, name: str = "text") -> list[str]:
    return list(read_lines(write(folder / name, content)))


def pair_of(folder: Path, source: bytes | str, target: bytes | str) -> ParallelText:
    return ParallelText(source=write(folder / "a.src", source), target=write(folder / "a.tgt", target))


def filters(folder: Path, **limits: float) -> DataConfig:
    text = ParallelText(tsv=folder / "unused")
    return DataConfig.model_validate({"train": [text.model_dump()], "valid": text.model_dump(), **limits})


def sequences(rows: Iterable[list[int]]) -> Sequences:
    return Sequences([Block.of([*rows]).part()])


# Lines


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\r", ["a\r", "b"]),
        (b"a\rb\n", ["a\rb"]),
        (b"\xef\xbb\xbfa\nb\n", ["a", "b"]),
        (b"a\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b" a\t\n", [" a\t"]),
        ("a\u2028b\u2029c\x85d\ve\ff\x1cg\x00h\n".encode(), ["a\u2028b\u2029c\x85d\ve\ff\x1cg\x00h"]),
    ],
)
@pytest.mark.parametrize("name", ["text", "text.gz", "text.zst"])
def test_a_line_ends_with_lf_and_nothing_else(tmp_path: Path, name: str, content: bytes, wanted: list[str]) -> None:
    assert lines_of(tmp_path, content, name) == wanted


@settings(max_examples=50)
@given(lines=st.lists(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n\r\ufeff"))))
def test_any_lines_are_read_as_written(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    assert list(read_lines(write(path, "".join(f"{line}\n" for line in lines)))) == lines


@pytest.mark.parametrize("name", ["text", "text.gz", "text.zst"])
def test_bytes_that_are_not_utf8_are_refused_with_line_and_byte(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}:3: not UTF-8 \(byte 4 of"):
        lines_of(tmp_path, b"one\ntwo\nabc\xff\nfour\n", name)
    assert lines_of(tmp_path, "one\ntwo\nabcÿ\nfour\n", name)[2] == "abcÿ"


def test_lines_before_a_broken_one_are_still_given(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "text", b"one\n\xff\n"))
    assert next(lines) == "one"
    with pytest.raises(UserError):
        next(lines)


@pytest.mark.parametrize("ending", PACKERS)
def test_a_damaged_packed_file_is_refused_by_its_name(tmp_path: Path, ending: str) -> None:
    rng = random.Random(5)
    whole = PACKERS[ending]("".join(f"line {rng.random()}\n" for _ in range(2000)).encode())
    cut = [whole[:-1], whole[:-8], whole[: len(whole) // 2], whole[:5], b"plain text\n", whole + whole[:-1]]
    flipped = [whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :] for at in (0, 10, 11, 12, len(whole) // 2)]
    path = tmp_path / f"text{ending}"
    for damaged in cut + flipped:
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"text\{ending}"):
            list(read_lines(path))
    path.write_bytes(whole * 2)  # one behind the other, as `cat` joins them
    assert len(list(read_lines(path))) == 4000


@pytest.mark.parametrize("ending", PACKERS)
def test_an_empty_packed_file_is_not_taken_for_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"text{ending}"
    path.touch()
    with pytest.raises(UserError, match=rf"text\{ending}: damaged, or no .* file \(it "):
        list(read_lines(path))


@pytest.mark.parametrize("name", ["text.GZ", "text.Zst", "text"])
@pytest.mark.parametrize("ending", PACKERS)
def test_packed_text_is_known_by_its_content_whatever_its_name(tmp_path: Path, name: str, ending: str) -> None:
    (tmp_path / name).write_bytes(PACKERS[ending](b"one\ntwo\n"))
    assert list(read_lines(tmp_path / name)) == ["one", "two"]


def test_a_window_of_two_gigabytes_is_told(tmp_path: Path) -> None:
    """As `zstd --long=31` packs: the file is whole, but a stranger's would take as much memory."""
    settings = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    (tmp_path / "text.zst").write_bytes(packer.compress(b"a\nb\n") + packer.flush())
    with pytest.raises(UserError, match=r"text\.zst: packed with a window of more than 128 MB"):
        list(read_lines(tmp_path / "text.zst"))


def test_without_zstandard_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "text.zst", "a\n")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match=r"text\.zst.*pip install 's2s-cli\[zstd\]'"):
        list(read_lines(path))


@pytest.mark.parametrize("name", ["missing", ".", "x" * 300, "a\0b"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot read"):
        list(read_lines(tmp_path / name))


# Pairs


def test_pairs_are_lines_side_by_side(tmp_path: Path) -> None:
    assert list(read_pairs(pair_of(tmp_path, "a\n\nc\n", "x\r\ny\r\n\r\n"))) == [("a", "x"), ("", "y"), ("c", "")]
    assert list(read_pairs(pair_of(tmp_path, "", ""))) == []


@pytest.mark.parametrize(("source", "target"), [(3, 5), (5, 3), (0, 1), (4, 3)])
def test_misaligned_sides_are_refused_with_names_and_counts(tmp_path: Path, source: int, target: int) -> None:
    text = pair_of(tmp_path, "s\n" * source, "t\n" * target)
    short, long = ("a.src", "a.tgt") if source < target else ("a.tgt", "a.src")
    words = rf"{short} ends after {min(source, target)} lines, but .*{long} has {max(source, target)}"
    with pytest.raises(UserError, match=words):
        list(read_pairs(text))


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_a_tsv_holds_source_and_target(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "a\tx\n b \ty z\tignored\n\t\n")
    assert list(read_pairs(ParallelText(tsv=path))) == [("a", "x"), (" b ", "y z"), ("", "")]


def test_a_tsv_line_without_a_tab_is_refused_with_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "a\tx\nb y\n")
    with pytest.raises(UserError, match=r"t\.tsv:2: no tab"):
        list(read_pairs(ParallelText(tsv=path)))


# Names that stand for several files


def test_shards_are_paired_by_what_their_wildcards_stand_for(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write(tmp_path / f"{number}.en-part.gz", f"s{number}\n")
        write(
            tmp_path / f"p{number}a.de.zst", f"t{number}\n"
        )  # by whole names, 10a stands behind 1a; on the other side not
    text = ParallelText(source=tmp_path / "*.en-part.gz", target=tmp_path / "p*a.de.zst", name="parts")
    found = shards(text)
    assert [shard.name for shard in found] == ["parts"] * 3
    assert list(read_pairs(text)) == [("s1", "t1"), ("s10", "t10"), ("s2", "t2")]
    assert [pair for shard in found for pair in read_pairs(shard)] == list(read_pairs(text))


@pytest.mark.parametrize(
    ("pattern", "wanted"), [("t?.tsv", "ab"), ("t[bc].tsv", "b"), ("t[!b].tsv", "a"), ("*", "abz")]
)
def test_tsvs_are_read_in_the_order_of_their_names(tmp_path: Path, pattern: str, wanted: str) -> None:
    folder = tmp_path / "[a]*"  # in a folder's name they stand for themselves
    folder.mkdir()
    for name in ("tb", "ta", "z", ".hidden"):
        write(folder / f"{name}.tsv", f"{name[-1]}\tx\n")
    assert "".join(source for source, _ in read_pairs(ParallelText(tsv=folder / pattern))) == wanted


def test_a_file_that_is_called_so_is_itself(tmp_path: Path) -> None:
    write(tmp_path / "t[1].tsv", "a\tx\n")
    write(tmp_path / "t1.tsv", "b\ty\n")
    assert list(read_pairs(ParallelText(tsv=tmp_path / "t[1].tsv"))) == [("a", "x")]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("a-*", "b-*", r"a-2 has no partner.*a-\* 2 and .*b-\* 1"),
        ("b-*", "a-*", r"a-2 has no partner.*b-\* 1 and .*a-\* 2"),
        ("a-2", "b-*", r"a-2 has no partner"),
        ("a-*", "c-*", r"c-\*: no file matches"),
    ],
)
def test_shards_without_partners_are_refused(tmp_path: Path, source: str, target: str, words: str) -> None:
    for name in ("a-1", "a-2", "b-1"):
        write(tmp_path / name, "x\n")
    with pytest.raises(UserError, match=words):
        shards(ParallelText(source=tmp_path / source, target=tmp_path / target))


def test_a_misaligned_shard_is_named(tmp_path: Path) -> None:
    for name, content in (("a-1", "x\n"), ("b-1", "x\n"), ("a-2", "x\n"), ("b-2", "x\nx\n")):
        write(tmp_path / name, content)
    with pytest.raises(UserError, match=r"a-2 ends after 1 lines, but .*b-2 has 2"):
        list(read_pairs(ParallelText(source=tmp_path / "a-*", target=tmp_path / "b-*")))


# Sequences


@settings(max_examples=50)
@given(parts=st.lists(st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=6), max_size=8), min_size=1, max_size=4))
def test_sequences_hold_what_was_appended_in_however_many_parts(parts: list[list[list[int]]]) -> None:
    rows = [row for part in parts for row in part]
    alone, joined = sequences(rows), Sequences.joined(map(sequences, parts))
    assert (len(alone.parts), len(joined.parts)) == (1, len(parts))
    order = torch.randperm(len(rows))
    for built in (alone, joined):
        assert len(built) == len(rows)
        assert built.total == sum(map(len, rows))
        assert built.rows(order.tolist()) == [rows[i] for i in order.tolist()]
        assert built.lengths(order).tolist() == [len(rows[i]) for i in order.tolist()]
        assert all(part.items.dtype == torch.int32 for part in built.parts)
    assert digest(joined) == digest(alone)


def test_a_fingerprint_changes_with_every_piece_order_and_border() -> None:
    def corpus(source: list[list[int]], target: list[list[int]]) -> str:
        return Corpus(sequences(source), sequences(target)).fingerprint

    prints = [
        corpus([[1, 2], [3]], [[4], [5]]),
        corpus([[1, 2], [9]], [[4], [5]]),
        corpus([[1], [2, 3]], [[4], [5]]),
        corpus([[3], [1, 2]], [[4], [5]]),
        corpus([[1, 2], [3]], [[5], [4]]),
        corpus([[4], [5]], [[1, 2], [3]]),
        corpus([[1, 2], [3], []], [[4], [5], []]),
        corpus([], []),
    ]
    assert len(set(prints)) == len(prints)
    assert corpus([[1, 2], [3]], [[4], [5]]) == prints[0]


def test_the_unknown_rate_is_a_share_of_pieces() -> None:
    assert unknown_rate(sequences([[1, 5], [], [1, 6, 7, 8, 9, 5]]), 1) == 0.25
    assert unknown_rate(sequences([[5]]), 1) == 0
    assert unknown_rate(sequences([]), 1) == 0


# Reading a corpus


def test_a_corpus_holds_the_pieces_of_every_pair_in_order(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 3)
    sources, targets = ["ab cd", "", "e", "dino", "rat"], ["cab", "dab e", "", "su to", "not"]
    first = pair_of(tmp_path, "\n".join(sources), "\n".join(targets))
    second = ParallelText(tsv=write(tmp_path / "t.tsv", "ten\tnine\n"))
    corpus = read_corpus([first, second], tokenizer, keep_text=True)
    sources, targets = [*sources, "ten"], [*targets, "nine"]
    assert corpus.texts is not None
    assert [list(side) for side in corpus.texts] == [sources, targets]
    assert [corpus.source[i].tolist() for i in range(len(corpus))] == tokenizer.source.encode(sources)
    assert [corpus.target[i].tolist() for i in range(len(corpus))] == tokenizer.target.encode(targets)
    assert corpus.dropped == {}
    bare = read_corpus([first, second], tokenizer)
    assert bare.texts is None
    assert bare.fingerprint == corpus.fingerprint


def test_filters_drop_by_the_rules_and_count_the_reasons(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rng = random.Random(6)
    words = ["a", "tin", "rode", "in", "to", "sun"]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.choice([0, 1, 2, 3, 6, 12])))

    pairs = [(sentence(), sentence()) for _ in range(300)]
    text = pair_of(tmp_path, "".join(f"{a}\n" for a, _ in pairs), "".join(f"{b}\n" for _, b in pairs))
    limits = filters(tmp_path, max_length=20, max_ratio=3)

    kept, dropped = [], {"blank": 0, "too long": 0, "unequal lengths": 0}
    columns = [tokenizer.source.encode(side) for side in zip(*pairs, strict=True)]
    for pair, *rows in zip(pairs, *columns, strict=True):
        lengths = [len(row) for row in rows]
        if min(lengths) == 0:
            dropped["blank"] += 1
        elif max(lengths) > 20:
            dropped["too long"] += 1
        elif max(lengths) / min(lengths) > 3:
            dropped["unequal lengths"] += 1
        else:
            kept.append(pair)
    assert min(dropped.values()) > 5

    corpus = read_corpus([text], tokenizer, limits, keep_text=True)
    assert corpus.texts is not None
    assert list(zip(*corpus.texts, strict=True)) == kept
    assert corpus.dropped == dropped
    for reason, count in dropped.items():
        assert f"{count} {reason}" in describe_dropped(dropped)


def test_a_corpus_with_nothing_left_is_refused_with_the_reasons(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"a\.src.*a\.tgt.*no sentence pairs"):
        read_corpus([pair_of(tmp_path, "", "")], tokenizer)
    with pytest.raises(UserError, match="2 blank"):
        read_corpus([pair_of(tmp_path, "\n \n", "a\nb\n")], tokenizer, filters(tmp_path))


def test_faults_in_a_file_come_through(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="misaligned"):
        read_corpus([pair_of(tmp_path, "a\nb\n", "a\n")], tokenizer)
    with pytest.raises(UserError, match=r"a\.tgt:1: not UTF-8"):
        read_corpus([pair_of(tmp_path, "a\n", b"\xff\n")], tokenizer)


def test_overlap_counts_held_out_sentences_that_were_trained_on(tmp_path: Path) -> None:
    train = [
        ParallelText(tsv=write(tmp_path / "a.tsv", "one \tx\n\t\ntwo\tx\n")),
        ParallelText(tsv=write(tmp_path / "b.tsv", "three\tx\ntwo\ty\n")),
    ]
    held_out = ParallelText(tsv=write(tmp_path / "c.tsv", "two\tz\nfour\tx\n\tblank\n one\tw\ntwo\tv\nThree\tx\n"))
    assert count_overlap(train, [held_out, *train]) == [3, 2, 2]
    assert count_overlap(train[1:], [held_out]) == [2]
    assert count_overlap([], [held_out]) == [0]


# Training a tokenizer


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("most", [2, 7, 10, 33, 99, 100, 200, 1000])
def test_a_vocabulary_is_trained_on_at_most_so_many_sentences_taken_evenly(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, shared: bool, most: int
) -> None:
    text = pair_of(tmp_path, "".join(f"s{i}\n" for i in range(100)), "".join(f"t{i}\n" for i in range(100)))
    taken: dict[str, list[str]] = {}

    def take(sentences: Iterator[str], config: TokenizerConfig, side: str) -> Vocabulary:
        taken[side] = list(sentences)
        return tokenizer.source

    monkeypatch.setattr(module, "train_vocabulary", take)
    train_tokenizer([text], TokenizerConfig(max_sentences=most, shared=shared))
    assert set(taken) == ({"shared"} if shared else {"source", "target"})
    for side, sentences in taken.items():
        assert min(most, 200 if shared else 100) / 2 <= len(sentences) <= most
        for letter in "st" if shared else side[0]:
            numbers = [int(sentence[1:]) for sentence in sentences if sentence[0] == letter]
            assert numbers[0] == 0
            assert len({after - before for before, after in itertools.pairwise(numbers)}) <= 1


def test_a_tokenizer_that_saw_few_sentences_knows_only_those(tmp_path: Path) -> None:
    text = pair_of(tmp_path, "aab baa\n" * 50 + "zzy yzz\n" * 50, "aab baa\n" * 50 + "zzy yzz\n" * 50)
    few = train_tokenizer([text], TokenizerConfig(type="char", max_sentences=2))
    many = train_tokenizer([text], TokenizerConfig(type="char", max_sentences=4))
    assert few.source.specials.unk in few.source.encode(["zz"])[0]
    assert many.source.specials.unk not in many.source.encode(["zz"])[0]


def test_training_a_tokenizer_on_nothing_is_refused(tmp_path: Path) -> None:
    for content in ("", "\n\n"):
        with pytest.raises(UserError):
            train_tokenizer([pair_of(tmp_path, content, content)], TokenizerConfig())
