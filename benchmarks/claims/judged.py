"""The claims, each with the figures that it needs and the rule by which it is judged."""

from __future__ import annotations

import math
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
    unmeasured,
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
    statements, tables, panels, answer = [], [], [], []
    for task in _translated(evidence):
        title = evidence.tasks[task].title
        for variant in wanted(evidence, task, _ALL):
            name, curve = VARIANTS[variant].title, shown(evidence, task, [variant]).get(variant)
            slope = curve.slope if curve else None
            if variant == "none":
                statements.append(stated(title, name, f"{name} falls", slope, below, FALL, PER_TEN))
                continue
            statements.append(stated(title, name, f"{name} does not fall", slope, above, FALL, PER_TEN))
            gain = _gain(evidence, task, variant, "none", lambda curve: curve.relative_slope)
            text = f"{name} loses less of its BLEU than no attention"
            statements.append(stated(title, name, text, gain, above, 0, "% for ten words more"))
        tables += by_length(evidence, task, _ALL)
        curves = shown(evidence, task, _ALL)
        courses = [f"{_course(curves[name])} {how}" for name, how in _WITHOUT_AND_WITH.items() if name in curves]
        if courses:
            answer.append(f"On {title} BLEU goes {', and '.join(courses)}.")
        for group, names in _PANELS.items():
            drawn = {name: curves[name] for name in names if name in curves}
            if drawn and (not group or set(drawn) & set(LOCAL)):
                panels.append(panel(evidence.tasks[task], drawn, group=group))
    return Section(
        "Without attention BLEU falls as source sentences grow, with attention it does not (Bahdanau et al. 2015, "
        "figure 2).",
        " ".join(answer),
        f"The slope of BLEU over the mean lengths of the groups trained on. It falls where all of the interval is "
        f"under {FALL:.0f} BLEU for ten words more, and does not where all of it is above. For each kind of attention "
        "it is to be above, and its share of BLEU that is lost (the slope of the logarithm) smaller than without "
        "attention: all of the interval of the difference is above 0. Of what is not fed, only attention is new. "
        "Captions are short, few of them long, and the long ones harder.",
        statements,
        tables,
        pictures.bands(panels) if panels else None,
        "BLEU by source length, with 95 % intervals; behind the dotted line no sentence was as long in training.",
    )


def cells(evidence: Evidence) -> Section:
    """How far back a cell reaches, and what that does for long sentences."""
    copy, long = evidence.tasks["copy"], evidence.tasks["long"]
    copied, translated = shown(evidence, "copy", COPIERS.values()), shown(evidence, "long", CELLS.values())
    statements, answer = [], []
    names = {name: VARIANTS[COPIERS[cell]].title for cell in CELLS for name in (COPIERS[cell], CELLS[cell])}
    for cell in ("lstm", "gru"):
        name = VARIANTS[COPIERS[cell]].title
        found = _gain(evidence, "copy", COPIERS[cell], COPIERS["rnn"], lambda curve: mean(curve.groups[1:]))
        text = f"{name} above tanh RNN, the mean of all distances from one filler on"
        statements.append(stated(copy.title, name, text, found, above, 0, "points"))
        found = _gain(evidence, "long", CELLS[cell], CELLS["rnn"], _longer)
        text = f"{name} above tanh RNN, the mean of the longer groups trained on"
        statements.append(stated(long.title, name, text, found, above, 0))
        curve = shown(evidence, "long", [CELLS[cell]]).get(CELLS[cell])
        text = f"{name} alone falls"
        statements.append(stated(long.title, name, text, curve.slope if curve else None, below, FALL, PER_TEN))
    tables = [*by_length(evidence, "copy", tuple(COPIERS.values()))]
    if copied:
        reaches = {VARIANTS[variant].title: _reaches(curve) for variant, curve in copied.items()}
        header = ["cell", f"{copy.unit}, seed by seed"]
        tables.append(Table("How far back at least half is right", header, [*map(list, reaches.items())]))
        most = next(iter(copied.values())).labels[-1]
        told = "; ".join(f"{name} {reach}" for name, reach in reaches.items())
        answer.append(
            f"At least half is copied rightly over so many fillers, seed by seed: {told} (at most {most} tried)."
        )
    tables += by_length(evidence, "long", tuple(CELLS.values()))
    if translated:
        parts = [f"{_course(curve)} with {names[variant]}" for variant, curve in translated.items()]
        answer.append(f"On {long.title} BLEU goes {', '.join(parts)}.")
    panels = [panel(task, curves, names) for task, curves in ((copy, copied), (long, translated)) if curves]
    return Section(
        "LSTM and GRU carry long sentences better than a plain tanh RNN, and do not solve it alone.",
        " ".join(answer),
        f"Better: all of the interval of the difference is above 0; of sentences it is the mean of the groups of the "
        f"longer half of the lengths trained on. Not solved: BLEU still falls, by more than {-FALL:.0f} for ten words "
        f"more. No attention; equal widths, so that the cells differ in parameters. Copying: the first {copying.KEPT} "
        f"of a row's letters, said after all of it was read in one direction; right by chance: {copying.CHANCE:.1f} %. "
        "Rows without fillers are few, so that those tested were trained on. Where all rows are right an interval has "
        "no width: of 100 rows no more is known than that at least 96 % would be.",
        statements,
        tables,
        pictures.bands(panels) if panels else None,
        "What is copied rightly by distance, and BLEU by source length, both without attention.",
    )


