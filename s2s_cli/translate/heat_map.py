"""Attention as a picture in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from rich.cells import cell_len, chop_cells
from rich.text import Text
from torch import Tensor

from s2s_cli.console import Console
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.entry import Translation

CELL = 2
"""Columns of a weight: a character of any script fits above it."""
_LONGEST_LABEL = 16
# From white to dark blue: each cell has its own background and foreground, so that the terminal's do not matter.
_BACKGROUNDS = (
    *("#f7fbff", "#e6f0f9", "#d6e6f4", "#c4daee", "#abcfe6", "#89bedc"),
    *("#66abd4", "#4896c8", "#2e7ebc", "#1764ab", "#08306b"),
)
_FIRST_DARK = 7


def heat_map(source: Sequence[str], target: Sequence[str], weights_TS: Tensor, width: int) -> Text:
    """A row for each target piece, a column for each source piece, and in it the weight in tenths; a dot is less than
    half of one. Without colour the figures remain.

    Args:
        source, target: the pieces, both with the end of sentence.
        weights_TS: from 0 to 1.
        width: columns of the terminal: a source that is wider is drawn in parts, one below the other.
    """
    labels = [_cut(piece) for piece in target]
    margin = max(map(cell_len, labels), default=0) + 1
    across = max(1, (width - margin) // CELL)
    tenths = (weights_TS * 10).round().clamp(0, 10).int().tolist()
    drawn = Text(no_wrap=True, overflow="crop")
    for start in range(0, len(source), across):
        shown = slice(start, start + across)
        _draw_header(drawn, [_cut(piece) for piece in source[shown]], margin)
        for label, row in zip(labels, tenths, strict=True):
            drawn.append(" " * (margin - 1 - cell_len(label)) + label + " ")
            for tenth in row[shown]:
                colour = "#ffffff" if tenth >= _FIRST_DARK else "#08306b"
                drawn.append(f"{tenth or '·':>{CELL}}", f"{colour} on {_BACKGROUNDS[tenth]}")
            drawn.append("\n")
    drawn.right_crop(1)  # whoever prints it ends the line
    return drawn


def draw(file: TextIO | None = None) -> Watch:
    """Draws the attention of translations, each below its text.

    Args:
        file: where; default: standard error.
    """
    at = Console(file=file or sys.stderr, emoji=False)

    def watch(translation: Translation) -> None:
        with suppress(OSError):  # whoever read our standard error may have gone; the work goes on
            at.print(translation.text, markup=False, highlight=False, soft_wrap=True)
            if translation.attention is not None:
                pieces = translation.source_pieces, translation.target_pieces
                at.print(heat_map(*pieces, translation.attention, at.width))

    return watch


def _draw_header(drawn: Text, labels: Sequence[str], margin: int) -> None:
    """The source pieces from top to bottom, each ending above its column."""
    columns = [[character for character in chop_cells(label, 1) if character] for label in labels]
    for line in range(-max(map(len, columns)), 0):
        drawn.append(" " * margin)
        for column in columns:
            character = column[line] if len(column) >= -line else ""
            drawn.append(" " * (CELL - cell_len(character)) + character)
        drawn.append("\n")


def _cut(piece: str) -> str:
    """A label; no character of it can steer the terminal."""
    piece = "".join(character if character.isprintable() else "·" for character in piece)
    return piece if len(piece) <= _LONGEST_LABEL else piece[: _LONGEST_LABEL - 1] + "…"
