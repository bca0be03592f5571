"""What `s2s evaluate` asks for, carried out: find test sets and systems, translate, score, compare, judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2s_cli.config import EvaluationConfig
from s2s_cli.config_file import change, given, settings_of
from s2s_cli.dispatch import Dispatcher
from s2s_cli.errors import UserError, suggest
from s2s_cli.evaluate import (
    METRICS,
    MOST_RESAMPLED,
    compare,
    compute_scores,
    resampling_seed,
    sentence_scores,
    tokenization_hint,
)
from s2s_cli.files import is_there, write_result
from s2s_cli.packing import packing
from s2s_cli.run import find_model
from s2s_cli.score import testset
from s2s_cli.score.analysis import Details, break_down
from s2s_cli.score.cache import TranslationCache, folder
from s2s_cli.score.gates import Conditions, judge, parse_limit
from s2s_cli.score.request import Request
from s2s_cli.score.result import Evaluation, Outcome
from s2s_cli.score.system import EarlierEvaluation, ModelSystem, System, TranslationFile, find_baseline
from s2s_cli.score.testset import TestSet

LIKELIHOODS = ("loss", "perplexity")
FEWEST_LINES = 10
"""To tell a regression from chance: where all lines are alike, every resample says the same."""
Translated = Sequence[Mapping[System, tuple[str, ...]]]
"""The translations of each test set by each system."""


class Evaluator:
    """One request. What can be refused is refused when it is made, before anything is decoded."""

    def __init__(self, request: Request, say: Callable[[str], None], dispatcher: Dispatcher | None = None) -> None:
        """Args:
        request: the options.
        say: tells the user.
        dispatcher: divides translating among workers; default: this process does it.

        Raises:
            UserError: where something is missing or does not fit.
        """
        request.check()
        resampling_seed()
        self.request, self._say, self._dispatcher = request, say, dispatcher or Dispatcher()
        self._pack = packing(request.output) if request.output else bytes
        run = find_model(request.model)[0] if request.needs_run else None
        config = run.read_config() if run else None
        self.settings = _settings(request, config.evaluation if config else EvaluationConfig())
        self.conditions = Conditions(
            floors=dict[str, float](self.settings.min.items()),
            ceilings=dict[str, float](self.settings.max.items()),
            drops=_limits("--max-drop", request.drops),
            no_regression=request.no_regression,
            level=Conditions.level if request.level is None else request.level,
        )
        if request.reference:
            self.tests = [testset.from_files(request.source, request.reference)]
        elif request.testset:
            self.tests = [testset.from_sacrebleu(name, request.pair, say) for name in dict.fromkeys(request.testset)]
        else:
            assert run and config
            self.tests = [testset.from_run(run, config, name) for name in dict.fromkeys(request.test) or (None,)]
            if request.hypothesis:
                say(f"judged by the test set and settings of {run.path}: --reference would judge by another text")
        for test in self.tests:
            lines = len(test.references[0])
            if request.no_regression and lines < FEWEST_LINES:
                raise UserError(
                    f"--fail-on regression: {test.name} has under {FEWEST_LINES} lines, too few to tell chance"
                )
            if request.baseline and lines > MOST_RESAMPLED:
                raise UserError(
                    f"--baseline: {test.name} has {lines:,} lines, and sacreBLEU's paired tests hold all resamples in "
                    f"memory: compare on {MOST_RESAMPLED:,} lines at most"
                )
            if lines > MOST_RESAMPLED:
                say(f"{test.name} has over {MOST_RESAMPLED:,} lines: no intervals, which would need too much memory")
        self.systems = self._systems()
        self.baseline = find_baseline(request.baseline, self._load) if request.baseline else None
        for system in self.systems:
            if isinstance(system, ModelSystem) and isinstance(self.baseline, ModelSystem):
                _refuse_itself(system, self.baseline)
        if isinstance(self.baseline, TranslationFile) and len(self.tests) > 1:
            raise UserError(
                f"--baseline {request.baseline}: one file cannot hold the translations of {len(self.tests)} test sets: "
                "score them one by one, or give a run, or what `s2s evaluate --json FILE` wrote of all of them"
            )

    def run(self) -> Outcome:
        """Translates, scores and judges, in one process.

        Raises:
            UserError: where lines are misaligned, or something cannot be compared or judged.
        """
        return self.judge(self.translate())

    def translate(self) -> Translated:
        """The translations of each test set, by system; all workers must call it, and the first one has them.

        Raises:
            UserError: where lines are misaligned, or a model cannot translate a test set.
        """
        found: list[dict[System, tuple[str, ...]]] = []
        for test in self.tests:
            found.append({})
            for system in (*([self.baseline] if self.baseline else []), *self.systems):
                with self._dispatcher.workers.together(patient=True):
                    found[-1][system] = system.translations(test)
        return found

    def judge(self, translated: Translated) -> Outcome:
        """Scores what `translate` gave, and judges.

        Raises:
            UserError: where something cannot be compared or judged.
        """
        found: list[Evaluation] = []
        for test, translations in zip(self.tests, translated, strict=True):
            if hint := tokenization_hint(test.references[0], self.settings):
                self._say(f"hint: {hint}")
            scored = {system: self._score(system, test, lines) for system, lines in translations.items()}
            baseline = replace(scored[self.baseline], baseline=True) if self.baseline else None
            found += [baseline] if baseline else []
            for system in self.systems:
                evaluation = scored[system]
                if self.request.output:
                    lines = "".join(f"{line}\n" for line in evaluation.translations)
                    write_result(self.request.output, self._pack(lines.encode()))
                found.append(self._judge(evaluation, baseline))
        return Outcome(tuple(found))

    def details(self, outcome: Outcome, attention: bool = False) -> list[Details]:
        """What lies behind each of the evaluations.

        Args:
            outcome: what `run` gave.
            attention: also where the models looked.
        """
        systems = [*((item, False) for item in self.systems), (self.baseline, True)]
        models = {(item.name, role): item for item, role in systems if isinstance(item, ModelSystem)}
        found = []
        for item in outcome.evaluations:
            breakdowns = break_down(item.test, item.translations, self.settings)
            sentences = sentence_scores(item.translations, item.test.references, self.settings)
            model = models.get((item.system, item.baseline)) if attention else None
            maps = model.attention(model.sources(item.test), item.translations) if model else ()
            found.append(Details(breakdowns, tuple(sentences), tuple(maps)))
        return found

    @property
    def learning_curve(self) -> list[dict[str, Any]]:
        """Lines of the model's `metrics.jsonl`; none where no model is scored."""
        return [line for item in self.systems if isinstance(item, ModelSystem) for line in item.learning_curve()]

    def _systems(self) -> Sequence[System]:
        if not self.request.hypothesis:
            return [self._load(self.request.model)]
        systems = [named_file(text) for text in self.request.hypothesis]
        names = [system.name for system in systems]
        if len(set(names)) < len(names):
            raise UserError(f"--hypothesis: each needs a name of its own, NAME=FILE (now: {', '.join(names)})")
        return systems

    def _load(self, path: Path | None) -> ModelSystem:
        cache = TranslationCache(folder()) if self.request.use_cache else None
        options = {"beam": self.request.beam, "batch_size": self.request.batch_size}
        decoding = settings_of("decoding", self.request.set) | given(options)
        return ModelSystem(path, cache, self._say, decoding, dispatcher=self._dispatcher)

    def _score(self, system: System, test: TestSet, translations: tuple[str, ...]) -> Evaluation:
        self._dispatcher.stop.check()
        scores = compute_scores(translations, test.references, self.settings, intervals=True)
        if isinstance(system, ModelSystem) and set(LIKELIHOODS) & set(self.conditions.ceilings):
            scores |= system.likelihood(test)
        if isinstance(system, EarlierEvaluation):
            system.check(test, scores)
        return Evaluation(system.name, test, translations, scores, system.about())

    def _judge(self, found: Evaluation, baseline: Evaluation | None) -> Evaluation:
        comparisons = (
            compare(found.translations, baseline.translations, found.test.references, self.settings) if baseline else ()
        )
        return replace(found, comparisons=comparisons, gates=judge(found.scores, comparisons, self.conditions))


