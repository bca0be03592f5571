"""The whole family learns: every cell with every attention, through the real command, on a task that needs order."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import get_args

import pytest
import toy

from s2s_cli.config import AttentionName, CellName

Case = tuple[str, str, bool]
# bahdanau feeds its context by definition, so it has no form without.
CASES: list[Case] = [
    (cell, attention, feeding)
    for cell, attention, feeding in itertools.product(get_args(CellName), get_args(AttentionName), (True, False))
    if feeding or attention != "bahdanau"
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


def learn(folder: Path, case: Case, threshold: float, longest: int, train: int, **changes: object) -> None:
    cell, attention, feeding = case
    toy.write_corpus(folder, train=train, held_out=60, longest=longest)
    path = toy.write_config(
        folder,
        model__encoder__cell=cell,
        model__decoder__cell=cell,
        model__attention=attention,
        model__decoder__input_feeding=feeding,
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


def test_the_chosen_cases_cover_all_pairs() -> None:
    def pairs(cases: list[Case]) -> set[object]:
        return {pair for case in cases for pair in itertools.combinations(enumerate(case), 2)}

    assert pairs(pairwise(CASES)) == pairs(CASES)


@pytest.mark.parametrize("case", pairwise(CASES), ids=lambda case: "-".join(map(str, case)))
def test_learns_to_copy_and_to_reverse(tmp_path: Path, case: Case) -> None:
    """Sentences not seen in training; a decoder that ignores the source gets next to none of them right."""
    learn(tmp_path, case, threshold=0.6, longest=3, train=700, training__max_steps=250, training__validate_every=250)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_every_combination_learns_to_copy_and_to_reverse(tmp_path: Path, case: Case) -> None:
    learn(tmp_path, case, threshold=0.9, longest=3, train=1000, training__max_steps=1500, training__validate_every=500)
