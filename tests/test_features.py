"""Feature vectors as sources: their files, the corpus and the batches made of them, and the model that reads them."""

from __future__ import annotations

import json
import math
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import toy
from torch import Tensor

from s2s_cli.config import (
    DataConfig,
    DecoderConfig,
    DecodingConfig,
    EncoderConfig,
    ModelConfig,
    ParallelText,
    SamplingConfig,
    SourceConfig,
    TokenizerConfig,
)
from s2s_cli.data import corpus as corpora
from s2s_cli.data.batches import Batch, Sampler, make_batch, plan_batches
from s2s_cli.data.corpus import Corpus, read_corpus, read_pairs, train_tokenizer
from s2s_cli.data.features import FeatureFile, FeatureSequences, FeatureSource, open_features
from s2s_cli.data.store import open_corpus
from s2s_cli.data.tokenizer import Tokenizer, train_vocabulary
from s2s_cli.errors import UserError
from s2s_cli.forced import attention_maps, losses
from s2s_cli.model.seq2seq import Seq2Seq, build_model
from s2s_cli.search.flight import Guidance
from s2s_cli.translate.guidance import Guide
from s2s_cli.translate.translator import Translator

F = 3
SOURCE = SourceConfig(kind="features", size=F)


def items(lengths: list[int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, F, generator=generator) for length in lengths]


def same(found: FeatureSequences, wanted: list[Tensor]) -> bool:
    return len(found) == len(wanted) and all(torch.equal(a.read(), b) for a, b in zip(found, wanted, strict=True))


# Files


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", ["equal", "padded", "flat", "npy"])
def test_what_was_written_is_read_as_fp32(tmp_path: Path, dtype: torch.dtype, layout: str) -> None:
    lengths = [4, 0, 2, 3] if layout in ("padded", "flat") else [4, 4, 4]
    wanted = [item.to(dtype) for item in items(lengths)]
    path = tmp_path / ("a.npy" if layout == "npy" else "a.safetensors")
    padded = torch.full((len(lengths), 4, F), math.nan, dtype=dtype)  # what is not counted is not looked at
    for row, item in enumerate(wanted):
        padded[row, : len(item)] = item
    if layout == "npy":
        if dtype == torch.bfloat16:
            return  # numpy has none
        np.save(path, padded.numpy())
    else:
        tensors = {"features": torch.cat(wanted) if layout == "flat" else padded}
        if layout != "equal":
            tensors["lengths"] = torch.tensor(lengths, dtype=torch.int32)
        safetensors.torch.save_file(tensors, path)
    found = open_features([path], F)
    assert same(found, [item.float() for item in wanted])
    assert found[0].read().dtype == torch.float32
    assert [len(item) for item in found] == lengths
    assert str(found[2]) == f"item 2: {lengths[2]} x {F}"
    assert torch.equal(found[0][:2].read(), wanted[0][:2].float())
    with pytest.raises(IndexError):
        found[len(lengths)]


