"""The claims: what names a figure, that none is made twice, the rules, and the page; the figures are of no interest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.claims import copying, longtext, page, pictures, tasks
from benchmarks.claims.evidence import Evidence, Rate
from benchmarks.claims.experiments import VARIANTS, Form, Speeds, Training, merged, planned
from benchmarks.claims.judged import CLAIMS
from benchmarks.claims.korean import romanized
from benchmarks.claims.pictures import Interval, Panel
from benchmarks.claims.runner import Commands, Failed, Maker, complete
from benchmarks.claims.statistics import (
    Bleu,
    Estimate,
    Share,
    Verdict,
    above,
    below,
    estimate,
    relative_slope,
    slope,
    together,
)
from benchmarks.claims.store import Store
from benchmarks.claims.tasks import Sizes, Task
from benchmarks.claims.worker import by_word, last_word
from s2s_cli.config import Config
from s2s_cli.evaluate import compute_scores
from s2s_cli.score.system import AttentionMap

ROOT = Path(__file__).parent.parent
ABOUT = {"machine": "a box", "commit": "abc1234"}
TINY = Form(
    name="tiny",
    command="make claims",
    alone="python -m benchmarks.claims --only",
    seeds=(1, 2),
    sizes=Sizes(pairs=60, trained_to=16, doublings=4, tested=20),
    updates={"copy": 3, "long": 3, "multi30k": 3},
    variants={
        "copy": ("copy-rnn", "copy-gru", "copy-lstm"),
        "long": ("none", "gru-none", "rnn-none", "bahdanau", "luong-dot", "luong-dot-unfed"),
        "multi30k": ("luong-dot",),
    },
    rounds=2,
)


@pytest.fixture(scope="module", autouse=True)
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generated text goes elsewhere, and there is no other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "CORPORA", tmp_path_factory.mktemp("corpora"))
        patch.delenv("MULTI30K_DIR", raising=False)
        yield tasks.CORPORA


@pytest.fixture(scope="module")
def found() -> dict[str, Task]:
    return TINY.tasks()


class Pretended(Commands):
    """Runs nothing; a command whose words hold `bad` fails, at one that holds `halt` the user stops all."""

    bad, halt = "nothing of this", "nor of this"

    def run(self, *arguments: str, request: Mapping[str, Any] | None = None) -> str:
        words = " ".join(arguments)
        if self.halt in words:
            raise KeyboardInterrupt
        if self.bad in words:
            raise Failed("it diverged")
        self.said.append(words)
        if arguments[0] == "s2s_cli":
            (self.work / "runs" / Path(arguments[-1]).name).mkdir(parents=True, exist_ok=True)
        return json.dumps({"translations": ["a", ""]} if "translate" in arguments else {"rate": len(self.said)})

    @property
    def said(self) -> list[str]:
        return self.__dict__.setdefault("_said", [])


# -- descriptions


def test_the_name_of_a_training_tells_all_that_determines_it(found: dict[str, Task], tmp_path: Path) -> None:
    first = Training("full", found["long"], "luong-dot", 1, 10)
    same = Training("full", TINY.tasks()["long"], "luong-dot", 1, 10)
    other_text = replace(found["long"], folder=tasks.long_sentences(replace(TINY.sizes, pairs=61)).folder)
    others = [
        replace(first, form="quick"),
        replace(first, seed=2),
        replace(first, updates=11),
        replace(first, variant="luong-general"),
        replace(first, task=other_text),
        replace(first, task=replace(first.task, tokenizer={"type": "bpe", "vocab_size": 99})),
    ]
    assert first.name == same.name
    assert len({first.name, *(other.name for other in others)}) == len(others) + 1


def test_a_training_does_not_change_its_name_with_the_place_of_its_text(found: dict[str, Task], tmp_path: Path) -> None:
    first = Training("full", found["copy"], "copy-gru", 1, 10)
    for path in found["copy"].folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert replace(first, task=replace(first.task, folder=tmp_path)).name == first.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_a_config_that_s2s_takes(found: dict[str, Task], variant: str) -> None:
    task = found["copy" if variant.startswith("copy") else "long"]
    Config.model_validate_json(json.dumps(Training("full", task, variant, 1, 10).config))


def test_changes_go_into_sections() -> None:
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "e": {"f": 5}}) == {
        "a": {"b": 1, "c": 4}, "d": 3, "e": {"f": 5},
    }  # fmt: skip


def test_one_seed_comes_before_the_next_and_speeds_behind_the_first(found: dict[str, Task]) -> None:
    plan = planned(TINY, found)
    assert [one.seed for one in plan if isinstance(one, Training)] == [1] * 9 + [2] * 9
    speeds = plan[9]
    assert isinstance(speeds, Speeds)
    assert speeds.trainings == tuple(plan[3:9])


# -- text


def test_letters_are_copied_over_a_distance() -> None:
    rows = copying.rows(Random(1), [0, 4, 9], 30, set())
    for (source, target), distance in zip(rows, [0, 4, 9] * 10, strict=True):
        words = source.split()
        assert target.split() == words[: copying.KEPT]
        assert len(words) == copying.KEPT + distance
        assert set(words[copying.KEPT :]) <= set(copying.FILLERS)
    assert rows == copying.rows(Random(1), [0, 4, 9], 30, set())


def test_sentences_have_the_lengths_that_are_asked_for_and_none_comes_twice() -> None:
    taken = {"The boy slept."}
    pairs = longtext.of_lengths(Random(1), range(5, 60, 6), 40, taken)
    for (english, korean), length in zip(pairs, [*range(5, 60, 6)] * 4, strict=True):
        assert abs(len(english.split()) - length) <= 1
        assert korean.endswith(".")
    assert len(taken) == 41


def test_the_verb_of_an_ordered_clause_stands_where_it_is_said() -> None:
    verbs = {verb.past for verb in longtext.ACTS}
    for clause in longtext.ordered(Random(1), 30, set()):
        words = clause.source.rstrip(".").split()
        assert any(" ".join(words[clause.verb :]).startswith(verb) for verb in verbs)
        assert clause.verb < len(words) - 1


def test_a_task_groups_its_test_set_by_length(found: dict[str, Task]) -> None:
    assert [label for label, _ in found["long"].groups] == ["5 to 10", "11 to 15", "16 to 20", "21+"]
    assert [label for label, _ in found["copy"].groups] == ["0", "1", "2", "4", "8", "16"]
    lengths = [found["long"].lengths[row] for row in found["long"].within]
    assert max(lengths) == 16


def test_text_that_is_there_is_not_made_again(found: dict[str, Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "rows", None)
    assert TINY.tasks()["copy"] == found["copy"]


# -- making figures


def make(tmp_path: Path, plan: list[Any], commands: Commands | None = None, **options: Any) -> tuple[list[str], Any]:
    commands = commands or Pretended(tmp_path)
    return complete(plan, Store(tmp_path / "kept"), Maker(commands, ABOUT), lambda message: None, **options), commands


def test_what_is_there_is_not_made_again(found: dict[str, Task], tmp_path: Path) -> None:
    plan = planned(TINY, found)
    failed, commands = make(tmp_path, plan)
    assert failed == []
    assert len(commands.said) == 2 * 18 + 6 + 2 * 6
    assert Store(tmp_path / "kept").translations(plan[0]) == ["a", ""]
    assert Store(tmp_path / "kept").get(plan[0]) == {"figure": plan[0].name, "about": ABOUT}
    assert make(tmp_path, plan)[1].said == []


def test_what_failed_is_told_and_tried_again(found: dict[str, Task], tmp_path: Path) -> None:
    plan = planned(TINY, found)
    commands = Pretended(tmp_path)
    commands.bad = plan[3].name
    failed, _ = make(tmp_path, plan[:9], commands)
    assert failed == [f"{plan[3].name}: it diverged"]
    failed, again = make(tmp_path, plan[:9])
    assert failed == []
    assert len(again.said) == 2
    assert plan[3].name in again.said[0]


def test_stopped_it_keeps_what_is_finished(found: dict[str, Task], tmp_path: Path) -> None:
    plan = planned(TINY, found)
    commands = Pretended(tmp_path)
    commands.halt = plan[4].name
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, plan, commands, at_once=1)
    assert commands.stopped
    store = Store(tmp_path / "kept")
    assert all(store.has(one) for one in plan[:4])
    assert not store.has(plan[4])


def test_a_run_is_kept_as_long_as_something_needs_it(found: dict[str, Task], tmp_path: Path) -> None:
    plan = planned(TINY, found)
    make(tmp_path, plan, needed=lambda figure: isinstance(figure, Training))
    runs = {path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    (speeds,) = (one for one in plan if isinstance(one, Speeds))
    assert runs == {one.name for one in speeds.trainings}
    make(tmp_path, plan)
    assert list((tmp_path / "runs").iterdir()) == []


def test_speeds_are_measured_in_turns(found: dict[str, Task], tmp_path: Path) -> None:
    (speeds,) = (one for one in planned(TINY, found) if isinstance(one, Speeds))
    _, commands = make(tmp_path, [speeds])
    measured = [words.split()[-1] for words in commands.said if " speed " in words]
    assert [Path(run).name for run in measured] == [one.name for one in speeds.trainings] * TINY.rounds
    kept = (Store(tmp_path / "kept").get(speeds) or {})["rates"]
    assert kept == {name: {"rate": [7 + place, 13 + place]} for place, name in enumerate(TINY.variants["long"])}


def test_commands_end_when_they_are_stopped(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    assert commands.run("json.tool", request={"a": 1}).split() == ["{", '"a":', "1", "}"]
    with pytest.raises(Failed, match="No module named"):
        commands.run("nothing_of_this_name")
    commands.stop()
    with pytest.raises(Failed, match="stopped"):
        commands.run("json.tool")


def test_one_real_training_and_its_speed(found: dict[str, Task], tmp_path: Path) -> None:
    form = replace(TINY, seeds=(1,), variants={"long": ("luong-dot",)}, rounds=1)
    task = replace(found["long"], tokenizer={"type": "bpe", "vocab_size": 300})
    plan = planned(form, {"long": task})
    failed, _ = make(tmp_path, plan, Commands(tmp_path))
    assert failed == []
    training, speeds = (Store(tmp_path / "kept").get(one) or {} for one in plan)
    assert training["updates"] == 3
    assert len(training["verbs_found"]) == 100
    assert np.array(training["map"]["weights"]).sum(1) == pytest.approx(1, abs=1e-2)
    assert training["map"]["source"][:-1] == task.shown[0].replace(".", " .").split()
    assert len(Store(tmp_path / "kept").translations(plan[0])) == len(task.lengths)
    (rates,) = speeds["rates"].values()
    assert rates["training_pieces_per_second"][0] > 0
    assert rates["decoding_sentences_per_second"][0] > 0


def test_pieces_become_words() -> None:
    pieces = AttentionMap(("▁a", "b", "▁c", ".", "</s>"), ("▁x", "▁y", "z", ".", "</s>"), torch.arange(25.0).view(5, 5))
    words = by_word(pieces)
    assert (words.source, words.target) == (("ab", "c", ".", "</s>"), ("x", "yz", ".", "</s>"))
    assert words.weights_TS[1].tolist() == [(5 + 6 + 10 + 11) / 2, 9.5, 10.5, 11.5]
    assert last_word(words) == 1


# -- statistics


def test_an_estimate_is_the_mean_score_of_the_seeds() -> None:
    references = [f"this is line number {number} of a text" for number in range(40)]
    worse = [line if number % 3 else "no" for number, line in enumerate(references)]
    bleu = Bleu("13a")
    statistics = [bleu.statistics(lines, references) for lines in (references, worse)]
    whole, part = estimate(bleu, statistics, [range(40), range(10)])
    config = Config.model_fields["evaluation"].default
    value = compute_scores(worse, [references], config)["bleu"].value
    assert whole.by_seed == pytest.approx([100, value])
    assert whole.value == pytest.approx((100 + value) / 2)
    fixed = Estimate(whole.value, whole.samples, np.repeat(whole.value, 2))
    assert value < fixed.low < whole.value < fixed.high < 100.001  # by sentences alone
    assert part.samples.std() > whole.samples.std()
    assert (part.low, part.high) == (0, 100)  # two seeds tell little, but a score is no less and no more
    assert (part - whole).low < 0 < (part - whole).high
    again, _ = estimate(bleu, statistics, [range(40), range(10)])
    assert not (whole - again).samples.any()


def test_a_share_has_about_the_interval_of_a_binomial() -> None:
    lines = ["x"] * 300 + ["y"] * 100
    (found,) = estimate(Share(), [Share().statistics(lines, ["x"] * 400)], [range(400)])
    assert found.value == 75
    assert found.high - found.low == pytest.approx(2 * 1.96 * 100 * (0.75 * 0.25 / 400) ** 0.5, rel=0.1)


def certain(value: float) -> Estimate:
    return Estimate(value, np.full(1000, value), np.array([value, value]))


def test_an_interval_joins_sentences_and_seeds() -> None:
    """By hand: three of the standard deviation 2, whose mean's is 2 / sqrt(3); Student's 97.5 % point of 2 is 4.303."""
    by_seeds = 4.303 * 2 / 3**0.5
    found = Estimate(5.0, np.full(1000, 5.0), np.array([3.0, 5.0, 7.0]))
    assert (found.low, found.high) == (pytest.approx(5 - by_seeds), pytest.approx(5 + by_seeds))
    both = Estimate(5.0, np.linspace(5 - 10 / 0.95, 5 + 10 / 0.95, 100_001), found.by_seed)
    assert both.high - 5 == pytest.approx((10**2 + by_seeds**2) ** 0.5)
    assert not (found - found).high


def test_an_interval_by_seeds_holds_what_it_says() -> None:
    draw = np.random.default_rng(1)
    true = 0.0
    rows = [Estimate(float(drawn.mean()), np.full(2, drawn.mean()), drawn) for drawn in draw.normal(true, 1, (4000, 3))]
    held = sum(one.low < true < one.high for one in rows) / len(rows)
    assert held == pytest.approx(0.95, abs=0.015)


def test_a_slope_is_that_of_the_line() -> None:
    found = slope([certain(3), certain(5), certain(9)], [1, 2, 4])
    assert (found.value, found.low, *found.by_seed) == pytest.approx((2, 2, 2, 2))


def test_verdicts_follow_the_interval() -> None:
    unsure = Estimate(0.5, np.linspace(-1, 2, 1000), np.array([0.5, 0.5]))
    holds, fails, opened, unfinished = Verdict
    assert above(Estimate(1, np.ones(1000), np.ones(1)), 0) == unfinished  # one seed
    assert [above(certain(1), 0), above(certain(-1), 0), above(unsure, 0)] == [holds, fails, opened]
    assert [below(certain(-1), 0), below(certain(1), 0), below(unsure, 0)] == [holds, fails, opened]
    assert together([holds, holds]) == holds
    assert together([holds, opened]) == opened
    assert together([holds, opened, unfinished]) == unfinished
    assert together([fails, opened, unfinished]) == fails
    assert together([]) == unfinished


def test_speeds_are_compared_turn_by_turn() -> None:
    """By hand: logarithms of 1.2, 1.3 and 1.25; a machine that is half as fast in one turn changes nothing."""
    logs = np.log([1.2, 1.3, 1.25])
    half = 4.303 * logs.std(ddof=1) / 3**0.5
    for turn in (1.0, 0.5):
        found = Rate((120.0, 130.0 * turn, 250.0)).times(Rate((100.0, 100.0 * turn, 200.0)))
        assert (found.value, found.low, found.high) == pytest.approx(
            (logs.mean(), logs.mean() - half, logs.mean() + half)
        )
        assert above(found, 0) == Verdict.HOLDS
    assert above(Rate((3.0,)).times(Rate((1.0,))), 0) == Verdict.UNFINISHED


def test_a_relative_slope_is_what_is_lost_of_the_score() -> None:
    """80, 40, 20: half of it each time, whatever there was."""
    for first in (80, 8):
        found = relative_slope([certain(first / 2**number) for number in range(3)], [1, 2, 3])
        assert (found.value, found.low, *found.by_seed) == pytest.approx((-50, -50, -50, -50))
    assert np.isfinite(relative_slope([certain(0), certain(50)], [1, 2]).value)


# -- the page


def pretend(
    found: dict[str, Task], folder: Path, good: Callable[[str, int], bool], there: Callable[[Any], bool]
) -> Evidence:
    """Made-up figures: a line is right where `good(variant, length)` says so."""
    store = Store(folder)
    for one in planned(TINY, found):
        if not there(one):
            continue
        if isinstance(one, Speeds):
            rates = {}
            for variant in (training.variant for training in one.trainings):
                rate = {"luong-dot": 300.0, "luong-dot-unfed": 900.0}.get(variant, 100.0)
                each = [rate + number for number in range(one.rounds)]
                rates[variant] = {"training_pieces_per_second": each, "decoding_sentences_per_second": each}
            store.put(one, {"about": ABOUT, "rates": rates})
            continue
        task = one.task
        pairs = zip(task.test.references[0], task.lengths, strict=True)
        lines = [line if good(one.variant, length) else line[:2] + "0" for line, length in pairs]
        look = {
            "verbs_found": [True] * 95 + [False] * 5,
            "map": {"source": "ab", "target": "갂c", "weights": [[1, 0]] * 2},
        }
        sizes = {
            "parameters": 1 + (one.variant == "bahdanau"),
            "updates": 2,
            "pieces": 3,
            "training_seconds": 60,
            "decoding_seconds": 60,
        }
        store.put(one, {"about": ABOUT, **sizes, **look}, lines)
    return Evidence(TINY, found, store)


def as_claimed(variant: str, length: int) -> bool:
    """Without attention only short sentences go well, with a tanh RNN fewer still."""
    reach = {"rnn": 5, "gru": 9, "lstm": 14, "none": 9}
    named = [limit for cell, limit in reach.items() if cell in variant.split("-")]
    return not named or length <= min(named)


def verdicts_of(evidence: Evidence) -> dict[str, dict[str, set[Verdict]]]:
    """By claim and scope."""
    judged = {name: claim.judge(evidence).verdicts for name, claim in CLAIMS.items()}
    return {name: {scope: set(found.values()) for scope, found in scopes.items()} for name, scopes in judged.items()}


def test_claims_that_hold_are_told_to_hold(found: dict[str, Task], tmp_path: Path) -> None:
    verdicts = verdicts_of(pretend(found, tmp_path, as_claimed, lambda one: True))
    holds, long = {Verdict.HOLDS}, found["long"].title
    for name in ("lengths", "kinds", "maps"):
        assert all(one == holds for one in verdicts[name].values()), (name, verdicts[name])
    assert verdicts["cells"][found["copy"].title] == holds
    faster = {f"speed of {doing}": holds for doing in ("training", "decoding")}
    assert verdicts["feeding"] == {long: {Verdict.OPEN}, **faster}


def test_claims_that_do_not_hold_are_told_not_to(found: dict[str, Task], tmp_path: Path) -> None:
    evidence = pretend(found, tmp_path, lambda variant, length: not as_claimed(variant, length), lambda one: True)
    verdicts = {name: set.union(*scopes.values()) for name, scopes in verdicts_of(evidence).items()}
    assert Verdict.HOLDS not in verdicts["lengths"] | verdicts["cells"]
    assert Verdict.FAILS in verdicts["lengths"]
    assert Verdict.FAILS in verdicts["cells"]


def test_each_kind_of_attention_is_judged_by_itself(found: dict[str, Task], tmp_path: Path) -> None:
    """One that falls is told, and takes nothing from the others."""

    def good(variant: str, length: int) -> bool:
        return as_claimed("none" if variant == "luong-dot-unfed" else variant, length)

    section = CLAIMS["lengths"].judge(pretend(found, tmp_path, good, lambda one: True))
    (found_of,) = section.verdicts.values()
    assert found_of.pop("Luong dot (not fed)") == Verdict.FAILS
    assert set(found_of.values()) == {Verdict.HOLDS}
    (line,) = section.found
    assert line.endswith("**does not hold** for Luong dot (not fed)")


@pytest.mark.parametrize("there", ["all", "one seed", "nothing"])
def test_the_page_is_made_of_what_is_there(found: dict[str, Task], tmp_path: Path, there: str) -> None:
    seeds = {"all": (1, 2), "one seed": (1,), "nothing": ()}[there]
    figures = tmp_path / "docs" / "claims"

    def kept(one: Training | Speeds) -> bool:
        return there == "all" or (isinstance(one, Training) and one.seed in seeds)

    evidence = pretend(found, figures, as_claimed, kept)
    page.write(evidence, tmp_path / "docs" / "claims.md", figures)
    text = (tmp_path / "docs" / "claims.md").read_text(encoding="utf-8")
    pictures = sorted(path.stem for path in figures.glob("*.png"))
    assert "**Without Multi30k**" in text
    assert "`make claims`" in text
    assert ("**Not finished**" in text) == (there != "all")
    assert ("not measured yet" in text) == (there != "all")
    assert pictures == ([] if there == "nothing" else sorted(CLAIMS))
    for name in pictures:
        assert f"](claims/{name}.png)" in text
    assert ("a box" in text) == (there != "nothing")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith(" |") and "nan" not in line for line in rows)


def test_seeds_are_compared_that_all_have(found: dict[str, Task], tmp_path: Path) -> None:
    """The second of "none" is not there yet: nowhere is it counted."""
    evidence = pretend(
        found, tmp_path, as_claimed, lambda one: isinstance(one, Speeds) or (one.variant, one.seed) != ("none", 2)
    )
    both = TINY.variants["long"]
    assert {len(trainings) for trainings in evidence.trainings("long", both).values()} == {1}
    assert {len(trainings) for trainings in evidence.trainings("long", both[1:]).values()} == {2}
    assert {len(trainings) for trainings in evidence.trainings("copy", TINY.variants["copy"]).values()} == {2}
    assert len(evidence.missing) == 1


def test_korean_is_spelled_out() -> None:
    assert romanized("소년은 사과를 먹어요.") == "sonyeoneun sagwareul meogeoyo."
    assert romanized("값 앉 꽃, ab") == "gabs anj kkoch, ab"


def test_an_unknown_claim_is_refused() -> None:
    command = [sys.executable, "-m", "benchmarks.claims", "--only", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "lengths" in done.stderr


def test_no_two_lines_of_a_plot_look_alike() -> None:
    points = [Interval(0, 1, 0, 2), Interval(1, 2, 1, 3)]
    figure = pictures.bands([Panel("", "", "", {f"system {number}": points for number in range(20)})])
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == 20


def test_bands_and_bars_show_every_figure() -> None:
    one, two = Interval(1, 10, 8, 13), Interval(2, 20, 19, 21)
    axes, other = pictures.bands(
        [Panel("here", "x", "y", {"a": [one, two]}), Panel("there", "x", "y", {"b": [two]})]
    ).axes
    assert axes.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    assert other.lines[0].get_color() != axes.lines[0].get_color()
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["a", "b"]
    axes = pictures.bands([Panel("", "x", "y", {"a": [one], "b": [two]}, edge=3)], broken={"b": "a"}).axes[0]
    first, second, edge = axes.lines
    assert (first.get_color(), second.get_color()) == (first.get_color(),) * 2
    assert [line.get_linestyle() for line in (first, second)] == ["-", "--"]
    assert list(edge.get_xdata()) == [3, 3]
    places = pictures.bands([Panel(name, "x", "y", {"a": [one]}) for name in "abc"], broken={"a": "absent"}).axes
    assert [axes.axison for axes in places] == [True, True, True, False]
    (axes,) = pictures.bars({"BLEU": {"a": one, "b": two}}).axes
    assert [bar.get_width() for bar in axes.patches] == [10, 20]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