def kinds(evidence: Evidence) -> Section:
    """Bahdanau's network beside Luong's kinds."""
    statements, tables, panels, answer = [], [], {}, []
    for task in _translated(evidence):
        title, curves = evidence.tasks[task].title, shown(evidence, task, KINDS)
        found = _gain(evidence, task, "luong-dot", "bahdanau", _overall)
        statements.append(stated(title, "", "Luong dot is as good as Bahdanau", found, above, -MARGIN))
        if found:
            answer.append(f"on {title} dot has {signed(found)} BLEU beside Bahdanau")
        tables += _beside(evidence, task, curves, "bahdanau")
        if "bahdanau" in curves:
            gains = {VARIANTS[name].title: curve.overall - curves["bahdanau"].overall for name, curve in curves.items()}
            panels[f"BLEU less Bahdanau's,\n{title}"] = {name: _bar(gain) for name, gain in gains.items()}
    statements += _smaller(evidence, "luong-dot", "bahdanau") + _faster(evidence, "luong-dot", "bahdanau")
    answer += [f"it is {cost} as Bahdanau's" for cost in _costs(evidence, "luong-dot", "bahdanau")]
    tables += _speeds(evidence, ("none", *KINDS, *FED.values()))
    panels |= _rate_panels(evidence, KINDS)
    return Section(
        "Luong's dot, which learns nothing of its own, is about as good as Bahdanau's network, and cheaper.",
        _sentence(answer),
        f"About as good: all of the interval of dot's BLEU less Bahdanau's is above {-MARGIN:.0f}. Cheaper: it has "
        "fewer parameters, and all of the interval of how many times as fast it is, is above 1. Each is used as in its "
        "paper: Bahdanau's asks with the last state and gives its context to the same step, Luong's asks with the new "
        "state and feeds the attentional state into the next step. local-m looks at ten source pieces on each side of "
        "the target's own position, local-p of a predicted one; Korean says things in another order, so that the "
        "first looks in the wrong place in all but short sentences.",
        statements,
        tables,
        pictures.bars(panels) if panels else None,
        "BLEU over all lengths trained on, less Bahdanau's, with 95 % intervals; speeds, from the least to the most.",
    )


