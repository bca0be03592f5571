"""Scores by sacreBLEU, with signatures and confidence intervals, and its paired tests of significance."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result, estimate_ci

from s2s_cli.config import LOWER_IS_BETTER, EvaluationConfig
from s2s_cli.errors import UserError

BOOTSTRAP_SAMPLES = 1000  # as `sacrebleu --confidence`
MOST_RESAMPLED = 20_000  # of chrF++ sacreBLEU then holds two gigabytes

METRICS: dict[str, Callable[[EvaluationConfig], Metric]] = {
    "bleu": lambda config: BLEU(tokenize=config.tokenize, lowercase=config.lowercase),
    "chrf": lambda config: CHRF(lowercase=config.lowercase),
    "chrf++": lambda config: CHRF(word_order=2, lowercase=config.lowercase),
    "ter": lambda config: TER(),  # as sacreBLEU's command: without regard to case
}
References = Sequence[Sequence[str]]
"""Each a translation of the whole text, line by line."""

_BY_CHARACTER = re.compile(r"CJK|HANGUL|HIRAGANA|KATAKANA")


@dataclass(frozen=True)
class Score:
    """A corpus score; `low` and `high` bound its 95 % bootstrap interval where one was asked for."""

    value: float
    signature: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A system's score beside that of a baseline on the same lines, with sacreBLEU's paired tests."""

    metric: str
    baseline: float
    value: float
    p_bootstrap: float
    """Paired bootstrap resampling (Koehn 2004), 1,000 samples."""
    p_randomization: float
    """Paired approximate randomization (Riezler and Maxwell 2005), 10,000 trials; two-sided."""
    signature: str
    """Of the score, with the seed and the size of the tests."""

    @property
    def gain(self) -> float:
        """How much better the system is than the baseline; negative where it is worse."""
        return self.baseline - self.value if self.metric in LOWER_IS_BETTER else self.value - self.baseline


def compute_scores(
    hypotheses: Sequence[str], references: References, config: EvaluationConfig, *, intervals: bool = False
) -> dict[str, Score]:
    """The corpus scores that the config names.

    Args:
        hypotheses: line by line.
        references: one or more translations of the whole text, each line by line.
        config: metrics and tokenization.
        intervals: also resample for a 95 % confidence interval (about a second a metric), where `can_resample`.

    Raises:
        UserError: where the sides are misaligned or empty, or sacreBLEU's tokenizer needs a package that is missing.
    """
    _check_aligned(hypotheses, references)
    scores: dict[str, Score] = {}
    for name in config.metrics:
        metric = _in_floats(_make(name, config))
        samples = BOOTSTRAP_SAMPLES if intervals and can_resample(len(hypotheses)) else 1
        result: Any = metric.corpus_score(list(hypotheses), list(map(list, references)), n_bootstrap=samples)
        interval = (result._mean - result._ci, result._mean + result._ci) if samples > 1 else ()
        scores[name] = Score(float(result.score), str(metric.get_signature()), *map(float, interval))
    return scores


def _in_floats(metric: Metric) -> Metric:
    """The same, its scores Python's floats: resamples of chrF mix them with numpy's, of which sacreBLEU has no mean."""
    plain = metric._compute_score_from_stats

    def compute(stats: Any) -> Any:
        found = plain(stats)
        found.score = float(found.score)
        return found

    metric._compute_score_from_stats = compute  # type: ignore[method-assign]
    return metric


def can_resample(lines: int) -> bool:
    """Whether a text can be resampled: one line says nothing, and sacreBLEU holds all resamples in memory at once."""
    return 1 < lines <= MOST_RESAMPLED


def mean_interval(totals: Sequence[float], counts: Sequence[int]) -> tuple[float, ...]:
    """The bounds of the 95 % bootstrap interval of sum(totals) / sum(counts), by sacreBLEU's resamples of the lines.

    Args:
        totals, counts: one of each for every line.

    Returns:
        Low and high; nothing where not `can_resample`.
    """
    if not can_resample(len(totals)):
        return ()
    rows = np.random.default_rng(resampling_seed()).choice(
        len(totals), size=(BOOTSTRAP_SAMPLES, len(totals)), replace=True
    )
    mean, half = estimate_ci(np.array(totals)[rows].sum(1) / np.array(counts)[rows].sum(1))
    return float(mean - half), float(mean + half)


