"""Minimum Bayes risk: chrF as sacreBLEU's, expected utilities as sums over all others, and the translator's choice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.tokenizer import Tokenizer
from s2s_cli.model.seq2seq import build_model
from s2s_cli.translate import mbr
from s2s_cli.translate import translator as translator_module
from s2s_cli.translate.entry import Translation
from s2s_cli.translate.mbr import by_utility, chrf
from s2s_cli.translate.translator import Translator

SENTENCE = "Zwei Männer stehen vor einem großen Haus und reden laut über dies und das , immer wieder dies und das ."


def sentence_chrf(hypothesis: str, reference: str) -> float:
    return CHRF().sentence_score(hypothesis, [reference]).score


def variants(count: int, seed: int = 1) -> list[str]:
    draw, words = random.Random(seed), SENTENCE.split()
    return [" ".join(draw.choice(words) if draw.random() < 0.3 else word for word in words) for _ in range(count)]


@settings(max_examples=100)
@given(st.lists(st.text(st.sampled_from("aabbc  .ß\u3000"), max_size=12), min_size=1, max_size=6))
def test_chrf_is_that_of_sacrebleu(texts: list[str]) -> None:
    found = chrf(texts)
    for row, hypothesis in enumerate(texts):
        for column, reference in enumerate(texts):
            assert found[row, column].item() == pytest.approx(sentence_chrf(hypothesis, reference), abs=1e-9)


@pytest.mark.parametrize("block", [1, 7, 4096])
def test_chrf_of_sentences_whatever_is_compared_at_once(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mbr, "BLOCK", block)
    texts = ["", "a", *variants(6)]
    expected = torch.tensor([[sentence_chrf(one, other) for other in texts] for one in texts], dtype=torch.float64)
    torch.testing.assert_close(chrf(texts), expected)


def test_a_hundred_candidates_are_quick() -> None:
    texts = variants(100)
    began = time.monotonic()
    chrf(texts)
    assert time.monotonic() - began < 2  # a thirtieth of a second


@pytest.mark.parametrize("seed", range(10))
def test_utilities_are_means_over_all_others(seed: int) -> None:
    draw = random.Random(seed)
    texts = draw.choices([*variants(5, seed), ""], k=draw.randint(2, 12))
    translations = [Translation(text, -float(place)) for place, text in enumerate(texts)]
    found = by_utility(translations)
    for one in found:
        place = texts.index(one.text)
        others = texts[:place] + texts[place + 1 :]
        expected = sum(sentence_chrf(one.text, other) for other in others) / len(others)
        assert one.utility == pytest.approx(expected, abs=1e-9)
        assert one.score == -float(place), "the score of the model stays, of the best of equal texts"
    assert sorted(one.text for one in found) == sorted(set(texts))
    utilities = [one.utility for one in found]
    assert utilities == sorted(utilities, reverse=True)


def test_a_text_counts_as_often_as_it_was_found() -> None:
    once = [Translation(text, 0.0) for text in ("abcd", "abce", "xyz")]
    assert by_utility(once)[-1].text == "xyz"
    assert by_utility([*once, *[Translation("xyz", 0.0)] * 5])[0].text == "xyz"


def test_ties_keep_their_order_and_one_alone_stays() -> None:
    assert [one.text for one in by_utility([Translation("ab", -2.0), Translation("cd", -1.0)])] == ["ab", "cd"]
    (one,) = by_utility([Translation("ab", -2.0)])
    assert (one.text, one.utility) == ("ab", 0.0)


@pytest.fixture(scope="module")
def make(tokenizer: Tokenizer) -> Callable[..., Translator]:
    torch.manual_seed(3)
    sizes = {"encoder": EncoderConfig(cell="gru", hidden_size=8), "decoder": DecoderConfig(cell="gru", hidden_size=16)}
    model = build_model(ModelConfig(**sizes, embedding_size=12), tokenizer).eval()
    with torch.no_grad():
        model.output.weight.mul_(6)

    def make(**decoding: object) -> Translator:
        config = DecodingConfig.model_validate({"max_length": 12, **decoding})
        return Translator(model, tokenizer, config, torch.device("cpu"))

    return make


LINES = ["abe in", "sun ton", "or", "", "de abc ortu sun"]
SEARCHES = [
    {"beam": 6},
    {"search": "diverse", "beam": 6, "beam_groups": 2},
    {"search": "sampling", "samples": 20},
    {"search": "sampling", "samples": 20, "top_k": 3},
]


@pytest.mark.parametrize("keys", SEARCHES, ids=str)
def test_the_translator_gives_what_agrees_most_with_all_that_search_found(
    keys: dict, make: Callable[..., Translator]
) -> None:
    key = "samples" if "samples" in keys else "beam"
    every = make(**keys, n_best=keys[key]).translate(LINES)
    found = make(**keys, n_best=3, mbr=True).translate(LINES)
    for line, given_, group in zip(LINES, found, every, strict=True):
        if line:
            expected = by_utility(group)[:3]
            assert [one.text for one in given_] == [one.text for one in expected]
            assert [one.utility for one in given_] == pytest.approx([one.utility for one in expected])
            assert [one.score for one in given_] == pytest.approx([one.score for one in expected], abs=1e-4)
        else:
            assert {one.text for one in given_} == {""}
    assert make(**keys, mbr=True).translate(LINES)[0][0] == found[0][0]


@pytest.mark.parametrize("keys", SEARCHES, ids=str)
def test_it_does_not_depend_on_the_batch(keys: dict, make: Callable[..., Translator]) -> None:
    together = make(**keys, mbr=True, n_best=2).translate(LINES)
    alone = [make(**keys, mbr=True, n_best=2, batch_size=1).translate([line])[0] for line in LINES]
    for one, other in zip(together, alone, strict=True):
        assert [each.text for each in one] == [each.text for each in other]


def test_samples_do_not_depend_on_workers(make: Callable[..., Translator], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [" ".join(pair) for pair in zip(LINES * 6, "abcdeinorstu" * 3, strict=False)]
    expected = make(search="sampling", samples=4, n_best=4).translate(lines)
    monkeypatch.setattr(translator_module, "WORKER_SENTENCES", 3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    found = make(search="sampling", samples=4, n_best=4, batch_size=3).translate(lines)
    assert [[one.text for one in group] for group in found] == [[one.text for one in group] for group in expected]


def test_minimum_and_maximum_lengths_are_of_pieces_and_of_the_source(
    make: Callable[..., Translator], tokenizer: Tokenizer
) -> None:
    lines = [line for line in LINES if line]
    sizes = [len(row) for row in tokenizer.source.encode(lines)]
    for keys in ({"min_length": 11}, {"min_length_ratio": 1.5, "max_length": 50}, {"min_length_ratio": 2.0}):
        config = make(**keys).config
        for size, group in zip(sizes, make(**keys, beam=3, n_best=3).translate(lines), strict=True):
            least = max(config.min_length, -(-config.min_length_ratio * size // 1))
            assert all(len(one.ids) >= min(least, config.max_length - 1) for one in group)
            assert all(one.length <= config.max_length for one in group)
    for keys in ({"max_length": 3}, {"max_length_ratio": 0.1}):
        for size, group in zip(sizes, make(**keys, beam=3).translate(lines), strict=True):
            assert group[0].length <= keys.get("max_length", int(0.1 * size) + 10)


def test_a_minimum_beyond_the_ratio_makes_room(make: Callable[..., Translator]) -> None:
    ((one,),) = make(min_length=40, max_length=60, max_length_ratio=0.5).translate(["or"])
    assert len(one.ids) >= 40
