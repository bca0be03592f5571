"""What the page says of one claim, and how figures are written there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.claims.evidence import Curve, Evidence
from benchmarks.claims.experiments import VARIANTS
from benchmarks.claims.pictures import Interval, Panel
from benchmarks.claims.statistics import Estimate, Verdict, together
from benchmarks.claims.tasks import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

ABSENT = "-"
Judge = Callable[[Estimate, float], Verdict]


@dataclass(frozen=True)
class Statement:
    """A part of a claim that is judged by itself."""

    scope: str
    """Where it is judged: the title of a corpus, or what is measured."""
    text: str
    verdict: Verdict


@dataclass(frozen=True)
class Table:
    """Cells of text under their names."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """One claim: what is said, by which rule it is judged, and what was found."""

    claim: str
    rule: str
    statements: Sequence[Statement]
    tables: Sequence[Table]
    picture: Picture | None
    caption: str

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Of each scope: of all its statements together."""
        scopes = dict.fromkeys(statement.scope for statement in self.statements)
        return {scope: together([s.verdict for s in self.statements if s.scope == scope]) for scope in scopes}

    @property
    def verdict(self) -> str:
        """The same in a sentence."""
        found = self.verdicts
        parts = {one: ", ".join(scope for scope in found if found[scope] == one) for one in Verdict}
        return "; ".join(f"**{one.value}** ({scopes})" for one, scopes in parts.items() if scopes)


def signed(found: Estimate) -> str:
    """A difference with its interval."""
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def stated(
    scope: str,
    text: str,
    found: Estimate | None,
    judge: Judge,
    limit: float,
    unit: str = "BLEU",
    written: Callable[[Estimate], str] = signed,
) -> Statement:
    """A figure judged by a limit, or one that cannot be told for want of it."""
    if found is None:
        return Statement(scope, f"{text}: not measured yet", Verdict.OPEN)
    alone = ", by one seed" if len(found.by_seed) < 2 else ""
    return Statement(scope, f"{text}: {written(found)} {unit}{alone}", judge(found, limit))


def seeds(found: Estimate) -> str:
    """What each seed gave."""
    return ", ".join(f"{value:.1f}" for value in found.by_seed)


def wanted(evidence: Evidence, task: str, variants: Iterable[str]) -> list[str]:
    """Those of some variants that the form has for a task."""
    return [variant for variant in variants if variant in evidence.form.variants[task]]


def by_length(evidence: Evidence, task: str, variants: Sequence[str]) -> list[Table]:
    """Scores by length, a column for each variant; none where nothing is there."""
    curves = shown(evidence, task, variants)
    if not curves:
        return []
    first = next(iter(curves.values()))
    rows = [
        [f"{label} ({count:,})", *(str(curve.groups[number]) for curve in curves.values())]
        for number, (label, count) in enumerate(zip(first.labels, first.counts, strict=True))
    ]
    rows.append(["all lengths trained on", *(str(curve.overall) for curve in curves.values())])
    rows.append(["... seed by seed", *(seeds(curve.overall) for curve in curves.values())])
    if evidence.tasks[task].tokenize:
        rows.append(["change for ten more", *(signed(curve.slope) for curve in curves.values())])
    if first.beyond is not None:
        changes = (curve.beyond for curve in curves.values())
        text = f"{first.labels[-1]} less {first.labels[first.trained - 1]}"
        rows.append([text, *(signed(change) if change else ABSENT for change in changes)])
    titles = [VARIANTS[variant].title for variant in curves]
    return [Table(evidence.tasks[task].title, [evidence.tasks[task].unit, *titles], rows)]


def shown(evidence: Evidence, task: str, variants: Iterable[str]) -> dict[str, Curve]:
    """The curves of some variants that are there."""
    return evidence.curves(task, wanted(evidence, task, variants)) if task in evidence.tasks else {}


def panel(task: Task, curves: Mapping[str, Curve], names: Mapping[str, str] | None = None) -> Panel:
    """A task's curves as they are drawn, under other names than their variants' titles where there are some."""
    titles = names or {variant: VARIANTS[variant].title for variant in curves}
    drawn = {
        titles[variant]: [
            Interval(place, one.value, one.low, one.high) for place, one in zip(curve.places, curve.groups, strict=True)
        ]
        for variant, curve in curves.items()
    }
    if task.tokenize:
        return Panel(task.title, task.unit, "BLEU", drawn)
    return Panel(task.title, task.unit, "right, %", drawn, doubling=True)
