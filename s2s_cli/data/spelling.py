"""What pieces say: the text of each one, and which of them continue a word."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from codecs import getincrementaldecoder
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from s2s_cli.data.words import Spans, words_of

SPACE = "\u2581"
"""What SentencePiece writes for a space."""

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, and Chinese characters.
UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF)),
    *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF)),
)


def is_unspaced(character: str) -> bool:
    """Whether it is of a script whose words are not set apart."""
    return any(first <= ord(character) <= last for first, last in UNSPACED)


def is_word(character: str) -> bool:
    """Whether words that are set apart by something else are made of it: letters and their marks, digits."""
    if not character.isascii() and is_unspaced(character):
        return False
    return character.isalnum() or unicodedata.category(character).startswith("M")


def joins(left: str, right: str) -> bool:
    """Whether two characters in a row belong to one word."""
    return is_word(left) and is_word(right)


def stands(word: str, text: str, beyond: int = 0) -> bool:
    """Whether a text holds a word or phrase that is no part of a longer word.

    Args:
        word: not empty.
        text: of any length.
        beyond: it must end after this place.
    """
    at = text.find(word, max(0, beyond - len(word) + 1))
    while at >= 0:
        end = at + len(word)
        left = at > 0 and joins(text[at - 1], word[0])
        right = end < len(text) and joins(word[-1], text[end])
        if not left and not right:
            return True
        at = text.find(word, at + 1)
    return False


class Surface(NamedTuple):
    """What stands in a text for the pieces from `begin` to before `end`."""

    begin: int
    end: int
    text: str
    apart: bool = True
    """Whether it is set apart from what stands before and after it."""


class Spelling:
    """The texts of a vocabulary's pieces, in UTF-8; a space that a word begins with belongs to its piece.

    Args:
        texts: empty for pieces that are no text.
        unknown: the piece that stands for what the vocabulary lacks.
    """

    def __init__(self, texts: Sequence[bytes], unknown: int) -> None:
        self.texts, self.unknown = tuple(texts), unknown
        self.ordinary = tuple(piece for piece, text in enumerate(texts) if text and piece != unknown)
        self._sorted = sorted((texts[piece], piece) for piece in self.ordinary)
        self._longest = max(map(len, texts), default=0)

    @cached_property
    def continuing(self) -> Tensor:
        """Whether each piece continues a word, (V); a lone byte of a longer character might."""
        return torch.tensor(
            [bool(text) and ((text[0] >= 0x80 and len(text) == 1) or is_word(first(text))) for text in self.texts]
        )

    def starting(self, start: bytes) -> list[int]:
        """The ordinary pieces whose texts start so."""
        at = bisect_left(self._sorted, (start, -1))
        found = []
        while at < len(self._sorted) and self._sorted[at][0].startswith(start):
            found.append(self._sorted[at][1])
            at += 1
        return found

    def within(self, text: bytes) -> list[int]:
        """The ordinary pieces that a text starts with, the longest first."""
        found = []
        for length in range(min(self._longest, len(text)), 0, -1):
            at = bisect_left(self._sorted, (text[:length], -1))
            while at < len(self._sorted) and self._sorted[at][0] == text[:length]:
                found.append(self._sorted[at][1])
                at += 1
        return found

    def segmented(self, text: bytes) -> list[int]:
        """Pieces for a text, the longest first of all; none where the vocabulary lacks some."""
        found: list[int] = []
        while text:
            pieces = self.within(text)
            if not pieces:
                return []
            found.append(pieces[0])
            text = text[len(self.texts[pieces[0]]) :]
        return found

    def text(self, ids: Sequence[int], surfaces: Sequence[Surface] = ()) -> str:
        """The text of pieces, with surfaces, which do not overlap, in the place of some."""
        return self.spoken(ids, surfaces)[0]

    def spoken(self, ids: Sequence[int], surfaces: Sequence[Surface] = ()) -> tuple[str, Spans]:
        """The same, and where in it each piece stands: those that a surface replaces, wherever it does."""
        said, spans, at, apart = "", list[tuple[int, int]](), 0, False
        for surface in (*sorted(surfaces), Surface(len(ids), len(ids), "")):
            between, inner = self._joined(ids[at : surface.begin])
            moved = len(said)
            if not said:
                moved -= len(between) - len(between.lstrip(" "))
                between = between.lstrip(" ")
            elif apart and between and joins(said[-1], between[0]):
                moved += 1
                between = f" {between}"
            spans += [(max(0, begin + moved), max(0, end + moved)) for begin, end in inner]
            said += between
            if surface.text:
                open_ = surface.apart and said and not said.endswith(" ") and not is_unspaced(surface.text[0])
                said += f" {surface.text}" if open_ else surface.text
                spans += [(len(said) - len(surface.text), len(said))] * (surface.end - surface.begin)
                at, apart = surface.end, surface.apart
        return said, spans

    def _joined(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """The text of pieces, and where in it each stands; of a character's bytes each has the character."""
        decoder = getincrementaldecoder("utf-8")("replace")
        text, spans = "", list[tuple[int, int]]()
        for piece in ids:
            begin = len(text)
            text += decoder.decode(self.texts[piece])
            spans.append((begin, len(text) + bool(decoder.getstate()[0])))
        return text + decoder.decode(b"", final=True), spans


def source_words(text: str, spans: Spans) -> list[str]:
    """For each piece of a text the words that it is part of, as they are given, without the marks around them; in a
    script that does not set words apart, what it stands for.

    Args:
        text: as it was given, whatever normalization makes of it.
        spans: of its pieces. One without characters, as a bare boundary or the first bytes of a character, stands for
            what follows.
    """
    following, filled = (len(text), len(text)), []
    for begin, end in reversed(spans):
        if text[begin:end].strip():
            following = begin, end
        filled.append(following)
    given, found = text.split(), []
    for (begin, end), held in zip(filled[::-1], words_of(text, filled[::-1]), strict=True):
        piece = text[begin:end].strip()
        found.append(piece if any(map(is_unspaced, piece)) else _bare(" ".join(given[word] for word in held)))
    return found


def _bare(word: str) -> str:
    """Without punctuation around it, unless it is nothing else."""
    inner = [at for at, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
    return word[inner[0] : inner[-1] + 1] if inner else word


def first(text: bytes) -> str:
    """The first character of UTF-8."""
    return text[:4].decode(errors="replace")[:1]


def last(text: bytes) -> str:
    """The last character of UTF-8."""
    return text[-4:].decode(errors="replace")[-1:]
