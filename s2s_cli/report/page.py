"""The report of an evaluation: one page of HTML that holds all it needs, and asks the network for nothing.

What the page shows is data inside it; `page.js` draws it. Text goes into the page as JSON and onto it as text nodes,
never as markup. A content security policy lets only this script and this style run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from s2s_cli import __version__
from s2s_cli.run import figure, figures
from s2s_cli.score.analysis import Details
from s2s_cli.score.result import Evaluation, Outcome
from s2s_cli.score.system import AttentionMap
from s2s_cli.score.testset import TestSet

MOST_LOSSES = 1000
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(outcome: Outcome, details: Sequence[Details], curve: Sequence[Mapping[str, Any]] = ()) -> str:
    """The page.

    Args:
        outcome: what was found.
        details: of each of its evaluations.
        curve: lines of the model's `metrics.jsonl`.
    """
    tests: dict[str, list[tuple[Evaluation, Details]]] = {}
    for evaluation, found in zip(outcome.evaluations, details, strict=True):
        tests.setdefault(evaluation.test.name, []).append((evaluation, found))
    data = {
        "s2s": __version__,
        "passed": outcome.passed,
        "judged": bool(outcome.gates),
        "curve": _curve(curve),
        "tests": [
            {
                "name": name,
                "sources": _shown(systems[0][0].test),
                "references": systems[0][0].test.references,
                "systems": [_system(*system) for system in systems],
            }
            for name, systems in tests.items()
        ],
    }
    script, style, page = (
        files(__package__).joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css", "html")
    )
    parts = {
        "POLICY": f"default-src 'none'; script-src '{_source_hash(script)}'; style-src '{_source_hash(style)}'",
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json.dumps(_without_nan(data), ensure_ascii=False, allow_nan=False).translate(_ESCAPES),
    }
    for name, text in parts.items():
        before, after = page.split(f"@{name}@")
        page = f"{before}{text}{after}"
    return page


def _curve(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All validations of a learning curve, and of its losses as many as can be told apart."""
    validated = [{"step": line["step"], "scores": figures(line["scores"])} for line in lines if "scores" in line]
    trained = [{"step": line["step"], "loss": loss} for line in lines if (loss := figure(line.get("loss"))) is not None]
    return [*trained[:: max(1, len(trained) // MOST_LOSSES)], *validated]


def _shown(test: TestSet) -> list[str] | None:
    """The sources as they are shown; None where there are none."""
    return None if test.sources is None else [str(source) for source in test.sources]


def _system(evaluation: Evaluation, details: Details) -> dict[str, Any]:
    return {
        "name": evaluation.system,
        "baseline": evaluation.baseline,
        "scores": {name: asdict(score) for name, score in evaluation.scores.items()},
        "comparisons": [asdict(item) for item in evaluation.comparisons],
        "gates": [{"passed": gate.passed, "text": gate.text} for gate in evaluation.gates],
        "breakdowns": [asdict(item) for item in details.breakdowns],
        "translations": evaluation.translations,
        "chrf": [round(score, 2) for score in details.sentences],
        "attention": [_packed(item) for item in details.attention] if details.attention else None,
    }


def _without_nan(value: Any) -> Any:
    """The same with nulls for numbers that are none: JSON has no others."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return [_without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def _packed(found: AttentionMap) -> dict[str, Any]:
    """Weights as bytes, a 255th each: finer than an eye can tell."""
    weights = (found.weights_TS * 255).round().to("cpu").byte().numpy().tobytes()
    return {"source": found.source, "target": found.target, "weights": base64.b64encode(weights).decode()}


def _source_hash(text: str) -> str:
    """As a content security policy names inline code."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
