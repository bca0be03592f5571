"""Who is spoken to, and what one says to them: questions and requests."""

from __future__ import annotations

from agreement import NounPhrase, be, english_verb, korean_verb, settle, words
from clauses import ACTS, PLAIN, STATES, Clauses
from korean import IS, Manner, Predicate, Tense, attach, compose
from lexicon import NOUNS, VERBS, WEATHER, Verb
from phrases import ANYONE, NOTHING, Pair, nouns_for

MANIFOLD = ("play", "wear")  # only the object tells which Korean verb is meant
ASKED: tuple[Manner, ...] = ("plain", "plain", "plain", "progressive", "can")
Asked = tuple[str, str, Predicate, Tense]  # English, Korean up to the predicate


class Talk(Clauses):
    """Draws questions and requests at random."""

    def address(self, english: str, korean: str, mark: str) -> Pair:
        """Finish a sentence: whom it is said to decides, and shows, the register."""
        if self.register == "formal":
            title = self.pick(("sir", "ma'am"))
            english = f"{english}, {title}" if self.chance(30) else f"{title}, {english}"
            korean = f"선생님, {korean}"
        elif self.register == "casual":
            if self.chance(50):
                english, korean = f"my friend, {english}", f"친구야, {korean}"
            else:
                names = [noun for noun in NOUNS if "name" in noun.tags and noun.english not in english]
                name = self.pick(names)
                english, korean = f"hey {name.english}, {english}", f"{attach(name.korean, '아/야')}, {korean}"
        return f"{english[0].upper()}{english[1:]}{mark}", korean + mark

    def listener(self) -> NounPhrase:
        """The one spoken to: left out and honoured, except among friends."""
        casual = self.register == "casual"
        return NounPhrase("you", "너", "you", person=2, elder=not casual, silent=not casual, tags=ANYONE)

    def asked_about(self, verb: Verb) -> NounPhrase:
        if verb.subjects & ANYONE and self.chance(30):
            return self.listener()
        subject = self.subject_phrase(verb.subjects)
        while not subject.definite or subject.person == 1:
            subject = self.subject_phrase(verb.subjects)
        return subject

    def question(self) -> Pair:
        kind = self.pick((self.yes_or_no, self.yes_or_no, self.yes_or_no, self.who, self.what, self.adverbial))
        english, korean, word, tense = kind()
        return self.address(english, words(korean, word.final(tense, self.register, True)), "?")

    def yes_or_no(self) -> Asked:
        if self.chance(25):
            clause = self.describe(plain=True)
            while not clause.subject.definite or clause.subject.person == 1:
                clause = self.describe(plain=True)
        else:
            verb = self.pick(VERBS)
            clause = self.act([verb], self.asked_about(verb), manners=ASKED, details=60)._replace(front=NOTHING)
        return clause.question(), clause.main(), clause.predicate, clause.tense

    def who(self) -> Asked:
        someone = NounPhrase("who", "누구", "who", nominative="누가", definite=False, tags=ANYONE)
        clause = self.act(subject=someone, manners=ASKED, details=60)._replace(front=NOTHING)
        return clause.english(), clause.main(), clause.predicate, clause.tense

    def what(self) -> Asked:
        """What ..., or how many of what."""
        suited = [verb for verb in ACTS if verb.particle == "을/를" and not verb.objects & {"person"}]
        verb = self.pick([verb for verb in suited if "person" not in verb.flags and verb.base not in MANIFOLD])
        subject = self.asked_about(verb)
        manner, tense = self.draw_manner(verb, None, ASKED)
        tense = settle(verb, manner, tense, subject)
        _, auxiliary, base = english_verb(verb, manner, tense, subject)
        times = self.times(verb, manner, tense)
        when = self.pick(times) if self.chance(40) else NOTHING
        counted = [noun for noun in nouns_for(verb.objects) if noun.plural and noun.counter]
        asked, answer = "what", "무엇을"
        if counted and manner == "plain" and self.chance(40):
            noun = self.pick(counted)
            asked, answer = f"how many {noun.plural}", f"{attach(noun.korean, '을/를')} 몇 {noun.counter}"
        english = words(asked, auxiliary, subject.english, base, verb.preposition, when[0])
        return english, words(subject.topic(), when[1], answer), korean_verb(verb, manner, subject), tense

    def adverbial(self) -> Asked:
        """Where, when and why."""
        roll = self.random.randrange(100)
        if roll < 20:
            tags = frozenset({"person", "animal"}) if self.chance(50) else frozenset({"thing"})
            subject = self.subject_phrase(tags)
            while not subject.definite or subject.person == 1:
                subject = self.subject_phrase(tags)
            tense = self.pick_tense("past", "present")
            english = words("where", be(subject, tense), subject.english)
            return english, words(subject.topic(), "어디에"), compose(IS, "plain", subject.elder), tense
        if roll < 50:
            suited = [verb for verb in VERBS if verb.base in ("go", "live")]
            verb = self.pick(suited + [verb for verb in ACTS if verb.place_tag() and not verb.objects])
            subject = self.asked_about(verb)
            manner, tense = self.draw_manner(verb, None, ASKED)
            _, auxiliary, base = english_verb(verb, manner, tense, subject)
            where = "어디에" if verb.objects else "어디에서"
            english = words("where", auxiliary, subject.english, base)
            return english, words(subject.topic(), where), korean_verb(verb, manner, subject), tense
        asked, korean = self.pick((("when", "언제"), ("why", "왜")))
        verb = self.pick(ACTS)
        clause = self.act([verb], self.asked_about(verb), manners=PLAIN, timed=False, details=40)
        english = words(asked, clause.question())
        return english, words(clause.subject.topic(), korean, clause.details), clause.predicate, clause.tense

    def request(self) -> Pair:
        """Orders and requests, and "let us" among friends."""
        listener = self.listener()._replace(elder=False, silent=True)
        if self.register == "casual" and self.chance(35):
            clause = self.act(ACTS, listener._replace(person=1), "present", PLAIN, timed=False, details=60)
            return self.address(f"let's {clause.remainder}", words(clause.details, clause.predicate.shared()), ".")
        verbs = [verb for verb in ACTS if "ask" in verb.flags]
        clause = self.act(verbs, listener, "present", PLAIN, timed=False, details=60)
        word = clause.predicate
        if self.chance(20):
            english, order = f"please do not {clause.remainder}", word.forbidden(self.register)
        elif self.register == "formal" or self.chance(75):
            english, order = f"please {clause.remainder}", word.asked(self.register, favour=True)
        else:
            english, order = clause.remainder, word.asked(self.register, favour=False)
        korean = words(clause.details, order)
        if self.chance(30):
            english, korean = self.reason(english, korean)
        return self.address(english, korean, ".")

    def reason(self, english: str, korean: str) -> Pair:
        """Why, or on what condition, something is asked."""
        if self.chance(60):
            said, _, word, known = self.pick(WEATHER)
        else:
            clause = self.describe(tense="present", tags=STATES, plain=True)
            said, word, known = clause.english(), clause.predicate, clause.embedded()
        conjunction, cause = ("because", word.since()) if self.chance(60) else ("if", word.provided())
        parts = f"{english} {conjunction} {said}", f"{conjunction} {said}, {english}"
        return self.pick(parts), words(known, cause, korean)
