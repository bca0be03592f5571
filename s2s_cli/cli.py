"""The command line: parse, call one function, render, exit code. No logic; heavy imports wait until they are needed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from s2s_cli import __version__
from s2s_cli.errors import GATE_MISSED, INTERNAL_ERROR, S2SError, Stopped, UserError
from s2s_cli.files import DISK_FAULTS, disk_error

app = typer.Typer(
    name="s2s",
    help="Train a translation model from one YAML file, translate standard input, score in your build.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help comes in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="Look at configs.", no_args_is_help=True)
app.add_typer(config_app, name="config")

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
        help="Run directory, or one of its checkpoints. Default: $S2S_MODEL, else the run that finished last.",
        show_default=False,
    ),
]
BeamOption = Annotated[int | None, typer.Option(metavar="K", help="Beam; 1 is greedy. Default: the run's.")]
BatchOption = Annotated[int | None, typer.Option("--batch-size", metavar="N", help="Sentences decoded at once.")]


def _examples(*commands: str) -> str:
    return "\n".join(("\b", "Examples:", *(f"  {command}" for command in commands)))  # \b: lines stay as they are


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


@app.command(
    short_help="Train a model, or go on with its training.",
    epilog=_examples("s2s train --config configs/demo.yaml", "s2s train -c my.yaml --set training.max_steps=200"),
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
    """Train a model; the same command again goes on where it stopped, exactly."""
    from s2s_cli.config_file import load_config

    settings = load_config(config, set_ or [], files_exist=True)
    from s2s_cli.display import Display
    from s2s_cli.signals import stop_request
    from s2s_cli.train.session import train as train_run

    with stop_request() as stop:
        display = Display()
        outcome = train_run(settings, run or Path("runs") / config.stem, display, stop, fresh=fresh)
    state = "had finished" if outcome.already_finished else "finished"
    best = "" if outcome.best is None else f", best {outcome.monitor} {outcome.best:.2f}"
    display.info(f"{state} at step {outcome.step:,}: {outcome.reason}{best}. Try: s2s translate --model {outcome.run}")


@app.command(
    short_help="Translate lines: N in, N out, in order.",
    epilog=_examples(
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
    """Translate lines, or the feature vectors of a file: N in, N lines out, in order, as they come."""
    from s2s_cli.files import replaced_when_done
    from s2s_cli.signals import end_quietly_on_closed_pipe

    end_quietly_on_closed_pipe()
    from s2s_cli.run import find_model
    from s2s_cli.translate.streams import translate_file
    from s2s_cli.translate.translator import Translator

    first, *others = (find_model(path) for path in model or (None,))
    translator = Translator.load(
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
    with replaced_when_done(output, sys.stdout) as target:
        translate_file(translator, input_, target)
    for message in translator.notices.messages(translator.config):
        _say(f"warning: {message}")


@app.command(
    short_help="Score a model, or files of translations, and judge them.",
    epilog=_examples(
        "s2s evaluate --min bleu=30",
        "s2s evaluate --hypothesis out.txt --reference ref.txt --json scores.json",
        "s2s evaluate --model runs/new --baseline runs/old --fail-on regression",
        "s2s evaluate --hypothesis a=a.txt --hypothesis b=b.txt --testset wmt20 --pair en-de",
    ),
)
def evaluate(
    model: ModelOption = None,
    source: Annotated[Path | None, typer.Option(metavar="FILE", help="Source sentences, or feature vectors.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Reference translations. Repeatable.")
    ] = None,
    hypothesis: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE", help="Score these translations; needs no model. Repeatable."),
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A test set of the run's config. Default: the first. Repeatable."),
    ] = None,
    testset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="One of sacreBLEU's test sets, e.g. wmt20; needs --pair. Repeatable."),
    ] = None,
    pair: Annotated[str | None, typer.Option(metavar="LANGS", help="The languages of --testset, e.g. en-de.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="bleu, chrf, chrf++ or ter. Repeatable.")
    ] = None,
    min_: Annotated[
        list[str] | None,
        typer.Option("--min", metavar="METRIC=VALUE", help="Exit with 1 where a score is below. Repeatable."),
    ] = None,
    max_: Annotated[
        list[str] | None,
        typer.Option("--max", metavar="METRIC=VALUE", help="The same above, for ter, loss, perplexity. Repeatable."),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE|RUN", help="Compare with an earlier --json, a run, or a file of translations."),
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="regression", help="Exit with 1 where a score is significantly below the baseline's."),
    ] = None,
    max_drop: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=VALUE", help="Exit with 1 where a score is worse by more. Repeatable."),
    ] = None,
    level: Annotated[
        float | None, typer.Option(metavar="P", help="Of significance, for --fail-on. Default: 0.05.")
    ] = None,
    tokenize: Annotated[
        str | None, typer.Option(metavar="NAME", help="sacreBLEU's tokenizer: 13a, intl, char, zh, ja-mecab ...")
    ] = None,
    lowercase: Annotated[
        bool | None, typer.Option("--lowercase/--cased", help="Ignore case.", show_default=False)
    ] = None,
    beam: BeamOption = None,
    batch_size: BatchOption = None,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all results; - is standard output.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the gates as JUnit XML.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page of HTML: scores, plots, sentences, attention.")
    ] = None,
    details: Annotated[
        bool, typer.Option("--details", help="Also show the scores by length, rarity and position.")
    ] = False,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the translations.")] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Translate even what this model has translated before.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Columns of text, on a terminal too.")] = False,
) -> None:
    """Score a model on its test sets, or files of translations; --min and --baseline make it a gate for a build.

    Exit codes: 0 all gates passed; 1 one was missed; 2 something cannot be judged.
    """
    from s2s_cli.errors import suggest

    if fail_on not in (None, "regression"):
        raise UserError(f"--fail-on {fail_on}: {suggest(fail_on, ['regression'])}")
    from s2s_cli.score.evaluator import Evaluator
    from s2s_cli.score.request import Request

    request = Request(
        model=model,
        source=source,
        reference=tuple(reference or ()),
        hypothesis=tuple(hypothesis or ()),
        test=tuple(test or ()),
        testset=tuple(testset or ()),
        pair=pair,
        metric=tuple(metric or ()),
        floors=tuple(min_ or ()),
        ceilings=tuple(max_ or ()),
        baseline=baseline,
        no_regression=fail_on is not None,
        drops=tuple(max_drop or ()),
        level=level,
        tokenize=tokenize,
        lowercase=lowercase,
        beam=beam,
        batch_size=batch_size,
        output=output,
        use_cache=not no_cache,
    )
    from s2s_cli import ci
    from s2s_cli.display import print_details, print_outcome, write_json
    from s2s_cli.files import check_destinations, write_result
    from s2s_cli.report.page import render

    written = {"--json": None if json_ in (None, "-") else Path(json_ or ""), "--junit": junit, "--report": report}
    check_destinations({**written, "--output": output})
    evaluator = Evaluator(request, _say)
    outcome = evaluator.run()
    found = evaluator.details(outcome, attention=report is not None) if report or details else []
    page = render(outcome, found, evaluator.learning_curve) if report else ""
    if json_:
        write_json(json_, outcome.as_json())
    if junit:
        write_result(junit, ci.junit(outcome).encode(errors="replace"))
    if report:
        write_result(report, page.encode(errors="backslashreplace"))
    if json_ != "-":
        print_outcome(outcome, plain)
        if details:
            print_details(outcome, found, plain)
    ci.report_to_github(outcome, _say)
    if not outcome.passed:
        raise typer.Exit(GATE_MISSED)


@app.command(
    short_help="Draw a learning curve, scores by length, or an attention map.",
    epilog=_examples(
        "s2s plot curve -o curve.png",
        "s2s plot attention --text 'A man is sleeping.' -o map.svg",
        "s2s plot length --model runs/new --baseline runs/old -o length.png",
        "s2s plot length --hypothesis a=a.txt --source src.txt --reference ref.txt -o length.png",
    ),
)
def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="curve, attention, length, rarity or position.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Ends in .png, .svg or .pdf.")],
    model: ModelOption = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="The sentence of an attention map.")] = None,
    source: Annotated[Path | None, typer.Option(metavar="FILE", help="Source sentences.")] = None,
    reference: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Reference translations. Repeatable.")
    ] = None,
    hypothesis: Annotated[
        list[str] | None, typer.Option(metavar="[NAME=]FILE", help="Translations to draw. Repeatable.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE|RUN", help="Drawn beside, as for s2s evaluate.")
    ] = None,
    test: Annotated[str | None, typer.Option(metavar="NAME", help="A test set of the run's config.")] = None,
    beam: BeamOption = None,
) -> None:
    """Draw to PNG, SVG or PDF; needs matplotlib: pip install 's2s-cli[plot]'."""
    from s2s_cli.files import check_destinations, write_result

    check_destinations({"--output": output})
    from s2s_cli.report.drawing import draw
    from s2s_cli.score.request import Request

    request = Request(
        model=model,
        source=source,
        reference=tuple(reference or ()),
        hypothesis=tuple(hypothesis or ()),
        baseline=baseline,
        test=(test,) if test else (),
        beam=beam,
    )
    write_result(output, draw(kind, request, text, output, _say))


@config_app.command("show", epilog=_examples("s2s config show --config configs/demo.yaml --set model.dropout=0.1"))
def config_show(config: ConfigOption, set_: SetOption = None) -> None:
    """Print the resolved config: every key, its value, its meaning."""
    from s2s_cli.config_file import dump_config, load_config

    sys.stdout.write(dump_config(load_config(config, set_ or []), comments=True))


@config_app.command("schema", epilog=_examples("s2s config schema > s2s.schema.json"))
def config_schema() -> None:
    """Print the JSON schema of a config, for editors."""
    import json

    from s2s_cli.config_file import schema

    print(json.dumps(schema(), indent=2))


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # whoever read our standard error may have gone: the exit code still tells
        print(message, file=sys.stderr)


def main() -> NoReturn:
    """Runs the command; ends the process with the exit codes that `errors.py` lists."""
    from s2s_cli.signals import raise_on_signal

    raise_on_signal()
    _replace_closed_streams()
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_guarded())


_closed: set[str] = set()


def _replace_closed_streams() -> None:
    """Where a stream is closed, the next file to be opened would get its number. Input is then empty; what is written
    to standard output fails, as it must."""
    for number, name, flags in ((0, "stdin", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
            _closed.add(name)


def _discard_output() -> None:
    """What could not be written is tried again when the interpreter ends, and would change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _guarded() -> int:
    try:
        try:
            app(prog_name="s2s")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else UserError.exit_code
        sys.stdout.flush()
        return code
    except Stopped as error:
        _say(f"s2s: {error}")
        return error.exit_code
    except S2SError as error:
        _say(f"s2s: error: {error}")
        return error.exit_code
    except OSError as error:
        _discard_output()
        if error.errno == errno.EPIPE:
            return 128 + 13
        if error.errno in DISK_FAULTS or (error.errno == errno.EBADF and "stdout" in _closed):
            told = disk_error(error, "cannot write the output")
            _say(f"s2s: error: {told}")
            return told.exit_code
        traceback.print_exc()
        return INTERNAL_ERROR
    except Exception:
        traceback.print_exc()
        return INTERNAL_ERROR
