"""Measures s2s on this machine: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import decoding, growth, startup, training
from benchmarks.corpus import Text, read_text
from benchmarks.measure import RESULTS, Figures, machine

PARTS = ("training", "decoding", "startup", "growth")
console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = RESULTS / "results.json",
    only: Annotated[list[str] | None, typer.Option(help=f"A part alone: {', '.join(PARTS)}. May be repeated.")] = None,
    quick: Annotated[bool, typer.Option(help="A few updates and few variants, to see that all works.")] = False,
    learn: Annotated[int, typer.Option(help="Updates of the models that decode.")] = 400,
) -> None:
    """Measure training, decoding, start-up and growth. Let nothing else run meanwhile."""
    wanted = only or PARTS
    if wrong := [part for part in wanted if part not in PARTS]:
        raise typer.BadParameter(f"{wrong[0]}: choose from {', '.join(PARTS)}")
    results: Figures = {"machine": machine()}
    for name, value in results["machine"].items():
        console.print(f"{name}: {value}")
    text = read_text() if {"training", "decoding", "startup"} & set(wanted) else None
    runs: dict[str, Path] = {}
    if text:
        results["corpus"] = text.name
        names = list(decoding.MODELS)[: 1 if quick else None]
        if {"decoding", "startup"} & set(wanted):
            runs = {name: decoding.trained(text, name, learn) for name in names}
    if "training" in wanted and text:
        results["training"] = measure_training(text, quick)
        show(f"training, {text.name}, target pieces a second", results["training"])
    if "decoding" in wanted and text:
        settings = decoding.SETTINGS[1:5:3] if quick else decoding.SETTINGS
        results["decoding"] = [
            {
                "model": name,
                "precision": precision,
                "beam": beam,
                "batch": batch,
                **decoding.measure(text, run, beam, batch, precision, 1 if quick else 3),
            }
            for name, run in runs.items()
            for precision in decoding.precisions()
            for beam, batch in settings
        ]
        show(f"decoding, {text.name}, target pieces a second", results["decoding"])
        if "bf16" in decoding.precisions():
            results["agreement"] = [
                {"model": name, **decoding.agreement(text, run, beam, 50 if quick else 1000)}
                for name, run in runs.items()
                for beam in (1, 5)
            ]
            show("bf16 beside fp32", results["agreement"])
    if "startup" in wanted:
        results["startup"] = startup.measure(next(iter(runs.values())), 1 if quick else 7)
        show("start-up", [results["startup"]])
    if "growth" in wanted:
        results["growth"] = growth.measure(quick=quick)
        for name, rows in results["growth"].items():
            show(f"growth: {name}", rows)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    console.print(f"wrote {output}")


def measure_training(text: Text, quick: bool) -> list[Figures]:
    """Each variant at 2,048 tokens a batch."""
    variants = training.variants()[: 2 if quick else None]
    return [{"model": name, **training.measure(text, config, 2048, 3 if quick else 15)} for name, config in variants]


def show(title: str, rows: list[Figures]) -> None:
    """Prints a table."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
