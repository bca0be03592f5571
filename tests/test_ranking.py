"""Length and coverage penalties: by hand, in beams in lists, and in exhaustive search."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch
from slow import final_score, search, slow_search, teacher_forced
from test_search import EOS, Toy, assert_same

from s2s_cli.config import DecodingConfig
from s2s_cli.search.ranking import NORMALIZATIONS, Ranking, coverage


@pytest.mark.parametrize(
    ("name", "length", "alpha", "expected"),
    [
        ("gnmt", 7, 1.0, 2.0),
        ("gnmt", 19, 0.5, 2.0),
        ("average", 7, 1.0, 7.0),
        ("average", 9, 0.5, 3.0),
        ("average", 9, 0.0, 1.0),
        ("none", 9, 2.0, 1.0),
    ],
)
def test_penalties_of_lengths(name: str, length: int, alpha: float, expected: float) -> None:
    config = DecodingConfig(normalization=name, length_penalty=alpha)
    assert float(NORMALIZATIONS[name](length, alpha)) == pytest.approx(expected)
    assert Ranking(config).score(-6.0, length, None) == pytest.approx(-6.0 / expected)
    several = Ranking(config).normalized(torch.tensor([-6.0]), torch.tensor([length]))
    assert several.item() == pytest.approx(-6.0 / expected)


def test_coverage_by_hand() -> None:
    weights_TS = torch.tensor([[0.5, 0.5, 0.0], [0.75, 0.0, 0.25]])
    assert coverage(weights_TS) == pytest.approx(math.log(1) + math.log(0.5) + math.log(0.25))
    score = Ranking(DecodingConfig(coverage_penalty=0.2, length_penalty=0.0)).score(-3.0, 2, weights_TS)
    assert score == pytest.approx(-3.0 + 0.2 * math.log(0.125))


def test_what_was_never_looked_at_costs_much_but_not_everything() -> None:
    assert -100 < coverage(torch.tensor([[1.0, 0.0]])) < -10


RANKINGS = list(itertools.product(["gnmt", "average", "none"], [0.0, 0.7, 1.5], [0.0, 0.3, 2.0]))


@pytest.mark.parametrize(("normalization", "alpha", "beta"), RANKINGS)
def test_a_wide_exact_beam_finds_the_best_of_everything(normalization: str, alpha: float, beta: float) -> None:
    model, limits, sentences = Toy(2, size=4), [4, 3, 2, 1], [5, 6, 7, 8]
    config = DecodingConfig(
        beam=3**3 * 4,
        n_best=20,
        stopping="exact",
        normalization=normalization,
        length_penalty=alpha,
        coverage_penalty=beta,
    )
    found = search(model, sentences, limits, config)
    for sentence, limit, group in zip(sentences, limits, found, strict=True):
        every = []
        for length in range(limit):
            for ids in itertools.product([piece for piece in range(model.size) if piece != EOS], repeat=length):
                total = sum(teacher_forced(model, sentence, ids))
                every.append((final_score(model, sentence, ids, total, config), total, ids))
        assert_same(group, sorted(every, reverse=True)[:20])


@pytest.mark.parametrize("seed", range(30))
def test_a_beam_equals_the_slow_one_whatever_the_ranking(seed: int) -> None:
    draw = random.Random(seed)
    beam = draw.choice([1, 2, 4, 5])
    config = DecodingConfig(
        beam=beam,
        n_best=draw.choice([1, beam]),
        normalization=draw.choice(["gnmt", "average", "none"]),
        length_penalty=draw.choice([0.0, 0.6, 1.0, 2.0]),
        coverage_penalty=draw.choice([0.0, 0.2, 1.0]),
        stopping=draw.choice(["early", "full", "exact"]),
    )
    model = Toy(seed, size=draw.randint(3, 10), sharpness=draw.choice([0.5, 1.0, 2.0]))
    sentences = [draw.randrange(50) for _ in range(4)]
    limits = [draw.randint(1, 8) for _ in sentences]
    found = search(model, sentences, limits, config)
    for sentence, limit, group in zip(sentences, limits, found, strict=True):
        assert_same(group, slow_search(model, sentence, limit, config))


def test_attention_that_coverage_needs_is_that_of_the_hypothesis() -> None:
    model, config = Toy(4, size=8), DecodingConfig(beam=4, n_best=4, coverage_penalty=0.5)
    for group in search(model, [1, 2, 3], [6, 9, 4], config):
        for one in group:
            assert one.attention is not None
            expected = one.log_probability / ((5 + len(one.ids) + 1) / 6) + 0.5 * coverage(one.attention)
            assert one.score == pytest.approx(expected, abs=1e-4)
