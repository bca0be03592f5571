"""Scores by sacreBLEU, with signatures and confidence intervals, and gates that fail a build."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from s2s_cli.config import EvaluationConfig
from s2s_cli.errors import UserError

BOOTSTRAP_SAMPLES = 1000  # as `sacrebleu --confidence`

METRICS: dict[str, Callable[[EvaluationConfig], Metric]] = {
    "bleu": lambda config: BLEU(tokenize=config.tokenize, lowercase=config.lowercase),
    "chrf": lambda config: CHRF(lowercase=config.lowercase),
    "chrf++": lambda config: CHRF(word_order=2, lowercase=config.lowercase),
    "ter": lambda config: TER(),  # as sacreBLEU's command: without regard to case
}
LOWER_IS_BETTER = frozenset({"ter", "loss", "perplexity"})

_BY_CHARACTER = re.compile(r"CJK|HANGUL|HIRAGANA|KATAKANA")


@dataclass(frozen=True)
class Score:
    """A corpus score; `low` and `high` bound its 95 % bootstrap interval where one was asked for."""

    value: float
    signature: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Gate:
    """A floor, and whether the score reached it."""

    metric: str
    floor: float
    value: float

    @property
    def passed(self) -> bool:
        """Whether the build may go on."""
        return self.value >= self.floor


@dataclass(frozen=True)
class Evaluation:
    """All that one evaluation found."""

    scores: dict[str, Score]
    gates: tuple[Gate, ...]
    about: dict[str, Any]
    """What was scored: model or hypothesis file, test set, sentences."""

    @property
    def passed(self) -> bool:
        """Whether every gate was."""
        return all(gate.passed for gate in self.gates)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` writes."""
        gates = [{**asdict(gate), "passed": gate.passed} for gate in self.gates]
        scores = {name: asdict(score) for name, score in self.scores.items()}
        return {"scores": scores, "passed": self.passed, "gates": gates, **self.about}


def better(metric: str, value: float, than: float | None) -> bool:
    """Whether a score is an improvement; one that is no number never is."""
    return not math.isnan(value) and (than is None or (value < than if metric in LOWER_IS_BETTER else value > than))


def compute_scores(
    hypotheses: Sequence[str], references: Sequence[str], config: EvaluationConfig, *, intervals: bool = False
) -> dict[str, Score]:
    """The corpus scores that the config names.

    Args:
        hypotheses, references: line by line.
        config: metrics and tokenization.
        intervals: also resample for a 95 % confidence interval (about a second a metric).

    Raises:
        UserError: where the sides are misaligned or empty, or sacreBLEU's tokenizer needs a package that is missing.
    """
    if len(hypotheses) != len(references):
        raise UserError(f"misaligned: {len(hypotheses):,} hypotheses for {len(references):,} references")
    if not references:
        raise UserError("nothing to score: no lines")
    scores: dict[str, Score] = {}
    for name in config.metrics:
        metric = _make(name, config)
        samples = BOOTSTRAP_SAMPLES if intervals and len(references) > 1 else 1
        result: Any = metric.corpus_score(list(hypotheses), [list(references)], n_bootstrap=samples)
        bounds: tuple[float | None, float | None] = (None, None)
        if samples > 1:
            bounds = float(result._mean - result._ci), float(result._mean + result._ci)
        scores[name] = Score(float(result.score), str(metric.get_signature()), *bounds)
    return scores


def _make(name: str, config: EvaluationConfig) -> Metric:
    try:
        return METRICS[name](config)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"evaluation.tokenize {config.tokenize} cannot be used here: {' '.join(str(error).split())[:200]} "
            "(ja-mecab and ko-mecab: pip install 'sacrebleu[ja,ko]')"
        ) from None


def check_floors(floors: Mapping[str, float], metrics: Sequence[str]) -> None:
    """Refuses floors that cannot be judged, before any work.

    Raises:
        UserError: where a floor's metric is not computed, or less of it is better.
    """
    for metric in floors:
        if metric not in metrics:
            raise UserError(f"a floor for {metric}: this metric is not computed; add --metric {metric}")
        if metric in LOWER_IS_BETTER:
            raise UserError(f"a floor for {metric}: of {metric} less is better, a floor cannot judge it")


def check_gates(scores: Mapping[str, Score], floors: Mapping[str, float]) -> tuple[Gate, ...]:
    """Holds each floor against its score.

    Raises:
        UserError: where a floor's metric was not computed, or a score is no number.
    """
    gates = []
    check_floors(floors, list(scores))
    for metric, floor in floors.items():
        if not math.isfinite(scores[metric].value):
            raise UserError(f"--min {metric}: cannot be judged: the score is {scores[metric].value}")
        gates.append(Gate(metric, floor, scores[metric].value))
    return tuple(gates)


def tokenization_hint(references: Sequence[str], config: EvaluationConfig) -> str | None:
    """A hint where BLEU's tokenizer does not suit the script of the references."""
    if config.tokenize != "13a" or "bleu" not in config.metrics:
        return None
    letters = [char for line in references[:200] for char in line if char.isalpha()]
    names = [_BY_CHARACTER.match(unicodedata.name(char, "")) for char in letters]
    scripts = [match[0] for match in names if match]
    if len(scripts) * 2 < len(letters) or not letters:
        return None
    kind = "ko-mecab" if "HANGUL" in scripts else "ja-mecab" if {"HIRAGANA", "KATAKANA"} & set(scripts) else "zh"
    return f"the references are not written in words that 13a finds: BLEU is better with --tokenize {kind}, or char"
