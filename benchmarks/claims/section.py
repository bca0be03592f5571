"""What the page says of one claim, and how figures are written there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.claims.evidence import Curve, Evidence
from benchmarks.claims.experiments import VARIANTS
from benchmarks.claims.pictures import Interval, Panel
from benchmarks.claims.statistics import Estimate, Verdict, above, together
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
    subject: str
    """What it is said of, a claim of its own; empty where the claim is of all."""
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
    answer: str
    """What was found, in words."""
    rule: str
    statements: Sequence[Statement]
    tables: Sequence[Table]
    picture: Picture | None
    caption: str

    @property
    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """By scope, then by subject: of all its statements together."""
        parts: dict[str, dict[str, list[Verdict]]] = {}
        for one in self.statements:
            parts.setdefault(one.scope, {}).setdefault(one.subject, []).append(one.verdict)
        return {
            scope: {subject: together(found) for subject, found in subjects.items()}
            for scope, subjects in parts.items()
        }

    @property
    def found(self) -> list[str]:
        """The same in words, scope by scope."""
        lines = []
        for scope, subjects in self.verdicts.items():
            told = {one: ", ".join(name for name in subjects if subjects[name] == one) for one in Verdict}
            parts = [f"**{one.value}**" + (f" for {told[one]}" if told[one] else "") for one in _order(subjects)]
            lines.append(f"{scope}: {'; '.join(parts)}")
        return lines


def _order(subjects: Mapping[str, Verdict]) -> list[Verdict]:
    return [one for one in Verdict if one in subjects.values()]


def signed(found: Estimate) -> str:
    """A difference with its interval."""
    return f"{found.value:+.1f} [{found.low:+.1f}, {found.high:+.1f}]"


def unmeasured(scope: str, subject: str, text: str) -> Statement:
    """A part whose figures are not there yet."""
    return Statement(scope, subject, f"{text}: not measured yet", Verdict.UNFINISHED)


def stated(
    scope: str,
    subject: str,
    text: str,
    found: Estimate | None,
    judge: Judge,
    limit: float,
    unit: str = "BLEU",
    written: Callable[[Estimate], str] = signed,
) -> Statement:
    """A figure judged by a limit, or one that is not there yet."""
    if found is None:
        return unmeasured(scope, subject, text)
    alone = ", by one seed" if len(found.by_seed) < 2 else ""
    wanted = f"{'over' if judge is above else 'under'} {limit:g} wanted"
    return Statement(scope, subject, f"{text}: {written(found)} {unit}{alone} ({wanted})", judge(found, limit))


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
        rows.append(["the same, % of it", *(signed(curve.relative_slope) for curve in curves.values())])
    if first.beyond is not None:
        changes = (curve.beyond for curve in curves.values())
        text = f"from {first.labels[first.trained - 1]} to {first.labels[-1]}"
        rows.append([text, *(signed(change) if change else ABSENT for change in changes)])
    titles = [VARIANTS[variant].title for variant in curves]
    return [Table(evidence.tasks[task].title, [evidence.tasks[task].unit, *titles], rows)]


def shown(evidence: Evidence, task: str, variants: Iterable[str]) -> dict[str, Curve]:
    """The curves of some variants that are there."""
    return evidence.curves(task, wanted(evidence, task, variants)) if task in evidence.tasks else {}


def panel(task: Task, curves: Mapping[str, Curve], names: Mapping[str, str] | None = None, group: str = "") -> Panel:
    """A task's curves as they are drawn, under other names than their variants' titles where there are some."""
    titles = names or {variant: VARIANTS[variant].title for variant in curves}
    drawn = {
        titles[variant]: [
            Interval(place, one.value, one.low, one.high) for place, one in zip(curve.places, curve.groups, strict=True)
        ]
        for variant, curve in curves.items()
    }
    title = f"{task.title}, {group}" if group else task.title
    if not task.tokenize:
        return Panel(title, task.unit, "right, %", drawn, doubling=True)
    beyond = any(curve.beyond for curve in curves.values())
    return Panel(title, task.unit, "BLEU", drawn, edge=task.longest if beyond else None)
