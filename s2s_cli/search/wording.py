"""Controls that look at the text of a hypothesis: what it must begin with, and what must never stand in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from torch import Tensor

from s2s_cli.data.spelling import Spelling, Surface, first, joins, last, stands
from s2s_cli.search.rules import Control

LONGEST_CHARACTER = 4  # bytes


class Prefix(Control):
    """The text begins so. Its state is how far it is: pieces of the head, then bytes of the rest.

    Args:
        head: pieces to say first.
        rest: text that follows them, in any pieces; the last one may go past it.
        text: of the head, where its pieces say something else; else empty.
        spelling: of the vocabulary. Where it cannot spell the rest, `spells` says so.
    """

    def __init__(self, head: Sequence[int], rest: bytes, text: str, spelling: Spelling) -> None:
        self._head, self._rest, self._text, self._spelling = tuple(head), rest, text, spelling
        self.end = len(head) + len(rest)
        """The state in which it is said."""

    def start(self) -> int:
        return 0

    def after(self, state: int, piece: int) -> int:
        said = 1 if state < len(self._head) else len(self._spelling.texts[piece])
        return min(state + said, self.end)

    def only(self, state: int, room: int) -> Sequence[int] | None:
        if state == self.end:
            return None
        return [self._head[state]] if state < len(self._head) else self._ways[state - len(self._head)]

    def surfaces(self, ids: Sequence[int]) -> list[Surface]:
        return [Surface(0, len(self._head), self._text, apart=False)] if self._text else []

    @property
    def replaced(self) -> bool:
        """Whether a text stands for its head."""
        return bool(self._text)

    @property
    def spells(self) -> bool:
        """Whether there are pieces for the rest."""
        return not self._rest or bool(self._ways[0])

    @cached_property
    def least(self) -> int:  # type: ignore[override]
        """The pieces that it may take, in whatever segmentation."""
        most = [0] * (len(self._rest) + 1)
        for at in range(len(self._rest) - 1, -1, -1):
            ends = (min(at + len(self._spelling.texts[piece]), len(self._rest)) for piece in self._ways[at])
            most[at] = 1 + max((most[end] for end in ends), default=0)
        return len(self._head) + most[0]

    @cached_property
    def _ways(self) -> list[list[int]]:
        """For each place in the rest, the pieces from which its end can be reached."""
        ways: list[list[int]] = [[] for _ in self._rest]
        for at in range(len(self._rest) - 1, -1, -1):
            left = self._rest[at:]
            lengths = {piece: len(self._spelling.texts[piece]) for piece in self._spelling.within(left)}
            ways[at] = [piece for piece, length in lengths.items() if length == len(left) or ways[at + length]]
            ways[at] += [piece for piece in self._spelling.starting(left) if piece not in lengths]
        return ways


class Forbidden(Control):
    """Words and phrases that never stand in the text, in no segmentation. Its state is the end of the text, in UTF-8.

    A piece that completes one is forbidden where it ends there, even if the next one could make it a longer word: so
    the text is free of them at every step, and may end at any.
    """

    def __init__(self, phrases: Sequence[str], spelling: Spelling) -> None:
        self._phrases, self._spelling = tuple(dict.fromkeys(phrases)), spelling
        self._bytes = [phrase.encode() for phrase in self._phrases]
        self.reach = max(map(len, self._bytes)) + 2 * LONGEST_CHARACTER
        self._completing: dict[tuple[int, int], list[int]] = {}

    def start(self) -> bytes:
        return b""

    def after(self, state: bytes, piece: int) -> bytes:
        return (state + self._spelling.texts[piece])[-self.reach :]

    def change(self, scores_V: Tensor, state: bytes, room: int) -> None:
        if self._must_go_on(state):
            scores_V[~self._spelling.continuing.to(scores_V.device)] = -math.inf
        for number, phrase in enumerate(self._bytes):
            scores_V[self._within(number)] = -math.inf
            for length in range(len(phrase)):
                if state.endswith(phrase[:length]) and self._begins(state[: len(state) - length], number):
                    scores_V[self._rest(number, length)] = -math.inf

    def found(self, text: str) -> str | None:
        """A phrase that stands in a text."""
        return next((phrase for phrase in self._phrases if stands(phrase, text)), None)

    def allows(self, state: bytes, text: str) -> bool:
        """Whether a text may follow."""
        before = state.decode(errors="replace")
        return not any(stands(phrase, before + text, beyond=len(before)) for phrase in self._phrases)

    def _begins(self, before: bytes, number: int) -> bool:
        """Whether a phrase that comes next is no part of a longer word."""
        return not before or not joins(last(before), self._phrases[number][0])

    def _must_go_on(self, state: bytes) -> bool:
        """Whether a phrase stands at the end already, as it can where nothing else was left to say."""
        return any(
            state.endswith(phrase) and self._begins(state[: len(state) - len(phrase)], number)
            for number, phrase in enumerate(self._bytes)
        )

    def _rest(self, number: int, length: int) -> list[int]:
        """The pieces that complete a phrase of which the text has some bytes."""
        key = number, length
        if key not in self._completing:
            rest, texts = self._bytes[number][length:], self._spelling.texts
            pieces = self._spelling.starting(rest)
            self._completing[key] = [piece for piece in pieces if self._ends(number, texts[piece][len(rest) :])]
        return self._completing[key]

    def _within(self, number: int) -> list[int]:
        """The pieces that hold a phrase after something else."""
        key = number, -1
        if key not in self._completing:
            phrase = self._phrases[number]
            texts = ((piece, self._spelling.texts[piece]) for piece in self._spelling.ordinary)
            longer = ((piece, text.decode(errors="replace")) for piece, text in texts if len(text) > len(phrase))
            self._completing[key] = [piece for piece, text in longer if phrase in text[1:] and stands(phrase, text)]
        return self._completing[key]

    def _ends(self, number: int, after: bytes) -> bool:
        return not after or not joins(self._phrases[number][-1], first(after))
