"""The application, and what its commands share."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from s2s_cli import __version__
from s2s_cli.errors import UserError

ORDER = ("train", "translate", "evaluate", "score", "plot", "info", "average", "config")


class ReaderGone(Exception):
    """Nobody reads any more what is written."""


class _Commands(TyperGroup):
    """Lists the commands as people come to need them, and tells by which fault one ended where its reader has gone:
    typer itself would end with 1, which says that a gate was missed."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return sorted(super().list_commands(ctx), key=ORDER.index)


class OfOneModel(TyperCommand):
    """Refuses a second --model or --test, which other commands take: the last one alone would count."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, given = self.make_parser(ctx).parse_args(args=[*args])
        for param in given:
            if param.name in ("model", "test") and not getattr(param, "multiple", False) and given.count(param) > 1:
                raise UserError(f"--{param.name}: given twice, and this takes one: leave the others out")
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Commands,
    name="s2s",
    help="Train a translation model from one YAML file, translate standard input, score in your build.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help comes in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The YAML config.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, e.g. training.max_steps=200. Repeatable."),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        metavar="DIR",
        help="Run directory, or one of its checkpoints. Default: $S2S_MODEL, else the run that was trained last.",
        show_default=False,
    ),
]
ModelsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="DIR",
        help="Run directory, or one of its checkpoints. Repeated: an ensemble. Default: $S2S_MODEL, else the latest.",
        show_default=False,
    ),
]
EnsembleOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Models are averaged by probabilities or log-probabilities.")
]
AlignmentsOption = Annotated[
    bool, typer.Option("--alignments", help="Which source word each word looks at most: 0-0 1-2, source first.")
]
AttentionOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write attention weights: .jsonl, .jsonl.gz or .npz.")
]
ShowAttentionOption = Annotated[
    bool, typer.Option("--show-attention", help="Draw attention on the terminal, on standard error.")
]
BeamOption = Annotated[int | None, typer.Option(metavar="K", help="Beam; 1 is greedy. Default: the run's.")]
PlainOption = Annotated[bool, typer.Option("--plain", help="Columns of text, on a terminal too.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Sentences decoded at once.")]


def examples(*commands: str) -> str:
    """The end of a help: commands to try."""
    return "\n".join(("\b", "Examples:", *(f"  {command}" for command in commands)))  # \b: lines stay as they are


def say(message: str) -> None:
    """Tells the user, on standard error."""
    with contextlib.suppress(OSError):  # whoever read our standard error may have gone: the exit code still tells
        print(message, file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"s2s {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass
