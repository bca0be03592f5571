"""Diverse beams against plain ones in lists; samples against the exact distribution; what holds of every search."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from slow import allowed, search, slow_search, teacher_forced
from test_search import BOS, EOS, Ids, Toy, assert_alike, assert_same, ragged

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.batches import Batch, pad_rows
from s2s_cli.model.seq2seq import Seq2Seq
from s2s_cli.search import loop, searches
from s2s_cli.search.flight import Guidance, Sources
from s2s_cli.search.loop import decode


def diverse(**keys: object) -> DecodingConfig:
    return DecodingConfig.model_validate({"search": "diverse", **keys})


def sampling(**keys: object) -> DecodingConfig:
    return DecodingConfig.model_validate({"search": "sampling", **keys})


@pytest.mark.parametrize("seed", range(40))
def test_a_diverse_beam_equals_the_slow_one(seed: int) -> None:
    draw = random.Random(seed)
    groups, width = draw.choice([2, 3, 4]), draw.choice([1, 1, 2, 3])
    config = diverse(
        beam=groups * width,
        beam_groups=groups,
        n_best=draw.choice([1, 2, groups * width]),
        diversity=draw.choice([0.0, 0.3, 1.0, 5.0]),
        length_penalty=draw.choice([0.0, 1.0]),
        stopping=draw.choice(["early", "full", "exact"]),
        mbr=draw.random() < 0.2,
    )
    model = Toy(seed, size=draw.randint(3, 12), sharpness=draw.choice([0.5, 1.0, 2.0]))
    sentences = [draw.randrange(50) for _ in range(5)]
    limits = [draw.randint(1, 8) for _ in sentences]
    suppress = draw.choice([[], [BOS]])
    found = search(model, sentences, limits, config, suppress=suppress)
    for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True):
        assert_same(hypotheses, slow_search(model, sentence, limit, config, suppress))


def test_the_first_group_is_a_beam_of_its_width_and_groups_without_diversity_are_all_like_it() -> None:
    model, sentences, limits = ragged(4)
    beam = search(model, sentences, limits, DecodingConfig(beam=2, n_best=2))
    alike = search(model, sentences, limits, diverse(beam=6, beam_groups=3, n_best=6, diversity=0.0))
    assert_alike(alike, beam)
    apart = search(model, sentences, limits, diverse(beam=6, beam_groups=3, n_best=6, diversity=1.0))
    for group, found in zip(beam, apart, strict=True):
        assert {one.ids for one in group} <= {one.ids for one in found}


def test_one_group_of_one_is_greedy_search() -> None:
    model, sentences, limits = ragged(4)
    greedy = search(model, sentences, limits, DecodingConfig(beam=1))
    assert_alike(search(model, sentences, limits, diverse(beam=1)), greedy)


def test_groups_of_one_that_must_differ_begin_with_different_pieces() -> None:
    model, sentences, limits = ragged(4)
    limits = [max(3, limit) for limit in limits]
    found = search(model, sentences, limits, diverse(beam=5, n_best=5, diversity=100.0, min_length=1))
    for group in found:
        assert len({one.ids[0] for one in group}) == len(group) == 5


def test_more_diversity_gives_more_different_pieces() -> None:
    model, sentences, limits = ragged(7)
    limits = [limit + 4 for limit in limits]
    different = []
    for diversity in (0.0, 0.5, 2.0):
        found = search(model, sentences, limits, diverse(beam=4, n_best=4, diversity=diversity))
        different.append(sum(len({one.ids for one in group}) for group in found))
    assert different == sorted(different)
    assert different[0] < different[-1]


# Sampling


def truncated(scores: dict[int, float], config: DecodingConfig) -> dict[int, float]:
    """The exact probabilities of a draw, after the definitions."""
    highest = max(scores.values())
    weights = {piece: math.exp((score - highest) / config.temperature) for piece, score in scores.items()}
    total = sum(weights.values())
    probabilities = {piece: weight / total for piece, weight in weights.items()}
    ranked = sorted(probabilities, key=lambda piece: -probabilities[piece])
    kept = set(ranked[: config.top_k])
    if config.top_p < 1:
        fewest = next(
            count for count in range(1, len(ranked) + 1) if _sum(probabilities, ranked[:count]) >= config.top_p
        )
        kept &= set(ranked[:fewest])
    kept &= {piece for piece in ranked if probabilities[piece] >= config.min_p * probabilities[ranked[0]]}
    total = _sum(probabilities, sorted(kept))
    return {piece: probabilities[piece] / total for piece in sorted(kept)}


def _sum(probabilities: dict[int, float], pieces: list[int]) -> float:
    return sum(probabilities[piece] for piece in pieces)


def distribution(model: Toy, sentence: int, limit: int, config: DecodingConfig) -> dict[Ids, float]:
    """The exact probability of every translation."""
    found, open_ = {}, {(): 1.0}
    for _ in range(limit):
        longer: dict[Ids, float] = {}
        for ids, probability in open_.items():
            for piece, share in truncated(allowed(model, sentence, ids, limit, config), config).items():
                if piece == EOS:
                    found[ids] = probability * share
                else:
                    longer[(*ids, piece)] = probability * share
        open_ = longer
    assert not open_
    assert sum(found.values()) == pytest.approx(1)
    return found


LIMITED = [
    {},
    {"temperature": 0.4},
    {"temperature": 3.0},
    {"top_k": 1},
    {"top_k": 2},
    {"top_k": 100},
    {"top_p": 0.7},
    {"top_p": 0.01},
    {"min_p": 0.3},
    {"top_k": 3, "top_p": 0.8, "min_p": 0.1, "temperature": 1.7},
    {"repetition_penalty": 1.8},
    {"min_length": 1, "no_repeat_ngram": 1},
]


@pytest.mark.parametrize("mostly", [1, 64])
@pytest.mark.parametrize("keys", LIMITED, ids=str)
def test_samples_follow_the_exact_distribution(
    keys: dict[str, object], mostly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Pearson's chi-square, translations expected fewer than five times taken together."""
    monkeypatch.setattr(searches, "MOSTLY_ENOUGH", mostly)
    model, sentence, limit = Toy(3, size=5, sharpness=1.0), 7, 4
    config = sampling(samples=1000, n_best=1000, **keys)
    seeds = list(range(20))
    drawn = search(model, [sentence] * len(seeds), [limit] * len(seeds), config, seeds=seeds)
    assert [len(group) for group in drawn] == [1000] * len(seeds), "all samples end, and all are given"
    count = Counter(one.ids for group in drawn for one in group)
    expected = {ids: 1000 * len(seeds) * share for ids, share in distribution(model, sentence, limit, config).items()}
    assert set(count) <= set(expected), "what cannot be drawn was drawn"
    often = [ids for ids, value in expected.items() if value >= 5]
    cells = [(count[ids], expected[ids]) for ids in often]
    rest = sum(expected.values()) - sum(expected[ids] for ids in often)
    if rest >= 5:
        cells.append((count.total() - sum(seen for seen, _ in cells), rest))
    statistic, freedom = sum((seen - value) ** 2 / value for seen, value in cells), len(cells) - 1
    assert statistic <= freedom + 4 * math.sqrt(2 * freedom)


def test_top_k_of_one_and_a_temperature_near_zero_are_greedy() -> None:
    model, sentences, limits = ragged(2)
    greedy = search(model, sentences, limits, DecodingConfig(beam=1))
    for keys in ({"top_k": 1}, {"temperature": 1e-40}, {"temperature": 1e-4}, {"top_p": 1e-6}, {"min_p": 0.999999}):
        assert_alike(search(model, sentences, limits, sampling(**keys)), greedy)


def test_the_same_seed_draws_the_same_and_another_one_draws_otherwise() -> None:
    model, sentences, limits = ragged(9)
    limits = [limit + 5 for limit in limits]
    config = sampling(samples=6, n_best=6)
    first, again, other = (
        search(model, sentences, limits, config, seeds=[start + place for place in range(len(sentences))])
        for start in (0, 0, 1000)
    )
    assert_alike(first, again)
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_equal_sentences_of_equal_seed_draw_equally_and_their_samples_differ() -> None:
    model, config = Toy(1, size=10, sharpness=0.5), sampling(samples=8, n_best=8)
    one, other, apart = search(model, [4, 4, 4], [12, 12, 12], config, seeds=[6, 6, 7])
    assert_alike([one], [other])
    assert [item.ids for item in one] != [item.ids for item in apart]
    assert len({item.ids for item in one}) > 4


# What holds of each


