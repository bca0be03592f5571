"""`s2s info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import PlainOption, app, examples, say


@app.command(
    short_help="Look at a run, or list those in ./runs.",
    epilog=examples("s2s info", "s2s info runs/demo", "s2s info runs/demo --json - | jq .history.best"),
)
def info(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run directory, or one of its checkpoints.", show_default=False)
    ] = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all of it; - is standard output.")
    ] = None,
    plain: PlainOption = False,
) -> None:
    """Show what a run is: model, parameters, checkpoints, training, scores. Without RUN, list those in ./runs.

    Of RUN, all that it translates with is read and verified; a list is quicker, and does not hash weights.
    """
    from s2s_cli.display import json_file, write_json
    from s2s_cli.files import check_destinations
    from s2s_cli.report.runs import print_run, print_runs

    check_destinations({"--json": json_file(json_)})
    if run is None:
        from s2s_cli.info.listing import list_runs
        from s2s_cli.run import RUNS

        found = list_runs()
        if json_:
            write_json(json_, {"runs": [one.as_json() for one in found]})
        if json_ != "-":
            if found:
                print_runs(found, plain)
            else:
                say(f"no runs in {RUNS.resolve()}: make one with `s2s train --config FILE`")
        return
    from s2s_cli.info.description import describe

    described = describe(run)
    if json_:
        write_json(json_, described.as_json())
    if json_ != "-":
        print_run(described, plain)
