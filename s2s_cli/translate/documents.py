"""Documents: text as sentences to translate, and the layout around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from statistics import fmean
from typing import NamedTuple, Protocol
from unicodedata import category, east_asian_width

import torch

from s2s_cli.data.spelling import is_unspaced
from s2s_cli.data.words import Words, joined
from s2s_cli.errors import UserError
from s2s_cli.translate.entry import Entry, Translation

BLOCK = 4096  # characters in which sentences are looked for at once: quotes that are never closed cost their square

_SPACE = re.compile(r"\s")
# What a line begins with that is no part of its first sentence: indentation, and marks of lists, headings and quotes.
_MARGIN = re.compile(r"\s*(?:(?:[-*+•‣◦·–—]|#{1,6}|>+|\d{1,3}[.)]|\((?:\d{1,3}|[A-Za-z])\)|[A-Za-z]\))\s+)*")
_LANGUAGE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*")


class Document(Protocol):
    """A text, taken apart."""

    @property
    def entries(self) -> Sequence[Entry]:
        """What is translated."""

    def join(self, translations: Sequence[list[Translation]]) -> list[Translation]:
        """The translations of the whole, best first, from those of its entries."""


Divide = Callable[[Entry], Document]
"""Takes a text apart."""


class Whole(NamedTuple):
    """A text that is translated at once."""

    entries: tuple[Entry]

    def join(self, translations: Sequence[list[Translation]]) -> list[Translation]:
        return translations[0]


class Given(NamedTuple):
    """A text of which nothing is translated."""

    found: list[Translation]
    entries: tuple[()] = ()

    def join(self, translations: Sequence[list[Translation]]) -> list[Translation]:
        return self.found


def whole(entry: Entry) -> Document:
    """A text as one sentence: a line feed within is white space, as any other."""
    if isinstance(entry.source, str) and "\n" in entry.source:
        entry = replace(entry, source=entry.source.replace("\n", " "))
    return Whole((entry,))


@dataclass(frozen=True)
class Sentences:
    """A text as sentences, none blank, and its layout."""

    entries: tuple[Entry, ...]
    gaps: tuple[str, ...]
    """What stands before each sentence, and after the last."""

    def join(self, translations: Sequence[list[Translation]]) -> list[Translation]:
        best = [found[0] for found in translations]
        gaps = list(self.gaps)
        for number, (entry, translation) in enumerate(zip(self.entries[:-1], best, strict=False), 1):
            if not gaps[number] and _is_wide(entry.source) and not _is_wide(translation.text):
                gaps[number] = " "  # the source's script needs none between sentences, the target's does
        text = gaps[0] + "".join(one.text + gap for one, gap in zip(best, gaps[1:], strict=True))
        if not best:
            return [Translation(text, 0.0)]
        utilities = [one.utility for one in best if one.utility is not None]
        attention = [one.attention for one in best if one.attention is not None]
        return [
            Translation(
                text,
                sum(one.score for one in best),
                tuple(piece for one in best for piece in one.ids),
                tuple(score for one in best for score in one.token_scores),
                tuple(piece for one in best for piece in one.source_pieces),
                tuple(piece for one in best for piece in one.target_pieces),
                torch.block_diag(*attention) if attention else None,  # type: ignore[no-untyped-call]
                _words([str(entry.source) for entry in self.entries], [one.source_words for one in best], self.gaps),
                _words([one.text for one in best], [one.target_words for one in best], gaps),
                fmean(utilities) if utilities else None,
            )
        ]


def _words(sentences: Sequence[str], words: Sequence[Words], gaps: Sequence[str]) -> Words:
    """The words of sentences in the text that they make up with the gaps around them."""
    between = ((gap, ()) for gap in gaps)
    behind = (*zip(sentences, words, strict=True), ("", ()))
    return joined(chain.from_iterable(zip(between, behind, strict=True)))


NOTHING = Sentences((), ("",))
"""A text in which there is nothing to translate."""


class Splitter:
    """Divides text into sentences, by sentencex (Wikimedia, an optional extra).

    Args:
        language: of the text, as `de` or `pt-BR`; of one unknown, only the usual marks end a sentence.

    Raises:
        UserError: where the library is missing, or this is no code of a language.
    """

    def __init__(self, language: str) -> None:
        try:
            from sentencex import segment
        except ImportError:
            raise UserError("--split needs the library sentencex: pip install 's2s-cli[split]'") from None
        code = _LANGUAGE.fullmatch(language)
        if code is None:
            raise UserError(f"--language {language}: give a code of two or three letters, as en, de or zh")
        self._segment: Callable[[str, str], list[str]] = segment
        self._language = code[1].lower()

    def __call__(self, entry: Entry) -> Document:
        """An entry's text as sentences; indentation, marks of lists, white space and line feeds are layout."""
        assert isinstance(entry.source, str)
        sentences, gaps = list[str](), [""]
        for number, line in enumerate(entry.source.split("\n")):
            margin = _MARGIN.match(line)
            assert margin is not None, "it matches nothing too"
            gaps[-1] += ("\n" if number else "") + margin[0]
            for segment in self._segments(line[margin.end() :]):
                sentence = segment.strip()
                before, _, after = segment.partition(sentence) if sentence else (segment, "", "")
                gaps[-1] += before
                if sentence:
                    sentences.append(sentence)
                    gaps.append(after)
        entries = [replace(entry, source=sentence, cut=False, prefix="") for sentence in sentences]
        if entries:
            entries[0] = replace(entries[0], prefix=entry.prefix)
            entries[-1] = replace(entries[-1], cut=entry.cut)
        return Sentences(tuple(entries), tuple(gaps))

    def _segments(self, line: str) -> Iterator[str]:
        """Sentences with the white space behind them, which make up the line; found block by block.

        Where a block ends within a sentence, the next begins with that sentence; if it fills the block, it goes on.
        """
        plain = _SPACE.sub(" ", line)  # at a single letter before a wider space the library counts wrongly, and stops
        bounds, start = [0], 0
        while start < len(line):
            end = min(start + BLOCK, len(line))
            found = self._segment(self._language, plain[start:end])
            inner = [start + length for length in accumulate(map(len, found[:-1]))]
            bounds += inner
            start = inner[-1] if inner and end < len(line) else end
        for first, last in pairwise([*bounds, len(line)]):
            yield line[first:last]


def _is_wide(text: object) -> bool:
    """Whether a text ends in a script that is written without spaces, a closing quote aside."""
    return isinstance(text, str) and any(_is_of_wide_script(character) for character in text[-2:])


def _is_of_wide_script(character: str) -> bool:
    """Chinese and Japanese letters and marks: Hangul and emoji are as wide, and Thai as little divided into words."""
    own = is_unspaced(character) or category(character).startswith("P")
    return own and east_asian_width(character) in "WFH"
