"""Forced phrases over toy models: each stands in every translation, and a wide exact beam equals exhaustive search."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from functools import cache

import pytest
import torch
from test_search import BOS, EOS, LOOKS, Ids, Toy, penalized

from s2s_cli.config import DecodingConfig
from s2s_cli.data.spelling import Spelling, stands
from s2s_cli.search.constraints import Forced, Phrase
from s2s_cli.search.flight import Guidance, Hypothesis, Sources
from s2s_cli.search.loop import decode
from s2s_cli.search.rules import Control, NoRepeatedNgrams
from s2s_cli.search.wording import Forbidden, Prefix

# Some continue a word, some begin one: 0 and 1 are special, 2 is the unknown piece.
TEXTS = ["", "", " ⁇ ", " a", " b", "a", "b", " c", ",", " ab", "c"]
SEARCHES = [
    *({"beam": beam} for beam in (1, 2, 3, 5, 8)),
    {"beam": 4, "search": "diverse", "beam_groups": 2},
    {"search": "sampling", "n_best": 3},
    {"beam": 5, "n_best": 5, "stopping": "exact"},
    {"beam": 4, "stopping": "early"},
]


def spelling(size: int) -> Spelling:
    return Spelling([text.encode() for text in TEXTS[:size]], 2)


def phrase(words: Spelling, *pieces: int) -> Phrase:
    return Phrase(pieces, words.text(pieces))


def search(
    model: Toy, sentences: Sequence[int], limits: Sequence[int], asked: Sequence[Guidance], config: DecodingConfig
) -> list[list[Hypothesis]]:
    src_BS, length_B = torch.tensor(sentences)[:, None], torch.full((len(sentences),), LOOKS)
    sources = [Sources(src_BS, length_B, torch.tensor(limits), guidance=asked)]
    return decode(model, sources, config, bos=BOS, eos=EOS, suppress=[BOS, 2])


def every_best(
    model: Toy,
    sentence: int,
    limit: int,
    allowed: Callable[[Ids], bool],
    alpha: float = DecodingConfig().length_penalty,
) -> list[tuple[float, Ids]]:
    """Of all that can be said within the limit what is allowed, best first, after its score."""

    @cache
    def total(ids: Ids) -> float:
        return total(ids[:-1]) + model.log_probabilities(sentence, ids[:-1])[ids[-1]] if ids else 0.0

    found = []
    for length in range(limit):
        for ids in itertools.product(range(3, model.size), repeat=length):
            if allowed(ids):
                found.append((penalized(total((*ids, EOS)), length + 1, alpha), ids))
    return sorted(found, reverse=True)


def agrees(found: Sequence[Hypothesis], expected: Sequence[tuple[float, Ids]]) -> None:
    """With the best five."""
    assert [item.ids for item in found] == [ids for _, ids in expected[:5]]
    assert [item.score for item in found] == pytest.approx([score for score, _ in expected[:5]], abs=1e-4)


def holds(ids: Ids, pieces: Ids, words: Spelling) -> bool:
    """Whether the pieces stand in a row, and what follows is no part of their last word."""
    for at in range(len(ids) - len(pieces) + 1):
        end = at + len(pieces)
        goes_on = end < len(ids) and bool(words.continuing[ids[end]]) and TEXTS[pieces[-1]][-1] != ","
        before = words.text(ids[:at])
        within = before and before[-1] not in " ," and TEXTS[pieces[0]][0] not in " ,"
        if ids[at:end] == pieces and not goes_on and not within:
            return True
    return False


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_exact_beam_finds_the_best_that_meets_the_constraints(seed: int) -> None:
    draw, size, limit = random.Random(seed), 6, 5
    model, words = Toy(seed, size), spelling(size)
    pieces = [(3, 4), (4, 5), (3,), (3, 5, 4), (4, 4)][seed % 5], *[[], [(4,)]][seed % 2 :][:1]
    wanted = [part for part in pieces if part and isinstance(part, tuple)]
    forced = Forced([phrase(words, *part) for part in wanted], words, EOS)
    config = DecodingConfig(beam=600, n_best=5, length_penalty=draw.choice([0.0, 1.0]), stopping="exact")
    (found,) = search(model, [seed], [limit], [Guidance((forced,))], config)
    expected = every_best(
        model, seed, limit, lambda ids: all(holds(ids, part, words) for part in wanted), config.length_penalty
    )
    agrees(found, expected)


@pytest.mark.parametrize("seed", range(12))
def test_a_wide_exact_beam_finds_the_best_without_what_is_forbidden(seed: int) -> None:
    """No piece may complete it, whatever could follow."""
    draw, size, limit = random.Random(seed), 7, 5
    model, words = Toy(seed, size), spelling(size)
    banned = draw.sample(["a", "b", "ab", "ba", "a b", "b a", "aa b", "bb"], draw.randint(1, 3))

    def is_free(ids: Ids) -> bool:
        said = [words.text(ids[:end]) for end in range(1, len(ids) + 1)]
        return not any(stands(one, text) for one in banned for text in said)

    config = DecodingConfig(beam=1000, n_best=5, length_penalty=draw.choice([0.0, 1.0]), stopping="exact")
    (found,) = search(model, [seed], [limit], [Guidance((Forbidden(banned, words),))], config)
    agrees(found, every_best(model, seed, limit, is_free, config.length_penalty))


@pytest.mark.parametrize("seed", range(12))
def test_a_wide_exact_beam_finds_the_best_that_begins_with_the_prefix(seed: int) -> None:
    """In whatever pieces, of which the last one may go past it; those of a head are given."""
    draw, limit = random.Random(seed), 5
    words = Spelling([text.encode() for text in ("", "", " ⁇ ", " a", "b", " ab", "ba", ",")], 2)
    model = Toy(seed, len(words.texts))
    head = [(), (3,), (5,)][seed % 3]
    rest = draw.choice([" a", " ab", " abb", " a,", " ab a"])
    whole = words.text(head) + (rest if head else rest[1:])

    def begins(ids: Ids) -> bool:
        return ids[: len(head)] == head and words.text(ids).startswith(whole)

    config = DecodingConfig(beam=1000, n_best=5, length_penalty=draw.choice([0.0, 1.0]), stopping="exact")
    (found,) = search(model, [seed], [limit + 1], [Guidance((Prefix(head, rest.encode(), "", words),))], config)
    agrees(found, every_best(model, seed, limit + 1, begins, config.length_penalty))


def in_order(ids: Ids, phrases: Sequence[Ids]) -> bool:
    """Whether phrases stand there one after the other."""
    at = 0
    for pieces in phrases:
        ends = [end for end in range(at + len(pieces), len(ids) + 1) if ids[end - len(pieces) : end] == pieces]
        if not ends:
            return False
        at = ends[0]
    return True


ORDERED: list[list[Ids]] = [[(4, 5), (3, 5)], [(3, 5), (3, 5)], [(3, 4, 5), (3, 5)], [(4, 5), (4, 5)]]


@pytest.mark.parametrize("seed", range(8))
def test_a_wide_exact_beam_finds_the_best_that_keeps_the_order(seed: int) -> None:
    words, limit = Spelling([text.encode() for text in ("", "", " ⁇ ", " a", " b", ",")], 2), 7
    model, tags = Toy(seed, 6), ORDERED[seed % 4]
    phrases = [Phrase(pieces, words.text(pieces), firm=True, ordered=True) for pieces in tags]
    config = DecodingConfig(beam=1000, n_best=5, stopping="exact")
    (found,) = search(model, [seed], [limit], [Guidance((Forced(phrases, words, EOS),))], config)
    expected = every_best(model, seed, limit, lambda ids: in_order(ids, tags))
    agrees(found, expected)


@pytest.mark.parametrize("block", range(4))
def test_ordered_phrases_come_in_their_order_in_every_search(block: int) -> None:
    """However little room there is, and whatever else is forced or forbidden."""
    for seed in range(block * 30, block * 30 + 30):
        draw, words = random.Random(seed), spelling(len(TEXTS))
        tags = [(draw.choice([3, 4, 7]), *draw.choices([5, 6, 10], k=draw.randint(0, 2)), 8) for _ in range(4)]
        phrases = [Phrase(pieces, words.text(pieces), firm=True, ordered=True) for pieces in tags]
        other = phrase(words, draw.choice([3, 4, 7, 9]), *draw.choices(range(3, 11), k=draw.randint(0, 2)))
        phrases.insert(draw.randint(0, 4), other)
        banned = [text for text in ("ab", "c", "a b", "b") if not any(stands(text, one.text) for one in phrases)]
        avoid = Forbidden(banned, words) if banned and draw.random() < 0.5 else None
        forced = Forced(phrases, words, EOS, avoid)
        controls: tuple[Control, ...] = (avoid, forced) if avoid else (forced,)
        config = DecodingConfig.model_validate(SEARCHES[seed % len(SEARCHES)])
        limit = sum(control.least for control in controls) + 1 + draw.choice([0, 1, 5])
        (group,) = search(Toy(seed, len(TEXTS)), [seed % 50], [limit], [Guidance(controls)], config)
        for item in group:
            assert in_order(item.ids, tags), (seed, item.ids, tags)
            assert holds(item.ids, other.pieces, words)
            assert not avoid or avoid.found(words.text(item.ids)) is None


def drawn(seed: int) -> tuple[Toy, Spelling, list[int], list[int], list[Guidance], list[list[Phrase]], list[list[str]]]:
    """Sentences with several phrases each, that overlap and share pieces, and forbidden words that none holds."""
    draw = random.Random(seed)
    size = draw.randint(8, len(TEXTS))
    words = spelling(size)
    sentences, limits, asked, phrases, forbidden = [], [], [], [], []
    for _ in range(draw.randint(2, 6)):
        own = []
        for _ in range(draw.randint(0, 3)):
            pieces = [draw.choice([3, 4, 7]), *(draw.choice(range(3, size)) for _ in range(draw.randint(0, 3)))]
            own.append(phrase(words, *pieces))
        banned = [draw.choice(["a", "b", "c", "a b", "ab", "b c", "ba"]) for _ in range(draw.choice([0, 0, 1, 2]))]
        banned = [text for text in banned if not any(stands(text, one.text) for one in own)]
        avoid = Forbidden(banned, words) if banned else None
        controls: list[Control] = [avoid] if avoid else []
        if own:
            controls.append(Forced(own, words, EOS, avoid))
        if draw.random() < 0.3:
            controls.append(NoRepeatedNgrams(2))
        asked.append(Guidance(tuple(controls)))
        least = sum(control.least for control in controls) + 1
        sentences.append(draw.randrange(50))
        limits.append(max(least, draw.randint(1, 12)))
        phrases.append(own)
        forbidden.append(banned)
    return Toy(seed, size, draw.choice([0.5, 2.0, 6.0])), words, sentences, limits, asked, phrases, forbidden


@pytest.mark.parametrize("block", range(10))
def test_promises_are_kept_in_every_case(block: int) -> None:
    """Forced phrases stand, forbidden ones do not, limits hold, alone as in a batch: in at least a hundred sentences of
    which something is asked."""
    asked_of = 0
    for seed in range(block * 36, block * 36 + 36):
        model, words, sentences, limits, asked, phrases, forbidden = drawn(seed)
        config = DecodingConfig.model_validate(SEARCHES[seed % len(SEARCHES)])
        together = search(model, sentences, limits, asked, config)
        for row, group in enumerate(together):
            assert group
            for item in group:
                assert len(item.ids) + 1 <= limits[row]
                assert 2 not in item.ids
                text = words.text(item.ids)
                for one in phrases[row]:
                    assert stands(one.text, text), (seed, row, one.text, text)
                    assert holds(item.ids, one.pieces, words)
                for one in forbidden[row]:
                    assert not stands(one, text), (seed, row, one, text)
            (alone,) = search(model, sentences[row : row + 1], limits[row : row + 1], asked[row : row + 1], config)
            assert [item.ids for item in alone] == [item.ids for item in group]
            assert [item.score for item in alone] == pytest.approx([item.score for item in group], abs=1e-5)
            asked_of += bool(phrases[row] or forbidden[row])
    assert asked_of >= 100


@pytest.mark.parametrize("seed", range(20))
def test_what_stands_in_the_best_translation_changes_nothing(seed: int) -> None:
    """Those beside it, of which nothing is asked, are the same bit for bit."""
    draw, model, words = random.Random(seed), Toy(seed, 7, 3.0), spelling(7)
    config = DecodingConfig(beam=1000, stopping="exact")
    free = search(model, [seed, 7], [6, 6], [Guidance(), Guidance()], config)
    ids = free[0][0].ids
    begins = [at for at, piece in enumerate(ids) if TEXTS[piece][0] == " "]
    if begins:
        at = draw.choice(begins)
        end = draw.choice([at for at in range(at + 1, len(ids) + 1) if at == len(ids) or TEXTS[ids[at]][0] in " ,"])
        forced = Forced([phrase(words, *ids[at:end])], words, EOS)
        found = search(model, [seed, 7], [6, 6], [Guidance((forced,)), Guidance()], config)
        assert found[0][0].ids == ids
        assert [(item.ids, item.score) for item in found[1]] == [(item.ids, item.score) for item in free[1]]


def test_an_unknown_piece_is_said_only_within_its_phrase_and_replaced() -> None:
    words = spelling(len(TEXTS))
    for seed in range(20):
        forced = Forced([Phrase((3, 2), "☃", True, True), Phrase((3, 2), "☂", True, True)], words, EOS)
        config = DecodingConfig(beam=1 + seed % 5)
        ((found, *_),) = search(Toy(seed, len(TEXTS)), [seed], [9], [Guidance((forced,))], config)
        assert found.ids.count(2) == 2
        text = words.text(found.ids, forced.surfaces(found.ids))
        assert "⁇" not in text
        assert text.count("☃") == text.count("☂") == 1


def longest(rest: bytes, texts: Sequence[bytes]) -> float:
    """Pieces of the longest segmentation, of which the last may go past the end; by trying all."""
    if not rest:
        return 0
    fit = [text for text in texts if text and (rest.startswith(text) or text.startswith(rest))]
    return max((1 + longest(rest[len(text) :], texts) for text in fit), default=-math.inf)


@pytest.mark.parametrize("seed", range(20))
def test_a_prefix_has_room_for_any_segmentation_and_no_more(seed: int) -> None:
    draw, texts = (
        random.Random(seed),
        [text.encode() for text in ("", "", " ⁇ ", "東", "京", "東京", "都", " 東", "京都市")],
    )
    rest = "".join(draw.choices("東京都", k=draw.randint(1, 7)))
    prefix = Prefix((3,), rest.encode(), "", Spelling(texts, 2))
    assert prefix.spells
    assert prefix.least == 1 + longest(rest.encode(), texts)
    assert Prefix((), 400 * "東".encode(), "", Spelling(texts, 2)).least == 400


@pytest.mark.parametrize("seed", range(30))
def test_a_prefix_is_the_beginning_in_whatever_pieces(seed: int) -> None:
    draw, words = random.Random(seed), spelling(len(TEXTS))
    text = "".join(draw.choice(["a", "b", "c", " a", " b", ","]) for _ in range(draw.randint(1, 6))).strip()
    prefix = Prefix((), f" {text}".encode(), "", words)
    assert prefix.spells or text[0] == ","
    if prefix.spells:
        config = DecodingConfig(beam=1 + seed % 4)
        ((found, *_),) = search(Toy(seed, len(TEXTS)), [seed], [prefix.least + 3], [Guidance((prefix,))], config)
        assert words.text(found.ids).startswith(text)
        assert math.isfinite(found.score)
