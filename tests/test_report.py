"""The page of an evaluation: what it holds, and that a hypothesis cannot become part of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
import torch

from s2s_cli.config import EvaluationConfig
from s2s_cli.evaluate import compute_scores
from s2s_cli.report.page import render
from s2s_cli.score.analysis import Details, break_down, by_frequency, by_length, by_position
from s2s_cli.score.result import Evaluation, Outcome
from s2s_cli.score.system import AttentionMap
from s2s_cli.score.testset import TestSet

HOSTILE = '</script><script>document.title = "taken"</script> <img src=x onerror=alert(1)> & \u2028 "quoted"'
SOURCES = ("the dog sleeps", "a b c d e f g", HOSTILE)
REFERENCES = ("der hund schläft", "a b c d e f x", "fine")
CONFIG = EvaluationConfig()


def details(test: TestSet, translations: tuple[str, ...], attention: tuple[AttentionMap, ...] = ()) -> Details:
    return Details(break_down(test, translations, CONFIG), (100.0,) * len(translations), attention)


def page(translations: tuple[str, ...] = ("der hund schläft", "a b c d e f g", HOSTILE)) -> str:
    test = TestSet("news", (REFERENCES,), ("ref",), SOURCES)
    scores = compute_scores(translations, test.references, CONFIG)
    maps = tuple(AttentionMap(("a", "</s>"), ("b", "c", "</s>"), torch.eye(3)[:, :2]) for _ in translations)
    found = Evaluation("mine", test, translations, scores)
    curve = [{"step": 1, "loss": 2.0}, {"step": 2, "scores": {"loss": 1.0, "bleu": 3.0}}]
    return render(Outcome((found,)), [details(test, translations, maps)], curve)


class Scripts(HTMLParser):
    """Collects elements, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.texts.append(data)


def test_what_a_hypothesis_says_stays_text() -> None:
    parsed = Scripts()
    parsed.feed(page())
    names = [tag for tag, _ in parsed.tags]
    assert names.count("script") == 2
    assert "img" not in names
    data: dict[str, Any] = json.loads(parsed.texts[1])
    system = data["tests"][0]["systems"][0]
    assert system["translations"][2] == HOSTILE
    assert data["tests"][0]["sources"] == list(SOURCES)


def test_the_page_asks_for_nothing_and_runs_only_its_own_script() -> None:
    text = page()
    parsed = Scripts()
    parsed.feed(text)
    assert not [attributes for _, attributes in parsed.tags if {"src", "href"} & set(attributes)]
    (policy,) = [a["content"] for tag, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy"]
    style, _, script = parsed.texts
    for kind, source in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in (policy or "")
    assert "default-src 'none'" in (policy or "")
    assert "url(" not in style


def test_attention_weights_are_bytes_row_by_row() -> None:
    parsed = Scripts()
    parsed.feed(page())
    found = json.loads(parsed.texts[1])["tests"][0]["systems"][0]["attention"][0]
    assert list(base64.b64decode(found["weights"])) == [255, 0, 0, 255, 0, 0]
    assert (found["source"], found["target"]) == (["a", "</s>"], ["b", "c", "</s>"])


# The numbers behind the plots


def test_sentences_are_grouped_by_source_length() -> None:
    test = TestSet("t", (REFERENCES,), (), ("a b c", "a b c d e f", "x"))
    found = by_length(test, ("der hund schläft", "a b c d e f g", "fine"), CONFIG)
    assert [(group.label, group.count) for group in found.groups] == [("1 to 5", 2), ("6 to 10", 1)]
    wanted = compute_scores(("a b c d e f g",), (("a b c d e f x",),), CONFIG)
    assert found.groups[1].scores["bleu"].value == wanted["bleu"].value
    assert found.unit == "words of the source"
    alone = by_length(
        TestSet("t", (("我们在北京看书天气很好吗我们在北京看书天气很好吗",) * 2,), ()), ("我们", "在"), CONFIG
    )
    assert alone.unit == "characters of the reference"
    long = TestSet("t", (tuple("语" * length for length in range(100, 700)),), ())
    many = by_length(long, ("语",) * 600, CONFIG)
    assert [group.count for group in many.groups] == [100] * 6
    assert [many.groups[0].label, many.groups[-1].label] == ["100 to 199", "600+"]


def test_words_are_grouped_by_how_often_the_references_have_them() -> None:
    found = by_frequency([["a", "a", "b"], ["a", "c"]], [["a", "b", "x"], ["a", "c", "c"]])
    groups = {group.label: group for group in found.groups}
    assert set(groups) == {"1", "3 to 4"}
    assert groups["1"].count == 2
    # b: 1 right of 1 and 1; c: 1 right of 1 needed and 2 said
    assert groups["1"].scores["word F1"].value == pytest.approx(200 * 2 / (2 + 3))
    assert groups["3 to 4"].scores["word F1"].value == pytest.approx(200 * 2 / (3 + 2))


def test_recall_by_position_sees_where_words_are_lost() -> None:
    references = [[f"w{i}" for i in range(10)]] * 3
    translations = [[f"w{i}" for i in range(6)]] * 3
    found = by_position(references, translations)
    assert [group.scores["recall"].value for group in found.groups] == [100, 100, 100, 0, 0]
    assert [group.count for group in found.groups] == [6] * 5
    assert by_position([[], []], [["a"], []]).groups == ()
    endless = by_position([["a", "b", "c", "d", "e"]], [["a", *["b"] * 999]])  # what ran away counts, too
    assert [group.scores["recall"].value for group in endless.groups] == [100, 100, 0, 0, 0]


def test_a_long_learning_curve_is_thinned_but_for_its_validations() -> None:
    lines: list[dict[str, Any]] = [{"step": step, "loss": 1.0} for step in range(100_000)]
    lines += [{"step": step, "scores": {"bleu": 30.0}} for step in range(0, 100_000, 50)]
    test = TestSet("news", (REFERENCES,), ("ref",), SOURCES)
    found = Evaluation("mine", test, REFERENCES, compute_scores(REFERENCES, test.references, CONFIG))
    text = render(Outcome((found,)), [details(test, REFERENCES)], lines)
    assert text.count('"bleu": 30.0') == 2000
    assert 900 < text.count('"loss": 1.0') <= 1100


def test_the_scripts_of_the_page_never_make_markup_of_text() -> None:
    script = Scripts()
    script.feed(page())
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.texts[2])


def test_numbers_that_are_none_do_not_break_the_page() -> None:
    test = TestSet("news", (REFERENCES,), ("ref",), SOURCES)
    found = Evaluation("mine", test, REFERENCES, compute_scores(REFERENCES, test.references, CONFIG))
    text = render(Outcome((found,)), [details(test, REFERENCES)], [{"step": 1, "loss": float("nan")}])
    parsed = Scripts()
    parsed.feed(text)
    assert json.loads(parsed.texts[1], parse_constant=pytest.fail)["curve"] == []
