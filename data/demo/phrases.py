"""Noun phrases of the demo grammar, built in English and Korean side by side."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import NamedTuple, TypeVar

from agreement import NounPhrase, article, english_verb, korean_verb, settle, words
from korean import Manner, Predicate, Register, Tense, attach, predicate
from lexicon import ADJECTIVES, MEASURES, NOUNS, NUMBERS, TIMES, VERBS, Adjective, Noun, Verb

Item = TypeVar("Item")
Pair = tuple[str, str]  # English, Korean
NOTHING: Pair = ("", "")
ANYONE = frozenset({"person", "adult", "youth"})
PLACES = frozenset({"place", "water"})
OWNED = frozenset({"thing", "pet", "owned", "garment", "footwear", "vehicle"})
HUMBLE = {"주": predicate("드리", "드려"), "보여 주": predicate("보여 드리", "보여 드려")}  # giving to one's elders


class Complement(NamedTuple):
    """What a verb asks for: its object, place or recipient."""

    english: str = ""
    korean: str = ""
    heavy: bool = False
    tags: frozenset[str] = frozenset()
    predicate: Predicate | None = None  # the verb, where the recipient changes it


@cache
def tagged(tags: frozenset[str]) -> tuple[Noun, ...]:
    """The nouns with one of these tags."""
    return tuple(noun for noun in NOUNS if noun.tags & tags)


def nouns_for(tags: frozenset[str]) -> tuple[Noun, ...]:
    """The same, but people include names and kin."""
    return tagged(tags | {"name", "family"}) if "person" in tags else tagged(tags)


@cache
def adjectives_for(noun: Noun) -> tuple[Adjective, ...]:
    """The adjectives that suit a noun."""
    return tuple(entry for entry in ADJECTIVES if entry.tags & noun.tags)


def is_person(noun: Noun) -> bool:
    """Whether "who" and "he" or "she" stand for it."""
    return bool(noun.tags & {"person", "name", "family", "elder"})


class Phrases:
    """Draws phrases at random, all of them in one register."""

    def __init__(self, random: Random, register: Register) -> None:
        self.random = random
        self.register: Register = register

    def pick(self, items: Sequence[Item]) -> Item:
        return items[self.random.randrange(len(items))]

    def pick_tense(self, *tenses: Tense) -> Tense:
        return self.pick(tenses)

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def speaker(self) -> NounPhrase:
        mine, nominative = ("나", "내가") if self.register == "casual" else ("저", "제가")
        return NounPhrase("I", mine, "I", "me", nominative, person=1, back="I", tags=ANYONE)

    def pronoun(self) -> NounPhrase:
        which = self.pick(("I", "he", "she", "we", "they"))
        if which == "I":
            return self.speaker()
        shapes = {"he": ("him", "그"), "she": ("her", "그녀"), "we": ("us", "우리"), "they": ("them", "그들")}
        accusative, korean = shapes[which]
        plural, person = which in ("we", "they"), 1 if which == "we" else 3
        return NounPhrase(which, korean, which, accusative, plural=plural, person=person, back=which, tags=ANYONE)

    def possessor(self, elder: bool = False) -> Pair:
        mine = "우리" if elder else "내" if self.register == "casual" else "제"  # one's own elders are "ours"
        if self.chance(40):
            return "my", mine
        if self.chance(60):
            return self.pick([("his", "그의"), ("her", "그녀의"), ("their", "그들의"), ("our", "우리")])
        owner = self.pick([noun for noun in NOUNS if "name" in noun.tags or noun.english in ("boy", "girl")])
        the = "" if "name" in owner.tags else "the"
        return words(the, f"{owner.english}'s"), f"{owner.korean}의"

    def adjectives(self, noun: Noun) -> Pair:
        suited = adjectives_for(noun)
        if not suited:
            return NOTHING
        first = self.pick(suited)
        before = first.attributive or first.predicate.modifier("present")
        more = [entry for entry in suited if entry.group > first.group > 0 and not entry.attributive]
        if first.attributive or not more or not self.chance(35):
            return first.english, before
        second = self.pick(more)
        joined = first.predicate.linked("고", "present", self.register)
        return words(first.english, second.english), words(joined, second.predicate.modifier("present"))

    def subject_phrase(self, tags: frozenset[str], depth: int = 0, avoid: str = "") -> NounPhrase:
        roll = self.random.randrange(100)
        if tags & ANYONE and roll < 18:
            return self.pronoun()
        groups = ["person"] * 5 + ["name", "name", "family", "elder"] if "person" in tags else []
        groups += ["animal", "animal"] if "animal" in tags else []
        group = frozenset({self.pick(groups)}) if groups else tags
        suited = [noun for noun in tagged(group) if noun.english != avoid]
        return self.noun_phrase(self.pick(suited), True, depth)

    def other(self, tags: frozenset[str], subject: NounPhrase, depth: int = 0) -> NounPhrase:
        """An object: someone or something other than the subject."""
        if "person" in tags and self.chance(12):
            pronoun = self.pronoun()
            if pronoun.head not in (subject.head, "I", "we"):
                return pronoun
        nouns = [noun for noun in nouns_for(tags) if noun.english != subject.head]
        return self.noun_phrase(self.pick(nouns), False, depth)

    def noun_phrase(self, noun: Noun, subject: bool = False, depth: int = 0, bare: bool = False) -> NounPhrase:
        """A phrase around `noun`; `depth` says how far relative clauses may nest."""
        male = "male" in noun.tags and ("female" not in noun.tags or self.chance(50))
        neutral = is_person(noun) and not noun.tags & {"male", "female"} and self.chance(50)
        back = "he" if male or neutral else "she" if is_person(noun) else "it"
        known = noun.tags | ANYONE if "name" in noun.tags else noun.tags
        if noun.tags & {"family", "elder"}:
            known = noun.tags | {"person", "adult"}
        simple = NounPhrase(noun.english, noun.korean, noun.english, back=back, tags=known, elder="elder" in noun.tags)
        if noun.tags & {"name", "bare"}:
            return simple
        if "definite" in noun.tags or (noun.english == "teacher" and self.chance(50)):
            return simple._replace(english=f"the {noun.english}")
        if noun.tags & {"family", "elder"}:
            english, korean = self.possessor("elder" in noun.tags)
            return simple._replace(english=f"{english} {noun.english}", korean=f"{korean} {noun.korean}")
        quality = self.adjectives(noun) if not bare and self.chance(30) else NOTHING
        if noun.plural:
            return self.counted(noun, simple, quality, depth)
        return self.uncounted(noun, simple, quality, subject, depth)

    def uncounted(self, noun: Noun, simple: NounPhrase, quality: Pair, subject: bool, depth: int) -> NounPhrase:
        """Stuff, which comes in cups and bowls, places, and furniture."""
        english, korean = words(quality[0], noun.english), words(quality[1], noun.korean)
        plural = "plural" in noun.tags
        roll = self.random.randrange(100)
        if not subject and not noun.tags & PLACES:
            if noun.counter and roll < 40:
                many, counter = MEASURES[noun.counter]
                if roll < 15:
                    amount, figure = f"a {noun.counter}", "한"
                else:
                    number, figure = self.pick(NUMBERS[1:])
                    amount = f"{number} {many}"
                english, korean = f"{amount} of {english}", f"{korean} {figure} {counter}"
                return simple._replace(english=english, korean=korean, definite=False, plural=roll >= 15)
            if roll < 60 and noun.tags & {"food", "drink", "footwear"}:
                return simple._replace(english=english, korean=korean, definite=False, plural=plural)
        relative = self.relative(noun, plural, depth)
        english, korean = words("the", english, relative[0]), words(relative[1], korean)
        return simple._replace(english=english, korean=korean, plural=plural, heavy=relative != NOTHING)

    def counted(self, noun: Noun, simple: NounPhrase, quality: Pair, depth: int) -> NounPhrase:
        """Articles, demonstratives, possessors, and numbers with counters."""
        one, many = words(quality[0], noun.english), words(quality[0], noun.plural)
        korean = words(quality[1], noun.korean)
        roll = self.random.randrange(100)
        if roll < (50 if "owned" in noun.tags else 9) and noun.tags & OWNED:
            owner = self.possessor()
            return simple._replace(english=words(owner[0], one), korean=words(owner[1], korean))
        if roll < 15:
            pointer = self.pick([("this", "이"), ("that", "그")])
            return simple._replace(english=words(pointer[0], one), korean=words(pointer[1], korean))
        relative = self.relative(noun, roll >= 68, depth)
        korean, heavy = words(relative[1], korean), relative != NOTHING
        if roll < 68:
            definite = roll < 50
            english = words("the", one) if definite else article(one)
            english = words(english, relative[0])
            return simple._replace(english=english, korean=korean, definite=definite, heavy=heavy)
        plural = simple._replace(plural=True, back="they", heavy=heavy)
        if roll < 86 and noun.counter:
            number, figure = ("several", "몇") if self.chance(10) else self.pick(NUMBERS[1 if heavy else 0 :])
            counted = f"{korean} {figure} {noun.counter}"
            if number == "one":
                return simple._replace(english=f"one {one}", korean=counted, definite=False)
            return plural._replace(english=words(number, many, relative[0]), korean=counted, definite=False)
        if roll < 91 and not heavy and quality == NOTHING:
            return plural._replace(english=f"many {many}", korean=f"많은 {korean}", definite=False)
        shown = korean + "들" if noun.tags & {"person", "animal"} else korean  # things hide their plural
        return plural._replace(english=words("the", many, relative[0]), korean=shown)

    # -- what stands beside a verb

    def place_phrase(self, tag: str, depth: int = 0) -> Complement:
        """A place with its English preposition; the Korean particle is for the caller to add."""
        noun = self.pick(nouns_for(frozenset({tag})))
        phrase = self.noun_phrase(noun, False, depth, bare=self.chance(60))
        preposition = "at" if "in=at" in noun.tags else "in"
        return Complement(f"{preposition} {phrase.english}", phrase.korean, phrase.heavy)

    def complement(self, verb: Verb, subject: NounPhrase, depth: int) -> Complement:
        if not verb.objects:
            return Complement()
        phrase = self.other(verb.objects, subject, 0 if "person" in verb.flags else depth)
        # what one has is new in the talk; one drives and wears one thing at a time
        while (verb.base == "have" and phrase.definite) or ("one" in verb.flags and phrase.several):
            phrase = self.other(verb.objects, subject, depth)
        english = words(verb.preposition, phrase.as_object)
        if verb.particle == "에게":
            return Complement(english, phrase.korean + "에게", phrase.heavy, phrase.tags)
        korean = attach(phrase.korean, verb.particle)
        if "person" not in verb.flags:
            return Complement(english, korean, phrase.heavy, phrase.tags)
        elder = self.chance(15) and not subject.elder
        if elder:
            recipient = self.subject_phrase(frozenset({"elder"}))
        elif subject.person == 2 and self.chance(50):  # please give me ...
            recipient = self.speaker()
        else:
            recipient = self.other(frozenset({"person"}), subject, depth)
        dative = recipient.korean + ("께" if elder else "에게")
        humble = HUMBLE.get(verb.predicate.stem) if elder else None
        english = f"{english} to {recipient.as_object}"
        return Complement(english, words(dative, korean), recipient.heavy, phrase.tags, humble)

    # -- relative clauses

    def relative(self, noun: Noun, plural: bool, depth: int) -> Pair:
        if depth <= 0 or not self.chance(30 + 15 * depth):
            return NOTHING
        if noun.tags & PLACES:
            return self.relative_of_place(noun)
        if noun.tags & {"person", "animal"} and self.chance(60):
            return self.relative_of_subject(noun, plural, depth - 1)
        return self.relative_of_object(noun)

    def draw_tense(self, verb: Verb) -> Tense:
        if "state" in verb.flags:
            return "present"
        return self.pick_tense("past", "past", "present", "present", "future")

    def relative_of_subject(self, noun: Noun, plural: bool, depth: int) -> Pair:
        """The boy who ..."""
        verb = self.pick([verb for verb in VERBS if verb.subjects & noun.tags])
        manners: list[Manner] = ["plain", "plain", "plain", "not"]
        if "act" in verb.flags:
            manners += ["progressive", "can"] if verb.gerund else ["can"]
        manner = self.pick(manners)
        head = NounPhrase("", "", noun.english, plural=plural)
        tense: Tense = "present"
        if manner in ("plain", "not") and "state" not in verb.flags:
            tense = self.pick_tense("past", "past", "present")
        tense = settle(verb, manner, tense, head)
        complement = self.complement(verb, head, depth)
        word = korean_verb(verb, manner, head, complement.predicate)
        english = words(english_verb(verb, manner, tense, head)[0], complement.english)
        korean = words(complement.korean, word.modifier(tense))
        if verb.place_tag() and not complement.heavy and self.chance(35):
            place = self.place_phrase(verb.place_tag())
            english, korean = words(english, place.english), words(place.korean + "에서", korean)
        return words("who" if is_person(noun) else "that", english), korean

    def relative_of_object(self, noun: Noun) -> Pair:
        """The book that the boy ..."""
        suited = [
            verb
            for verb in VERBS
            if verb.particle == "을/를" and not verb.preposition and "person" not in verb.flags
            and (verb.objects & noun.tags)
        ]  # fmt: skip
        if not suited:
            return NOTHING
        verb = self.pick(suited)
        subject = self.subject_phrase(verb.subjects, avoid=noun.english)
        tense = settle(verb, "plain", self.draw_tense(verb), subject)
        english = words(subject.english, english_verb(verb, "plain", tense, subject)[0])
        korean = korean_verb(verb, "plain", subject).modifier(tense)
        when = NOTHING
        if verb.place_tag() and self.chance(25):
            place = self.place_phrase(verb.place_tag())
            english, korean = words(english, place.english), words(place.korean + "에서", korean)
        if tense == "past" and "act" in verb.flags and self.chance(20):
            when = self.pick(TIMES["past"])
        return words("that", english, when[0]), words(subject.subject(), when[1], korean)

    def relative_of_place(self, noun: Noun) -> Pair:
        """The house where the boy ..."""
        suited = [verb for verb in VERBS if not verb.objects and verb.place_tag() in noun.tags]
        suited += [verb for verb in VERBS if verb.base == "live" and "home" in noun.tags]
        if not suited:
            return NOTHING
        verb = self.pick(suited)
        subject = self.subject_phrase(verb.subjects)
        tense = self.draw_tense(verb)
        english = words("where", subject.english, english_verb(verb, "plain", tense, subject)[0])
        return english, words(subject.subject(), korean_verb(verb, "plain", subject).modifier(tense))
