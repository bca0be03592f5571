"""What a run's log tells of its training that is written nowhere else: how much text, and on what it was computed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2s_cli.files import read_regular

MOST_LOG_BYTES = 1 << 26

_DATA = re.compile(
    r"data: ([0-9,]{1,20}) training pairs \(([0-9,]{1,20}) target pieces\), ([0-9,]{1,20}) for validation"
)
_MODEL = re.compile(r"model: [0-9,]{1,20} parameters, (.{1,100})")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")


@dataclass(frozen=True)
class Logged:
    """What a log tells; None where it does not."""

    training_pairs: int | None = None
    """What the filters left of the training text."""
    training_pieces: int | None = None
    """Target pieces of these."""
    validation_pairs: int | None = None
    trained_on: tuple[str, ...] = ()
    """Precision, device, threads and torch, each time that training began or went on, in order; equal ones once."""


def read_log(path: Path) -> Logged:
    """What the log of a run tells; nothing where there is none, or it is no log. Anybody may have written it."""
    counts: tuple[int | None, ...] = (None, None, None)
    models: list[str] = []
    for line in _lines(path):
        if found := _DATA.match(line):
            counts = tuple(int(number.replace(",", "") or 0) for number in found.groups())
        elif found := _MODEL.fullmatch(line):
            models.append(found[1])
    pairs, pieces, held_out = counts
    return Logged(pairs, pieces, held_out, tuple(dict.fromkeys(models)))


def _lines(path: Path) -> Iterator[str]:
    """Its lines, without the time before them."""
    try:
        text = read_regular(path, MOST_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return
    for line in text.split("\n"):
        if stamp := _STAMP.match(line):
            yield line[stamp.end() :]
