"""Which words of a text its pieces belong to."""

from __future__ import annotations

from collections.abc import Sequence

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
