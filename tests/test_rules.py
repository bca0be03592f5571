"""What may not be said: each rule, and all together, against searches in lists; rules that would leave nothing."""

from __future__ import annotations

import math
import random

import pytest
import torch
from slow import search, slow_search
from test_search import EOS, Toy, ragged

from s2s_cli.config import DecodingConfig
from s2s_cli.search.flight import Hypothesis
from s2s_cli.search.rules import Control, MinimumLength, NoRepeatedNgrams, RepetitionPenalty, steer


def assert_same_ids(found: list[Hypothesis], expected: list[tuple[float, float, tuple[int, ...]]]) -> None:
    assert [one.ids for one in found] == [ids for _, _, ids in expected]
    for one, (score, _, _) in zip(found, expected, strict=True):
        assert one.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("search_name", ["beam", "diverse"])
@pytest.mark.parametrize("seed", range(30))
def test_controlled_searches_equal_the_slow_ones(search_name: str, seed: int) -> None:
    draw = random.Random(seed)
    beam = draw.choice([1, 2, 4])
    config = DecodingConfig(
        search=search_name,
        beam=beam,
        n_best=draw.choice([1, beam]),
        stopping=draw.choice(["early", "full", "exact"]),
        min_length=draw.choice([0, 0, 1, 3, 20]),
        no_repeat_ngram=draw.choice([None, 1, 2, 3]),
        repetition_penalty=draw.choice([1.0, 1.2, 3.0]),
        coverage_penalty=draw.choice([0.0, 0.0, 0.5]),
    )
    model = Toy(seed, size=draw.randint(3, 9), sharpness=draw.choice([0.5, 1.0, 2.0]))
    sentences = [draw.randrange(50) for _ in range(4)]
    limits = [draw.randint(1, 9) for _ in sentences]
    suppress = draw.choice([[], [0]])
    found = search(model, sentences, limits, config, suppress=suppress)
    for sentence, limit, group in zip(sentences, limits, found, strict=True):
        assert_same_ids(group, slow_search(model, sentence, limit, config, suppress))


@pytest.mark.parametrize("beam", [1, 4])
def test_rules_hold_wherever_they_can(beam: int) -> None:
    config = DecodingConfig(beam=beam, n_best=beam, min_length=4, no_repeat_ngram=2)
    short = 0
    for seed in range(5):
        model, sentences, limits = ragged(seed)
        plain = search(model, sentences, limits, DecodingConfig(beam=beam))
        found = search(model, sentences, limits, config)
        for limit, group, before in zip(limits, found, plain, strict=True):
            short += len(before[0].ids) < min(4, limit - 1)
            for one in group:
                assert len(one.ids) >= min(4, limit - 1)
                pairs = list(zip(one.ids, one.ids[1:], strict=False))
                assert len(set(pairs)) == len(pairs)
    assert short, "the rule had something to do"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_repeated_ngrams_by_hand(n: int) -> None:
    control, draw = NoRepeatedNgrams(n), random.Random(n)
    for _ in range(200):
        ids = [draw.randrange(4) for _ in range(draw.randrange(8))]
        state = control.start()
        for piece in ids:
            state = control.after(state, piece)
        scores_V = torch.zeros(5)
        control.change(scores_V, state, 10)
        grams = {tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)}
        repeats = [tuple([*ids, piece][-n:]) in grams for piece in range(5)]
        assert (scores_V == -math.inf).tolist() == repeats


def test_a_repetition_counts_however_often_it_was_said() -> None:
    control = RepetitionPenalty(2.0)
    state = control.start()
    for piece in (3, 1, 3):
        state = control.after(state, piece)
    scores_V = torch.tensor([-1.0, -1.0, -math.inf, -1.5])
    control.change(scores_V, state, 10)
    assert scores_V.tolist() == [-1.0, -2.0, -math.inf, -3.0]


def test_a_minimum_is_counted_without_the_end_and_needs_room() -> None:
    control = MinimumLength(EOS, 2)
    assert control.shortest == 2
    state, forbidden = control.start(), []
    for _ in range(4):
        scores_V = torch.zeros(3)
        control.change(scores_V, state, 10)
        forbidden.append(float(scores_V[EOS]) == -math.inf)
        state = control.after(state, 2)
    assert forbidden == [True, True, False, False]


def test_an_earlier_control_goes_before_a_later_one_that_would_leave_nothing() -> None:
    class All(Control):
        def change(self, scores_V: torch.Tensor, state: object, room: int) -> None:
            scores_V.fill_(-math.inf)

    model_V = torch.tensor([-1.0, -2.0, -3.0])
    no_end, nothing_again = MinimumLength(EOS, 5), NoRepeatedNgrams(1)
    scores_V = model_V.clone()
    steer(scores_V, model_V, [no_end, nothing_again], [0, (0, 2)], 9)
    assert scores_V.tolist() == [-1.0, -math.inf, -3.0]
    scores_V = model_V.clone()
    steer(scores_V, model_V, [All(), no_end, All()], [(), 0, ()], 9)
    assert scores_V.tolist() == [-1.0, -math.inf, -3.0]


def test_the_model_is_not_changed_by_what_may_be_said() -> None:
    model_V = torch.tensor([-1.0, -2.0, -3.0])
    before_V = model_V.clone()
    steer(model_V.clone(), model_V, [RepetitionPenalty(4.0), NoRepeatedNgrams(1)], [frozenset({0}), (2,)], 9)
    assert torch.equal(model_V, before_V)
