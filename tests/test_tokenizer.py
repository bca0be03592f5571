"""Tokenizers: round trips, sizes, sampling, fingerprints, and models that were given."""

from __future__ import annotations

import io
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
from pydantic import ValidationError

from s2s_cli.config import ParallelText, SamplingConfig, TokenizerConfig
from s2s_cli.data.corpus import train_tokenizer
from s2s_cli.data.tokenizer import Tokenizer, Vocabulary, fingerprint, read_given, train_vocabulary
from s2s_cli.errors import UserError

SPECIAL_PIECES = {"<pad>", "<unk>", "<s>", "</s>"}


def made_up_lines(seed: int, syllables: Iterable[str] = ("ba", "ke", "li", "mo", "nu", "ta", "ri", "so")) -> list[str]:
    rng = random.Random(seed)
    choices = list(syllables)
    words = ["".join(rng.choices(choices, k=rng.randint(1, 4))) for _ in range(120)]
    return [" ".join(rng.choices(words, k=rng.randint(3, 9))) for _ in range(250)]


LINES = made_up_lines(1)
OTHER_LINES = made_up_lines(2, ("가", "나", "다", "라", "마", "바", "사", "아"))
CHARACTERS = set("".join(LINES)) - {" "}


def config(**changes: Any) -> TokenizerConfig:
    return TokenizerConfig(**{"vocab_size": 60, **changes})


@pytest.fixture(scope="module")
def trained() -> Callable[..., Vocabulary]:
    """Trains on LINES, each kind once."""
    known: dict[str, Vocabulary] = {}

    def train(**changes: Any) -> Vocabulary:
        settings = config(**changes)
        key = settings.model_dump_json()
        if key not in known:
            known[key] = train_vocabulary(LINES, settings, "shared")
        return known[key]

    return train


KINDS = [("unigram", 60), ("bpe", 60), ("char", 60), ("word", 500)]


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_decoding_gives_back_what_was_encoded(trained: Callable[..., Vocabulary], kind: str, size: int) -> None:
    vocabulary = trained(type=kind, vocab_size=size)
    rows = vocabulary.encode(LINES)
    assert [vocabulary.decode(row) for row in rows] == LINES
    assert len(rows) == len(LINES)
    specials = {vocabulary.specials.pad, vocabulary.specials.unk, vocabulary.specials.bos, vocabulary.specials.eos}
    assert len(specials) == 4
    assert all(0 <= piece < len(vocabulary) and piece not in specials for row in rows for piece in row)


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_pieces_are_of_the_kind_that_was_asked_for(trained: Callable[..., Vocabulary], kind: str, size: int) -> None:
    vocabulary = trained(type=kind, vocab_size=size)
    words = sorted({word for line in LINES for word in line.split()})
    counts = [len(row) for row in vocabulary.encode(words)]
    letters = [len(word) for word in words]
    pieces = vocabulary.pieces(range(len(vocabulary)))
    assert set(pieces) >= SPECIAL_PIECES
    if kind == "char":
        assert set(pieces) == SPECIAL_PIECES | CHARACTERS | {"▁"}
        assert all(
            row == [*f"▁{word}"]
            for row, word in zip(map(vocabulary.pieces, vocabulary.encode(words)), words, strict=True)
        )
    elif kind == "word":
        assert set(pieces) == SPECIAL_PIECES | {f"▁{word}" for word in words}
        assert set(counts) == {1}
    else:
        assert len(pieces) == len(set(pieces)) == size
        assert len(words) < sum(counts) < sum(letters)


def test_a_char_vocabulary_holds_at_most_its_size(trained: Callable[..., Vocabulary]) -> None:
    vocabulary = trained(type="char", vocab_size=10)
    assert len(vocabulary) == 10
    assert vocabulary.specials.unk in vocabulary.encode([" ".join(CHARACTERS)])[0]


def test_text_of_lines_that_are_too_long_is_not_called_blank_alone() -> None:
    with pytest.raises(UserError, match=r"is blank, or longer than 8,192 bytes"):
        train_vocabulary(["ab " * 4000] * 3, config(), "source")


def test_blank_text_has_no_pieces_and_no_pieces_are_blank_text(trained: Callable[..., Vocabulary]) -> None:
    vocabulary = trained()
    assert vocabulary.encode(["", "   "]) == [[], []]
    assert vocabulary.encode([]) == []
    assert vocabulary.decode([]) == ""


