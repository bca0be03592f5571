"""`s2s score`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli import decoding
from s2s_cli.cli.app import (
    AlignmentsOption,
    AttentionOption,
    BatchOption,
    EnsembleOption,
    ModelsOption,
    ShowAttentionOption,
    app,
    examples,
    say,
)
from s2s_cli.errors import UserError, suggest


@app.command(
    short_help="Tell how probable a model finds given translations.",
    epilog=examples(
        "s2s score --source test.en --target test.de > scores.txt",
        "s2s score --source test.en --target test.de --alignments > forced.txt",
        "s2s score --target translated.jsonl --scores --format jsonl",
    ),
)
def score(
    target: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Translations, a line each; .jsonl as s2s translate writes it."),
    ],
    source: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Source sentences, or feature vectors. Default: those of a .jsonl target."),
    ] = None,
    model: ModelsOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: standard output.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="NAME", help="text, a log-probability a line; or jsonl.")
    ] = "text",
    scores: Annotated[bool, typer.Option("--scores", help="Also the log-probability of each piece.")] = False,
    alignments: AlignmentsOption = False,
    attention: AttentionOption = None,
    show_attention: ShowAttentionOption = False,
    batch_size: BatchOption = None,
    ensemble: EnsembleOption = None,
    precision: decoding.Precision = None,
    device: decoding.Device = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the total; - is standard output.")
    ] = None,
) -> None:
    """Write the log-probability (in nats) of each translation, end of sentence included; their total to standard error.

    With --scores the pieces follow, as s2s translate --scores writes them. Pieces given in a .jsonl are scored as they
    are, so that the figures are those of the search; text is tokenized anew, which may part it otherwise.
    """
    from s2s_cli.display import json_file, write_json
    from s2s_cli.files import check_destinations, replaced_when_done
    from s2s_cli.packing import packed_where_named
    from s2s_cli.signals import end_quietly_on_closed_pipe

    if json_ == "-" and not output:
        raise UserError("--json -: the scores stand on standard output: give a file, or --output FILE for the scores")
    if not (output or attention or json_):  # nothing is left half written
        end_quietly_on_closed_pipe()
    written = {"--output": output, "--attention": attention, "--json": json_file(json_)}
    check_destinations(written, [("--source", source), ("--target", target)])
    from s2s_cli.config_file import given
    from s2s_cli.score.pairs import FORMATS, for_scoring, score_pairs
    from s2s_cli.translate.insight import Insight
    from s2s_cli.translate.translator import Translator
    from s2s_cli.translate.watches import watching

    if format_ not in FORMATS:
        raise UserError(f"--format {format_}: {suggest(format_, FORMATS)}")
    asked = {"batch_size": batch_size, "ensemble": ensemble, "precision": precision, "device": device}
    translator = for_scoring(Translator.load(*(model or ()), **given(asked)))
    insight = Insight(total=True, tokens=scores, alignment=alignments)
    looking = watching(translator, alignments=alignments, attention=attention, show_attention=show_attention)
    with (
        looking as watches,
        replaced_when_done(output, sys.stdout) as file,
        packed_where_named(output, file) as lines,
    ):
        total = score_pairs(translator, source, target, lines, lambda found: FORMATS[format_](insight, found), watches)
    for message in translator.notices.messages(translator.config):
        say(f"warning: {message}")
    if json_:
        write_json(json_, total.as_json())
    say(str(total))
