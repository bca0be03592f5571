"""Which words of a text its pieces belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Words = tuple[tuple[int, ...], ...]
"""Of each piece the words, counted from 0, that it holds characters of."""
Spans = Sequence[tuple[int, int]]
"""Of each piece its first character, and the one after its last."""


def words_of(text: str, spans: Spans) -> Words:
    """The words of each piece: a text is parted at white space, as `str.split` does it.

    A piece without a character of any word, such as a bare word boundary, belongs to the word that follows it, and at
    the end to the last one.
    """
    numbers, inside, count = [], False, 0
    for character in text:
        blank = character.isspace()
        count += not blank and not inside
        inside = not blank
        numbers.append(count if blank else count - 1)

    def words(start: int, end: int) -> tuple[int, ...]:
        held = dict.fromkeys(numbers[at] for at in range(start, end) if not text[at].isspace())
        return tuple(held) or (min(numbers[start] if start < len(text) else count, count - 1),)

    return tuple(words(*span) if count else () for span in spans)


def joined(parts: Iterable[tuple[str, Words]]) -> Words:
    """The words of a text that is made up of some, one directly behind the other, each with its own words."""
    count, inside, found = 0, False, []
    for text, words in parts:
        first = count - (inside and not text[:1].isspace())  # a word goes on from one to the next
        found += [tuple(first + word for word in held) for held in words]
        if text:
            count = first + len(text.split())
            inside = not text[-1].isspace()
    return tuple(found)
