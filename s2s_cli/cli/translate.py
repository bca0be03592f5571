"""`s2s translate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import BatchOption, BeamOption, app, examples, say

# Options that say what is told in other words too (`asked_of`), or that do not change the result.
SAME_RESULT = ("model", "input_", "output", "batch_size", "workers", "fresh")


@app.command(
    short_help="Translate lines: N in, N out, in order.",
    epilog=examples(
        "s2s translate < input.txt > output.txt",
        "echo 'A man sleeps.' | s2s translate -m runs/demo",
        "s2s translate -m runs/shapes --input data/shapes/test.safetensors",
        "s2s translate --input article.txt --split --language de > translated.txt",
        "s2s translate --input rows.jsonl.gz --format jsonl --field text --output out.jsonl.gz",
        "s2s translate --input big.txt --output big.out --workers auto",
    ),
)
def translate(
    ctx: typer.Context,
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
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Default: standard input (of text). May be .gz."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: standard output. May be .gz.")
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="text; tsv: the first column, with a column added; jsonl: an object a line. Default: text.",
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option(metavar="NAME", help="jsonl: the field that holds the source. Default: source.")
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="Divide lines into sentences, and keep the layout around them.")
    ] = False,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Of the source, for --split. Default: en.")
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
    workers: Annotated[
        str, typer.Option(metavar="N", help="Processes of one thread each that share the work; auto: one a core.")
    ] = "1",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, where an earlier try left a part of --output.")
    ] = False,
) -> None:
    """Translate lines, or the feature vectors of a file: N in, N lines out, in order, as they come.

    From --input FILE to --output FILE, the same command goes on where it was interrupted.
    """
    from s2s_cli.files import check_destinations, packed_where_named, replaced_when_done
    from s2s_cli.signals import end_quietly_on_closed_pipe

    end_quietly_on_closed_pipe()
    check_destinations({"--output": output})
    from functools import partial

    from s2s_cli.run import find_model
    from s2s_cli.translate.bulk import asked_of, can_go_on, refuse_fresh, translate_to_file
    from s2s_cli.translate.formats import choose_format
    from s2s_cli.translate.streams import translate_file
    from s2s_cli.translate.translator import Translator
    from s2s_cli.translate.workers import count_workers, shared

    models = [find_model(path) for path in model or (None,)]
    first, *others = models
    load = partial(
        Translator.load,
        *first,
        *others,
        beam=beam,
        n_best=n_best,
        length_penalty=length_penalty,
        batch_size=batch_size,
        ensemble=ensemble,
        precision=precision,
        device=device,
    )
    translator = load()
    kind = translator.tokenizer.source.config.kind
    form = choose_format(translator.config, kind, name=format_, field=field, split=split, language=language)
    work = shared(translator, load, form, count_workers(workers, translator.device))
    if input_ and output and can_go_on(input_, output):
        from s2s_cli.display import Display

        options = {name.rstrip("_"): value for name, value in ctx.params.items() if name not in SAME_RESULT}
        asked = asked_of(translator, models, input_, options)
        translate_to_file(translator, input_, output, form, work, asked, Display(), fresh=fresh)
    else:
        refuse_fresh(fresh)
        with replaced_when_done(output, sys.stdout) as file, packed_where_named(output, file) as target:
            translate_file(translator, input_, target, form, work)
    for message in translator.notices.messages(translator.config):
        say(f"warning: {message}")
    translator.notices.refuse_damaged()
