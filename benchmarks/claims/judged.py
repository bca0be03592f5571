"""The claims, each with the figures that it needs and the rule by which it is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.claims import copying, pictures
from benchmarks.claims.evidence import Curve, Evidence, Rate
from benchmarks.claims.experiments import (
    BATCH_TOKENS,
    BEAM,
    CELLS,
    COPIERS,
    FED,
    KINDS,
    LOCAL,
    SPEED_BATCH,
    VARIANTS,
    Figure,
    Speeds,
)
from benchmarks.claims.korean import romanized
from benchmarks.claims.pictures import Interval
from benchmarks.claims.section import (
    ABSENT,
    Section,
    Statement,
    Table,
    by_length,
    panel,
    seeds,
    shown,
    signed,
    stated,
    wanted,
)
from benchmarks.claims.statistics import Estimate, Share, Verdict, above, below, estimate, mean
from benchmarks.claims.tasks import Task
from s2s_cli.report import plots
from s2s_cli.score.system import AttentionMap

PER_TEN = "BLEU for ten words more"
FALL = -1.0
"""BLEU for ten words more: a steeper change is a fall."""
MARGIN = 1.0
"""BLEU: what is worse by less is about as good."""
HALF = 50.0
"""Percent."""
TRAINING, DECODING = "training_pieces_per_second", "decoding_sentences_per_second"
RATES = {TRAINING: "training", DECODING: "decoding"}
UNITS = {TRAINING: "training,\npieces a second", DECODING: "decoding,\nsentences a second"}
TRANSLATED = ("long", "multi30k")


@dataclass(frozen=True)
class Claim:
    """What is claimed, and all that is needed to judge it."""

    title: str
    variants: Mapping[str, tuple[str, ...]]
    """By task."""
    judge: Callable[[Evidence], Section]
    speeds: bool = False

    def uses(self, figure: Figure) -> bool:
        """Whether a figure is needed."""
        if isinstance(figure, Speeds):
            return self.speeds
        return figure.variant in self.variants.get(figure.task.name, ())


def lengths(evidence: Evidence) -> Section:
    """With and without attention, by source length."""
    statements, tables, panels = [], [], []
    for task in _translated(evidence):
        title, curves = evidence.tasks[task].title, shown(evidence, task, _ALL)
        for variant in wanted(evidence, task, _ALL):
            scope, name = _scope(title, variant), VARIANTS[variant].title
            found = curves[variant].slope if variant in curves else None
            if variant == "none":
                statements.append(stated(scope, f"{name} falls", found, below, FALL, PER_TEN))
                continue
            statements.append(stated(scope, f"{name} does not fall", found, above, FALL, PER_TEN))
            found = _gain(curves, variant, "none", lambda curve: curve.slope)
            statements.append(stated(scope, f"{name} falls less than no attention", found, above, 0, PER_TEN))
        tables += by_length(evidence, task, _ALL)
        if curves:
            panels.append(panel(evidence.tasks[task], curves))
    return Section(
        "Without attention BLEU falls as source sentences grow, with attention it does not (Bahdanau et al. 2015, "
        "figure 2).",
        f"The slope of BLEU over the mean lengths of the groups trained on. It falls where all of the interval is "
        f"under {FALL:.0f} BLEU for ten words more, and does not where all of it is above; it falls less where all of "
        "the difference's is above 0. What is not fed differs from no attention in attention alone. Captions are "
        "short, and few of them long: much is open there.",
        statements,
        tables,
        pictures.bands(panels) if panels else None,
        "BLEU by source length, with 95 % intervals.",
    )


def cells(evidence: Evidence) -> Section:
    """How far back a cell reaches, and what that does for long sentences."""
    copy, long = evidence.tasks["copy"], evidence.tasks["long"]
    copied, translated = shown(evidence, "copy", COPIERS.values()), shown(evidence, "long", CELLS.values())
    statements = []
    for cell in ("lstm", "gru"):
        name = VARIANTS[COPIERS[cell]].title
        found = _gain(copied, COPIERS[cell], COPIERS["rnn"], lambda curve: mean(curve.groups[1:]))
        text = f"{name} above tanh RNN, the mean of all distances from one filler on"
        statements.append(stated(copy.title, text, found, above, 0, "points"))
        found = _gain(translated, CELLS[cell], CELLS["rnn"], _longer)
        text = f"{name} above tanh RNN, the mean of the longer half of the groups trained on"
        statements.append(stated(long.title, text, found, above, 0))
        curve = translated.get(CELLS[cell])
        fall = curve.slope if curve else None
        text = f"{name} alone falls"
        statements.append(stated(long.title, text, fall, below, FALL, PER_TEN))
    tables = [*by_length(evidence, "copy", tuple(COPIERS.values()))]
    if copied:
        reaches = [[VARIANTS[variant].title, _reach(curve)] for variant, curve in copied.items()]
        tables.append(Table("How far back at least half is right", ["cell", copy.unit], reaches))
    tables += by_length(evidence, "long", tuple(CELLS.values()))
    names = {name: VARIANTS[COPIERS[cell]].title for cell in CELLS for name in (COPIERS[cell], CELLS[cell])}
    panels = [panel(task, curves, names) for task, curves in ((copy, copied), (long, translated)) if curves]
    return Section(
        "LSTM and GRU carry long sentences better than a plain tanh RNN, and do not solve it alone.",
        f"Better: all of the interval of the difference is above 0. Not solved: BLEU still falls, by the rule above. "
        f"No attention; equal widths, so that the cells differ in parameters. Copying: the first {copying.KEPT} of a "
        f"row's letters, said after all of it was read in one direction; right by chance: {copying.CHANCE:.1f} %. Rows "
        "without fillers are few, so that those tested were trained on.",
        statements,
        tables,
        pictures.bands(panels) if panels else None,
        "What is copied rightly by distance, and BLEU by source length, both without attention.",
    )


def kinds(evidence: Evidence) -> Section:
    """Bahdanau's network beside Luong's kinds."""
    statements, tables, panels = [], [], {}
    for task in _translated(evidence):
        title, curves = evidence.tasks[task].title, shown(evidence, task, KINDS)
        found = _gain(curves, "luong-dot", "bahdanau", _overall)
        statements.append(stated(title, "Luong dot is as good as Bahdanau", found, above, -MARGIN))
        tables += _beside(evidence, task, curves, "bahdanau")
        if "bahdanau" in curves:
            gains = {VARIANTS[name].title: curve.overall - curves["bahdanau"].overall for name, curve in curves.items()}
            panels[f"BLEU less Bahdanau's,\n{title}"] = {name: _bar(gain) for name, gain in gains.items()}
    statements += _faster(evidence, "luong-dot", "bahdanau")
    tables += _speeds(evidence, ("none", *KINDS, *FED.values()))
    panels |= _rate_panels(evidence, KINDS)
    return Section(
        "Luong's dot, which learns nothing of its own, is about as good as Bahdanau's network, and cheaper.",
        f"About as good: all of the interval of dot's BLEU less Bahdanau's is above {-MARGIN:.0f}. Cheaper: every "
        "measurement of its speed is above every one of Bahdanau's. Each is used as in its paper: Bahdanau's asks with "
        "the last state and gives its context to the same step, Luong's asks with the new state and feeds the "
        "attentional state into the next step. local-m and local-p look at ten source pieces on each side of a place.",
        statements,
        tables,
        pictures.bars(panels) if panels else None,
        "BLEU over all lengths trained on, less Bahdanau's, with 95 % intervals; speeds, from the least to the most.",
    )


def feeding(evidence: Evidence) -> Section:
    """What input feeding adds and costs."""
    statements, tables, panels = [], [], []
    both = [name for pair in FED.items() for name in pair]
    for task in _translated(evidence):
        title, curves = evidence.tasks[task].title, shown(evidence, task, both)
        for fed, unfed in FED.items():
            if wanted(evidence, task, [unfed]):
                found = _gain(curves, fed, unfed, _overall)
                text = f"{VARIANTS[fed].title} is better fed"
                statements.append(stated(title, text, found, above, 0))
                tables += _beside(evidence, task, shown(evidence, task, (fed, unfed)), unfed)
        tables += by_length(evidence, task, both)
        if curves:
            panels.append(panel(evidence.tasks[task], curves))
    for fed, unfed in FED.items():
        if any(unfed in names for names in evidence.form.variants.values()):
            statements += _faster(evidence, unfed, fed)
    tables += _speeds(evidence, both)
    return Section(
        "Input feeding makes translations better, and costs speed (Luong et al. 2015, section 3.3).",
        "Better: all of the interval of the difference is above 0. Slower: every measurement of its speed is under "
        "every one without it.",
        statements,
        tables,
        pictures.bands(panels) if panels else None,
        "BLEU by source length, fed back and not.",
    )


def maps(evidence: Evidence) -> Section:
    """Attention where the order of words changes."""
    task, variants = evidence.tasks["long"], wanted(evidence, "long", KINDS)
    blind = _blind(task)
    limit = max(HALF, blind)
    statements, rows, picture, drawn = [], [], None, ""
    kept = evidence.contents("long", variants)
    for variant in variants:
        contents = kept.get(variant, [])
        title, found = VARIANTS[variant].title, None
        if contents:
            hits = [np.array([(hit, 1) for hit in one["verbs_found"]], dtype=int) for one in contents]
            (found,) = estimate(Share(), hits, [range(len(hits[0]))])
            rows.append([title, str(found), seeds(found)])
        text = f"{title} finds the verb"
        statements.append(stated(_scope(task.title, variant), text, found, above, limit, "%", written=str))
        if contents and picture is None:
            found_map, drawn = contents[0]["map"], title
            target = tuple(romanized(word) for word in found_map["target"])
            weights_TS = torch.tensor(found_map["weights"])
            picture = plots.attention(AttentionMap(tuple(found_map["source"]), target, weights_TS))
    source, reference = task.shown
    return Section(
        "Attention finds the word that is being translated, also where the order of words is another.",
        f"In clauses of a subject, a verb and an object, Korean says the verb last. While its last word is written, "
        f"English's verb has the largest weight of all words: in over {limit:.0f} % of such clauses, by all of the "
        f"interval. (To look at one and the same place in all clauses of a length would find {blind:.0f} % at best.) "
        "The model is led through the reference, so that all see the same.",
        statements,
        [Table("Verbs found", ["attention", "right, %", "seed by seed"], rows)] if rows else [],
        picture,
        f"The weights of {drawn} by words (Korean letter by letter), in a sentence whose clauses "
        f"change places: “{source}”, “{reference}”.",
    )


_ALL = ("none", *KINDS, *FED.values())
CLAIMS: dict[str, Claim] = {
    "lengths": Claim("Length and attention", {"long": _ALL, "multi30k": _ALL}, lengths),
    "cells": Claim("Cells", {"copy": tuple(COPIERS.values()), "long": tuple(CELLS.values())}, cells),
    "kinds": Claim("Kinds of attention", {"long": KINDS, "multi30k": _ALL}, kinds, speeds=True),
    "feeding": Claim("Input feeding", {task: (*FED, *FED.values()) for task in TRANSLATED}, feeding, speeds=True),
    "maps": Claim("Where attention looks", {"long": KINDS}, maps),
}


def _scope(title: str, variant: str) -> str:
    """Local attention is judged by itself: the claims speak of one that sees the whole source."""
    return f"{title} with local attention" if variant in LOCAL else title


def _translated(evidence: Evidence) -> list[str]:
    return [task for task in TRANSLATED if task in evidence.tasks]


def _overall(curve: Curve) -> Estimate:
    return curve.overall


def _longer(curve: Curve) -> Estimate:
    return mean(curve.groups[curve.trained // 2 : curve.trained])


def _gain(curves: Mapping[str, Curve], name: str, other: str, of: Callable[[Curve], Estimate]) -> Estimate | None:
    """How much better one is than another; None where one of them is not there."""
    return of(curves[name]) - of(curves[other]) if name in curves and other in curves else None


def _reach(curve: Curve) -> str:
    """The farthest place up to which at least half is right."""
    reached = ABSENT
    for label, group in zip(curve.labels, curve.groups, strict=True):
        if group.value < HALF:
            break
        reached = label
    return reached


def _bar(found: Estimate) -> Interval:
    return Interval(0, found.value, found.low, found.high)


def _beside(evidence: Evidence, task: str, curves: Mapping[str, Curve], baseline: str) -> list[Table]:
    """Quality with parameters and significance."""
    rows, contents = [], evidence.contents(task, tuple(curves))
    for variant, curve in curves.items():
        gain = signed(curve.overall - curves[baseline].overall) if baseline in curves else ABSENT
        own = variant == baseline
        tests = [] if own else evidence.comparisons(task, variant, baseline, tuple(curves))
        chances = "; ".join(f"{_chance(test.p_bootstrap)}, {_chance(test.p_randomization)}" for test in tests)
        rows.append(
            [
                VARIANTS[variant].title,
                f"{contents[variant][0]['parameters']:,}",
                str(curve.overall),
                seeds(curve.overall),
                ABSENT if own else gain,
                ABSENT if own else chances or ABSENT,
            ]
        )
    title = VARIANTS[baseline].title
    header = ["", "parameters", "BLEU", "seed by seed", f"beside {title}", "p (bootstrap, randomization), seed by seed"]
    return [Table(f"{evidence.tasks[task].title}, beside {title}", header, rows)] if rows else []


def _blind(task: Task) -> float:
    """The percentage of verbs that are found without looking: always at the commonest place of a clause's length."""
    places: dict[int, Counter[int]] = {}
    for clause in task.ordered:
        places.setdefault(len(clause.source.split()), Counter())[clause.verb] += 1
    return 100 * sum(max(counts.values()) for counts in places.values()) / max(1, len(task.ordered))


