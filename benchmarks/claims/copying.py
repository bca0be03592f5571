"""Copying at a distance: the first letters of a row must be said after it has been read to its end.

After the long time lags of Hochreiter and Schmidhuber 1997, section 5, and the copying memory of Arjovsky et al. 2016,
section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from random import Random

LETTERS = "abcdefgh"
FILLERS = "stuvwxyz"
KEPT = 3
CHANCE = 100 / len(LETTERS) ** KEPT
"""Percent that are right by guessing."""


def rows(random: Random, distances: Sequence[int], count: int, taken: set[str]) -> list[tuple[str, str]]:
    """Pairs such as ("c a f x v z s", "c a f"), with these numbers of fillers in turn.

    Args:
        random: where all choices come from.
        distances: fillers behind the letters.
        count: how many pairs.
        taken: sources that should not come again; grows. Where a distance has few rows, some do.
    """
    found = []
    for distance in islice(cycle(distances), count):
        for _ in range(10):
            letters = [random.choice(LETTERS) for _ in range(KEPT)]
            source = " ".join([*letters, *(random.choice(FILLERS) for _ in range(distance))])
            if source not in taken:
                break
        taken.add(source)
        found.append((source, " ".join(letters)))
    return found
