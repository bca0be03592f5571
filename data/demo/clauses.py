"""Clauses of the demo grammar: what happens, what something is like, what it is and where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agreement import NounPhrase, article, be, english_verb, korean_verb, settle, words
from korean import IS, LACKS, Manner, Predicate, Tense, attach, compose, copula
from lexicon import ADJECTIVES, FREQUENCIES, MANNERS, POSITIONS, TIMES, TOOLS, VERBS, Noun, Verb
from phrases import ANYONE, NOTHING, Pair, Phrases, nouns_for

EVERY: tuple[Tense, ...] = ("past", "present", "future")
# which tenses a verb group stands in
TENSES: dict[Manner, tuple[Tense, ...]] = {
    "plain": EVERY,
    "not": EVERY,
    "short": EVERY,
    "progressive": ("past", "present"),
    "can": ("present",),
    "cannot": ("present",),
    "must": ("present",),
    "want": ("past", "present"),
}
ACTS = [verb for verb in VERBS if "act" in verb.flags]
STATES = frozenset({"state"})
PLAIN: tuple[Manner, ...] = ("plain",)
MIXED: tuple[Manner, ...] = (
    *PLAIN * 11, "not", "not", "short", "short", "progressive", "progressive", "progressive",
    "can", "cannot", "must", "want",
)  # fmt: skip


class Clause(NamedTuple):
    """A subject and what is said of it."""

    subject: NounPhrase
    finite: str  # English after the subject: "ate an apple"
    auxiliary: str  # ... and as a question parts it: "did", "eat an apple"
    remainder: str
    details: str  # Korean between subject and predicate
    predicate: Predicate
    tense: Tense
    front: Pair = NOTHING  # a time named first
    heavy: bool = False  # ends in a relative clause
    verbs: tuple[str, ...] = ()  # in English
    then: bool = False  # the next act follows with -아서, not -고

    def english(self) -> str:
        lead = f"{self.front[0]}," if self.front[0] else ""
        return words(lead, self.subject.english, self.finite)

    def main(self) -> str:
        """Korean up to the predicate, as a main clause."""
        return words(self.front[1], self.subject.topic(), self.details)

    def embedded(self) -> str:
        """Korean up to the predicate inside another clause, where no topic stands."""
        return words(self.front[1], self.subject.subject(), self.details)

    def question(self) -> str:
        return words(self.auxiliary, self.subject.english, self.remainder)


class Clauses(Phrases):
    """Draws clauses at random."""

    def act(
        self,
        verbs: Sequence[Verb] = VERBS,
        subject: NounPhrase | None = None,
        tense: Tense | None = None,
        manners: Sequence[Manner] = MIXED,
        depth: int = 0,
        timed: bool = True,
        details: int = 100,
    ) -> Clause:
        """Someone does something; `timed` allows when and how often, `details` thins out the adjuncts."""
        if subject is None:
            verb = self.pick(verbs)
            subject = self.subject_phrase(verb.subjects, depth)
        else:
            tags = subject.tags
            verb = self.pick([verb for verb in verbs if verb.subjects & tags])
        manner, drawn = self.draw_manner(verb, tense, manners)
        tense = settle(verb, manner, drawn, subject)
        complement = self.complement(verb, subject, depth)
        finite, auxiliary, base = english_verb(verb, manner, tense, subject)
        times = self.times(verb, manner, tense) if timed else []
        front = self.pick(times) if times and self.chance(12 * details // 100) else NOTHING
        after, before, close_by = self.adjuncts(verb, subject, complement.tags, details if not complement.heavy else 0)
        when = NOTHING
        if times and front == NOTHING and not complement.heavy and self.chance(details // 5):
            when = self.pick(times)
        frequency = NOTHING
        if times and front == when and manner == "plain" and tense != "future" and self.chance(details // 10):
            frequency = self.pick(FREQUENCIES)
        tail = words(complement.english, after, when[0])
        return Clause(
            subject,
            words(frequency[0], finite, tail),
            auxiliary,
            words(frequency[0], base, tail),
            words(when[1], frequency[1], before, complement.korean, close_by),
            korean_verb(verb, manner, subject, complement.predicate),
            tense,
            front,
            complement.heavy,
            (verb.base,),
            "then" in verb.flags,
        )

    def draw_manner(self, verb: Verb, tense: Tense | None, manners: Sequence[Manner]) -> tuple[Manner, Tense]:
        fits: list[Manner] = ["plain", "not"]
        if verb.predicate.kind == "verb" or verb.opposite:
            fits.append("short")
        if "act" in verb.flags:
            fits += ["can", "cannot", "must", "want"]
        if verb.gerund:
            fits.append("progressive")
        drawn = [manner for manner in manners if manner in fits and (tense is None or tense in TENSES[manner])]
        manner = self.pick(drawn)
        tenses: Sequence[Tense] = TENSES[manner]
        if "main" in verb.flags:  # what one has or needs
            tenses = ("past", "present")
        return manner, tense or self.pick_tense(*tenses)

    def times(self, verb: Verb, manner: Manner, tense: Tense) -> list[Pair]:
        """The times that suit: none for states, "now" for what goes on."""
        if "state" in verb.flags:
            return []
        if manner == "progressive" and tense == "present":
            return TIMES["now"]
        if manner in ("can", "cannot", "must", "want") and tense == "present":
            return TIMES["today"]
        return TIMES[tense]

    def adjuncts(self, verb: Verb, subject: NounPhrase, objects: frozenset[str], percent: int) -> tuple[str, str, str]:
        """English after the object, Korean before it, Korean right before the verb."""
        english, last = "", ""
        flags = verb.flags
        manners = [flag for flag in flags if flag in MANNERS]
        if manners and self.chance(percent * 22 // 100):
            english = self.pick(manners)
            last = MANNERS[english]
        company, means = NOTHING, NOTHING
        tools = [tool for tag, tools in TOOLS.items() if tag in objects for tool in tools]
        if "tool" in flags and tools and self.chance(percent * 70 // 100):
            tool, word = self.pick(tools)
            means = f"with {tool}", attach(word, "으로/로")
        elif "with" in flags and subject.tags & ANYONE and self.chance(percent * 18 // 100):
            friend = self.other(frozenset({"person", "elder"}), subject)
            company = f"with {friend.as_object}", attach(friend.korean, "과/와")
        if "by" in flags and self.chance(percent * 25 // 100):
            vehicle = self.pick(nouns_for(frozenset({"by"})))
            means = f"by {vehicle.english}", attach(vehicle.korean, "으로/로")
        path = place = NOTHING
        if "path" in flags and self.chance(percent * 30 // 100):
            start, end = (self.pick(nouns_for(frozenset({"place"}))) for _ in range(2))
            if start != end:
                path = f"from the {start.english} to the {end.english}", f"{start.korean}에서 {end.korean}까지"
        if verb.place_tag() and path == NOTHING and self.chance(percent * 36 // 100):
            spot = self.place_phrase(verb.place_tag())
            place = spot.english, spot.korean + "에서"
        english = words(english, company[0], means[0], path[0], place[0])
        return english, words(place[1], company[1], path[1], means[1]), last

    # -- states

    def state(
        self, subject: NounPhrase, complement: str, details: str, word: Predicate, tense: Tense, negative: bool = False
    ) -> Clause:
        """A clause with "be"."""
        form, rest = be(subject, tense), words("not" if negative else "", complement)
        return Clause(subject, words(form, rest), form, rest, details, word, tense)

    def describe(
        self,
        subject: NounPhrase | None = None,
        tense: Tense | None = None,
        depth: int = 0,
        tags: frozenset[str] | None = None,
        plain: bool = False,
    ) -> Clause:
        """What someone or something is like."""
        entries = [entry for entry in ADJECTIVES if not entry.attributive]
        if tags is not None:
            entries = [entry for entry in entries if entry.tags & tags]
        if subject is None:
            adjective = self.pick(entries)
            subject = self.noun_phrase(self.pick(nouns_for(adjective.tags)), True, depth, bare=True)
        else:
            known = subject.tags
            adjective = self.pick([entry for entry in entries if entry.tags & known])
        tense = tense or self.pick_tense("past", "present", "present")
        negative = not plain and self.chance(20)
        word, english = adjective.predicate, adjective.english
        if not negative and self.chance(20):
            word, english = word._replace(lead=word.lead + "매우 "), f"very {english}"
        word = compose(word, "not" if negative else "plain", subject.elder)
        return self.state(subject, english, "", word, tense, negative)

    def identify(self, tense: Tense | None = None) -> Clause:
        """Who someone is."""
        subject = self.pronoun() if self.chance(40) else self.subject_phrase(frozenset({"name", "family"}))
        while subject.plural:
            subject = self.pronoun()
        if subject.head != "I" and self.chance(25):
            noun = self.pick(nouns_for(frozenset({"owned"})))
            owner = self.possessor()
            english, korean = words(owner[0], noun.english), words(owner[1], noun.korean)
        else:
            english, korean = self.role(self.pick(nouns_for(frozenset({"role"}))))
        negative = self.chance(25)
        tense = tense or self.pick_tense("past", "present", "present")
        return self.state(subject, english, "", copula(korean, negative), tense, negative)

    def role(self, noun: Noun) -> Pair:
        quality = self.adjectives(noun) if self.chance(50) else NOTHING
        english = words(quality[0], noun.english)
        return article(english), words(quality[1], noun.korean)

    def spot(self, thing: bool) -> Pair:
        """Where something is: "under the table"."""
        if thing and self.chance(25):
            box = self.pick(nouns_for(frozenset({"container", "drive"})))
            return f"in the {box.english}", f"{box.korean} 안에"
        noun = self.pick(nouns_for(frozenset({"surface"})))
        phrase = self.noun_phrase(noun, False, 0, bare=True)
        while phrase.plural or not phrase.definite:
            phrase = self.noun_phrase(noun, False, 0, bare=True)
        preposition, side = self.pick(POSITIONS)
        return f"{preposition} {phrase.english}", f"{phrase.korean} {side}에"

    def locate(self, subject: NounPhrase | None = None, tense: Tense | None = None, depth: int = 0) -> Clause:
        """Where someone or something is."""
        thing = subject is None and self.chance(50)
        if subject is None:
            tags = frozenset({"thing", "garment"}) if thing else frozenset({"person", "animal"})
            subject = self.subject_phrase(tags, depth)
        if thing or ("pet" in subject.tags and self.chance(60)):
            english, korean = self.spot(thing)
        else:
            place = self.place_phrase("place", depth)
            english, korean = place.english, place.korean + "에"
        tense = tense or self.pick_tense("past", "present")
        negative = self.chance(20)
        known = compose(IS, "short" if negative else "plain", subject.elder)
        word = LACKS if negative and not subject.elder else known  # 없다, but 안 계시다
        return self.state(subject, english, korean, word, tense, negative)

    # -- two acts of one subject

    def two_acts(self, subject: NounPhrase | None, tense: Tense, depth: int = 0, timed: bool = True) -> Clause:
        """One clause with two verbs: "went to the market and bought apples"."""
        # "they sing and read" would not tell its tense
        acts = [verb for verb in ACTS if tense != "present" or verb.base != verb.past]
        first = self.act(acts, subject, tense, PLAIN, timed=False, details=40)
        acts = [verb for verb in acts if verb.base not in first.verbs]
        second = self.act(acts, first.subject, tense, PLAIN, depth, timed=False, details=60)
        link = first.predicate.because() if first.then else first.predicate.linked("고", "present", self.register)
        more = second.remainder if tense == "future" else second.finite
        front = self.pick(TIMES[tense]) if timed and self.chance(12) else NOTHING
        when = NOTHING
        if timed and front == NOTHING and not second.heavy and self.chance(15):
            when = self.pick(TIMES[tense])
        return second._replace(
            finite=words(first.finite, "and", more, when[0]),
            remainder=words(first.remainder, "and", second.remainder, when[0]),
            details=words(when[1], first.details, link, second.details),
            verbs=first.verbs + second.verbs,
            front=front,
        )
