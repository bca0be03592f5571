"""`s2s train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import ConfigOption, SetOption, app, examples


@app.command(
    short_help="Train a model, or go on with its training.",
    epilog=examples("s2s train --config configs/demo.yaml", "s2s train -c my.yaml --set training.max_steps=200"),
)
def train(
    config: ConfigOption,
    set_: SetOption = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="Run directory. Default: runs/NAME, after the config file."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an existing run aside and begin anew.")] = False,
) -> None:
    """Train a model; the same command again goes on where it stopped, exactly. By torchrun: on several workers."""
    from s2s_cli.config_file import load_config

    settings = load_config(config, set_ or [], files_exist=True)
    from s2s_cli.display import Display
    from s2s_cli.distributed import is_first, launched
    from s2s_cli.errors import UserError
    from s2s_cli.signals import stop_request
    from s2s_cli.train.session import train as train_run

    if fresh and launched():
        raise UserError("--fresh: torchrun may start this again, which would begin anew each time: move the run aside")
    display = Display(quiet=not is_first())
    with stop_request(insistent=not launched()) as stop:  # a signal may come from torchrun and from the scheduler too
        train_run(settings, run or Path("runs") / config.stem, display, stop, fresh=fresh)
