"""Sentence pairs of the demo grammar whose length is the variable: as many of each, far longer than the demo's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import NamedTuple

from benchmarks.measure import ROOT

GRAMMAR = ROOT / "data" / "demo"
sys.path.insert(0, str(GRAMMAR))  # for the next imports: its modules are no package

from clauses import ACTS, PLAIN  # noqa: E402
from korean import Register  # noqa: E402
from sentences import Sentences, Unit, unit  # noqa: E402

REGISTERS: tuple[Register, ...] = ("polite", "polite", "formal")
"""None that calls the listener by a name: a long sentence may hold all that there are."""
Pair = tuple[str, str]


class Ordered(NamedTuple):
    """A clause of one plain verb, which English has behind its subject and Korean at its end."""

    source: str
    target: str
    verb: int
    """The verb's place among the words of the source."""


def of_lengths(random: Random, lengths: Sequence[int], count: int, taken: set[str]) -> list[Pair]:
    """Pairs whose sources have these numbers of words in turn, within one word; no source stands twice.

    Args:
        random: where all choices come from.
        lengths: words of a source.
        count: how many pairs.
        taken: sources that may not come again; grows.
    """
    return [_of_length(random, length, taken) for length in islice(cycle(lengths), count)]


def _of_length(random: Random, length: int, taken: set[str]) -> Pair:
    while True:
        sentences = Sentences(random, REGISTERS[random.randrange(len(REGISTERS))])
        english, korean = sentences.statement(_chain(sentences, length))
        if abs(len(english.split()) - length) <= 1 and english not in taken:
            taken.add(english)
            return english, korean


def _chain(sentences: Sentences, length: int) -> Unit:
    """Clauses, one after the other, until there are about as many words."""
    tense = sentences.pick_tense("past", "past", "present", "future")
    parts: list[Unit] = []
    words = 0
    while words < length - 1:
        if length - words > 8 and sentences.chance(30):
            parts.append(sentences.complex(tense, 1, 60))
        else:
            parts.append(sentences.plain_unit(tense, 1, 60, not parts))
        words += len(parts[-1].english.split()) + (len(parts) > 1)
    return sentences.joined(parts)


def ordered(random: Random, count: int, taken: set[str]) -> list[Ordered]:
    """Clauses with an object, whose verb's places are known; no source stands twice."""
    return list(islice(_ordered(random, taken), count))


def _ordered(random: Random, taken: set[str]) -> Iterator[Ordered]:
    verbs = [verb for verb in ACTS if verb.objects and not verb.preposition]
    while True:
        sentences = Sentences(random, "polite")
        clause = sentences.act(verbs, sentences.full_subject(frozenset({"person"})), "past", PLAIN, 0, False, 40)
        english, korean = sentences.statement(unit(clause))
        subject = len(clause.subject.english.split())
        if english not in taken and len(english.split()) - subject >= 3:
            taken.add(english)
            yield Ordered(english, korean, subject)
