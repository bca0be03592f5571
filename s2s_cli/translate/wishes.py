"""What is asked of all translations alike: words forced and forbidden, terminology, spans kept as they are."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from s2s_cli.data.corpus import read_lines
from s2s_cli.data.spelling import UNSPACED, joins
from s2s_cli.errors import UserError, suggest

# Letters and digits of scripts that set words apart: in the others, what is kept may stand in the midst of a text.
_LETTER = "[^\\W" + "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED) + "]"
# What a URL is made of, beside brackets: no space, quotes or the punctuation of Chinese and Japanese.
_URL = r"[^\s<>\"()。，、；：！？（）「」『』【】《》“”]"
_WITHIN = r"[.,:/'’\u00a0\u2009\u202f-]"  # what may stand between the digits of a number, date, time or range
_BEFORE_SIGN = r"(?:(?<!\S)|(?<=[(\[{<>=~\"'“„«$€£¥]))"  # elsewhere it is a hyphen
KINDS = {
    # Brackets belong to it in pairs, or where they never close.
    "urls": rf"(?i:https?://|ftp://|www\.)(?:{_URL}|\((?:{_URL}|\({_URL}*\))*\)|\((?![^\s<>\"]*\)))+(?<![.,;:!?(\]}}'])",
    "emails": rf"(?:{_LETTER}|[.+-])++@(?:{_LETTER}|-)+(?:\.(?:{_LETTER}|-)+)+",
    # Whole or not at all, so nothing is given back for a letter that follows.
    "numbers": (
        rf"(?:{_BEFORE_SIGN}[+−±-])?(?<!{_LETTER})(?<!\d{_WITHIN})"
        rf"(?:(?<![\w.])\.)?\d++(?:{_WITHIN}\d++)*+(?:[eE][+−-]?\d++)?+(?!{_LETTER})"
    ),
    "tags": r"</?[A-Za-z][^<>]*>",
}
_BLANK = re.compile(r"\s")  # a no-break space of a source is any space of a term
MOST_SEARCHED = 5000  # characters of a line in which patterns are looked for: a bad one takes exponential time


@dataclass(frozen=True)
class Term:
    """What a source term is called in the translation."""

    source: str
    target: str

    @property
    def cased(self) -> bool:
        """Whether its capitals count: where there are any beyond the first letter."""
        return self.source[1:] != self.source[1:].lower()


@dataclass(frozen=True)
class Wishes:
    """Asked of all translations."""

    force: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()
    keep: tuple[re.Pattern[str], ...] = ()
    """What they match in the source stands in the translation as it is."""
    copy_unknown: bool = False
    """Put source words in the place of unknown pieces."""

    @property
    def need_text(self) -> bool:
        """Whether they look at the words of the source."""
        return bool(self.terms or self.keep or self.copy_unknown)

    def kept(self, source: str, read: int | None = None) -> list[str]:
        """The spans of a source that its translation keeps, in their order.

        Args:
            source: the whole of it.
            read: characters that are translated; what goes beyond is not kept. Default: all.
        """
        return [source[begin:end] for begin, end in self._kept(source) if read is None or end <= read]

    def called(self, source: str, read: int | None = None) -> list[str]:
        """The targets of the terms that a source holds, but for those within what is kept, each once; as `kept`."""
        if not self.terms:
            return []
        kept, limit = self._kept(source), len(source) if read is None else read
        matches = ((begin, end) for begin, end in self._matches(source) if end <= limit)
        found = [(begin, end) for begin, end in matches if not any(a <= begin and end <= b for a, b in kept)]
        targets = (self._target(_BLANK.sub(" ", source[begin:end])) for begin, end in _apart(found))
        return list(dict.fromkeys(target for target in targets if target))

    def _kept(self, source: str) -> list[tuple[int, int]]:
        searched = len(source)
        if searched > MOST_SEARCHED:  # no word is cut, where there are words
            space = source.rfind(" ", MOST_SEARCHED // 2, MOST_SEARCHED + 1)
            searched = space if space > 0 else MOST_SEARCHED
        spans = (match.span() for pattern in self.keep for match in pattern.finditer(source, 0, searched))
        return _apart((begin, end) for begin, end in spans if source[begin:end].strip())

    def _matches(self, source: str) -> Iterator[tuple[int, int]]:
        source = _BLANK.sub(" ", source)
        lowered = _lower(source)
        for begin in range(len(source)):
            if begin and joins(source[begin - 1], source[begin]):
                continue
            for length in self._lengths.get(lowered[begin], ()):
                end = begin + length
                within = end < len(source) and joins(source[end - 1], source[end])
                if end <= len(source) and not within and self._target(source[begin:end]):
                    yield begin, end

    def _target(self, words: str) -> str | None:
        return self._targets.get((True, words)) or self._targets.get((False, _lower(words)))

    @cached_property
    def _targets(self) -> dict[tuple[bool, str], str]:
        return {(term.cased, term.source if term.cased else _lower(term.source)): term.target for term in self.terms}

    @cached_property
    def _lengths(self) -> dict[str, list[int]]:
        """By the first character, how long terms are."""
        found: dict[str, set[int]] = defaultdict(set)
        for term in self.terms:
            found[_lower(term.source)[0]].add(len(term.source))
        return {character: sorted(lengths) for character, lengths in found.items()}


def is_tag(text: str) -> bool:
    """Whether a kept span is markup, whose order matters."""
    return re.fullmatch(KINDS["tags"], text) is not None


def _lower(text: str) -> str:
    """In small letters, and of the same length."""
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


def _apart(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that do not overlap, the longest before others, in the order of the text."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans, key=lambda span: (span[0] - span[1], span)):
        if all(end <= other or begin >= last for other, last in found):
            found.append((begin, end))
    return sorted(found)


def patterns(kinds: Sequence[str], given: Sequence[str]) -> tuple[re.Pattern[str], ...]:
    """What to keep.

    Args:
        kinds: of KINDS.
        given: regular expressions.

    Raises:
        UserError: where a kind is unknown, or an expression is none or matches nothing at all.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"--keep {kind}: {suggest(kind, KINDS)}")
    found = [re.compile(KINDS[kind]) for kind in kinds]
    for text in given:
        try:
            pattern = re.compile(text)
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(f"--keep-pattern {text}: this is no regular expression of Python's: {error}") from None
        if pattern.match(""):
            raise UserError(f"--keep-pattern {text}: it matches the empty text, so everywhere: let it need a character")
        found.append(pattern)
    return tuple(found)


def read_terms(*paths: Path) -> tuple[Term, ...]:
    """Terminology: a source term, a tab and a target term on each line; `#` begins a comment, blank lines are nothing.

    Args:
        paths: files that hold good together.

    Raises:
        UserError: naming the line where one is no UTF-8, is of another form, or says something else than one before;
            where a file cannot be read.
    """
    found: dict[tuple[bool, str], tuple[Term, Path, int]] = {}
    for path in paths:
        for number, line in enumerate(read_lines(path), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            source, *targets = (" ".join(column.split()) for column in line.split("\t"))
            if len(targets) != 1 or not source or not targets[0]:
                raise UserError(f"--terminology {path}: line {number} is not a source term, a tab and a target term")
            term = Term(source, targets[0])
            key = term.cased, source if term.cased else _lower(source)
            known, place, before = found.setdefault(key, (term, path, number))
            if known.target != term.target:
                other = "" if place == path else f" of {place}"
                raise UserError(
                    f"--terminology {path}: line {number} calls {source!r} {term.target!r}, but line {before}{other} "
                    f"{known.target!r}: keep one"
                )
    return tuple(term for term, _, _ in found.values())
