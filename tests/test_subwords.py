"""Drawn segmentations: equal in every process, and as probable as the papers say, by plain enumeration."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import sentencepiece as spm

from s2s_cli.config import SamplingConfig
from s2s_cli.data import subwords
from s2s_cli.data.pieces import Kind, Piece, Pieces, Type, read_pieces
from s2s_cli.data.subwords import Lattices, Merges, drawing
from s2s_cli.data.tokenizer import Vocabulary
from s2s_cli.errors import UserError

SYLLABLES = ("ba", "na", "ban", "an", "sa", "nab", "do", "d")
TEXT = [
    " ".join("".join(random.choices(SYLLABLES, k=random.randint(1, 5))) for _ in range(6))
    for random in map(Random, range(300))
]
SOME = ("▁banana", "▁sanaban", "nabsa")
ALL = SamplingConfig(alpha=0.3)
EVERY = [SamplingConfig(alpha=0.3), SamplingConfig(alpha=0.3, nbest=8)]


def model(kind: str = "unigram", size: int = 40, **options: Any) -> bytes:
    """Trained on TEXT."""
    data = BytesIO()
    settings = {"model_type": kind, "vocab_size": size, "hard_vocab_limit": False, "minloglevel": 2, **options}
    spm.SentencePieceTrainer.train(sentence_iterator=iter(TEXT), model_writer=data, **settings)
    return data.getvalue()


def vocabulary(kind: str = "unigram", size: int = 40, **options: Any) -> Vocabulary:
    return Vocabulary(model(kind, size, **options), "test")


def frequencies(draw: Callable[[Random], list[int]], times: int = 20_000) -> dict[tuple[int, ...], float]:
    random = Random(1)
    counts = Counter(tuple(draw(random)) for _ in range(times))
    return {ids: count / times for ids, count in counts.items()}


def assert_close(
    found: dict[tuple[int, ...], float], wanted: dict[tuple[int, ...], float], times: int = 20_000
) -> None:
    """The differences are those that as many draws make: the mean of |x - p| is near sqrt(2 p / pi / draws)."""
    difference = sum(abs(found.get(ids, 0) - wanted.get(ids, 0)) for ids in found.keys() | wanted.keys())
    assert difference < 1.5 * sum(math.sqrt(2 * p / math.pi / times) for p in wanted.values())


# One seed, two processes

DRAWN = """
import json, sys
from s2s_cli.config import SamplingConfig
from s2s_cli.data.tokenizer import Vocabulary
models, samplings, lines = json.load(sys.stdin)
for model in models:
    for sampling in samplings:
        print(Vocabulary(bytes.fromhex(model), "").sample(lines, SamplingConfig(**sampling), 7))
"""


def test_equal_seeds_draw_equally_in_every_process() -> None:
    models = [model("unigram"), model("bpe")]
    asked = json.dumps([[data.hex() for data in models], [sampling.model_dump() for sampling in EVERY], TEXT])
    command = (sys.executable, "-c", DRAWN)
    first, second = (subprocess.run(command, input=asked, check=True, capture_output=True, text=True) for _ in range(2))
    assert first.stdout == second.stdout
    own = [Vocabulary(data, "own").sample(TEXT, sampling, 7) for data in models for sampling in EVERY]
    assert first.stdout == "".join(f"{rows}\n" for rows in own)
    others = [Vocabulary(data, "own").sample(TEXT, sampling, 8) for data in models for sampling in EVERY]
    assert all(rows != again for rows, again in zip(own, others, strict=True))


# What is in the file


@pytest.mark.parametrize("kind", list(Kind))
def test_the_file_says_what_sentencepiece_says(kind: Kind) -> None:
    options = {"byte_fallback": True} if kind is Kind.BPE else {}
    symbols = {} if kind is Kind.WORD else {"user_defined_symbols": ["<a>"]}
    data = model(kind.name.lower(), 300 if options else 40, **symbols, **options)
    processor = spm.SentencePieceProcessor()
    processor.load_from_serialized_proto(data)
    found = read_pieces(data)
    assert found.kind is kind
    assert [piece.text for piece in found.all] == processor.id_to_piece(list(range(len(processor))))
    for number, piece in enumerate(found.all):
        assert piece.score == processor.get_score(number)
        assert (piece.type is Type.CONTROL) == processor.is_control(number)
        assert (piece.type is Type.UNKNOWN) == processor.is_unknown(number)
        assert (piece.type is Type.BYTE) == processor.is_byte(number)
        assert (piece.type is Type.UNUSED) == processor.is_unused(number)
    assert list(found.of(Type.USER_DEFINED)) == [*symbols.get("user_defined_symbols", [])]
    assert found.unknown == processor.unk_id()


# How probable each is


def segmentations(word: str, known: dict[str, int]) -> Iterator[tuple[int, ...]]:
    """All there are, one piece after the other."""
    if not word:
        yield ()
    for end in range(1, len(word) + 1):
        if word[:end] in known:
            yield from ((known[word[:end]], *rest) for rest in segmentations(word[end:], known))


@pytest.fixture(params=[True, False], ids=["kept", "long"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of which something is kept, and words that are too long for that."""
    if not request.param:
        monkeypatch.setattr(subwords, "KEPT_LENGTH", 0)


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 3.0])
def test_unigram_draws_all_segmentations_by_their_smoothed_probability(alpha: float) -> None:
    pieces = read_pieces(model())
    for word in SOME:
        found = [*segmentations(word, pieces.of(Type.NORMAL))]
        assert len(found) > 3
        weights = [math.exp(alpha * sum(pieces.all[piece].score for piece in row)) for row in found]
        wanted = {row: weight / sum(weights) for row, weight in zip(found, weights, strict=True)}
        draw = Lattices(pieces, alpha)
        assert_close(frequencies(lambda random, word=word, draw=draw: draw(word, random)), wanted)