def feeding(evidence: Evidence) -> Section:
    """What input feeding adds and costs."""
    statements, tables, panels, answer = [], [], [], []
    both = [name for pair in FED.items() for name in pair]
    for task in _translated(evidence):
        title, curves, added = evidence.tasks[task].title, shown(evidence, task, both), []
        for fed, unfed in FED.items():
            if wanted(evidence, task, [unfed]):
                name, found = VARIANTS[fed].title, _gain(evidence, task, fed, unfed, _overall)
                statements.append(stated(title, name, f"{name} is better fed", found, above, 0))
                if found:
                    added.append(f"{signed(found)} BLEU to {name}")
                tables += _beside(evidence, task, shown(evidence, task, (fed, unfed)), unfed)
        if added:
            answer.append(f"on {title} it adds {', and '.join(added)}")
        tables += by_length(evidence, task, both)
        if curves:
            panels.append(panel(evidence.tasks[task], curves))
    for fed, unfed in FED.items():
        if any(unfed in names for names in evidence.form.variants.values()):
            statements += _faster(evidence, unfed, fed, VARIANTS[fed].title)
            answer += [f"without it {VARIANTS[fed].title} is {cost}" for cost in _costs(evidence, unfed, fed)]
    tables += _speeds(evidence, both)
    return Section(
        "Input feeding makes translations better, and costs speed (Luong et al. 2015, section 3.3).",
        _sentence(answer),
        "Better: all of the interval of the difference is above 0. Slower: all of the interval of how many times as "
        "fast it is without, is above 1.",
        statements,
        tables,
        pictures.bands(panels, broken={VARIANTS[unfed].title: VARIANTS[fed].title for fed, unfed in FED.items()})
        if panels
        else None,
        "BLEU by source length, fed back and not.",
    )


def maps(evidence: Evidence) -> Section:
    """Attention where the order of words changes."""
    task, variants = evidence.tasks["long"], wanted(evidence, "long", KINDS)
    blind = _blind(task)
    limit = max(HALF, blind)
    statements, rows, picture, drawn, shares = [], [], None, "", []
    for variant in variants:
        contents = evidence.contents("long", [variant]).get(variant, [])
        title, found = VARIANTS[variant].title, None
        if contents:
            hits = [np.array([(hit, 1) for hit in one["verbs_found"]], dtype=int) for one in contents]
            (found,) = estimate(Share(), hits, [range(len(hits[0]))])
            rows.append([title, str(found), seeds(found)])
            shares.append(found.value)
        statements.append(stated(task.title, title, f"{title} finds the verb", found, above, limit, "%", written=str))
        if contents and picture is None:
            found_map, drawn = contents[0]["map"], title
            target = tuple(romanized(word) for word in found_map["target"])
            weights_TS = torch.tensor(found_map["weights"])
            picture = plots.attention(AttentionMap(tuple(found_map["source"]), target, weights_TS))
    source, reference = task.shown
    return Section(
        "Attention finds the word that is being translated, also where the order of words is another.",
        f"The verb is found in {min(shares):.0f} to {max(shares):.0f} % of clauses, whatever the kind of attention; "
        f"{blind:.0f} % would be found by looking always at the place where it stands most often."
        if shares
        else "",
        f"In clauses of a subject, a verb and an object, Korean says the verb last. While its last word is written, "
        f"English's verb has the largest weight of all words: in over {limit:.0f} % of such clauses, by all of the "
        f"interval. (To look at one and the same place in all clauses of a length would find {blind:.0f} % at best.) "
        "The model is led through the reference, so that all see the same. The clauses are short: local attention has "
        "most of each in its window.",
        statements,
        [Table("Verbs found", ["attention", "right, %", "seed by seed"], rows)] if rows else [],
        picture,
        f"The weights of {drawn} by words, English read across and Korean (letter by letter) written downwards, in a "
        f"sentence whose clauses change places: “{source}”, “{reference}”.",
    )


_ALL = ("none", *KINDS, *FED.values())
_WITHOUT_AND_WITH = {"none": "without attention", "bahdanau": "with Bahdanau's"}
_PANELS = {
    "": ("none", "bahdanau", "luong-dot", "luong-general", "luong-concat"),
    "local attention": ("none", "luong-general", *LOCAL),
}
"""Curves by length, drawn together."""
CLAIMS: dict[str, Claim] = {
    "lengths": Claim("Length and attention", {"long": _ALL, "multi30k": _ALL}, lengths),
    "cells": Claim("Cells", {"copy": tuple(COPIERS.values()), "long": tuple(CELLS.values())}, cells),
    "kinds": Claim("Kinds of attention", {"long": KINDS, "multi30k": _ALL}, kinds, speeds=True),
    "feeding": Claim("Input feeding", {task: (*FED, *FED.values()) for task in TRANSLATED}, feeding, speeds=True),
    "maps": Claim("Where attention looks", {"long": KINDS}, maps),
}


