"""Where a system is good and where it is not: by source length, by how rare words are, by place in the sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from s2s_cli.config import EvaluationConfig
from s2s_cli.data.corpus import Source
from s2s_cli.evaluate import Score, compute_scores, word_splitter
from s2s_cli.score.system import AttentionMap
from s2s_cli.score.testset import TestSet

LENGTHS = (1, 6, 11, 16, 21, 31, 41, 61)
"""The first length of each group, in words; the last has no end."""
PARTS_OF_LENGTHS = 6
"""Where the unit is another: groups of about as many sentences each."""
OCCURRENCES = (1, 2, 3, 5, 10, 30, 100)
PARTS = 5
_MOST_LETTERS = 20
_MOST_WORDS = 300  # to be laid beside one another takes time that grows with the cube of a line's length


@dataclass(frozen=True)
class Group:
    """Sentences of about one length, words of about one frequency, or one part of all sentences."""

    label: str
    count: int
    """Sentences or words in it."""
    scores: dict[str, Score]


@dataclass(frozen=True)
class Breakdown:
    """One system's scores, group by group."""

    name: str
    unit: str
    """What the labels count."""
    counted: str
    """What the counts count."""
    about: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Details:
    """What lies behind the scores of one system on one test set."""

    breakdowns: tuple[Breakdown, ...]
    sentences: tuple[float, ...]
    """chrF of each line."""
    attention: tuple[AttentionMap, ...] = ()
    """For each line; empty where no model is at hand."""


def break_down(test: TestSet, translations: Sequence[str], config: EvaluationConfig) -> tuple[Breakdown, ...]:
    """All breakdowns of one system on one test set.

    Args:
        test: what it was scored on.
        translations: a line each.
        config: how BLEU and chrF are computed.
    """
    words = word_splitter(config)
    references, given = ([words(line) for line in side] for side in (test.references[0], translations))
    return (
        by_length(test, translations, config),
        by_frequency(references, given),
        by_position(references, given),
    )


def by_length(test: TestSet, translations: Sequence[str], config: EvaluationConfig) -> Breakdown:
    """BLEU and chrF by the length of the source: without attention they fall as sentences grow (Bahdanau et al. 2015,
    figure 2)."""
    measured: Sequence[Source] = test.sources if test.sources is not None else test.references[0]
    unit, lengths = _lengths(measured)
    both = config.model_copy(update={"metrics": ("bleu", "chrf")})
    groups = []
    ordered = sorted(lengths)
    firsts = {ordered[len(ordered) * part // PARTS_OF_LENGTHS] for part in range(PARTS_OF_LENGTHS)}
    for label, rows in grouped(lengths, LENGTHS if unit == "words" else sorted(firsts)):
        streams = [[side[row] for row in rows] for side in test.references]
        scores = compute_scores([translations[row] for row in rows], streams, both, intervals=True)
        groups.append(Group(label, len(rows), scores))
    side = "source" if test.sources is not None else "reference"
    return Breakdown("by length", f"{unit} of the {side}", "sentences", "with 95 % intervals", tuple(groups))


def by_frequency(references: Sequence[Sequence[str]], translations: Sequence[Sequence[str]]) -> Breakdown:
    """F1 of words, grouped by how often the references have them (as compare-mt does, Neubig et al. 2019)."""
    wanted, given = ([Counter(line) for line in side] for side in (references, translations))
    total = sum(wanted, Counter[str]())
    right, in_references, in_translations = Counter[str](), Counter[str](), Counter[str]()
    for one, other in zip(wanted, given, strict=True):
        right.update(one & other)
        in_references.update(one)
        in_translations.update({word: count for word, count in other.items() if word in total})
    groups = []
    words = sorted(total)
    for label, rows in grouped([total[word] for word in words], OCCURRENCES):
        hit, needed, said = (
            sum(counts[words[row]] for row in rows) for counts in (right, in_references, in_translations)
        )
        f1 = 200 * hit / (needed + said)
        groups.append(Group(label, needed, {"word F1": Score(f1, "nrefs:1|words as BLEU's tokenizer parts them")}))
    about = "F1 of words, by how often the references have them"
    return Breakdown("by rarity", "occurrences of the word", "words", about, tuple(groups))


def by_position(references: Sequence[Sequence[str]], translations: Sequence[Sequence[str]]) -> Breakdown:
    """The share of reference words that the translation has in their order, by where in the sentence they stand."""
    found, words = [0] * PARTS, [0] * PARTS
    for wanted, given in zip(references, translations, strict=True):
        if len(wanted) > _MOST_WORDS:
            continue
        parts = [index * PARTS // len(wanted) for index in range(len(wanted))]
        for part in parts:
            words[part] += 1
        for block in SequenceMatcher(None, wanted, given[:_MOST_WORDS], autojunk=False).get_matching_blocks():
            for part in parts[block.a : block.a + block.size]:
                found[part] += 1
    names = [f"{100 * part // PARTS} to {100 * (part + 1) // PARTS} %" for part in range(PARTS)]
    groups = [
        Group(name, total, {"recall": Score(100 * hit / total, "nrefs:1|words as BLEU's tokenizer parts them")})
        for name, hit, total in zip(names, found, words, strict=True)
        if total
    ]
    about = "share of reference words that the translation has in their order"
    return Breakdown("by position", "of the way through the reference", "words", about, tuple(groups))


def _lengths(given: Sequence[Source]) -> tuple[str, list[int]]:
    """Words, or characters where a script does not part words; of feature vectors their number."""
    lines = [one for one in given if isinstance(one, str)]
    if len(lines) < len(given):
        return "vectors", [len(one) for one in given]
    words = sum(len(line.split()) for line in lines)
    if sum(map(len, lines)) > _MOST_LETTERS * words:
        return "characters", [len(line) for line in lines]
    return "words", [len(line.split()) for line in lines]


def grouped(values: Iterable[int], firsts: Sequence[int]) -> list[tuple[str, list[int]]]:
    """Rows by value: for each group that holds any, its label and the rows."""
    rows: dict[int, list[int]] = {first: [] for first in firsts}
    for row, value in enumerate(values):
        rows[max((first for first in firsts if first <= value), default=firsts[0])].append(row)
    labels = {
        first: str(first) if after == first + 1 else f"{first} to {after - 1}" for first, after in pairwise(firsts)
    }
    labels[firsts[-1]] = f"{firsts[-1]}+"
    return [(labels[first], found) for first, found in rows.items() if found]
