"""Pictures of claims, drawn as the program draws its own: lines in the bands of their intervals, and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from s2s_cli.report.plots import colour, empty, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Interval(NamedTuple):
    """A figure between its bounds, at a place on an axis."""

    place: float
    value: float
    low: float
    high: float


class Panel(NamedTuple):
    """One of several plots side by side."""

    title: str
    across: str
    up: str
    lines: Mapping[str, Sequence[Interval]]
    """By name."""
    doubling: bool = False
    """Whether places that double lie equally far apart; 0 then stands beside 1."""
    edge: float | None = None
    """A dotted line stands there: what was trained on ends."""


def bands(panels: Sequence[Panel], broken: Mapping[str, str] | None = None) -> Figure:
    """Lines in the bands of their intervals, two plots in a row; a name has one colour in all of them.

    Args:
        panels: at least one.
        broken: names whose lines are broken ones in the look of another.
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = empty(6.2 * columns, 0.6 + 4.4 * rows)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    legend = {}
    plots = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in plots[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(plots, panels, strict=False):
        for name, points in panel.lines.items():
            pair = (broken or {}).get(name)
            look = style(names.index(pair if pair in names else name)) | ({"linestyle": "--"} if pair else {})
            places, values, lows, highs = zip(*points, strict=True)
            (legend[name],) = axes.plot(places, values, label=name, **look, markersize=4)
            axes.fill_between(places, lows, highs, color=look["color"], alpha=0.15, linewidth=0)
        axes.set(xlabel=panel.across, ylabel=panel.up, title=panel.title)
        axes.set_ylim(bottom=0)
        if panel.edge is not None:
            axes.axvline(panel.edge, color="#666666", linestyle=":", linewidth=1)
        if panel.doubling:
            ticks = sorted({point.place for points in panel.lines.values() for point in points})
            axes.set_xscale("symlog", base=2, linthresh=1)
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xlim(ticks[0] - 0.3, ticks[-1] * 1.2)
            axes.minorticks_off()
    figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def bars(panels: Mapping[str, Mapping[str, Interval]]) -> Figure:
    """Horizontal bars with intervals, side by side in panels by title; their names stand at the left alone."""
    names = list(dict.fromkeys(name for values in panels.values() for name in values))
    figure = empty(1.6 + 2.9 * len(panels), 1.3 + 0.36 * len(names))
    columns = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, values) in zip(columns, panels.items(), strict=True):
        for name, (_, value, low, high) in values.items():
            row, errors = names.index(name), [[max(0, value - low)], [max(0, high - value)]]
            axes.barh(row, value, xerr=errors, color=colour(row), alpha=0.75, capsize=3, ecolor="#333333")
        axes.axvline(0, color="#333333", linewidth=0.8)
        axes.set_yticks(range(len(names)), names)
        axes.set(title=title, ylim=(len(names) - 0.4, -0.6))
    return figure
