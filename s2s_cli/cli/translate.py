"""`s2s translate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import BatchOption, BeamOption, app, examples, say


@app.command(
    short_help="Translate lines: N in, N out, in order.",
    epilog=examples(
        "s2s translate < input.txt > output.txt",
        "echo 'A man sleeps.' | s2s translate -m runs/demo",
        "s2s translate -m runs/shapes --input data/shapes/test.safetensors",
    ),
)
def translate(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="DIR",
            help="Run directory, or one of its checkpoints. Repeated: an ensemble. Default: as for s2s evaluate.",
            show_default=False,
        ),
    ] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", "-i", metavar="FILE", help="Default: standard input (of text).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: standard output.")
    ] = None,
    beam: BeamOption = None,
    n_best: Annotated[
        int | None, typer.Option("--n-best", metavar="N", help="N lines for each: index ||| text ||| score.")
    ] = None,
    length_penalty: Annotated[float | None, typer.Option(metavar="ALPHA", help="0 is off.")] = None,
    batch_size: BatchOption = None,
    ensemble: Annotated[
        str | None, typer.Option(metavar="NAME", help="Models are averaged by probabilities or log-probabilities.")
    ] = None,
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="fp32, bf16 or auto.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")] = None,
) -> None:
    """Translate lines, or the feature vectors of a file: N in, N lines out, in order, as they come.

    On a terminal it asks for lines, and for commands: :help lists them.
    """
    from s2s_cli.files import replaced_when_done
    from s2s_cli.signals import end_quietly_on_closed_pipe

    end_quietly_on_closed_pipe()
    from s2s_cli.translate.prompt import Prompt, is_wanted
    from s2s_cli.translate.streams import translate_file
    from s2s_cli.translate.translator import Translator

    translator = Translator.load(
        *(model or ()),
        beam=beam,
        n_best=n_best,
        length_penalty=length_penalty,
        batch_size=batch_size,
        ensemble=ensemble,
        precision=precision,
        device=device,
    )
    with replaced_when_done(output, sys.stdout) as target:
        if is_wanted(translator, input_):
            Prompt(translator, target).run()
        else:
            translate_file(translator, input_, target)
    for message in translator.notices.messages(translator.config):
        say(f"warning: {message}")
