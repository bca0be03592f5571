"""`s2s average`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import app, examples, say


@app.command(
    short_help="Average the weights of several checkpoints.",
    epilog=examples(
        "s2s average --model runs/demo --last 2 --output runs/demo-average",
        "s2s average --model runs/demo --checkpoint step-00001160 --checkpoint step-00001450 -o runs/two",
        "s2s average --model runs/tuned-a --model runs/tuned-b --output runs/both",
    ),
)
def average(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="DIR", help="The new run; neither a run nor a file may stand there."),
    ],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="DIR",
            help="A run, or several of one start: their best. Default: $S2S_MODEL, else the latest.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="The last N checkpoints. Default: all.", show_default=False)
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One of the run's checkpoints. Repeatable.")
    ] = None,
) -> None:
    """Make a run of the mean of the weights of several checkpoints: it translates, and is not trained on.

    Late checkpoints of one run average well, and so may runs that were tuned from the same weights
    (training.init_from). Runs from different seeds do not: their mean is no model at all; let them choose together
    instead (s2s translate --model A --model B).
    """
    from s2s_cli.average import average_run

    averaged = average_run(model or [None], checkpoint or [], last, output)
    say(f"averaged {', '.join(path.name for path in averaged)}. Try: s2s evaluate --model {output}")