def test_one_vocabulary_is_shared_or_each_side_has_its_own(tmp_path: Path) -> None:
    for name, lines in (("a", LINES), ("b", OTHER_LINES)):
        (tmp_path / name).write_text("\n".join(lines), encoding="utf-8")
    texts = [ParallelText(source=tmp_path / "a", target=tmp_path / "b")]
    shared = train_tokenizer(texts, config())
    assert shared.shared
    assert shared.source is shared.target
    assert set(shared.files) == {"shared.model"}
    assert shared.source.specials.unk not in {
        piece for row in shared.source.encode(LINES + OTHER_LINES) for piece in row
    }

    apart = train_tokenizer(texts, config(shared=False))
    assert not apart.shared
    assert set(apart.files) == {"source.model", "target.model"}
    for side, lines, foreign in ((apart.source, LINES, OTHER_LINES), (apart.target, OTHER_LINES, LINES)):
        assert [side.decode(row) for row in side.encode(lines)] == lines
        assert all(side.specials.unk in row for row in side.encode(foreign))


def test_training_is_the_same_each_time(trained: Callable[..., Vocabulary]) -> None:
    assert train_vocabulary(iter(LINES), config(), "shared").data == trained().data


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char"])
def test_user_symbols_are_one_piece_wherever_they_stand(trained: Callable[..., Vocabulary], kind: str) -> None:
    symbols = ("<sep>", "@x,y@", '"', "ba", "é")
    vocabulary = trained(type=kind, user_symbols=symbols)
    for symbol in symbols:
        for text in (symbol, f"ke {symbol} li", f"ke{symbol}li", f"{symbol}{symbol}"):
            row = vocabulary.encode([text])[0]
            assert vocabulary.pieces(row).count(symbol) == text.count(symbol)
            assert vocabulary.decode(row) == text


@pytest.mark.parametrize("symbol", ["<s>", "</s>", "<pad>", "<unk>", "", "New York"])
def test_a_user_symbol_that_cannot_be_a_piece_of_text_is_refused(symbol: str) -> None:
    with pytest.raises((UserError, ValidationError)):
        train_vocabulary(LINES, config(user_symbols=(symbol,)), "shared")


def test_characters_never_seen_become_bytes_or_the_unknown_piece(trained: Callable[..., Vocabulary]) -> None:
    plain, in_bytes = trained(), trained(vocab_size=300, byte_fallback=True)
    for text in ("日本語", "ba é ke", "😀", "한국 ba"):
        assert plain.specials.unk in plain.encode([text])[0]
        row = in_bytes.encode([text])[0]
        assert in_bytes.specials.unk not in row
        assert in_bytes.decode(row) == text


def test_a_decoded_sentence_is_always_one_line(trained: Callable[..., Vocabulary]) -> None:
    vocabulary = trained(vocab_size=300, byte_fallback=True)
    by_piece = {piece: index for index, piece in enumerate(vocabulary.pieces(range(len(vocabulary))))}
    newline, letter = by_piece["<0x0A>"], by_piece["a"]
    rng = random.Random(3)
    for _ in range(50):
        row = rng.choices([newline, letter, by_piece["<0x0D>"], rng.randrange(len(vocabulary))], k=rng.randint(0, 8))
        assert not {"\n", "\r"} & set(vocabulary.decode(row))
    assert vocabulary.decode([letter, newline, letter]).split() == ["a", "a"]


# Sizes that the text cannot fill


@pytest.mark.parametrize("changes", [{}, {"user_symbols": ("<a>", "<b>")}, {"byte_fallback": True}])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_sizes_that_errors_name_are_the_largest_and_the_smallest_that_work(
    kind: str, changes: dict[str, Any]
) -> None:
    def size_in(message: str) -> int:
        assert message.startswith("tokenizer.vocab_size: ")
        assert "source text" in message
        return int(re.findall(r" is (\d+)\b(?! more)(?! too)", message)[-1])

    def train(size: int) -> Vocabulary:
        return train_vocabulary(LINES, config(type=kind, vocab_size=size, **changes), "source")

    for wrong, step in ((50_000, 1), (8, -1)):
        with pytest.raises(UserError) as caught:
            train(wrong)
        size = size_in(str(caught.value))
        assert len(train(size)) == size
        with pytest.raises(UserError):
            train(size + step)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("lines", [[], ["", "  "]])
def test_nothing_to_train_on_is_refused(kind: str, lines: list[str]) -> None:
    with pytest.raises(UserError, match="target text"):
        train_vocabulary(lines, config(type=kind), "target")


# Sampling


