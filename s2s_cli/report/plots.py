"""Plots as PNG, SVG or PDF, by matplotlib (an optional extra): learning curves, scores by group, attention maps."""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2s_cli.errors import UserError
from s2s_cli.run import figure, figures
from s2s_cli.score.analysis import Breakdown
from s2s_cli.score.system import AttentionMap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#222222")
"""Told apart by people who do not see red and green alike (Okabe and Ito 2008)."""
MARKS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
FORMATS = (".png", ".svg", ".pdf")
MOST_INCHES = 36
"""Of an attention map, the names of its pieces left out."""
SCRIPTS = "한あ漢"
"""A font for attention maps should hold one of these."""
CJK_FONTS = ("cjk", "nanum", "notosanskr", "malgun", "applegothic", "applesdgothic", "baekmuk", "undotum", "ipaexg")
"""Parts of the file names of such fonts."""

_MISSING_GLYPH = re.compile(r"Glyph (\d+) .* missing from font")


def check(path: Path) -> None:
    """Refuses, before any work, a plot that could not be drawn.

    Raises:
        UserError: where matplotlib is missing, or a file's ending is none that it is drawn for.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--output {path}: ends in none of {', '.join(FORMATS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("plots need matplotlib: pip install 's2s-cli[plot]'") from None


def learning_curve(lines: Sequence[Mapping[str, Any]], name: str = "") -> Figure:
    """Loss in training and validation, and the scores of each validation, over updates.

    Args:
        lines: of `metrics.jsonl`.
        name: of the run.

    Raises:
        UserError: where there is nothing to draw.
    """
    if not lines:
        raise UserError("nothing to draw: the run has no metrics.jsonl, or an empty one")
    drawn = empty(8, 3.4)
    losses, scores = drawn.subplots(1, 2)
    validated = [(line["step"], figures(line["scores"])) for line in lines if "scores" in line]
    trained = [(line["step"], loss) for line in lines if (loss := figure(line.get("loss"))) is not None]
    _line(losses, "training", trained, 0, "")
    _line(losses, "validation", [(step, found.get("loss", math.nan)) for step, found in validated], 1)
    metrics = dict.fromkeys(name for _, found in validated for name in found)
    for index, metric in enumerate(metric for metric in metrics if metric not in ("loss", "perplexity")):
        _line(scores, metric, [(step, found.get(metric, math.nan)) for step, found in validated], index)
    for axes, title in ((losses, "loss, nats a piece"), (scores, "validation scores")):
        axes.set(xlabel="updates", title=title)
        if axes.lines:
            axes.legend()
        else:
            axes.text(0.5, 0.5, "none yet", ha="center", transform=axes.transAxes)
    drawn.suptitle(name)
    return drawn


def by_group(systems: Mapping[str, Breakdown], metric: str | None = None) -> Figure:
    """One metric of several systems, group by group.

    Args:
        systems: each with the same groups.
        metric: one that they all have; default: the first.

    Raises:
        UserError: where there is nothing to draw.
    """
    figure = empty(6, 3.6)
    axes = figure.subplots()
    first = next(iter(systems.values()))
    if not first.groups:
        raise UserError("nothing to draw: the references hold no words")
    metric = metric or next(iter(first.groups[0].scores))
    for index, (name, breakdown) in enumerate(systems.items()):
        places = [place + 0.08 * (index - (len(systems) - 1) / 2) for place in range(len(breakdown.groups))]
        scores = [group.scores[metric] for group in breakdown.groups]
        values = [score.value for score in scores]
        errors = [
            [score.value - score.low if score.low is not None else 0 for score in scores],
            [score.high - score.value if score.high is not None else 0 for score in scores],
        ]
        bounded = [[max(0.0, error) for error in side] for side in errors]
        axes.errorbar(places, values, bounded, label=name, **style(index), capsize=2)
    axes.set_xticks(range(len(first.groups)), [f"{group.label}\n({group.count:,})" for group in first.groups])
    axes.set(xlabel=f"{first.unit} ({first.counted})", ylabel=metric, title=f"{metric} {first.name}")
    axes.legend()
    return figure


def attention(found: AttentionMap) -> Figure:
    """An attention map: a row for each target piece, a column for each source piece."""
    rows, columns = len(found.target), len(found.source)
    cell = min(0.34, MOST_INCHES / max(rows, columns))
    step = math.ceil(0.2 / cell)  # between names, so that they do not cover one another
    figure = empty(1.8 + cell * columns, 1.6 + cell * rows)
    axes = figure.subplots()
    image = axes.imshow(found.weights_TS.cpu().numpy(), cmap="Blues", vmin=0, vmax=1, aspect="equal")
    axes.set_xticks(range(0, columns, step), found.source[::step], rotation=90)
    axes.set_yticks(range(0, rows, step), found.target[::step])
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    return figure


def save(figure: Figure, path: Path) -> tuple[bytes, list[str]]:
    """The bytes of a plot, in the format that the file's ending names, and the characters that no font has."""
    import io

    buffer = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        figure.savefig(buffer, format=path.suffix.lower().lstrip("."), dpi=150)
    found = (_MISSING_GLYPH.match(str(warning.message)) for warning in caught)
    return buffer.getvalue(), list(dict.fromkeys(chr(int(match[1])) for match in found if match))


def empty(width: float, height: float) -> Figure:
    """A figure of so many inches, in fonts that hold what there is of scripts."""
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it tells which weights a font lacks
    matplotlib.rcParams["font.family"] = ["DejaVu Sans", *_fonts()]
    matplotlib.rcParams["svg.fonttype"] = "path"
    matplotlib.rcParams["text.parse_math"] = False
    return Figure(figsize=(width, height), layout="constrained")


def _fonts() -> list[str]:
    """Fonts of this system that hold Korean, Japanese or Chinese."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    found: list[str] = []
    for path in sorted(font_manager.findSystemFonts()):
        if not any(part in Path(path).name.lower() for part in CJK_FONTS):
            continue
        font = FT2Font(path)
        if font.family_name not in found and set(map(ord, SCRIPTS)) & set(font.get_charmap()):
            font_manager.fontManager.addfont(path)  # matplotlib's own list may be older than the font
            found.append(font.family_name)
    return found


def _line(axes: Any, name: str, points: Sequence[tuple[float, float]], index: int, mark: str | None = None) -> None:
    if points:
        own = {} if mark is None else {"marker": mark}
        axes.plot(*zip(*points, strict=True), label=name, **style(index) | own)


def colour(index: int) -> str:
    """Of the line of a number; the colours begin again."""
    return COLOURS[index % len(COLOURS)]


def style(index: int) -> dict[str, Any]:
    """How a line is drawn: where the colours begin again, it is broken otherwise."""
    line = LINES[index // len(COLOURS) % len(LINES)]
    return {"color": colour(index), "marker": MARKS[index % len(MARKS)], "linestyle": line}