@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_unigram_draws_among_the_best_by_their_smoothed_probability(alpha: float) -> None:
    own, sampling = vocabulary(), SamplingConfig(alpha=alpha, nbest=5)
    pieces = read_pieces(own.data)
    scored = [
        (sum(pieces.all[piece].score for piece in row), row)
        for row in segmentations("▁banan▁nab", pieces.of(Type.NORMAL))
    ]
    best = sorted(scored, reverse=True)[:5]
    total = sum(math.exp(alpha * score) for score, _ in best)
    wanted = {row: math.exp(alpha * score) / total for score, row in best}
    draws = (own.sample(["banan nab"], sampling, seed)[0] for seed in range(4000))
    assert_close({row: count / 4000 for row, count in Counter(map(tuple, draws)).items()}, wanted, 4000)


def dropped(
    parts: list[tuple[int, str]],
    pieces: Pieces,
    alpha: float,
    out: frozenset[tuple[int, str, str]] = frozenset(),
    share: float = 1.0,
) -> Iterator[tuple[tuple[str, ...], float]]:
    """All ways in which merges can be left out, with their probabilities: at each turn the best pair that was not left
    out already; where it was, is known by its place, as long as nothing there was merged."""
    known = pieces.of(Type.NORMAL)
    open_ = [
        (-pieces.all[known[left + right]].score, index, at)
        for at, ((index, left), (_, right)) in enumerate(pairwise(parts))
        if left + right in known and (index, left, right) not in out
    ]
    if not open_:
        yield tuple(part for _, part in parts), share
        return
    _, index, at = min(open_)
    left, right = parts[at][1], parts[at + 1][1]
    yield from dropped(parts, pieces, alpha, out | {(index, left, right)}, share * alpha)
    merged = [*parts[:at], (index, left + right), *parts[at + 2 :]]
    yield from dropped(merged, pieces, alpha, out, share * (1 - alpha))


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_bpe_leaves_out_each_merge_by_its_probability(alpha: float) -> None:
    pieces = read_pieces(model("bpe"))
    known = pieces.of(Type.NORMAL)
    for word in SOME:
        wanted = Counter[tuple[int, ...]]()
        for parts, share in dropped([*enumerate(word)], pieces, alpha):
            wanted[tuple(known[part] for part in parts)] += share  # type: ignore[assignment]
        assert math.isclose(sum(wanted.values()), 1)
        draw = Merges(pieces, alpha)
        assert_close(frequencies(lambda random, word=word, draw=draw: draw(word, random)), dict(wanted))


