"""Ensembles: each step against the mean of its members, search as of one model, and what cannot be one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toy

from s2s_cli.config import DecoderConfig, DecodingConfig, EncoderConfig, ModelConfig
from s2s_cli.data.batches import Batch, pad_rows
from s2s_cli.model.ensemble import COMBINATIONS, Ensemble
from s2s_cli.model.seq2seq import SearchModel, Seq2Seq
from s2s_cli.search.flight import Hypothesis, Sources
from s2s_cli.search.loop import decode

KINDS = [
    {"attention": "luong-general"},
    {"attention": "bahdanau", "coverage": "gru", "coverage_size": 3},
    {"attention": "luong-dot", "attention_span": "local-m", "attention_window": 1, "lexical": True},
    {"attention": "none", "cell": "gru", "input_feeding": False},
]


@pytest.fixture
def members(make_model: Callable[..., Seq2Seq]) -> list[Seq2Seq]:
    """Models of different kinds and sizes."""
    found = []
    for number, kind in enumerate(KINDS):
        settings = dict(kind)
        cell, feeding = settings.pop("cell", "lstm"), settings.pop("input_feeding", True)
        lexical = settings.pop("lexical", False)
        encoder = EncoderConfig(cell=cell, hidden_size=3 + number)
        decoder = DecoderConfig(
            cell=cell, layers=1 + number % 2, hidden_size=6 + 2 * number, input_feeding=feeding, lexical=lexical
        )
        found.append(make_model(ModelConfig(encoder=encoder, decoder=decoder, embedding_size=5, **settings)))
    return found


def ready(members: list[Seq2Seq], combine: str) -> Ensemble:
    return Ensemble([SearchModel(member, torch.float32) for member in members], combine)


@pytest.mark.parametrize("combine", sorted(COMBINATIONS))
def test_steps_are_the_means_of_the_members_steps(combine: str, members: list[Seq2Seq], batch: Batch) -> None:
    ensemble = ready(members, combine)
    with torch.inference_mode():
        memory, state = ensemble.encode(batch.src_BS, batch.src_len_B)
        alone = [member.encode(batch.src_BS, batch.src_len_B) for member in members]
        for _ in range(4):
            tokens_B1 = torch.randint(4, 13, (len(batch.src_BS), 1))
            step = ensemble.step(tokens_B1, state, memory)
            theirs = [member.step(tokens_B1, at, looked) for member, (looked, at) in zip(members, alone, strict=True)]
            shares = torch.stack([torch.softmax(one.logits_BQV, -1) for one in theirs])
            expected = shares.mean(0) if combine == "probabilities" else torch.softmax(shares.log().mean(0), -1)
            torch.testing.assert_close(torch.softmax(step.logits_BQV, -1), expected)
            looking = [one.weights_BQS for one in theirs if one.weights_BQS.any()]
            assert len(looking) == len(theirs) - 1, "one of the kinds has no attention, and nothing to tell"
            torch.testing.assert_close(step.weights_BQS, sum(looking) / len(looking))
            rows = torch.tensor([3, 1, 0, 2])  # as when sentences are moved about
            state, memory = step.state.select(rows), memory.select(rows)
            alone = [
                (looked.select(rows), one.state.select(rows)) for (looked, _), one in zip(alone, theirs, strict=True)
            ]


@pytest.mark.parametrize("blind", [0, 1, 2])
def test_a_member_without_attention_takes_nothing_from_the_weights_of_the_others(
    blind: int, members: list[Seq2Seq], batch: Batch
) -> None:
    looking, without = members[0], members[-1]
    ensemble = ready([without if number == blind else looking for number in range(3)], "probabilities")
    alone, nothing = SearchModel(looking, torch.float32), ready([without] * 2, "probabilities")
    tokens_B1 = torch.full((len(batch.src_BS), 1), 5)

    def weights(model: Ensemble | SearchModel) -> torch.Tensor:
        memory, state = model.encode(batch.src_BS, batch.src_len_B)
        return model.step(tokens_B1, state, memory).weights_BQS

    with torch.inference_mode():
        found_BQS = weights(ensemble)
        torch.testing.assert_close(found_BQS.sum(-1), torch.ones(len(batch.src_BS), 1))
        torch.testing.assert_close(found_BQS, weights(alone))
        assert not weights(nothing).any()


def search(model: Ensemble | SearchModel, config: DecodingConfig, size: int) -> list[list[Hypothesis]]:
    sentences = [[5, 9, 4, 3], [7, 3], [10, 6, 8, 5, 4, 3], [9, 5, 3], [4, 3], [6, 6, 6, 3], [8, 3], [5, 4, 9, 3]]
    limits = [7, 4, 11, 6, 9, 5, 8, 10]
    batches = []
    for start in range(0, len(sentences), size):
        batches.append(
            Sources(*pad_rows(sentences[start : start + size], 0), torch.tensor(limits[start : start + size]))
        )
    return decode(model, batches, config, bos=2, eos=3, suppress=[0, 2], keep_attention=True)


SEARCHES = [
    pytest.param(DecodingConfig(beam=1), id="greedy"),
    pytest.param(DecodingConfig(beam=3), id="beam"),
    pytest.param(DecodingConfig(beam=3, n_best=3, coverage_penalty=0.3, normalization="average"), id="coverage"),
    pytest.param(DecodingConfig(search="diverse", beam=4, n_best=4), id="diverse"),
    pytest.param(DecodingConfig(search="sampling", samples=4, n_best=4, top_p=0.9), id="sampling"),
]


@pytest.mark.parametrize("config", SEARCHES)
@pytest.mark.parametrize("combine", sorted(COMBINATIONS))
def test_one_sentence_alone_gives_what_many_together_give(
    combine: str, config: DecodingConfig, members: list[Seq2Seq]
) -> None:
    ensemble = ready(members, combine)
    alone = search(ensemble, config, 1)
    ensemble.make_table()
    for group, other in zip(search(ensemble, config, 3), alone, strict=True):
        assert [item.ids for item in group] == [item.ids for item in other]
        for item, wanted in zip(group, other, strict=True):
            assert item.score == pytest.approx(wanted.score, abs=1e-5)


@pytest.mark.parametrize("config", SEARCHES)
@pytest.mark.parametrize("combine", sorted(COMBINATIONS))
def test_a_model_thrice_is_the_model(combine: str, config: DecodingConfig, members: list[Seq2Seq]) -> None:
    for member in members:
        one = SearchModel(member, torch.float32)
        for group, other in zip(search(ready([member] * 3, combine), config, 4), search(one, config, 4), strict=True):
            assert [item.ids for item in group] == [item.ids for item in other]
            assert group[0].score == pytest.approx(other[0].score, abs=1e-5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs a and b of one tokenizer and two seeds, and c of another."""
    folder = tmp_path_factory.mktemp("ensemble")
    for name, changes in (
        ("a", {}),
        ("b", {"training__seed": 2, "tokenizer__model": "runs/a/tokenizer/shared.model"}),
        ("c", {"tokenizer__vocab_size": 12}),
    ):
        path = toy.write_config(folder, **changes)
        done = toy.s2s("train", "--config", path, "--run", f"runs/{name}", cwd=folder)
        assert done.returncode == 0, done.stderr.decode()
    return folder


