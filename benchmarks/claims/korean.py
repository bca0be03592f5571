"""Korean letter by letter in Latin ones, for readers and fonts that have no other (Revised Romanization, 2000)."""

from __future__ import annotations

_FIRST, _SYLLABLES = 0xAC00, 11172
_INITIALS = ("g", "kk", "n", "d", "tt", "r", "m", "b", "pp", "s", "ss", "", "j", "jj", "ch", "k", "t", "p", "h")
_VOWELS = (
    "a", "ae", "ya", "yae", "eo", "e", "yeo", "ye", "o", "wa", "wae",
    "oe", "yo", "u", "wo", "we", "wi", "yu", "eu", "ui", "i",
)  # fmt: skip
_FINALS = (
    "", "g", "kk", "gs", "n", "nj", "nh", "d", "l", "lg", "lm", "lb", "ls", "lt",
    "lp", "lh", "m", "b", "bs", "s", "ss", "ng", "j", "ch", "k", "t", "p", "h",
)  # fmt: skip


def romanized(text: str) -> str:
    """The same with each Hangul syllable spelled out; all else stays."""
    return "".join(map(_syllable, text))


def _syllable(char: str) -> str:
    number = ord(char) - _FIRST
    if not 0 <= number < _SYLLABLES:
        return char
    return _INITIALS[number // 588] + _VOWELS[number % 588 // 28] + _FINALS[number % 28]
