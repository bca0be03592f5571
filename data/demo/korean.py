"""Korean spelling: syllable blocks, particles that follow the final sound, and conjugation."""

from __future__ import annotations

from typing import Literal, NamedTuple

Register = Literal["polite", "formal", "casual"]
Tense = Literal["past", "present", "future"]
Kind = Literal["verb", "adjective", "existence"]

_FIRST = 0xAC00
_CODAS: list[str] = ["", *"ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"]


def coda(text: str) -> str:
    """The consonant that closes the last syllable of `text`, or "" after a vowel."""
    offset = ord(text[-1]) - _FIRST
    if not 0 <= offset < 11172:
        raise ValueError(f"{text!r} does not end in a Hangul syllable")
    return _CODAS[offset % 28]


def close(text: str, consonant: str) -> str:
    """Put `consonant` under the open last syllable of `text` (사 + ㄹ = 살)."""
    if coda(text):
        raise ValueError(f"{text!r} is closed already")
    return text[:-1] + chr(ord(text[-1]) + _CODAS.index(consonant))


def open_up(text: str) -> str:
    """Take the closing consonant of the last syllable away (만들 -> 만드)."""
    return text[:-1] + chr(ord(text[-1]) - _CODAS.index(coda(text)))


def attach(text: str, particle: str) -> str:
    """Add a particle in the shape that the end of `text` asks for."""
    final = coda(text)
    if particle == "으로/로":
        return text + ("으로" if final not in ("", "ㄹ") else "로")
    if "/" not in particle:
        return text + particle
    closed, opened = particle.split("/")
    return text + (closed if final else opened)


class Predicate(NamedTuple):
    """A verb or adjective, stored as the three shapes that all endings build on.

    `stem` is the dictionary form without 다, `infinitive` the 아/어 form, and `base` what the
    endings with a linking 으 attach to (먹으-, 가-, 들으- of 듣다, 만드- of 만들다).
    `lead` is text before it: the noun of 청소+하다, or the main verb before an auxiliary.
    """

    stem: str
    infinitive: str
    base: str
    kind: Kind = "verb"
    lead: str = ""
    polite: str = ""  # set where the 해요 form is not infinitive + 요
    casual: str = ""  # set where the 해 form is not the infinitive
    respectful: str = ""  # root of a special honorific verb: 드 for 드시다

    def suppletive(self) -> Predicate:
        """The special honorific verb, as 드시다 for 먹다, or the word itself."""
        return honorific(self.respectful, self.kind) if self.respectful else self

    def honoured(self) -> Predicate:
        """The form that pays respect to the subject."""
        if self.respectful:
            return self.suppletive()
        return honorific(self.base, self.kind)._replace(lead=self.lead)

    def past_stem(self) -> str:
        return close(self.infinitive, "ㅆ")

    def prospective(self) -> str:
        """The -(으)ㄹ form."""
        return close(self.base, "ㄹ") if self.base else "일"

    def final(self, tense: Tense, register: Register, question: bool = False) -> str:
        """The form that ends a sentence, without its full stop or question mark."""
        if tense == "future":
            formal = "것입니까" if question else "것입니다"
            thing = {"polite": "거예요", "formal": formal, "casual": "거야"}[register]
            return f"{self.lead}{self.prospective()} {thing}"
        if register == "formal":
            bare = self.past_stem() if tense == "past" else self.stem
            last = "까" if question else "다"
            if coda(bare) in ("", "ㄹ"):
                opened = bare if not coda(bare) else open_up(bare)
                return f"{self.lead}{close(opened, 'ㅂ')}니{last}"
            return f"{self.lead}{bare}습니{last}"
        if tense == "past":
            return self.lead + self.past_stem() + ("어요" if register == "polite" else "어")
        if register == "polite":
            return self.lead + (self.polite or self.infinitive + "요")
        return self.lead + (self.casual or self.infinitive)

    def linked(self, ending: Literal["고", "지만"], tense: Tense, register: Register) -> str:
        """The forms for "and" and "but", with the clause's own tense."""
        if tense == "future":
            thing = "것이" if register == "formal" else "거"
            return f"{self.lead}{self.prospective()} {thing}{ending}"
        return self.lead + (self.past_stem() if tense == "past" else self.stem) + ending

    def because(self) -> str:
        return f"{self.lead}{self.infinitive}서"

    def since(self) -> str:
        """The reason for an order, where -아서 may not stand."""
        return f"{self.lead}{self.base}니까"

    def when(self, tense: Tense) -> str:
        return f"{self.lead}{self.past_stem()}을 때" if tense == "past" else f"{self.lead}{self.prospective()} 때"

    def provided(self) -> str:
        """The form for "if": 면 keeps the ㄹ that other endings drop (만들면)."""
        return f"{self.lead}{self.stem if coda(self.stem) == 'ㄹ' else self.base}면"

    def before(self) -> str:
        return f"{self.lead}{self.stem}기 전에"

    def after(self) -> str:
        return f"{self.lead}{close(self.base, 'ㄴ')} 후에"

    def modifier(self, tense: Tense) -> str:
        """The form that stands before a noun."""
        if tense == "future":
            return self.lead + self.prospective()
        if self.kind == "verb" and tense == "present":
            return self.lead + (self.base if coda(self.stem) == "ㄹ" else self.stem) + "는"
        if self.kind == "existence" and tense == "present":
            return f"{self.lead}{self.stem}는"
        if self.kind != "verb" and tense == "past":
            return f"{self.lead}{self.past_stem()}던"
        return self.lead + close(self.base, "ㄴ")

    def quoted(self, tense: Tense) -> str:
        """The form before 말하다 and 생각하다, for "says that"."""
        if tense == "future":
            return f"{self.lead}{self.prospective()} 거라고"
        if tense == "past":
            return f"{self.lead}{self.past_stem()}다고"
        if self.kind != "verb":
            return f"{self.lead}{self.stem}다고"
        if coda(self.stem) in ("", "ㄹ"):
            return f"{self.lead}{close(self.base, 'ㄴ')}다고"
        return f"{self.lead}{self.stem}는다고"

    def asked(self, register: Register, favour: bool) -> str:
        """An order, or with `favour` a request with 주다 (which 주다 itself does without)."""
        if favour:
            ends = {"polite": "주세요", "formal": "주십시오", "casual": "줘"}[register]
            lead = self.stem.removesuffix("주") if self.stem.endswith("주") else f"{self.infinitive} "
            if self.infinitive == "도와":  # 도와주다 is one word
                lead = self.infinitive
            return f"{self.lead}{lead}{ends}"
        if register == "casual":
            return self.lead + self.infinitive
        return self.lead + self.base + ("세요" if register == "polite" else "십시오")

    def forbidden(self, register: Register) -> str:
        ends = {"polite": "마세요", "formal": "마십시오", "casual": "마"}[register]
        return f"{self.lead}{self.stem}지 {ends}"

    def shared(self) -> str:
        """The form for "let us", among friends."""
        return f"{self.lead}{self.stem}자"

    def not_short(self) -> Predicate:
        """Negation with 안, which parts 청소 from 하다."""
        return self._replace(lead=f"{self.lead.rstrip()} 안 ".lstrip())