RESIDENT = """
import sys
from pathlib import Path
from s2s_cli.data.features import open_features
def megabytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
before = megabytes()
found = open_features([Path(sys.argv[1])], 64)
total = sum(float(found[index].read().sum()) for index in (0, len(found) // 2, len(found) - 1))
assert total == 0 and len(found) == 20_000
print(megabytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much is resident")
@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
def test_files_are_mapped_not_loaded(tmp_path: Path, name: str) -> None:
    path, shape = tmp_path / name, (20_000, 50, 64)  # 244 MiB, with holes
    if name.endswith("npy"):
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    else:
        bytes_ = 4 * math.prod(shape)
        header = json.dumps({"features": {"dtype": "F32", "shape": shape, "data_offsets": [0, bytes_]}}).encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        os.truncate(path, 8 + len(header) + bytes_)
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, "-c", RESIDENT, path]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": root}, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert float(done.stdout) < 60


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("exploded",))


def npy(array: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, allow_pickle=True)


def tensors(**given: Tensor) -> Callable[[Path], None]:
    return lambda path: safetensors.torch.save_file(given, path)


def cut(write: Callable[[Path], None], most: int) -> Callable[[Path], None]:
    def call(path: Path) -> None:
        write(path)
        os.truncate(path, path.stat().st_size - most)

    return call


def bytes_of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


EQUAL, FLAT = torch.zeros(2, 4, F), torch.zeros(5, F)
REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "objects": ("a.npy", npy(np.array([[[Bomb()]]], dtype=object)), "cannot read it"),
    "fields": ("a.npy", npy(np.zeros((2, 2, 2), dtype=[("x", "f4")])), "cannot read it"),
    "two axes": ("a.npy", npy(FLAT.numpy()), "features of shape (5, 3)"),
    "four axes": ("a.npy", npy(np.zeros((1, 1, 1, F), np.float32)), "features of shape (1, 1, 1, 3)"),
    "whole numbers": ("a.npy", npy(np.zeros((2, 2, F), np.int64)), "fp16, bf16, fp32 or fp64"),
    "columns first": ("a.npy", npy(np.asfortranarray(np.zeros((2, 4, F), np.float32))), "in C order"),
    "other bytes": ("a.npy", npy(np.zeros((2, 4, F), ">f4")), "cannot read it"),
    "no width": ("a.npy", npy(np.zeros((2, 4, 0), np.float32)), "features of shape (2, 4, 0)"),
    "wide": ("a.npy", npy(np.zeros((2, 4, 7), np.float32)), "its vectors are 7 wide, those of this model 3"),
    "cut": ("a.npy", cut(npy(EQUAL.numpy()), 1), "cannot read it"),
    "empty": ("a.npy", bytes_of(b""), "cannot read it"),
    "garbage": ("a.npy", bytes_of(b"\x93NUMPY\x01\x00\x10\x00{'descr': ((((((((" + b"(" * 99), "cannot read it"),
    "torn header": ("a.npy", bytes_of(b"\x93NUMPY\x01\x00\x08\x00'''\n    \n"), "cannot read it"),
    "not there": ("a.npy", lambda path: None, "No such file"),
    "a folder": ("a.npy", lambda path: path.mkdir(), "no regular file"),
    "a pipe": ("a.npy", os.mkfifo, "no regular file"),
    "another ending": ("a.pt", bytes_of(b"x"), "end in .npy or .safetensors"),
    "another name": ("a.safetensors", tensors(pixels=EQUAL), "no tensor `features` (but pixels)"),
    "flat alone": ("a.safetensors", tensors(features=FLAT), "features of shape (5, 3)"),
    "a sum": ("a.safetensors", tensors(features=FLAT, lengths=torch.tensor([3, 1])), "lengths do not fit"),
    "below zero": ("a.safetensors", tensors(features=FLAT, lengths=torch.tensor([6, -1])), "lengths do not fit"),
    "a count": ("a.safetensors", tensors(features=EQUAL, lengths=torch.tensor([4])), "lengths do not fit"),
    "beyond": ("a.safetensors", tensors(features=EQUAL, lengths=torch.tensor([4, 5])), "lengths do not fit"),
    "a table": ("a.safetensors", tensors(features=EQUAL, lengths=torch.zeros(2, 1).long()), "lengths do not fit"),
    "half a vector": ("a.safetensors", tensors(features=EQUAL, lengths=torch.ones(2)), "must be whole numbers"),
    "short": ("a.safetensors", cut(tensors(features=EQUAL), 1), "cannot read it"),
    "no header": ("a.safetensors", bytes_of(b"\xff" * 20), "cannot read it"),
    "gone": ("a.safetensors", lambda path: None, "No such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_file_of_features_is_refused_in_one_line(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write, words = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(UserError) as caught:
        open_features([tmp_path / name], F)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("name", ["a.npy", "a.safetensors"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path: Path, name: str, rounds: Callable[[int, int], int]
) -> None:
    draw = random.Random(1)
    if name == "a.npy":
        np.save(tmp_path / name, EQUAL.numpy())
    else:
        tensors(features=FLAT, lengths=torch.tensor([2, 3]))(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    outcomes = set()
    for _ in range(rounds(300, 30_000)):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(min(len(content), 200))
            change = bytes(draw.choices(b"0123456789'\"(){}[],:fFeE<>- \n\x00\xff", k=draw.randint(1, 4)))
            content[place : place + draw.choice((0, 1, len(change)))] = change
        (tmp_path / name).unlink()  # what is mapped must not change
        (tmp_path / name).write_bytes(content)
        try:
            outcomes.add(f"read {sum(len(item.read()) for item in open_features([tmp_path / name], None)) > 0}")
        except UserError as error:
            outcomes.add(f"refused in {len(str(error).splitlines())} line")
    assert outcomes >= {"read True", "refused in 1 line"}
    assert not any("refused" in outcome for outcome in outcomes - {"refused in 1 line"})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1e300])
def test_values_that_are_not_finite_are_told_with_their_item_when_it_is_read(tmp_path: Path, bad: float) -> None:
    array = np.zeros((3, 2, F))
    array[1, 1, 2] = bad
    np.save(tmp_path / "a.npy", array)
    found = open_features([tmp_path / "a.npy"], F)
    assert found[0].read().sum() == found[2].read().sum() == found[1][:1].read().sum() == 0
    with pytest.raises(UserError, match=r"a\.npy: item 1 \(from 0\) holds a value that is not finite"):
        found[1].read()


def test_items_of_several_files_are_counted_through(tmp_path: Path) -> None:
    every = items([2, 3, 0, 4, 1])
    toy.write_vectors(tmp_path / "a.safetensors", every[:2])
    toy.write_vectors(tmp_path / "b.safetensors", every[2:])
    files = [FeatureFile(tmp_path / f"{name}.safetensors", F) for name in "ab"]
    assert same(FeatureSequences(files), every)
    kept = FeatureSequences(files, torch.tensor([4, 1, 3], dtype=torch.int32))
    assert same(kept, [every[4], every[1], every[3]])
    assert kept.lengths(torch.tensor([2, 0])).tolist() == [4, 1]
    assert kept[0].number == 2
    assert len({*kept, *kept}) == 3, "an item is one thing, however often it is asked for"
    with pytest.raises(IndexError):
        FeatureSequences(files, torch.tensor([5], dtype=torch.int32))


def test_padding_is_zeros_and_an_empty_item_counts_as_one_vector(tmp_path: Path) -> None:
    every = items([2, 0, 3])
    toy.write_vectors(tmp_path / "a.safetensors", every)
    padded = FeatureSource(SOURCE).pad(open_features([tmp_path / "a.safetensors"], F))
    assert padded.src_BS is None
    assert padded.src_len_B.tolist() == [2, 1, 3]
    assert padded.src_BSF is not None
    for row, item in zip(padded.src_BSF, every, strict=True):
        assert torch.equal(row[: len(item)], item)
        assert not row[len(item) :].any()


# The corpus


@pytest.fixture
def text(tmp_path: Path) -> ParallelText:
    """30 pairs; of some the source is empty or long, of some the target is blank."""
    lengths = [(0, 40, 1, 5, 7)[n % 5] for n in range(30)]
    toy.write_vectors(tmp_path / "a.safetensors", items(lengths))
    lines = ["" if n == 3 else f"ba {'ke ' * (n % 6)}mo {'abcdef'[n % 6]}" for n in range(30)]
    (tmp_path / "a.tgt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return ParallelText(source=tmp_path / "a.safetensors", target=tmp_path / "a.tgt")


@pytest.fixture
def pieces(text: ParallelText) -> Tokenizer:
    return train_tokenizer([text], TokenizerConfig(type="unigram", vocab_size=16), SOURCE)


def rules(text: ParallelText, **changes: Any) -> DataConfig:
    data = {"train": [text.model_dump()], "valid": text.model_dump(), "max_length": 30, "max_ratio": 1.5, **changes}
    return DataConfig.model_validate(data)


def test_the_vocabulary_is_that_of_the_target_alone(text: ParallelText, pieces: Tokenizer) -> None:
    assert pieces.files.keys() == {"target.model"}
    assert text.target is not None
    lines = text.target.read_text(encoding="utf-8").splitlines()
    alone = train_vocabulary(lines, TokenizerConfig(type="unigram", vocab_size=16), "target")
    assert pieces.target.data == alone.data
    again = Tokenizer.from_files(pieces.files, source=SOURCE)
    assert again.fingerprint == pieces.fingerprint
    assert len(again.source) == F
    with pytest.raises(UserError, match=r"target\.model: missing"):
        Tokenizer.from_files({"shared.model": alone.data}, source=SOURCE)


@pytest.mark.parametrize("chunk", [4, 4096])
def test_pairs_are_dropped_by_the_lengths_of_features_but_not_by_their_ratio(
    text: ParallelText, pieces: Tokenizer, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(corpora, "CHUNK", chunk)
    corpus = read_corpus([text, text], pieces, rules(text), keep_text=True)
    pairs = list(read_pairs(text, SOURCE))
    kept = [n for n in range(30) if n % 5 > 1 and n != 3] * 2
    assert corpus.dropped == {"blank": 14, "too long": 12}
    assert isinstance(corpus.source, FeatureSequences)
    assert same(corpus.source, [pairs[n][0].read() for n in kept])
    assert corpus.target.rows(range(len(kept))) == pieces.target.encode([pairs[n][1] for n in kept])
    assert corpus.texts is not None
    assert [source.number for source in corpus.texts[0]] == kept


@pytest.mark.parametrize("keep_text", [False, True])
def test_the_stored_corpus_is_the_one_in_memory_and_notices_other_features(
    tmp_path: Path, text: ParallelText, pieces: Tokenizer, keep_text: bool
) -> None:
    made: list[int] = []

    def opened() -> Corpus:
        begin = lambda: made.append(1)  # noqa: E731
        return open_corpus(tmp_path / "corpus", [text], pieces, rules(text), keep_text=keep_text, begin=begin)

    wanted = read_corpus([text], pieces, rules(text), keep_text=keep_text)
    for found in (opened(), opened()):
        assert found.fingerprint == wanted.fingerprint
        assert same(found.source, [item.read() for item in wanted.source])  # type: ignore[arg-type]
        assert found.dropped == wanted.dropped
        if keep_text:
            assert found.texts is not None and wanted.texts is not None
            assert list(found.texts[1]) == list(wanted.texts[1])
            assert [str(item) for item in found.texts[0]] == [str(item) for item in wanted.texts[0]]
    assert len(made) == 1
    assert sum(path.stat().st_size for path in (tmp_path / "corpus").iterdir()) < 10_000, "features stay in their file"
    toy.write_vectors(tmp_path / "a.safetensors", items([(0, 40, 1, 5, 7)[n % 5] for n in range(30)], seed=2))
    assert opened().fingerprint != wanted.fingerprint
    assert len(made) == 2


@pytest.mark.parametrize("lines", [29, 31])
def test_items_and_lines_must_be_as_many(text: ParallelText, lines: int) -> None:
    assert text.target is not None
    text.target.write_text("a\n" * lines, encoding="utf-8")
    with pytest.raises(UserError, match="the sides are misaligned") as caught:
        list(read_pairs(text, SOURCE))
    assert "29 lines or items" in str(caught.value) if lines == 29 else "has 31" in str(caught.value)


def test_batches_of_items_are_of_about_one_length_and_within_the_budget(text: ParallelText, pieces: Tokenizer) -> None:
    corpus = read_corpus([text], pieces, rules(text))
    sampler = Sampler(corpus, pieces, batch_tokens=28, seed=3)
    seen: list[Tensor] = []
    while not sampler.epoch:
        batch = sampler.next()
        assert batch.src_BSF is not None and batch.src_BS is None
        assert max(batch.src_BSF[:, :, 0].numel(), batch.tgt_out_BT.numel()) <= 28
        seen += [item[:n] for item, n in zip(batch.src_BSF, batch.src_len_B.tolist(), strict=True)]
    wanted = [item.read() for item in corpus.source]
    assert sorted(float(item.sum()) for item in seen) == sorted(float(item.sum()) for item in wanted)
    again = Sampler(corpus, pieces, batch_tokens=28, seed=3)
    assert torch.equal(again.next().source, Sampler(corpus, pieces, batch_tokens=28, seed=3).next().source)


def test_where_sources_are_much_longer_batches_hold_sources_of_about_one_length() -> None:
    """Items of 200 to 700 vectors, captions of 5 to 20 pieces, whose lengths have nothing to do with each other."""
    random = torch.Generator().manual_seed(1)
    src_len, tgt_len = (
        torch.randint(200, 700, (2000,), generator=random),
        torch.randint(5, 20, (2000,), generator=random),
    )
    plan = plan_batches(torch.arange(2000), src_len, tgt_len, 20_000)
    padded = sum(len(batch) * int(src_len[batch].max()) for batch in plan)
    assert padded < 1.02 * int(src_len.sum())
    order = torch.cat(plan)
    assert torch.equal(order.sort().values, torch.arange(2000))
    by_target = plan_batches(torch.arange(2000), tgt_len, src_len, 20_000)  # and no other side is put first
    assert padded == sum(len(batch) * int(src_len[batch].max()) for batch in by_target)


def test_few_vectors_may_have_much_to_say(pieces: Tokenizer) -> None:
    guide = Guide(pieces, DecodingConfig())
    assert guide.limit(items([1])[0], Guidance()) == 102


def test_subwords_of_the_target_are_sampled_beside_features(text: ParallelText, pieces: Tokenizer) -> None:
    corpus = read_corpus([text], pieces, rules(text), keep_text=True)
    plain, sampled = (
        Sampler(corpus, pieces, batch_tokens=1000, seed=3, sampling=SamplingConfig(alpha=alpha)).next()
        for alpha in (0.0, 0.1)
    )
    assert torch.equal(plain.source, sampled.source)
    assert not torch.equal(plain.tgt_out_BT, sampled.tgt_out_BT)


# The model

MODELS = [
    ModelConfig(
        encoder=EncoderConfig(cell=cell, hidden_size=4, layers=2),
        decoder=DecoderConfig(cell=cell, hidden_size=8, layers=2, initial_state=state),
        attention=attention,
        embedding_size=5,
    )
    for cell, state, attention in (("gru", "bridge", "bahdanau"), ("lstm", "last", "luong-general"))
]


@pytest.mark.parametrize("config", MODELS)
def test_vectors_that_stand_for_tokens_give_what_the_tokens_give(
    config: ModelConfig, make_model: Callable[..., Seq2Seq], batch: Batch, shake: Callable[[Any], None]
) -> None:
    """The plain reference: of vectors that are one at a token's place, the projection is an embedding."""
    plain = make_model(config)
    model = Seq2Seq(config, 11, 13, None, plain.target, "features").eval()
    shake(model)
    theirs = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith("source_embedding")}
    model.load_state_dict(theirs, strict=False)
    with torch.no_grad():
        projected_VE = plain.source_embedding.weight * math.sqrt(5) - model.source_embedding.bias
        model.source_embedding.weight.copy_(projected_VE.t())
    assert batch.src_BS is not None
    vectors_BSF = torch.nn.functional.one_hot(batch.src_BS, 11).float()
    of_vectors = Batch(None, batch.src_len_B, batch.tgt_in_BT, batch.tgt_out_BT, batch.tgt_len_B, vectors_BSF)
    for found, wanted in zip(model(of_vectors), plain(batch), strict=True):
        torch.testing.assert_close(found, wanted)
    losses = model.losses(of_vectors, 0.1)
    torch.testing.assert_close(losses.smoothed, plain.losses(batch, 0.1).smoothed)
    losses.smoothed.backward()
    assert model.source_embedding.weight.grad.abs().sum() > 0
    moved = torch.where(batch.src_BS[:, :, None] == 0, vectors_BSF + 7, vectors_BSF)  # 0 pads
    again = Batch(None, batch.src_len_B, batch.tgt_in_BT, batch.tgt_out_BT, batch.tgt_len_B, moved)
    torch.testing.assert_close(model.losses(again).nll_N, model.losses(of_vectors).nll_N)


