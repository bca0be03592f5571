"""The command line: `python -m benchmarks.claims --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.claims import page as pages
from benchmarks.claims.evidence import Evidence
from benchmarks.claims.experiments import FULL, QUICK, Figure
from benchmarks.claims.judged import CLAIMS
from benchmarks.claims.runner import Commands, Maker, complete
from benchmarks.claims.store import Store
from benchmarks.measure import ROOT, about
from s2s_cli.cli.app import say
from s2s_cli.errors import Stopped, UserError
from s2s_cli.report import plots
from s2s_cli.signals import raise_on_signal

BUILD = ROOT / "build"
DOCS = ROOT / "docs"


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Twenty minutes instead of five hours.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"One claim: {', '.join(CLAIMS)}. May be repeated.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Where finished figures and pictures are kept.")] = None,
    page: Annotated[Path | None, typer.Option(help="The page to write.")] = None,
    redraw: Annotated[bool, typer.Option("--redraw", help="Measure nothing: write the page of what is there.")] = False,
) -> None:
    """Measure what is missing, then write the page; stopped, the same command goes on where it was."""
    if wrong := [name for name in only or () if name not in CLAIMS]:
        raise typer.BadParameter(f"{wrong[0]}: choose from {', '.join(CLAIMS)}")
    form = QUICK if quick else FULL
    folder = figures or (BUILD / "claims-quick" if quick else DOCS / "claims")
    page = page or (folder / "claims.md" if figures or quick else DOCS / "claims.md")
    plots.check(folder / "any.png")
    raise_on_signal()
    evidence = Evidence(form, form.tasks(), Store(folder))
    if "multi30k" not in evidence.tasks and any(folder.glob("multi30k-*.json")):
        raise typer.BadParameter(f"{folder} holds figures of Multi30k: say where its text is, MULTI30K_DIR=FOLDER")
    try:
        failed = [] if redraw else measure(evidence, only or list(CLAIMS))
        pages.write(Evidence(form, evidence.tasks, evidence.store), page, folder, failed)
    except Stopped as error:
        say("stopped: the same command goes on; with --redraw it writes the page of what is there")
        raise typer.Exit(error.exit_code) from None
    except UserError as error:
        say(f"error: {error}")
        raise typer.Exit(2) from None
    say(f"wrote {page}")
    if failed:
        raise typer.Exit(1)


def measure(evidence: Evidence, names: list[str]) -> list[str]:
    """Makes the figures that some claims need; returns what failed."""

    def needed(figure: Figure) -> bool:
        return any(CLAIMS[name].uses(figure) for name in names)

    work = BUILD / "claims"
    work.mkdir(parents=True, exist_ok=True)
    maker = Maker(Commands(work), about())
    return complete(evidence.figures, evidence.store, maker, say, needed=needed)


if __name__ == "__main__":
    typer.run(main)