def _chance(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _faster(evidence: Evidence, name: str, other: str) -> list[Statement]:
    scope, found = f"speed on {evidence.speeds.task.title}", []
    for key, doing in RATES.items():
        text = f"{doing}: {VARIANTS[name].title} is faster than {VARIANTS[other].title}"
        one, two = evidence.rates(name, key), evidence.rates(other, key)
        if one and two:
            found.append(Statement(scope, f"{text}: {one.median / two.median:.2f} times", one.faster(two)))
        else:
            found.append(Statement(scope, f"{text}: not measured yet", Verdict.OPEN))
    return found


def _speeds(evidence: Evidence, variants: Sequence[str]) -> list[Table]:
    """Medians, the least and the most."""

    def cell(rate: Rate | None) -> str:
        if rate is None:
            return ABSENT
        return f"{rate.median:,.0f} [{min(rate.values):,.0f}, {max(rate.values):,.0f}]"

    rates = {variant: [evidence.rates(variant, key) for key in UNITS] for variant in variants}
    rows = [[VARIANTS[name].title, *map(cell, found)] for name, found in rates.items() if any(found)]
    header = ["", *(unit.replace("\n", " ") for unit in UNITS.values())]
    where = evidence.speeds.task.title
    title = f"Speed on {where}, one thread (batches of {BATCH_TOKENS:,} tokens; beam {BEAM}, {SPEED_BATCH} sentences)"
    return [Table(f"{title}: medians, the least and the most", header, rows)] if rows else []


def _rate_panels(evidence: Evidence, variants: Sequence[str]) -> dict[str, dict[str, Interval]]:
    panels: dict[str, dict[str, Interval]] = {}
    for key, title in UNITS.items():
        for variant in variants:
            if rate := evidence.rates(variant, key):
                bar = Interval(0, rate.median, min(rate.values), max(rate.values))
                panels.setdefault(title, {})[VARIANTS[variant].title] = bar
    return panels
