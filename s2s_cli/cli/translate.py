"""`s2s translate`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli import decoding
from s2s_cli.cli.app import (
    AlignmentsOption,
    AttentionOption,
    BatchOption,
    BeamOption,
    EnsembleOption,
    ModelsOption,
    ShowAttentionOption,
    app,
    examples,
    say,
)
from s2s_cli.errors import UserError

# Options that say what is told in other words too (`asked_of`), or that do not change the result.
SAME_RESULT = ("model", "input_", "output", "batch_size", "workers", "fresh")


@app.command(
    short_help="Translate lines: N in, N out, in order.",
    epilog=examples(
        "s2s translate < input.txt > output.txt",
        "echo 'A man sleeps.' | s2s translate -m runs/demo",
        "s2s translate -m runs/a -m runs/b < input.txt",
        "s2s translate --scores --alignments < input.txt",
        "s2s translate --search sampling --samples 50 --mbr < input.txt",
        "s2s translate -m runs/shapes --input data/shapes/test.safetensors",
        "s2s translate --input article.txt --split --language de > translated.txt",
        "s2s translate --terminology terms.tsv --keep urls --keep numbers < input.txt > output.txt",
        "s2s translate --input rows.jsonl.gz --field text --output out.jsonl.gz",
        "s2s translate --input big.txt --output big.out --workers auto",
    ),
)
def translate(
    ctx: typer.Context,
    model: ModelsOption = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", "-i", metavar="FILE", help="Default: standard input (of text). May be .gz or .zst."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Default: standard output. May be .gz or .zst."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="text; tsv: the first column, with a column added; jsonl: an object a line. Default: as the ending of "
            "--input says (.tsv, .jsonl, packed or not), else text.",
        ),
    ] = None,
    field: Annotated[
        str | None, typer.Option(metavar="NAME", help="jsonl: the field that holds the source. Default: source.")
    ] = None,
    split: Annotated[
        bool,
        typer.Option("--split", help="Divide lines into sentences (none goes on in the next line); keep the layout."),
    ] = False,
    language: Annotated[
        str | None, typer.Option(metavar="CODE", help="Of the source, for --split. Default: en.")
    ] = None,
    prefix: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Translations begin with its lines, one for each of the input; blank: free."),
    ] = None,
    force: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A word or phrase for every translation. Repeatable.")
    ] = None,
    forbid: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A word or phrase for no translation. Repeatable.")
    ] = None,
    terminology: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Lines of source term, tab, target term, which is then forced. Repeatable."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Copy urls, emails, numbers or tags (these in their order) as they are. Repeatable."
        ),
    ] = None,
    keep_pattern: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REGEX", help="Copy what matches in the first 5,000 characters of a line as it is. Repeatable."
        ),
    ] = None,
    copy_unknown: Annotated[
        bool, typer.Option("--copy-unknown", help="Put source words in the place of unknown pieces, by attention.")
    ] = False,
    beam: BeamOption = None,
    n_best: decoding.NBest = None,
    search: decoding.Search = None,
    stopping: decoding.Stopping = None,
    length_penalty: decoding.LengthPenalty = None,
    normalization: decoding.Normalization = None,
    coverage_penalty: decoding.CoveragePenalty = None,
    beam_groups: decoding.BeamGroups = None,
    diversity: decoding.Diversity = None,
    samples: decoding.Samples = None,
    temperature: decoding.Temperature = None,
    top_k: decoding.TopK = None,
    top_p: decoding.TopP = None,
    min_p: decoding.MinP = None,
    seed: decoding.Seed = None,
    mbr: decoding.Mbr = None,
    repetition_penalty: decoding.RepetitionPenalty = None,
    no_repeat_ngram: decoding.NoRepeatNgram = None,
    min_length: decoding.MinLength = None,
    min_length_ratio: decoding.MinLengthRatio = None,
    max_length: decoding.MaxLength = None,
    max_length_ratio: decoding.MaxLengthRatio = None,
    max_source_length: decoding.MaxSourceLength = None,
    allow_unknown: decoding.AllowUnknown = None,
    batch_size: BatchOption = None,
    ensemble: EnsembleOption = None,
    precision: decoding.Precision = None,
    device: decoding.Device = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="Behind each line its log-probability, and that of each piece.")
    ] = False,
    alignments: AlignmentsOption = False,
    attention: AttentionOption = None,
    show_attention: ShowAttentionOption = False,
    workers: Annotated[
        str, typer.Option(metavar="N", help="Processes of one thread each that share the work; auto: one a core.")
    ] = "1",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew, where an earlier try left a part of --output.")
    ] = False,
) -> None:
    """Translate lines, or the feature vectors of a file: N in, N lines out, in order, as they come.

    From --input FILE to --output FILE, the same command goes on where it was interrupted; by torchrun, several workers
    share the lines. On a terminal, with neither file, it asks for lines, and for commands: :help lists them.
    """
    from s2s_cli.config import DecodingConfig
    from s2s_cli.config_file import given
    from s2s_cli.dispatch import sharing
    from s2s_cli.display import Display
    from s2s_cli.distributed import own_device
    from s2s_cli.files import check_destinations, replaced_when_done
    from s2s_cli.packing import packed_where_named
    from s2s_cli.run import find_model
    from s2s_cli.signals import end_quietly_on_closed_pipe
    from s2s_cli.translate.bulk import asked_of, can_go_on, refuse_fresh, translate_to_file
    from s2s_cli.translate.formats import Prefixed, choose_format
    from s2s_cli.translate.insight import Insight
    from s2s_cli.translate.machines import divided, refuse_alone
    from s2s_cli.translate.prompt import Prompt, is_wanted, refuse_ignored
    from s2s_cli.translate.streams import translate_file
    from s2s_cli.translate.translator import Translator
    from s2s_cli.translate.watches import watching
    from s2s_cli.translate.wishes import Wishes, patterns, read_terms
    from s2s_cli.translate.workers import count_workers, shared

    others = [*(terminology or ()), *([prefix] if prefix else [])]
    with sharing() as dispatcher, ExitStack() as held:
        group = dispatcher.workers
        with group.together():
            if group.size == 1:
                if output is None and attention is None:  # nothing is left half written
                    end_quietly_on_closed_pipe()
            else:
                looks = show_attention or bool(attention)
                refuse_alone(input_, output, others, looks=looks, processes=workers, fresh=fresh)
            read = [("--input", input_), ("--prefix", prefix), *(("--terminology", path) for path in terminology or ())]
            check_destinations({"--output": output, "--attention": attention}, read)
            if prefix and split:
                raise UserError("--prefix gives whole lines, and --split divides them: leave one out")
            wishes = Wishes(
                force=tuple(force or ()),
                forbid=tuple(forbid or ()),
                terms=read_terms(*terminology or ()),
                keep=patterns(keep or (), keep_pattern or ()),
                copy_unknown=copy_unknown,
            )
            models = [find_model(path) for path in model or (None,)]
            own_device(device or models[0][0].read_config().decoding.device)
            keys = given({name: ctx.params.get(name) for name in DecodingConfig.model_fields})
            load = partial(Translator.load, *(checkpoint for _, checkpoint in models), **keys)
            translator = load()
            translator.wish(wishes)
            asks = is_wanted(translator, input_)
            if asks:
                refuse_ignored(prefix, workers)
            kind, shown = translator.tokenizer.source.config.kind, Insight(scores, scores, alignments)
            choose = partial(
                choose_format,
                kind=kind,
                name=format_,
                path=input_,
                field=field,
                split=split,
                language=language,
                shown=shown,
            )
            form = choose(translator.config)
            if prefix:
                form = Prefixed(form, prefix)
            looking = watching(translator, alignments=alignments, attention=attention, show_attention=show_attention)
            watches = held.enter_context(looking)
            if group.size == 1:
                work = shared(translator, load, form, count_workers(workers, translator.device), watches)
            else:
                work = divided(dispatcher, translator, form)
            asked = None
            if input_ and output and can_go_on(input_, output, others) and not watches:
                options = {name.rstrip("_"): value for name, value in ctx.params.items() if name not in SAME_RESULT}
                asked = asked_of(translator, models, input_, options)
            else:
                refuse_fresh(fresh)
        if input_ and output and asked is not None:
            group.check_alike(asked, str(output))
            translate_to_file(
                translator,
                input_,
                output,
                form,
                work,
                asked,
                Display(quiet=not group.first),
                fresh=fresh,
                workers=group,
            )
        else:
            with replaced_when_done(output, sys.stdout) as file, packed_where_named(output, file) as target:
                if asks:
                    Prompt(translator, target, choose, watches).run()
                else:
                    translate_file(translator, input_, target, form, work)
        held.close()
        for message in translator.notices.messages(translator.config):
            say(f"warning: {message}")
        with group.together():
            translator.notices.refuse_damaged()