def test_projected_vectors_of_unit_size_are_of_unit_size(pieces: Tokenizer) -> None:
    model = build_model(ModelConfig(embedding_size=400, dropout=0.0), pieces)
    assert model.source_embedding(torch.randn(500, F)).std().item() == pytest.approx(1, rel=0.2)
    assert "source_embedding.bias" in dict(model.named_parameters())


@pytest.fixture(scope="module")
def sharp() -> tuple[Seq2Seq, Tokenizer]:
    """Untrained, and with an output layer so sharp that no two pieces are nearly equal."""
    torch.manual_seed(5)
    target = train_vocabulary(["ab ba abc"] * 5, TokenizerConfig(type="char", vocab_size=20), "target")
    tokenizer = Tokenizer(FeatureSource(SOURCE), target)
    model = build_model(MODELS[0], tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-1.5, 1.5)
        model.output.weight.mul_(4)
    return model, tokenizer


def translator(sharp: tuple[Seq2Seq, Tokenizer], **decoding: Any) -> Translator:
    config = DecodingConfig.model_validate({"beam": 2, "max_length": 8, **decoding})
    return Translator(*sharp, config, torch.device("cpu"))


@pytest.mark.parametrize("beam", [1, 3])
def test_translations_do_not_depend_on_the_batch_and_come_in_order(
    tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer], beam: int
) -> None:
    toy.write_vectors(tmp_path / "a.safetensors", items([n % 7 for n in range(40)]))
    found = open_features([tmp_path / "a.safetensors"], F)
    alone = [translator(sharp, beam=beam).translate([item])[0][0].text for item in found]
    assert len(set(alone)) > 5
    assert alone[0] == alone[7] == ""
    for size in (3, 64):
        together = translator(sharp, beam=beam, batch_size=size).translate(found)
        assert [best.text for best, *_ in together] == alone


