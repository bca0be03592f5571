"""What lets a build go on, and what does not."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from s2s_cli import ci
from s2s_cli.errors import UserError
from s2s_cli.evaluate import Comparison, Score
from s2s_cli.score.gates import Conditions, Gate, judge, parse_limit
from s2s_cli.score.result import Evaluation, Outcome
from s2s_cli.score.testset import TestSet


def score(value: float) -> Score:
    return Score(value, "signature")


def compared(metric: str, baseline: float, value: float, p: float, other: float = 0.0) -> Comparison:
    return Comparison(metric, baseline, value, p_bootstrap=other, p_randomization=p, signature="signature")


def evaluation(scores: dict[str, Score], gates: tuple[Gate, ...] = (), system: str = "mine") -> Evaluation:
    test = TestSet("news", (("a", "b"),), ("ref.txt",))
    return Evaluation(system, test, ("x", "y"), scores, {"hypothesis": "a.txt"}, gates=gates)


@pytest.mark.parametrize(
    ("value", "floor", "passed"), [(30.0, 30.0, True), (30.1, 30.0, True), (29.999, 30.0, False), (0.0, -1.0, True)]
)
def test_a_floor_is_reached_at_its_value_and_above(value: float, floor: float, passed: bool) -> None:
    (gate,) = judge({"bleu": score(value), "chrf": score(1)}, (), Conditions(floors={"bleu": floor}))
    assert gate == Gate("min", "bleu", value, floor, passed)
    assert Outcome((evaluation({"bleu": score(value)}, (gate,)),)).passed is passed


def test_a_gate_that_is_missed_by_little_shows_by_how_much() -> None:
    assert "bleu 29.997, at least 30 wanted" in Gate("min", "bleu", 29.997, 30, False).text
    assert "bleu 29.50, at least 30 wanted" in Gate("min", "bleu", 29.5, 30, False).text
    assert "ter 60.00000000000001, at most 60 wanted" in Gate("max", "ter", math.nextafter(60, 61), 60, False).text
    assert "bleu 30.00, at least 30 wanted" in Gate("min", "bleu", 30, 30, True).text
    assert "by 0.503, at most 0.5 wanted" in Gate("max-drop", "bleu", 0.503, 0.5, False).text
    assert "by 0.50, at most 0.5 wanted" in Gate("max-drop", "bleu", 0.5, 0.5, True).text
    assert "by 0.00, at most 0.5 wanted" in Gate("max-drop", "bleu", -0.1, 0.5, True).text
    p = 50 / 1001
    assert f"with p = {p!r}, a regression where p < 0.05" in Gate("regression", "bleu", p, 0.05, False).text
    assert "with p = 0.0120, a regression" in Gate("regression", "bleu", 0.012, 0.05, False).text


@pytest.mark.parametrize(("value", "passed"), [(60.0, True), (59.0, True), (60.001, False)])
def test_a_ceiling_holds_at_its_value_and_below(value: float, passed: bool) -> None:
    (gate,) = judge({"ter": score(value)}, (), Conditions(ceilings={"ter": 60}))
    assert gate.passed is passed


def test_every_gate_of_every_system_must_pass() -> None:
    scores = {"bleu": score(30), "chrf": score(50)}
    good = judge(scores, (), Conditions(floors={"bleu": 20, "chrf": 50}))
    bad = judge(scores, (), Conditions(floors={"bleu": 20, "chrf": 51}))
    assert len(good) == len(bad) == 2
    assert Outcome((evaluation(scores, good), evaluation(scores))).passed
    assert not Outcome((evaluation(scores, good), evaluation(scores, bad))).passed


@pytest.mark.parametrize(
    ("metric", "baseline", "value", "p", "passed"),
    [
        ("bleu", 30, 29, 0.01, False),  # worse, and hardly by chance
        ("bleu", 30, 29, 0.2, True),  # worse, but that may be noise
        ("bleu", 30, 31, 0.001, True),  # better
        ("ter", 50, 52, 0.01, False),
        ("ter", 50, 48, 0.01, True),
        ("bleu", 30, 30, 0.0001, True),
    ],
)
def test_only_a_significant_drop_is_a_regression(
    metric: str, baseline: float, value: float, p: float, passed: bool
) -> None:
    found = compared(metric, baseline, value, p)
    (gate,) = judge({}, (found,), Conditions(no_regression=True))
    assert gate.kind == "regression"
    assert gate.passed is passed
    assert judge({}, (found,), Conditions()) == ()
    (strict,) = judge({}, (found,), Conditions(no_regression=True, level=p))
    assert strict.passed


@pytest.mark.parametrize(
    ("drop", "limit", "passed"), [(0.4, 0.5, True), (0.5, 0.5, True), (0.6, 0.5, False), (-1, 0, True)]
)
def test_a_drop_may_not_be_larger_than_allowed(drop: float, limit: float, passed: bool) -> None:
    found = (compared("bleu", 32, 32 - drop, p=0.9), compared("chrf", 50, 1, p=0.9))
    (gate,) = judge({}, found, Conditions(drops={"bleu": limit}))
    assert gate.passed is passed
    assert gate.value == pytest.approx(drop)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_cannot_be_judged(value: float) -> None:
    for conditions in (Conditions(floors={"bleu": 1}), Conditions(ceilings={"bleu": 1})):
        with pytest.raises(UserError, match="bleu: cannot be judged"):
            judge({"bleu": score(value)}, (), conditions)
    with pytest.raises(UserError, match="cannot be judged"):
        judge({}, (compared("bleu", 1, value, 0.5),), Conditions(no_regression=True))
    assert judge({"bleu": score(value)}, (), Conditions()) == ()


def test_limits_are_read() -> None:
    assert parse_limit("--min", "bleu=30.5", ["bleu"]) == ("bleu", 30.5)
    for text, word in (("blue=3", "did you mean 'bleu'"), ("bleu", "METRIC=VALUE"), ("bleu=nan", "METRIC=VALUE")):
        with pytest.raises(UserError, match=word):
            parse_limit("--min", text, ["bleu"])


def test_the_json_object_holds_scores_gates_and_what_was_scored() -> None:
    scores = {"bleu": Score(30.5, "sig", 29.5, 31.5), "ter": score(50)}
    found = evaluation(scores, judge(scores, (), Conditions(floors={"bleu": 31})))
    written = json.loads(json.dumps(Outcome((found,)).as_json()))
    assert written["scores"] == {
        "bleu": {"value": 30.5, "signature": "sig", "low": 29.5, "high": 31.5},
        "ter": {"value": 50, "signature": "signature", "low": None, "high": None},
    }
    assert written["passed"] is False
    (only,) = written["evaluations"]
    assert only["scores"] == written["scores"]
    assert only["gates"] == [{"kind": "min", "metric": "bleu", "value": 30.5, "limit": 31, "passed": False}]
    assert (only["system"], only["test_set"], only["sentences"]) == ("mine", "news", 2)
    assert (only["hypothesis"], only["translations"], only["sources_sha256"]) == ("a.txt", ["x", "y"], None)


# For build servers


@pytest.fixture
def outcome() -> Outcome:
    scores = {"bleu": score(30), "chrf": score(50)}
    gates = judge(scores, (compared("bleu", 31, 30, 0.01),), Conditions(floors={"bleu": 20}, no_regression=True))
    return Outcome((evaluation(scores, gates, system="a<b>&\x01|`x`"), evaluation(scores, gates[:1], system="other")))


def test_junit_has_a_case_for_each_gate(outcome: Outcome) -> None:
    root = ET.fromstring(ci.junit(outcome).encode())
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    first, second = root.findall("testsuite")
    assert first.get("name") == "a<b>&?|`x` on news"
    assert [case.get("name") for case in first.findall("testcase")] == ["min bleu", "regression bleu"]
    (failure,) = first.findall("testcase/failure")
    assert failure.get("message") == outcome.judged[0].gates[1].text
    assert second.findall("testcase/failure") == []
    properties = {item.get("name"): item.get("value") for item in second.findall("properties/property")}
    assert properties["bleu"] == "30.000000"
    assert properties["bleu signature"] == "signature"


def test_github_gets_annotations_and_a_summary(
    outcome: Outcome, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    ci.report_to_github(outcome, said.append)
    assert said == []
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    ci.report_to_github(outcome, said.append)
    (annotation,) = said
    assert annotation.startswith("::error title=s2s evaluate::a<b>&")
    assert "regression" in annotation
    assert "\n" not in annotation
    text = summary.read_text()
    assert text.startswith("before\n### s2s evaluate\n")
    assert "| system | metric | score |" in text
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert text.count(":x:") == 1
    assert text.count(":white_check_mark:") == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    ci.report_to_github(outcome, said.append)
    assert said[-1].startswith("warning: cannot write ")  # the gates are judged, and that is what counts
