"""What `s2s evaluate` asks for, carried out: find model and test set, translate, score, judge."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2s_cli.config import Config, EvaluationConfig, ParallelText
from s2s_cli.config_file import change
from s2s_cli.data.corpus import read_lines, read_pairs
from s2s_cli.errors import UserError, suggest
from s2s_cli.evaluate import METRICS, Evaluation, check_floors, check_gates, compute_scores, tokenization_hint
from s2s_cli.files import write_atomically
from s2s_cli.run import RunDirectory, find_model
from s2s_cli.translate import Translator


@dataclass(frozen=True)
class Request:
    """The options of `s2s evaluate`."""

    model: Path | None = None
    source: Path | None = None
    reference: Path | None = None
    hypothesis: Path | None = None
    test: str | None = None
    metrics: tuple[str, ...] = ()
    floors: tuple[str, ...] = ()
    tokenize: str | None = None
    lowercase: bool | None = None
    beam: int | None = None
    batch_size: int | None = None
    output: Path | None = None


def evaluate_request(request: Request, say: Callable[[str], None]) -> Evaluation:
    """Scores a model on a test set, or a hypothesis file. What can be refused is refused before any decoding.

    Raises:
        UserError: where something is missing, misaligned or cannot be judged.
    """
    if request.hypothesis and request.reference:
        for name in ("source", "model", "test", "beam", "batch_size", "output"):
            if getattr(request, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} has no use with --hypothesis and --reference: leave it out"
                )
        settings, floors = _settings(request, EvaluationConfig())
        references = list(read_lines(request.reference))
        hypotheses = list(read_lines(request.hypothesis))
        about: dict[str, Any] = {"hypothesis": str(request.hypothesis), "reference": str(request.reference)}
        return _judge(hypotheses, references, settings, floors, about, say)
    run, checkpoint = find_model(request.model)
    config = run.read_config()
    settings, floors = _settings(request, config.evaluation)
    text = _found_beside(run, _test_set(request, config))
    sources, references = _columns(text)
    about = {"model": str(checkpoint), "test_set": [str(path) for path in text.files]}
    if request.output and (request.output.is_dir() or not os.access(request.output.parent, os.W_OK)):
        raise UserError(f"--output {request.output}: cannot be written: a folder, or in none that can be written to")
    if request.hypothesis:
        hypotheses = list(read_lines(request.hypothesis))
        about = {"hypothesis": str(request.hypothesis), "test_set": [str(path) for path in text.files]}
    else:
        translator = Translator.load(run, checkpoint, beam=request.beam, batch_size=request.batch_size, n_best=1)
        hypotheses = [best.text for best, *_ in translator.translate(sources)]
        about["decoding"] = translator.config.model_dump(mode="json")
    if request.output:
        write_atomically(request.output, "".join(f"{line}\n" for line in hypotheses).encode())
    return _judge(hypotheses, references, settings, floors, about, say)


def _settings(request: Request, evaluation: EvaluationConfig) -> tuple[EvaluationConfig, dict[str, float]]:
    """How to score, and the floors to hold: the config's, changed by the options."""
    asked = dict(map(_floor, request.floors))
    wanted = dict.fromkeys([*(request.metrics or evaluation.metrics), *asked])
    changes: dict[str, Any] = {"metrics": tuple(wanted), "min": {}}
    if request.tokenize is not None:
        changes["tokenize"] = request.tokenize
    if request.lowercase is not None:
        changes["lowercase"] = request.lowercase
    floors = dict(evaluation.min) | asked
    check_floors(floors, list(wanted))
    return change(evaluation, changes, "evaluation"), floors


def _judge(
    hypotheses: list[str],
    references: list[str],
    settings: EvaluationConfig,
    floors: dict[str, float],
    about: dict[str, Any],
    say: Callable[[str], None],
) -> Evaluation:
    if hint := tokenization_hint(references, settings):
        say(f"hint: {hint}")
    scores = compute_scores(hypotheses, references, settings, intervals=True)
    about["sentences"] = len(references)
    return Evaluation(scores, check_gates(scores, floors), about)


def _floor(text: str) -> tuple[str, float]:
    metric, _, value = text.partition("=")
    if metric not in METRICS:
        raise UserError(f"--min {text}: unknown metric: {suggest(metric, METRICS)}")
    try:
        floor = float(value)
    except ValueError:
        floor = math.nan
    if not math.isfinite(floor):
        raise UserError(f"--min {text}: write METRIC=VALUE, for example --min bleu=30")
    return metric, floor


def _test_set(request: Request, config: Config) -> ParallelText:
    if request.source or request.reference:
        if not (request.source and request.reference):
            raise UserError("give both --source and --reference, or neither for the test set of the run's config")
        return ParallelText(source=request.source, target=request.reference)
    if not config.data.test:
        raise UserError("the run's config names no test set (data.test): give --source and --reference")
    names = {text.name: text for text in config.data.test}
    if request.test is not None and request.test not in names:
        raise UserError(f"--test {request.test}: no such test set: {suggest(request.test, names)}")
    return names[request.test] if request.test else config.data.test[0]


def _found_beside(run: RunDirectory, text: ParallelText) -> ParallelText:
    """The test set, each file that is gone taken from the run's folder: a run that was copied has its paths no more."""

    def find(path: Path | None) -> Path | None:
        beside = run.path / path.name if path else None
        return beside if path and beside and not path.is_file() and beside.is_file() else path

    return text.model_copy(update={name: find(getattr(text, name)) for name in ("source", "target", "tsv")})


def _columns(text: ParallelText) -> tuple[list[str], list[str]]:
    for path in text.files:
        if not path.is_file():
            raise UserError(
                f"{path}: the test set is not there: put it into the run's folder, or give --source and --reference"
            )
    pairs = list(read_pairs(text))
    return [source for source, _ in pairs], [target for _, target in pairs]