def test_long_items_are_cut_and_counted(tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer]) -> None:
    every = items([9, 4])
    toy.write_vectors(tmp_path / "a.safetensors", [*every, every[0][:5]])
    first = translator(sharp, max_source_length=5)
    texts = [best.text for best, *_ in first.translate(open_features([tmp_path / "a.safetensors"], F))]
    assert texts[0] == texts[2]
    assert first.notices.cut == 1


def test_attention_is_named_by_the_numbers_of_the_vectors(tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer]) -> None:
    toy.write_vectors(tmp_path / "a.safetensors", items([4, 2]))
    one = translator(sharp)
    one.keep_attention = True
    for (best, *_), length in zip(one.translate(open_features([tmp_path / "a.safetensors"], F)), (4, 2), strict=True):
        assert best.source_pieces == tuple("0123"[:length])
        assert best.attention is not None and best.attention.shape == (len(best.target_pieces), length)
        torch.testing.assert_close(best.attention.sum(1), torch.ones(len(best.target_pieces)))


def test_given_translations_of_an_empty_item_have_a_likelihood_and_a_map(
    tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer]
) -> None:
    toy.write_vectors(tmp_path / "a.safetensors", items([0, 3]))
    found = list(open_features([tmp_path / "a.safetensors"], F))
    given = [*sharp, found, [[5, 6], [7]], 100]
    assert [len(nll_T) for nll_T in losses(*given)] == [3, 2]
    assert all(bool(torch.isfinite(nll_T).all()) for nll_T in losses(*given))
    for item, weights_TS in zip(found, attention_maps(*given), strict=True):
        assert weights_TS.shape[1] == len(sharp[1].source.names(item))


def test_a_fault_in_an_item_ends_translation_with_its_name(tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer]) -> None:
    every = items([3] * 40)
    every[17][1, 1] = math.nan
    toy.write_vectors(tmp_path / "a.safetensors", every)
    with pytest.raises(UserError, match="item 17"):
        translator(sharp).translate(open_features([tmp_path / "a.safetensors"], F))


def test_a_batch_is_made_of_items_and_pieces(tmp_path: Path, sharp: tuple[Seq2Seq, Tokenizer]) -> None:
    toy.write_vectors(tmp_path / "a.safetensors", items([2, 3]))
    batch = make_batch(open_features([tmp_path / "a.safetensors"], F), [[5], [6, 7]], sharp[1])
    assert batch.source is batch.src_BSF
    assert batch.source.shape == (2, 3, F)
    assert batch.src_len_B.tolist() == [2, 3]
    assert batch.tokens == 5
