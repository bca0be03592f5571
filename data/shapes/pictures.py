"""Small pictures of shapes, and the one sentence that describes each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CELLS, CELL, PATCH = 3, 8, 4  # cells a side, pixels a cell, pixels a patch
PIXELS = CELLS * CELL
FINER = 4  # edges are drawn so many times as fine, then averaged
BACKGROUND, NOISE, TINT, JITTER = 0.1, 0.03, 0.06, 0.4
MEAN, DEVIATION = 0.145, 0.165  # of a pixel, about: what is written has about mean 0 and deviation 1

COLOURS = {
    "red": (0.9, 0.15, 0.15),
    "green": (0.15, 0.75, 0.2),
    "blue": (0.2, 0.3, 0.95),
    "yellow": (0.95, 0.9, 0.2),
    "purple": (0.65, 0.2, 0.75),
    "white": (0.95, 0.95, 0.95),
}
SIZES = {"small": 2.3, "large": 3.8}  # half the width, in pixels
# Whether a point is inside, from its distance to the centre in half widths, x to the right and y down.
SHAPES: dict[str, Callable[[Any, Any], Any]] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.3),
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.9,
    "triangle": lambda x, y: (abs(x) <= (y + 1) / 2) & (y <= 1),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1),
}
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the middle", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)


@dataclass(frozen=True)
class Shape:
    """One thing in a picture, in a cell of its own."""

    kind: str
    colour: str
    size: str
    row: int
    column: int

    @property
    def name(self) -> str:
        """For example "a small red circle"."""
        return f"a {self.size} {self.colour} {self.kind}"

    @property
    def place(self) -> str:
        """For example "at the top left"."""
        return PLACES[self.row][self.column]


def draw_shapes(random: Random) -> list[Shape]:
    """One to three shapes, the larger ones first, else in reading order."""
    cells = sorted(random.sample(range(CELLS**2), random.randint(1, 3)))
    found = [
        Shape(random.choice([*SHAPES]), random.choice([*COLOURS]), random.choice([*SIZES]), *divmod(cell, CELLS))
        for cell in cells
    ]
    return sorted(found, key=lambda shape: shape.size != "large")


def describe(shapes: list[Shape]) -> str:
    """The sentence: the first shape beside the second, and where a single or a third one is."""
    first, *others = shapes
    if not others:
        sentence = f"{first.name} is {first.place}"
    else:
        sentence = f"{first.name} is {_relation(first, others[0])} {others[0].name}"
    if len(others) == 2:
        sentence += f", and {others[1].name} is {others[1].place}"
    return sentence[0].upper() + sentence[1:] + "."


def _relation(one: Shape, other: Shape) -> str:
    vertical = "above" if one.row < other.row else "below" if one.row > other.row else ""
    horizontal = "left of" if one.column < other.column else "right of" if one.column > other.column else ""
    return " and ".join(word for word in (vertical, horizontal) if word)


def paint(shapes: list[Shape], generator: np.random.Generator) -> Floats:
    """The picture (PIXELS, PIXELS, 3), values about 0 to 1, with noise; no two of the same shapes are alike."""
    fine = (np.arange(PIXELS * FINER) + 0.5) / FINER
    picture = np.full((PIXELS, PIXELS, 3), BACKGROUND)
    for shape in shapes:
        off_y, off_x = generator.uniform(-JITTER, JITTER, 2)
        y = (fine - (shape.row + 0.5) * CELL - off_y)[:, None] / SIZES[shape.size]
        x = (fine - (shape.column + 0.5) * CELL - off_x)[None, :] / SIZES[shape.size]
        inside = SHAPES[shape.kind](x, y).reshape(PIXELS, FINER, PIXELS, FINER).mean((1, 3))[:, :, None]
        colour = np.array(COLOURS[shape.colour]) + generator.uniform(-TINT, TINT, 3)
        picture = inside * colour + (1 - inside) * picture
    return (picture + generator.normal(0, NOISE, picture.shape)).astype(np.float32)


def patches(picture: Floats) -> Floats:
    """A picture as a sequence: its square patches in reading order, a vector each of centred pixels, and of the
    patch's row and column, (36, 50)."""
    side = PIXELS // PATCH
    cut = picture.reshape(side, PATCH, side, PATCH, 3).swapaxes(1, 2).reshape(side * side, -1)
    rows, columns = np.divmod(np.arange(side * side), side)
    places = np.stack((rows, columns), axis=1) / (side - 1) * 3 - 1.5  # about as large as the pixels
    return np.concatenate(((cut - MEAN) / DEVIATION, places), axis=1).astype(np.float32)