@pytest.mark.parametrize("sampling", [SamplingConfig(alpha=0.1), SamplingConfig(alpha=0.1, nbest=64)])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sampled_segmentations_differ_by_seed_and_say_the_same(
    trained: Callable[..., Vocabulary], kind: str, sampling: SamplingConfig
) -> None:
    vocabulary = trained(type=kind)
    plain = vocabulary.encode(LINES)
    draws = [vocabulary.sample(LINES, sampling, seed) for seed in range(3)]
    assert [vocabulary.sample(LINES, sampling, seed) for seed in range(3)] == draws
    assert all(a != b for a, b in ((draws[0], draws[1]), (draws[0], draws[2]), (draws[1], draws[2]), (draws[0], plain)))
    for rows in draws:
        assert [vocabulary.decode(row) for row in rows] == LINES
    assert vocabulary.encode(LINES) == plain


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**31])
def test_any_seed_can_be_sampled_from(trained: Callable[..., Vocabulary], seed: int) -> None:
    sampling = SamplingConfig(alpha=0.5)
    rows = trained().sample(LINES[:5], sampling, seed)
    assert [trained().decode(row) for row in rows] == LINES[:5]


# Fingerprints, and models that were given


def test_a_fingerprint_changes_with_every_byte_and_every_name(trained: Callable[..., Vocabulary]) -> None:
    a, b = trained().data, trained(type="bpe").data
    changed = bytes([*a[:-1], a[-1] ^ 1])
    contents = [
        {},
        {"shared.model": a},
        {"shared.model": b},
        {"shared.model": changed},
        {"source.model": a},
        {"source.model": a, "target.model": b},
        {"source.model": b, "target.model": a},
        {"source.model": b"", "target.model": a + b},
        {"source.model": a + b, "target.model": b""},
    ]
    assert len({fingerprint(files) for files in contents}) == len(contents)
    assert fingerprint({"b": a, "a": b}) == fingerprint({"a": b, "b": a})


@pytest.mark.parametrize("shared", [True, False])
def test_a_tokenizer_is_its_files(trained: Callable[..., Vocabulary], shared: bool) -> None:
    source = trained()
    before = Tokenizer(source, source if shared else trained(type="bpe"))
    after = Tokenizer.from_files(before.files)
    assert after.shared is shared
    assert after.files == before.files
    assert after.fingerprint == before.fingerprint == fingerprint(before.files)
    assert after.target.encode(LINES) == before.target.encode(LINES)


def test_given_models_are_used_instead_of_training(trained: Callable[..., Vocabulary], tmp_path: Path) -> None:
    a, b = tmp_path / "a.model", tmp_path / "b.model"
    a.write_bytes(trained().data)
    b.write_bytes(trained(type="bpe").data)
    assert read_given(TokenizerConfig()) is None
    one = read_given(TokenizerConfig(model=a))
    assert one is not None
    assert one.shared
    assert one.source.encode(LINES) == trained().encode(LINES)
    two = read_given(TokenizerConfig(source_model=a, target_model=b, shared=False))
    assert two is not None
    assert not two.shared
    assert two.source.data == trained().data
    assert two.target.data == trained(type="bpe").data


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\n" * 100, bytes(range(256)) * 4], ids=["empty", "text", "line ends", "bytes"]
)
def test_a_given_file_that_is_no_model_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.model"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"mine\.model"):
        read_given(TokenizerConfig(model=path))


def test_a_given_file_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path) -> None:
    for path in (tmp_path / "none.model", tmp_path):
        with pytest.raises(UserError, match=re.escape(str(path))):
            read_given(TokenizerConfig(model=path))


def test_a_damaged_model_is_refused_or_works(trained: Callable[..., Vocabulary]) -> None:
    data = trained().data
    rng = random.Random(4)
    refused = 0
    for _ in range(60):
        cut = bytearray(data[: rng.randrange(len(data))] if rng.random() < 0.5 else data)
        if cut:
            cut[rng.randrange(len(cut))] = rng.randrange(256)
        try:
            Vocabulary(bytes(cut), "damaged").encode(LINES[:3])
        except UserError:
            refused += 1
    assert refused > 20


def foreign_model(**options: Any) -> bytes:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=model, vocab_size=60, minloglevel=2, **options
    )
    return model.getvalue()


def test_a_model_without_padding_or_start_borrows_the_end_piece() -> None:
    specials = Vocabulary(foreign_model(pad_id=-1, bos_id=-1, eos_id=1, unk_id=0), "foreign").specials
    assert (specials.pad, specials.unk, specials.bos, specials.eos) == (1, 0, 1, 1)


def test_a_model_without_an_end_piece_is_refused() -> None:
    with pytest.raises(UserError, match="end-of-sentence"):
        Vocabulary(foreign_model(eos_id=-1), "foreign")


@pytest.mark.parametrize(("kind", "size"), [("char", 60), ("word", 500)])
def test_sampling_from_a_given_model_of_one_segmentation_is_refused(
    trained: Callable[..., Vocabulary], tmp_path: Path, kind: str, size: int
) -> None:
    path = tmp_path / "one.model"
    path.write_bytes(trained(type=kind, vocab_size=size).data)
    with pytest.raises(UserError, match="sampling"):
        read_given(TokenizerConfig(model=path, sampling=SamplingConfig(alpha=0.1)))
