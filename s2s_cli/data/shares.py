"""How work is divided among workers: all plan it alike, and each takes its share."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def divide(tokens: Tensor, parts: int) -> list[Tensor]:
    """Divides rows into parts that follow each other and hold about equally many tokens.

    A row goes to the part in which the middle of its tokens lies: a part holds at most the mean and one longest row.

    Args:
        tokens: of each row (N,), none zero.
        parts: how many; where rows are fewer, some are empty.

    Returns:
        The numbers of the rows of each part.
    """
    middle = tokens.cumsum(0) * 2 - tokens
    part = torch.div(middle * parts, 2 * tokens.sum(), rounding_mode="floor")
    return [torch.nonzero(part == number).flatten() for number in range(parts)]


def parts_of_batch(batches: int, workers: int) -> int:
    """The fewest parts of each batch of an update with which all workers have equally many."""
    return workers // math.gcd(batches, workers)