def test_the_command_takes_several_models(runs: Path) -> None:
    source = (runs / "test.src").read_bytes()
    arguments = ("-m", "runs/a", "-m", "runs/b", "--n-best", 2, "--beam", 2)
    both = toy.s2s("translate", *arguments, cwd=runs, stdin=source)
    assert both.returncode == 0, both.stderr.decode()
    assert len(both.stdout.splitlines()) == 2 * len(source.splitlines())
    scores = {}
    for names in (("a",), ("b",), ("a", "b")):
        models = [part for name in names for part in ("-m", f"runs/{name}")]
        lines = toy.s2s("translate", *models, "--n-best", 1, cwd=runs, stdin=source).stdout
        scores[names] = lines
    assert len(set(scores.values())) == 3, "an ensemble is neither of its members"
    swapped = toy.s2s("translate", "-m", "runs/b", "-m", "runs/a", cwd=runs, stdin=source).stdout
    assert swapped == scores["a", "b"]


def test_models_of_different_vocabularies_are_refused(runs: Path) -> None:
    done = toy.s2s("translate", "-m", "runs/a", "-m", "runs/c", cwd=runs, stdin=b"copy a\n")
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "runs/c" in line and "tokenizer" in line and "runs/a/tokenizer" in line


def test_an_unknown_average_lists_the_choices(runs: Path) -> None:
    done = toy.s2s("translate", "-m", "runs/a", "-m", "runs/b", "--ensemble", "geometric", cwd=runs, stdin=b"copy a\n")
    assert done.returncode == 2
    assert b"log-probabilities" in done.stderr