def honorific(root: str, kind: Kind = "verb") -> Predicate:
    """A predicate with -시-, whose 해요 form is -세요."""
    return Predicate(root + "시", root + "셔", root + "시", kind, polite=root + "세요")


def predicate(stem: str, infinitive: str, base: str = "", kind: Kind = "verb") -> Predicate:
    """Make a predicate; a "+" in `stem` sets the noun of a noun-하다 verb apart."""
    lead, _, stem = stem.rpartition("+")
    final = coda(stem)
    regular = stem if not final else open_up(stem) if final == "ㄹ" else stem + "으"
    return Predicate(stem, infinitive, base or regular, kind, lead)


def copula(noun: str, negative: bool = False) -> Predicate:
    """To be a `noun`: 이다 right after it, or 아니다."""
    if negative:
        return Predicate(
            "아니", "아니어", "아니", "adjective", f"{attach(noun, '이/가')} ", polite="아니에요", casual="아니야"
        )
    if coda(noun):
        return Predicate("이", "이어", "이", "adjective", noun, polite="이에요", casual="이야")
    return Predicate("이", "여", "", "adjective", noun, polite="예요", casual="야")


IS = predicate("있", "있어", kind="existence")._replace(respectful="계")  # be somewhere, be doing
HAS = predicate("있", "있어", kind="existence")
LACKS = predicate("없", "없어", kind="existence")
_NOT_DOING = predicate("않", "않아")
_NOT_BEING = predicate("않", "않아", kind="adjective")
_WISH = predicate("싶", "싶어", kind="adjective")
_WISH_OF_OTHERS = Predicate("싶어 하", "싶어 해", "싶어 하")
_DUTY = predicate("하", "해")

Manner = Literal["plain", "not", "short", "progressive", "resultative", "can", "cannot", "must", "want"]


def compose(word: Predicate, manner: Manner, elder: bool = False, person: int = 3) -> Predicate:
    """Build the verb group: negation, progressive, ability, duty or wish."""
    honoured = word.honoured() if elder else word
    if manner == "plain":
        return honoured
    if manner == "short":
        return honoured.not_short()
    if manner in ("can", "cannot"):
        # one honorific is enough here, and it sits on the main verb
        auxiliary = HAS if manner == "can" else LACKS
        return auxiliary._replace(lead=f"{honoured.lead}{honoured.prospective()} 수 ")
    if manner == "must":
        return _DUTY._replace(lead=f"{honoured.lead}{honoured.infinitive}야 ")
    main = word.suppletive() if elder else word
    if manner == "not":
        auxiliary, joint = (_NOT_DOING if word.kind == "verb" else _NOT_BEING), main.stem + "지 "
    elif manner == "progressive":
        auxiliary, joint = IS, main.stem + "고 "
    elif manner == "resultative":  # 앉아 있다: sitting is a state that follows the act
        auxiliary, joint = IS, main.infinitive + " "
    else:
        auxiliary, joint = (_WISH_OF_OTHERS if person == 3 else _WISH), main.stem + "고 "
    return (auxiliary.honoured() if elder else auxiliary)._replace(lead=main.lead + joint)
