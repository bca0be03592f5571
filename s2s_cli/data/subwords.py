"""Segmentations drawn at random (Kudo 2018; for bpe Provilkov et al. 2020).

SentencePiece draws them too, but by a generator that no seed makes equal in two processes, so that a run could not be
resumed exactly. Here all that is drawn comes from the generator that is given.
"""

from __future__ import annotations

import heapq
import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple, Protocol

from s2s_cli.config import SamplingConfig
from s2s_cli.data.pieces import Kind, Pieces, Type
from s2s_cli.data.spelling import SPACE
from s2s_cli.errors import UserError

KEPT_WORDS, KEPT_LENGTH = 2**13, 32
"""Words for which what was computed is kept (a lattice takes 5 to 16 kB), and their characters at most: longer ones are
hardly met twice."""

Draw = Callable[[str, Random], list[int]]
"""A text, or a word of it, to the ids of one segmentation."""


class Processor(Protocol):
    """What is asked of SentencePiece."""

    def normalize(self, input: str) -> str:
        """A text as it is segmented."""

    def nbest_encode(self, input: str, *, nbest_size: int) -> list[list[int]]:
        """The best segmentations."""


def drawing(processor: Processor, pieces: Pieces, sampling: SamplingConfig) -> Draw:
    """How segmentations of texts are drawn.

    Args:
        processor: of the same model.
        pieces: the model's.
        sampling: what to draw from.

    Raises:
        UserError: where a model has one segmentation only, or would leave out all merges.
    """
    if pieces.kind is Kind.UNIGRAM:
        if sampling.nbest > 0:
            return Best(processor, pieces, sampling)
        return WordByWord(processor, pieces, Lattices(pieces, sampling.alpha))
    if pieces.kind is not Kind.BPE or pieces.of(Type.UNUSED):  # merges through unused pieces would have to be undone
        raise UserError("tokenizer.sampling: this SentencePiece model cannot sample; set alpha to 0")
    if sampling.alpha >= 1:
        raise UserError(
            "tokenizer.sampling.alpha must be under 1 for a bpe model, where it is the share of merges dropped"
        )
    return WordByWord(processor, pieces, Merges(pieces, sampling.alpha))


class Best:
    """unigram: one of the n best segmentations, by its probability to the power of alpha (Kudo 2018, section 3.2); of
    those in which a user-defined symbol is parted, none."""

    def __init__(self, processor: Processor, pieces: Pieces, sampling: SamplingConfig) -> None:
        self._processor = processor
        self._sampling = sampling
        self._scores = pieces.scores
        self._symbols = set(pieces.of(Type.USER_DEFINED).values())

    def __call__(self, text: str, random: Random) -> list[int]:
        found = self._processor.nbest_encode(text, nbest_size=self._sampling.nbest)
        if self._symbols:
            counts = [sum(piece in self._symbols for piece in row) for row in found]
            found = [row for row, count in zip(found, counts, strict=True) if count == counts[0]]
        scores = [self._sampling.alpha * sum(map(self._scores.__getitem__, row)) for row in found]
        best = max(scores)
        return random.choices(found, [math.exp(score - best) for score in scores])[0]


class WordByWord:
    """Draws for each word, with the spaces before it, by itself. Where a model has pieces that go beyond a word, all of
    the text is the word. User-defined symbols remain whole, of two that overlap the first."""

    def __init__(self, processor: Processor, pieces: Pieces, draw: Draw) -> None:
        self._processor = processor
        self._draw = draw
        self._unknown = pieces.unknown
        self._symbols = pieces.of(Type.USER_DEFINED)
        symbols = "|".join(map(re.escape, sorted(self._symbols, key=len, reverse=True)))
        self._symbol = re.compile(f"({symbols or '(?!)'})")
        beyond = any(SPACE in text.lstrip(SPACE) for text in pieces.of(Type.NORMAL))
        self._word = re.compile(".+" if beyond else f"{SPACE}*[^{SPACE}]+|{SPACE}+", re.DOTALL)

    def __call__(self, text: str, random: Random) -> list[int]:
        ids = list[int]()
        for word in self._split(self._processor.normalize(text)):
            ids += [self._symbols[word]] if word in self._symbols else self._draw(word, random)
        # as in SentencePiece, unknown characters in a row are one piece
        return [piece for before, piece in pairwise([-1, *ids]) if piece != self._unknown or piece != before]

    def _split(self, text: str) -> Iterator[str]:
        for part in self._symbol.split(text):
            if part in self._symbols:
                yield part
            else:
                yield from self._word.findall(part)


