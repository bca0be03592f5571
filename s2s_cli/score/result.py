"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from s2s_cli import __version__
from s2s_cli.evaluate import Comparison, Score
from s2s_cli.score.gates import Gate
from s2s_cli.score.testset import TestSet


@dataclass(frozen=True)
class Evaluation:
    """One system on one test set."""

    system: str
    test: TestSet
    translations: tuple[str, ...]
    scores: Mapping[str, Score]
    about: Mapping[str, Any] = field(default_factory=dict)
    """Where the translations come from."""
    comparisons: tuple[Comparison, ...] = ()
    """With the baseline, a metric each; empty where there is none."""
    gates: tuple[Gate, ...] = ()
    baseline: bool = False

    @property
    def title(self) -> str:
        """What was scored on what, for people."""
        return f"{self.system} on {self.test.name}"

    def as_json(self) -> dict[str, Any]:
        """All of it, the references left out but for their hash."""
        return {
            "system": self.system,
            "test_set": self.test.name,
            "baseline": self.baseline,
            **self.about,
            "files": list(self.test.files),
            "sentences": len(self.translations),
            "references_sha256": self.test.fingerprint,
            "sources_sha256": self.test.sources_fingerprint,
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "comparisons": [{**asdict(item), "gain": item.gain} for item in self.comparisons],
            "gates": [asdict(gate) for gate in self.gates],
            "translations": list(self.translations),
        }


@dataclass(frozen=True)
class Outcome:
    """Every system on every test set; baselines stand before those that are compared with them."""

    evaluations: tuple[Evaluation, ...]

    @property
    def judged(self) -> tuple[Evaluation, ...]:
        """Those that are no baseline."""
        return tuple(item for item in self.evaluations if not item.baseline)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All conditions."""
        return tuple(gate for item in self.judged for gate in item.gates)

    @property
    def passed(self) -> bool:
        """Whether all conditions hold."""
        return all(gate.passed for gate in self.gates)

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` writes; its `scores` are those of the first system on the first test set."""
        first = self.judged[0]
        return {
            "scores": {name: asdict(score) for name, score in first.scores.items()},
            "passed": self.passed,
            "s2s": __version__,
            "evaluations": [item.as_json() for item in self.evaluations],
        }