def _translated(evidence: Evidence) -> list[str]:
    return [task for task in TRANSLATED if task in evidence.tasks]


def _overall(curve: Curve) -> Estimate:
    return curve.overall


def _longer(curve: Curve) -> Estimate:
    return mean(curve.groups[curve.trained // 2 : curve.trained])


def _gain(evidence: Evidence, task: str, name: str, other: str, of: Callable[[Curve], Estimate]) -> Estimate | None:
    """How much better one is than another, by the seeds that both have; None where one of them is not there."""
    curves = shown(evidence, task, (name, other))
    return of(curves[name]) - of(curves[other]) if name in curves and other in curves else None


def _course(curve: Curve) -> str:
    """How a score goes over the lengths that were trained on."""
    last = curve.trained - 1
    return (
        f"from {curve.groups[0].value:.0f} ({curve.labels[0]} words) to {curve.groups[last].value:.0f} "
        f"({curve.labels[last]})"
    )


def _sentence(parts: Sequence[str]) -> str:
    """One of several, with a capital and a full stop."""
    joined = "; ".join(parts)
    return f"{joined[:1].upper()}{joined[1:]}." if parts else ""


def _reaches(curve: Curve) -> str:
    """Seed by seed, the farthest place up to which at least half is right."""
    return ", ".join(_reach(curve, seed) for seed in range(len(curve.overall.by_seed)))


def _reach(curve: Curve, seed: int) -> str:
    reached = "none"
    for label, group in zip(curve.labels, curve.groups, strict=True):
        if group.by_seed[seed] < HALF:
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


def _smaller(evidence: Evidence, name: str, other: str) -> list[Statement]:
    """Whether one has fewer parameters than another, corpus by corpus."""
    found = []
    for task in _translated(evidence):
        scope, text = "parameters", f"{VARIANTS[name].title} has fewer than {VARIANTS[other].title}"
        kept = evidence.contents(task, (name, other))
        if len(kept) < 2:
            found.append(unmeasured(scope, "", text))
            continue
        one, two = (kept[variant][0]["parameters"] for variant in (name, other))
        verdict = Verdict.HOLDS if one < two else Verdict.FAILS
        found.append(Statement(scope, "", f"{text} on {evidence.tasks[task].title}: {one:,} beside {two:,}", verdict))
    return found


def _faster(evidence: Evidence, name: str, other: str, subject: str = "") -> list[Statement]:
    """Whether one is faster than another, told turn by turn."""
    found = []
    for key, doing in RATES.items():
        scope, text = f"speed of {doing}", f"{VARIANTS[name].title} is faster than {VARIANTS[other].title}"
        times = _times(evidence, key, name, other)
        if times is None:
            found.append(unmeasured(scope, subject, text))
        else:
            low, value, high = (math.exp(logarithm) for logarithm in (times.low, times.value, times.high))
            told = f"{text}: {value:.2f} [{low:.2f}, {high:.2f}] times as fast (over 1 wanted)"
            found.append(Statement(scope, subject, told, above(times, 0)))
    return found


def _times(evidence: Evidence, key: str, name: str, other: str) -> Estimate | None:
    """The logarithm of how many times as fast one is as another."""
    one, two = evidence.rates(name, key), evidence.rates(other, key)
    return one.times(two) if one and two else None


def _costs(evidence: Evidence, name: str, other: str) -> list[str]:
    """The same in a few words; none where nothing is there."""
    found = {key: _times(evidence, key, name, other) for key in RATES}
    trained, decoded = found[TRAINING], found[DECODING]
    if not (trained and decoded):
        return []
    return [f"trained {math.exp(trained.value):.2f} and decodes {math.exp(decoded.value):.2f} times as fast"]


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