def compare(
    hypotheses: Sequence[str], baseline: Sequence[str], references: References, config: EvaluationConfig
) -> tuple[Comparison, ...]:
    """Each metric of a system beside the baseline's, with both of sacreBLEU's paired tests.

    Raises:
        UserError: as `compute_scores`.
    """
    for side in (hypotheses, baseline):
        _check_aligned(side, references)
    named: list[tuple[str, Sequence[str]]] = [("baseline", list(baseline)), ("system", list(hypotheses))]
    streams = list(map(list, references))
    found = []
    for name in config.metrics:
        p_values: dict[str, float] = {}
        signature = ""
        for kind in ("bs", "ar"):
            test = PairedTest(named, {name: _make(name, config)}, streams, test_type=kind)
            signatures, results = test()
            (key,) = signatures
            first, second = (cast(Result, result) for result in results[key])
            p_values[kind] = float(cast(float, second.p_value))
            signature = f"{signature}|{kind}:{test.n_samples}" if signature else str(signatures[key])
        scores = float(first.score), float(second.score)
        if scores[0] == scores[1]:  # sacreBLEU calls no difference at all significant
            p_values = dict.fromkeys(p_values, 1.0)
        found.append(Comparison(name, *scores, p_values["bs"], p_values["ar"], signature))
    return tuple(found)


def sentence_scores(hypotheses: Sequence[str], references: References, config: EvaluationConfig) -> list[float]:
    """chrF of each line, in percent: of the metrics the one that says most about a single sentence (Popovic 2015)."""
    metric = CHRF(lowercase=config.lowercase)
    columns = zip(*references, strict=True)
    return [metric.sentence_score(line, list(column)).score for line, column in zip(hypotheses, columns, strict=True)]


def word_splitter(config: EvaluationConfig) -> Callable[[str], list[str]]:
    """Parts a line into words as BLEU does."""
    bleu = cast(BLEU, _make("bleu", config))

    def split(line: str) -> list[str]:
        return bleu._preprocess_segment(line).split()

    return split


def resampling_seed() -> int | None:
    """The seed of sacreBLEU's resamples, which it takes from the environment; None draws one anew.

    Raises:
        UserError: where it is neither a whole number from 1 on nor `none`.
    """
    given = os.environ.get("SACREBLEU_SEED", "12345")
    if given.lower() == "none":
        return None
    if not given.isdecimal() or not int(given):  # sacreBLEU's paired tests take 0 for none
        raise UserError(f"SACREBLEU_SEED {given}: must be a whole number from 1 on, or none")
    return int(given)


def _check_aligned(hypotheses: Sequence[str], references: References) -> None:
    for side in references:
        if len(hypotheses) != len(side):
            raise UserError(f"misaligned: {len(hypotheses):,} hypotheses for {len(side):,} references")
    if not hypotheses or not references:
        raise UserError("nothing to score: no lines")


def _make(name: str, config: EvaluationConfig) -> Metric:
    try:
        return METRICS[name](config)
    except (ImportError, RuntimeError, OSError) as error:
        raise UserError(
            f"evaluation.tokenize {config.tokenize} cannot be used here: {' '.join(str(error).split())[:200]} "
            "(ja-mecab and ko-mecab: pip install 'sacrebleu[ja,ko]')"
        ) from None


def tokenization_hint(references: Sequence[str], config: EvaluationConfig, key: str = "--tokenize") -> str | None:
    """A hint where BLEU's tokenizer does not suit the script of the references.

    Args:
        references: some lines.
        config: the metrics, and the tokenizer.
        key: what chooses another.
    """
    if config.tokenize != "13a" or "bleu" not in config.metrics:
        return None
    letters = [char for line in references[:200] for char in line if char.isalpha()]
    names = [_BY_CHARACTER.match(unicodedata.name(char, "")) for char in letters]
    scripts = Counter(match[0] for match in names if match)
    found = scripts.total()
    if found * 2 < len(letters) or not letters:
        return None
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    kind = "ko-mecab" if scripts["HANGUL"] * 2 > found else "ja-mecab" if kana * 10 > found else "zh"
    return f"the references are not written in words that 13a finds: BLEU is better with {key} {kind}, or char"
