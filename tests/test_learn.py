"""The whole family learns: every cell with every attention, through the real command, on a task that needs order."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import get_args

import pytest
import toy

from s2s_cli.config import BAHDANAU
from s2s_cli.config_model import AttentionName, CellName

Case = tuple[str, str, bool]
# bahdanau feeds its context by definition, so it has no form without.
CASES: list[Case] = [
    (cell, attention, feeding)
    for cell, attention, feeding in itertools.product(get_args(CellName), get_args(AttentionName), (True, False))
    if feeding or attention not in BAHDANAU
]
SEED = {"none", "bahdanau", "luong-dot", "luong-general", "luong-concat"}
VARIANTS: list[dict[str, object]] = [
    {"attention": "bahdanau-normed"},
    {"attention": "luong-scaled-dot"},
    {"attention": "luong-location"},
    {"attention": "multi-head"},
    {"attention": "multi-head-additive"},
    {"attention_span": "local-m", "attention_window": 3},
    {"attention_span": "local-p", "attention_window": 3, "decoder__input_feeding": False},
    {"attention": "bahdanau", "coverage": "sum"},
    {"attention": "luong-concat", "coverage": "fertility", "decoder__input_feeding": False},
    {"attention": "bahdanau", "coverage": "gru"},
    {"decoder__conditional": True, "attention": "luong-concat"},
    {"decoder__attend_after": "first", "decoder__layers": 2, "decoder__input_feeding": False},
    {"decoder__lexical": True, "decoder__input_feeding": False},
    {"encoder__layer_norm": True, "decoder__layer_norm": True},
    {
        "encoder__layers": 3,
        "encoder__bidirectional": "bottom",
        "encoder__residual": True,
        "encoder__hidden_size": 64,
        "decoder__layers": 2,
        "decoder__residual": True,
    },
    {"variational_dropout": True, "recurrent_dropout": 0.1, "dropout": 0.1},
]


def pairwise(cases: list[Case]) -> list[Case]:
    """A small choice of cases in which every two settings that can meet do meet."""
    left = {pair for case in cases for pair in itertools.combinations(enumerate(case), 2)}
    order, chosen = list(cases), []
    random.Random(0).shuffle(order)
    while left:
        best = max(order, key=lambda case: len(left & set(itertools.combinations(enumerate(case), 2))))
        chosen.append(best)
        left -= set(itertools.combinations(enumerate(best), 2))
    return chosen


def settings(case: Case) -> dict[str, object]:
    cell, attention, feeding = case
    sides = {"encoder__cell": cell, "decoder__cell": cell}
    return {**sides, "attention": attention, "decoder__input_feeding": feeding}


def learn(
    folder: Path, model: dict[str, object], threshold: float, longest: int, train: int, **changes: object
) -> None:
    toy.write_corpus(folder, train=train, held_out=60, longest=longest)
    path = toy.write_config(
        folder,
        **{f"model__{key}": value for key, value in model.items()},
        training__schedule="linear",
        training__warmup_steps=20,
        training__validation_beam=1,
        **changes,
    )
    done = toy.s2s("train", "--config", path, cwd=folder, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr.decode()
    source = (folder / "test.src").read_bytes()
    found = toy.s2s("translate", cwd=folder, stdin=source, OMP_NUM_THREADS="1").stdout.decode().splitlines()
    wanted = (folder / "test.tgt").read_text().splitlines()
    right = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)
    assert right >= threshold, f"{right:.0%} of the test sentences are right"


SOME = pairwise([case for case in CASES if case[1] in SEED])


def name(model: Case | dict[str, object]) -> str:
    return "-".join(map(str, model if isinstance(model, tuple) else (x for item in model.items() for x in item)))


def test_the_chosen_cases_cover_all_pairs() -> None:
    def pairs(cases: list[Case]) -> set[object]:
        return {pair for case in cases for pair in itertools.combinations(enumerate(case), 2)}

    assert pairs(SOME) == pairs([case for case in CASES if case[1] in SEED])


@pytest.mark.parametrize("model", [*SOME, *VARIANTS], ids=name)
def test_learns_to_copy_and_to_reverse(tmp_path: Path, model: Case | dict[str, object]) -> None:
    """Sentences not seen in training; a decoder that ignores the source gets next to none of them right."""
    given = settings(model) if isinstance(model, tuple) else model
    learn(tmp_path, given, threshold=0.6, longest=3, train=700, training__max_steps=250, training__validate_every=250)


@pytest.mark.slow
@pytest.mark.parametrize("model", [*CASES, *VARIANTS], ids=name)
def test_every_combination_learns_to_copy_and_to_reverse(tmp_path: Path, model: Case | dict[str, object]) -> None:
    given = settings(model) if isinstance(model, tuple) else model
    learn(tmp_path, given, threshold=0.9, longest=3, train=1000, training__max_steps=1500, training__validate_every=500)