UNUSUAL = [
    "",
    " ",
    "banana",
    "  sand   nabab ",
    "zebra x",
    "ban<a>ana <a> <a><a>",
    "\u2603\u2603 nab\u2603ab \u2603",
    "sand" * 30,
    "\uff42and \u2581 band",
    TEXT[0] * 3,
]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "symbols": {"user_defined_symbols": ["<a>", "nab"]},
    "bytes": {"byte_fallback": True},
    "suffix": {"treat_whitespace_as_suffix": True},
    "beyond words": {"split_by_whitespace": False},
    "blanks kept": {"remove_extra_whitespaces": False},
    "no dummy": {"add_dummy_prefix": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_with_nothing_left_to_chance_it_is_sentencepiece(kind: str, options: dict[str, Any]) -> None:
    own = vocabulary(kind, 300 if "byte_fallback" in options else 40, **options)
    certain = SamplingConfig.model_construct(alpha=1e4 if kind == "unigram" else 1e-9)
    texts = [*UNUSUAL, *TEXT]
    scores = read_pieces(own.data).scores
    for row, wanted in zip(own.sample(texts, certain, 1), own.encode(texts), strict=True):
        tie = kind == "unigram" and math.isclose(
            sum(scores[i] for i in row), sum(scores[i] for i in wanted), rel_tol=1e-5
        )
        assert row == wanted or tie


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("sampling", EVERY, ids=["all", "the best"])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_whatever_is_drawn_says_the_same(kind: str, sampling: SamplingConfig, options: dict[str, Any]) -> None:
    own = vocabulary(kind, 300 if "byte_fallback" in options else 40, **options)
    texts = [*UNUSUAL, *TEXT[:50]]
    said = [own.decode(row) for row in own.encode(texts)]
    for seed in range(10):
        assert [own.decode(row) for row in own.sample(texts, sampling, seed)] == said


@pytest.mark.parametrize("nbest", [-1, 64])
def test_symbols_are_never_parted(nbest: int) -> None:
    own = vocabulary("unigram", 40, user_defined_symbols=["<a>", "nab"])
    (symbol,) = own.ids(["nab"])
    for seed in range(20):
        for row in own.sample(["nabab nab<a>"], SamplingConfig(alpha=0.01, nbest=nbest), seed):
            assert row.count(symbol) == 2


@pytest.mark.parametrize("kind", ["char", "word"])
def test_one_segmentation_leaves_nothing_to_draw(kind: str) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.sampling: .* cannot sample; set alpha to 0"):
        vocabulary(kind, 40).sample(["a"], ALL, 1)


def test_a_bpe_model_that_was_given_is_held_to_a_share_too() -> None:
    with pytest.raises(UserError, match=r"tokenizer\.sampling\.alpha must be under 1"):
        vocabulary("bpe").sample(["a"], SamplingConfig(alpha=1), 1)


def made(*normal: tuple[str, float], more: Sequence[Piece] = ()) -> Pieces:
    """A unigram model by hand."""
    return Pieces(Kind.UNIGRAM, [Piece("<unk>", 0, Type.UNKNOWN), *(Piece(*one, Type.NORMAL) for one in normal), *more])


def test_an_unknown_character_costs_what_it_costs_in_sentencepiece() -> None:
    """b is known within ab alone: ab scores -12, and a with an unknown character -1 and 10 less than the worst, -22."""
    draw = Lattices(made(("ab", -12.0), ("a", -1.0)), 0.1)
    other = math.exp(0.1 * (-1 - 22 + 12))
    wanted = {(1,): 1 / (1 + other), (2, 0): other / (1 + other)}
    assert_close(frequencies(lambda random: draw("ab", random)), wanted)


def test_bytes_are_known_by_their_names_wherever_they_stand() -> None:
    rows = [Piece(f"<0x{byte:02X}>", 0, Type.BYTE) for byte in reversed(range(256))]
    pieces = made(("a", -1.0), more=rows)
    assert [pieces.all[piece].text for piece in pieces.spelled("\u2603")] == ["<0xE2>", "<0x98>", "<0x83>"]


def test_a_file_is_read_as_protocol_buffers_are() -> None:
    data = model("bpe")
    assert read_pieces(data + b"\x12\x00").kind is Kind.BPE, "a field that comes twice adds to what it said before"
    with pytest.raises(UserError, match="unknown kind"):
        read_pieces(data + b"\x0b")


def test_a_bpe_model_of_unused_pieces_is_refused() -> None:
    pieces = Pieces(Kind.BPE, [*made(("a", -1.0)).all, Piece("aa", -2.0, Type.UNUSED)])
    with pytest.raises(UserError, match="cannot sample"):
        drawing(spm.SentencePieceProcessor(), pieces, ALL)