def _refuse_itself(system: ModelSystem, baseline: ModelSystem) -> None:
    """--set and --beam are for both, so that there is no difference to judge."""
    if system.checkpoint.resolve() == baseline.checkpoint.resolve():
        raise UserError(
            f"--baseline {baseline.run.path}: this is the model itself, which is never worse: name another run, or "
            "what `s2s evaluate --json FILE` wrote (of another search, for example)"
        )


def _settings(request: Request, evaluation: EvaluationConfig) -> EvaluationConfig:
    """How to score and what to hold: the config's, changed by the options; what is to be judged is computed too."""
    floors = dict(evaluation.min) | _limits("--min", request.floors)
    asked, ceilings = _limits("--max", request.ceilings), dict[str, float](evaluation.max.items())
    for metric in LIKELIHOODS if request.hypothesis else ():
        if metric in asked:
            raise UserError(f"--max {metric}: needs a model, a file of translations has none")
        ceilings.pop(metric, None)
    ceilings |= asked
    for name in request.metric or ():
        if name not in METRICS:
            raise UserError(f"--metric {name}: unknown metric: {suggest(name, METRICS)}")
    judged = [*floors, *ceilings, *_limits("--max-drop", request.drops)]
    metrics = dict.fromkeys([*(request.metric or evaluation.metrics), *(name for name in judged if name in METRICS)])
    changes: dict[str, Any] = {"metrics": tuple(metrics), "min": floors, "max": ceilings}
    for name in ("tokenize", "lowercase"):
        if getattr(request, name) is not None:
            changes[name] = getattr(request, name)
    return change(evaluation, changes, "evaluation")


def _limits(option: str, texts: Sequence[str]) -> dict[str, float]:
    known = [*METRICS] if option == "--max-drop" else [*METRICS, *LIKELIHOODS]
    limits: dict[str, float] = {}
    for text in texts:
        metric, limit = parse_limit(option, text, known)
        if metric in limits:
            raise UserError(f"{option} {metric}: given twice; leave one out")
        limits[metric] = limit
    return limits


def named_file(text: str) -> TranslationFile:
    """What --hypothesis names: FILE, or NAME=FILE.

    Raises:
        UserError: where it is neither.
    """
    name, equals, path = text.partition("=")
    if not equals or is_there(Path(text)):
        return TranslationFile(text, Path(text))
    if not name or not path:
        raise UserError(f"--hypothesis {text}: write FILE, or NAME=FILE")
    return TranslationFile(name, Path(path))
