"""Whole sentences of the demo grammar, from one clause to four."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple

from agreement import NounPhrase, words
from clauses import ACTS, PLAIN, STATES, Clause
from korean import HAS, LACKS, Manner, Predicate, Register, Tense, attach, compose
from lexicon import SPEECH, VERBS, WEATHER
from phrases import NOTHING, Pair, nouns_for
from talk import Talk

Conjunction = Literal["because", "when", "if", "before", "after"]
CONJUNCTIONS: dict[Tense, tuple[Conjunction, ...]] = {
    "past": ("because", "because", "when", "when", "before", "after"),
    "present": ("because", "when"),
    "future": ("because", "if", "if", "before", "after"),
}
FREE = [verb for verb in VERBS if "main" not in verb.flags]  # "have" and "need" take 이/가 twice; main clauses only
EVENTS = [verb for verb in FREE if "state" not in verb.flags]
PRONOUNS = ("I", "he", "she", "we", "they")
JOINTS: tuple[tuple[str, Literal["고", "지만"]], ...] = (("and", "고"), ("and", "고"), ("but", "지만"))
REASONS: tuple[Manner, ...] = ("must", "want", "want", "cannot")  # one's own, for what one does
PAST_REASONS: tuple[Manner, ...] = ("want", "want", "not")
JOINED: tuple[Manner, ...] = (*PLAIN * 9, "not", "short", "progressive", "can", "cannot", "must")


class Unit(NamedTuple):
    """A main clause with all that hangs on it, open at its predicate."""

    english: str
    korean: str
    predicate: Predicate
    tense: Tense

    def final(self, register: Register, question: bool = False) -> str:
        return words(self.korean, self.predicate.final(self.tense, register, question))


def unit(clause: Clause) -> Unit:
    """A clause as a sentence of its own."""
    return Unit(clause.english(), clause.main(), clause.predicate, clause.tense)


def link(conjunction: Conjunction, word: Predicate, tense: Tense) -> str:
    """The Korean ending that stands for an English conjunction."""
    if conjunction == "because":
        return word.because()
    if conjunction == "when":
        return word.when(tense)
    if conjunction == "if":
        return word.provided()
    return word.before() if conjunction == "before" else word.after()


class Sentences(Talk):
    """Draws sentence pairs at random."""

    def statement(self, said: Unit) -> Pair:
        return self.address(said.english, said.final(self.register), ".")

    # -- usual sentences

    def simple(self) -> Unit:
        roll = self.random.randrange(100)
        if roll < 66:
            return unit(self.act(depth=1 if self.chance(35) else 0))
        if roll < 80:
            return unit(self.describe(depth=1 if self.chance(35) else 0))
        if roll < 87:
            return unit(self.identify())
        return unit(self.locate()) if roll < 94 else self.existence()

    def existence(self) -> Unit:
        """There is ..."""
        thing = self.chance(60)
        tags = frozenset({"thing", "garment", "drink", "fresh"}) if thing else frozenset({"pet"})
        noun = self.pick(nouns_for(tags))
        english, korean = self.spot(thing)
        tense = self.pick_tense("past", "present")
        if noun.plural and self.chance(20):
            form = "was" if tense == "past" else "is"
            no = f"there {form} no {noun.english} {english}"
            return Unit(no, words(korean, attach(noun.korean, "이/가")), LACKS, tense)
        phrase = self.noun_phrase(noun)
        while phrase.definite:
            phrase = self.noun_phrase(noun)
        form = ("were" if phrase.plural else "was") if tense == "past" else "are" if phrase.plural else "is"
        return Unit(f"there {form} {phrase.english} {english}", words(korean, phrase.subject()), HAS, tense)

    # -- clauses joined

    def side(
        self, conjunction: Conjunction, main: Clause, shared: bool, tense: Tense, depth: int, details: int
    ) -> Clause:
        """The clause behind a conjunction, about the same subject (`shared`) or another, and another act."""
        subject = main.subject.again() if shared else None
        manners = JOINED
        verbs = EVENTS
        if conjunction in ("before", "after"):
            verbs, manners = ACTS, PLAIN
        elif conjunction == "because":
            if self.chance(60):
                return self.describe(subject, tense, depth, STATES, plain=True)
            if subject is not None:
                verbs, manners = ACTS, REASONS if tense == "present" else PAST_REASONS
        verbs = [verb for verb in verbs if verb.base not in main.verbs]
        if subject is None:
            verb = self.pick(verbs)
            verbs, subject = [verb], self.full_subject(verb.subjects, depth)
        return self.act(verbs, subject, tense, manners, depth, timed=False, details=details)

    def full_subject(self, tags: frozenset[str], depth: int = 0) -> NounPhrase:
        """A subject that is no pronoun, as none in the next clause could be told from it."""
        subject = self.subject_phrase(tags, depth)
        while subject.head in PRONOUNS:
            subject = self.subject_phrase(tags, depth)
        return subject

    def complex(self, tense: Tense | None = None, depth: int = 0, details: int = 50) -> Unit:
        """A main clause and a clause with a conjunction, which Korean puts first."""
        tense = tense or self.pick_tense("past", "past", "present", "future")
        conjunction = self.pick(CONJUNCTIONS[tense])
        then: Tense = "present" if tense == "future" else tense
        trailing = self.chance(50)
        main = self.main_clause(None, tense, depth, details)
        if conjunction in ("because", "when", "if") and self.chance(25):
            said, past, word, sky = self.pick(WEATHER)
            cause = words(sky, link(conjunction, word, then))
            said = past if then == "past" else said
        elif self.chance(55):
            return self.same_subject(conjunction, main, then, trailing, depth, details)
        else:
            while main.subject.head in ("he", "she", "they"):
                main = self.main_clause(None, tense, depth, details)
            clause = self.side(conjunction, main, False, then, depth, details)
            while clause.subject.head == main.subject.head:
                clause = self.side(conjunction, main, False, then, depth, details)
            said = clause.english()
            cause = words(clause.embedded(), link(conjunction, clause.predicate, clause.tense))
        if trailing:
            return Unit(f"{main.english()} {conjunction} {said}", words(cause, main.main()), main.predicate, main.tense)
        main = main._replace(front=NOTHING)
        return Unit(f"{conjunction} {said}, {main.english()}", words(cause, main.main()), main.predicate, main.tense)

    def main_clause(self, subject: NounPhrase | None, tense: Tense, depth: int, details: int) -> Clause:
        if self.chance(25):
            return self.two_acts(subject, tense, depth)
        return self.act(EVENTS, subject, tense, JOINED, depth, timed=self.chance(40), details=details)

    def same_subject(
        self, conjunction: Conjunction, main: Clause, tense: Tense, trailing: bool, depth: int, details: int
    ) -> Unit:
        """Two clauses about one subject: English says "he" the second time, Korean nothing."""
        subject, main = main.subject, main._replace(front=NOTHING)
        side = self.side(conjunction, main, True, tense, depth, details)
        korean = words(subject.topic(), side.details, link(conjunction, side.predicate, side.tense), main.details)
        if trailing:
            english = f"{main.english()} {conjunction} {side.english()}"
        else:
            english = f"{conjunction} {subject.english} {side.finite}, {subject.back} {main.finite}"
        return Unit(english, korean, main.predicate, main.tense)

    def speech(self, tense: Tense | None = None, depth: int = 0, details: int = 60) -> Unit:
        """Someone says or thinks that ..."""
        base, third, past, verb = self.pick(SPEECH)
        speaker = self.subject_phrase(frozenset({"person"}))
        tense = "present" if tense == "future" else tense or self.pick_tense("past", "past", "present")
        then: Tense | None = "past" if tense == "past" else None
        clause = self.embedded_clause(then, depth, details)
        while clause.subject.head == speaker.head:
            clause = self.embedded_clause(then, depth, details)
        clause = clause._replace(front=NOTHING)
        singular = speaker.person == 3 and not speaker.plural
        said = past if tense == "past" else third if singular else base
        korean = words(speaker.topic(), clause.embedded(), clause.predicate.quoted(clause.tense))
        word = compose(verb, "plain", speaker.elder)
        return Unit(words(speaker.english, said, "that", clause.english()), korean, word, tense)

    def embedded_clause(self, tense: Tense | None, depth: int, details: int) -> Clause:
        if self.chance(30):
            return self.describe(tense=tense, depth=depth)
        if self.chance(20):
            return self.two_acts(None, tense or self.pick_tense("past", "present", "future"), depth)
        return self.act(FREE, None, tense, JOINED, depth, details=details)

    def joined(self, parts: Sequence[Unit]) -> Unit:
        """A, and B, but C."""
        first, *rest = parts
        english, korean = first.english, first.korean
        last = first
        for part in rest:
            word, ending = self.pick(JOINTS)
            english = f"{english}, {word} {part.english}"
            korean = words(korean, last.predicate.linked(ending, last.tense, self.register), part.korean)
            last = part
        return Unit(english, korean, last.predicate, last.tense)

    def plain_unit(self, tense: Tense, depth: int, details: int, first: bool) -> Unit:
        roll = self.random.randrange(100)
        if roll < 15 and tense != "future":
            return unit(self.describe(tense=tense, depth=depth))
        clause = (
            self.two_acts(None, tense, depth)
            if roll < 35
            else self.act(VERBS, None, tense, JOINED, depth, timed=self.chance(50), details=details)
        )
        return unit(clause if first else clause._replace(front=NOTHING))

    def compound(self, depth: int = 0, details: int = 40) -> Unit:
        tense = self.pick_tense("past", "past", "present", "future")
        return self.joined([self.plain_unit(tense, depth, details, first) for first in (True, False)])

    def long(self) -> Unit:
        """Two to four clauses, with relative clauses in them."""
        tense = self.pick_tense("past", "past", "present", "future")
        roll = self.random.randrange(100)
        parts: list[Unit] = []
        if roll < 50:
            parts.append(self.complex(tense, 2, 60))
        if roll >= 20:
            parts.append(self.plain_unit(tense, 2, 80, not parts))
        if roll >= 80:
            parts.append(self.plain_unit(tense, 2, 60, False))
        if 40 <= roll < 70:
            parts.append(self.speech(tense, 2, 60))
        return self.joined(parts)


def draw(random: Random, long: bool) -> Pair:
    """One sentence pair."""
    register: Register = ("polite", "polite", "polite", "formal", "casual")[random.randrange(5)]
    sentences = Sentences(random, register)
    if long:
        return sentences.statement(sentences.long())
    roll = random.randrange(100)
    if roll < 50:
        return sentences.statement(sentences.simple())
    if roll < 62:
        return sentences.question()
    if roll < 72:
        return sentences.request()
    if roll < 86:
        return sentences.statement(sentences.complex())
    if roll < 95:
        return sentences.statement(sentences.compound())
    return sentences.statement(sentences.speech())