class _Node(NamedTuple):
    """A place in a word, and the pieces that can end there."""

    starts: list[int]
    ids: list[Sequence[int]]
    """Each piece, or what stands for an unknown character."""
    sums: list[float]
    """Of their probabilities so far; the last need not be 1."""


class Lattices:
    """unigram: any segmentation, by its probability to the power of alpha: forward-filtering and backward-sampling
    (Kudo 2018, section 3.2)."""

    def __init__(self, pieces: Pieces, alpha: float) -> None:
        self._pieces = pieces
        self._alpha = alpha
        self._known = {text: (piece,) for text, piece in pieces.of(Type.NORMAL).items()}
        self._longest = max(map(len, self._known), default=1)
        self._known_lattice = lru_cache(KEPT_WORDS)(self._lattice)

    def __call__(self, word: str, random: Random) -> list[int]:
        nodes = self._known_lattice(word) if len(word) <= KEPT_LENGTH else self._lattice(word)
        end, drawn = len(word), list[Sequence[int]]()
        while end:
            starts, ids, sums = nodes[end]
            chosen = bisect(sums, random.random() * sums[-1], 0, len(sums) - 1)
            end = starts[chosen]
            drawn.append(ids[chosen])
        return [piece for row in reversed(drawn) for piece in row]

    def _lattice(self, word: str) -> list[_Node]:
        """The nodes before, between and after the characters."""
        nodes, before = [_Node([], [], [])], [0.0]
        scores, unknown = self._pieces.scores, self._pieces.unknown
        for end in range(1, len(word) + 1):
            starts, ids, reached = list[int](), list[Sequence[int]](), list[float]()
            for start in range(max(0, end - self._longest), end):
                row: Sequence[int] | None = self._known.get(word[start:end])
                if row is None and start < end - 1:
                    continue
                starts.append(start)
                ids.append(row or self._pieces.spelled(word[start]))
                reached.append(before[start] + self._alpha * scores[row[0] if row else unknown])
            best = max(reached)
            sums = list(accumulate(math.exp(score - best) for score in reached))
            nodes.append(_Node(starts, ids, sums))
            before.append(best + math.log(sums[-1]))
        return nodes


class Merges:
    """bpe: each merge is left out with probability alpha when its turn comes (Provilkov et al. 2020, section 4)."""

    def __init__(self, pieces: Pieces, alpha: float) -> None:
        self._pieces = pieces
        self._chance = 1 - alpha
        self._known = pieces.of(Type.NORMAL)
        self._order = {text: -pieces.scores[piece] for text, piece in self._known.items()}
        self._whole = lru_cache(KEPT_WORDS)(self._with_all_merges)

    def __call__(self, word: str, random: Random) -> list[int]:
        ids, kept = self._whole(word) if len(word) <= KEPT_LENGTH else ([], 0.0)
        drawn = random.random()
        return ids if drawn < kept else self._merged(word, drawn, random)[0]

    def _with_all_merges(self, word: str) -> tuple[list[int], float]:
        """The ids, and the probability that no merge is left out."""
        ids, merges = self._merged(word, 0.0, None)
        return ids, self._chance**merges

    def _merged(self, word: str, drawn: float, random: Random | None) -> tuple[list[int], int]:
        """Merges until nothing is left to merge.

        Args:
            word: not empty.
            drawn: uniform from 0 to 1; the first k merges are made where it is below the probability of that.
            random: draws the same again after a merge that is left out; None leaves out none.

        Returns:
            The ids, and how many merges were made.
        """
        parts, merges, kept = list(word), 0, 1.0  # a part that was merged into the one before it is empty
        before, after = [*range(-1, len(parts) - 1)], [*range(1, len(parts)), -1]
        turns = list[tuple[float, int, int, str]]()

        def meet(left: int, right: int) -> None:
            if left >= 0 and right >= 0 and (merged := parts[left] + parts[right]) in self._order:
                heapq.heappush(turns, (self._order[merged], left, right, merged))

        for right in range(1, len(parts)):
            meet(right - 1, right)
        while turns:
            _, left, right, merged = heapq.heappop(turns)
            if not parts[left] or not parts[right] or parts[left] + parts[right] != merged:
                continue
            kept *= self._chance
            if random and drawn >= kept:
                drawn, kept = random.random(), 1.0
                continue
            merges += 1
            parts[left], parts[right] = merged, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            meet(before[left], left)
            meet(left, after[left])
        ids = ([self._known[part]] if part in self._known else self._pieces.spelled(part) for part in parts if part)
        return [piece for row in ids for piece in row], merges