EACH = [
    pytest.param(DecodingConfig(beam=4, n_best=4, mbr=True), id="mbr"),
    pytest.param(DecodingConfig(beam=4, n_best=2, normalization="average"), id="average"),
    pytest.param(DecodingConfig(beam=3, normalization="none", stopping="exact"), id="none"),
    pytest.param(DecodingConfig(beam=3, n_best=2, coverage_penalty=0.4), id="coverage"),
    pytest.param(diverse(beam=4, n_best=4), id="diverse"),
    pytest.param(diverse(beam=6, beam_groups=2, n_best=3, diversity=1.5, coverage_penalty=0.2), id="diverse in pairs"),
    pytest.param(sampling(samples=5, n_best=5), id="sampling"),
    pytest.param(
        sampling(samples=4, n_best=2, top_k=5, top_p=0.9, min_p=0.05, temperature=1.5), id="sampling among few"
    ),
    pytest.param(DecodingConfig(beam=1, no_repeat_ngram=2, repetition_penalty=1.3), id="greedy, controlled"),
    pytest.param(DecodingConfig(beam=4, n_best=3, min_length=3, no_repeat_ngram=1), id="beam, controlled"),
    pytest.param(diverse(beam=4, n_best=4, min_length=2, repetition_penalty=2.0), id="diverse, controlled"),
    pytest.param(sampling(samples=3, n_best=3, min_length=2, no_repeat_ngram=2), id="sampling, controlled"),
]


@pytest.mark.parametrize("config", EACH)
@pytest.mark.parametrize(("at_once", "share"), [(1, 0.1), (5, 0.0001), (5, 1.0)])
def test_neither_batch_nor_order_nor_neighbours_matter(
    config: DecodingConfig, at_once: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sentences, limits = ragged(11)
    together = search(model, sentences, limits, config, keep_attention=True)
    monkeypatch.setattr(loop, "FREE_SHARE", share)
    order = random.Random(3).sample(range(len(sentences)), len(sentences))
    shuffled = search(
        model,
        [sentences[at] for at in order],
        [limits[at] for at in order],
        config,
        at_once=at_once,
        keep_attention=True,
    )
    assert_alike(shuffled, [together[at] for at in order])


@pytest.mark.parametrize("config", EACH)
def test_token_scores_are_those_of_teacher_forcing_and_limits_hold(config: DecodingConfig) -> None:
    suppress = [BOS, 4]
    for seed in range(3):
        model, sentences, limits = ragged(seed)
        found = search(model, sentences, limits, config, suppress=suppress)
        for sentence, limit, group in zip(sentences, limits, found, strict=True):
            assert 1 <= len(group) <= config.hypotheses
            assert [one.score for one in group] == sorted((one.score for one in group), reverse=True)
            for one in group:
                assert len(one.ids) < limit
                assert not {*suppress, EOS} & {*one.ids}
                assert one.token_scores == pytest.approx(teacher_forced(model, sentence, one.ids), abs=1e-4)
            if config.search != "sampling":
                assert len({one.ids for one in group}) == len(group)


@pytest.mark.parametrize("config", EACH)
def test_a_dead_end_is_no_end(config: DecodingConfig) -> None:
    """Few pieces, most of them forbidden, and rules that leave nothing: there is always a translation."""
    for size, forbidden in itertools.product((2, 3, 4), ((), (BOS,), (BOS, 2))):
        limits, suppress = [1, 2, 6], [piece for piece in forbidden if piece < size]
        groups = search(Toy(size, size), [1, 2, 3], limits, config, suppress=suppress)
        for limit, group in zip(limits, groups, strict=True):
            assert group
            for one in group:
                assert math.isfinite(one.score)
                assert len(one.ids) < limit


@pytest.mark.parametrize("config", EACH)
def test_a_real_model_and_teacher_forcing_agree(
    config: DecodingConfig, make_model: Callable[..., Seq2Seq], batch: Batch
) -> None:
    model = make_model(
        ModelConfig(
            encoder=EncoderConfig(cell="gru", hidden_size=4),
            decoder=DecoderConfig(cell="lstm", layers=2, hidden_size=8),
            attention="bahdanau",
            coverage="gru",
            embedding_size=6,
        )
    )
    limits, specials = torch.tensor([6, 3, 9, 5]), model.target
    sources = Sources(batch.src_BS, batch.src_len_B, limits, guidance=[Guidance(seed=row) for row in range(4)])
    found = decode(model, [sources], config, bos=specials.bos, eos=specials.eos)
    for row, group in enumerate(found):
        for one in group:
            tgt_in_BT, length_B = pad_rows([[specials.bos, *one.ids]], specials.pad)
            tgt_out_BT, _ = pad_rows([[*one.ids, specials.eos]], specials.pad)
            source_BS, length = batch.src_BS[row : row + 1, : batch.src_len_B[row]], batch.src_len_B[row : row + 1]
            with torch.inference_mode():
                nll = model.losses(Batch(source_BS, length, tgt_in_BT, tgt_out_BT, length_B)).nll_N.sum().item()
            assert one.log_probability == pytest.approx(-nll, abs=1e-4)
