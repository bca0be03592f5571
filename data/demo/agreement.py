"""What the parts of a clause tell each other: number, person, respect, case."""

from __future__ import annotations

from typing import NamedTuple

from korean import Manner, Predicate, Tense, attach, compose
from lexicon import Verb


def words(*parts: str) -> str:
    """Join what is there with spaces."""
    return " ".join(filter(None, parts))


def article(phrase: str) -> str:
    """Put "a" or "an" before a phrase."""
    return f"an {phrase}" if phrase[0].lower() in "aeiou" else f"a {phrase}"


class NounPhrase(NamedTuple):
    """Who or what a clause is about, with all that the rest of the clause must know of it."""

    english: str
    korean: str
    head: str  # the bare English noun or pronoun
    accusative: str = ""  # English object form, where it differs (him)
    nominative: str = ""  # Korean subject form, where it differs (제가)
    definite: bool = True  # definite subjects are topics: 은/는, others take 이/가
    plural: bool = False
    person: int = 3
    elder: bool = False
    back: str = "it"  # the pronoun that takes it up again
    silent: bool = False  # left out in Korean
    heavy: bool = False  # ends in a relative clause, which would swallow what follows
    tags: frozenset[str] = frozenset()

    @property
    def as_object(self) -> str:
        return self.accusative or self.english

    @property
    def several(self) -> bool:
        """More than one thing, which "the shoes" are not."""
        return self.plural and self.head != "shoes"

    def subject(self) -> str:
        if self.silent:
            return ""
        if self.elder:
            return self.korean + "께서"
        return self.nominative or attach(self.korean, "이/가")

    def topic(self) -> str:
        if self.silent or not self.definite:
            return self.subject()
        return self.korean + "께서는" if self.elder else attach(self.korean, "은/는")

    def again(self) -> NounPhrase:
        """The pronoun for it in a clause with the same subject; Korean drops it there."""
        return self._replace(english=self.back, silent=True)


def be(subject: NounPhrase, tense: Tense) -> str:
    """The form of "be"."""
    if tense == "future":
        return "will be"
    many = subject.plural or subject.person == 2
    if tense == "past":
        return "were" if many else "was"
    return "are" if many else "am" if subject.person == 1 else "is"


def english_verb(verb: Verb, manner: Manner, tense: Tense, subject: NounPhrase) -> tuple[str, str, str]:
    """The finite form, and the auxiliary and the rest that a question parts."""
    third = subject.person == 3 and not subject.plural
    do = {"past": "did", "present": "does" if third else "do", "future": "will"}[tense]
    if manner in ("not", "short"):
        short = {"did": "didn't", "does": "doesn't", "do": "don't", "will": "won't"}[do]
        return words(f"{do} not" if manner == "not" else short, verb.base), do, verb.base
    if manner in ("progressive", "resultative"):
        form = be(subject, tense)
        return words(form, verb.gerund), form, verb.gerund
    if manner in ("can", "cannot", "must"):
        return words(manner, verb.base), manner, verb.base
    if manner == "want":
        wish = "wanted" if tense == "past" else "wants" if third else "want"
        return f"{wish} to {verb.base}", do, f"want to {verb.base}"
    if tense == "future":
        return f"will {verb.base}", do, verb.base
    return verb.past if tense == "past" else verb.third if third else verb.base, do, verb.base


def settle(verb: Verb, manner: Manner, tense: Tense, subject: NounPhrase) -> Tense:
    """Read "I read" as past always, since nothing in it could tell the present."""
    third = subject.person == 3 and not subject.plural
    same = verb.base == verb.past and manner == "plain" and tense == "present" and not third
    return "past" if same else tense


def korean_verb(verb: Verb, manner: Manner, subject: NounPhrase, word: Predicate | None = None) -> Predicate:
    """The Korean verb group; `word` stands in for the verb where the recipient asks for another."""
    if manner in ("not", "short") and verb.opposite is not None:
        return compose(verb.opposite, "plain", subject.elder)
    if manner == "progressive" and "result" in verb.flags:
        manner = "resultative"
    return compose(word or verb.predicate, manner, subject.elder, subject.person)
