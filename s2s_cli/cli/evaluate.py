"""`s2s evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2s_cli.cli.app import BatchOption, BeamOption, ModelOption, OfOneModel, PlainOption, app, examples, say
from s2s_cli.errors import GATE_MISSED, UserError

if TYPE_CHECKING:
    from s2s_cli.score.result import Outcome


@app.command(
    cls=OfOneModel,
    short_help="Score a model, or files of translations, and judge them.",
    epilog=examples(
        "s2s evaluate --min bleu=30",
        "s2s evaluate --hypothesis out.txt --reference ref.txt --json scores.json",
        "s2s evaluate --model runs/new --baseline runs/old --fail-on regression",
        "s2s evaluate --beam 10 --set decoding.length_penalty=1.5",
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
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="decoding.KEY=VALUE", help="Translate with another setting. Repeatable."),
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
    plain: PlainOption = False,
) -> None:
    """Score a model on its test sets, or files of translations; --min and --baseline make it a gate for a build.

    By torchrun, several workers share what is to be translated.

    Exit codes: 0 all gates passed; 1 one was missed; 2 something cannot be judged.
    """
    from s2s_cli.errors import suggest

    if fail_on not in (None, "regression"):
        raise UserError(f"--fail-on {fail_on}: {suggest(fail_on, ['regression'])}")
    if details and json_ == "-":
        raise UserError("--details has no use with --json -, which alone is printed then: leave it out, or name a file")
    from s2s_cli.score.evaluator import Evaluator, named_file
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
        set=tuple(set_ or ()),
        beam=beam,
        batch_size=batch_size,
        output=output,
        use_cache=not no_cache,
    )
    from s2s_cli import ci
    from s2s_cli.dispatch import sharing
    from s2s_cli.display import json_file, print_details, print_outcome, write_json
    from s2s_cli.files import check_destinations, write_result
    from s2s_cli.report.page import render

    def tell(outcome: Outcome) -> None:
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
        ci.report_to_github(outcome, say)

    with sharing() as dispatcher:
        workers = dispatcher.workers
        with workers.in_turn():
            written = {"--json": json_file(json_), "--junit": junit}
            written |= {"--report": report, "--output": output}
            read = [("--hypothesis", named_file(text).path) for text in request.hypothesis]
            read += [("--reference", path) for path in request.reference]
            read += [("--baseline", Path(baseline))] if baseline else []
            check_destinations(written, [*read, ("--source", source)])
            evaluator = Evaluator(request, say if workers.first else lambda _: None, dispatcher)
            check_destinations(
                written, [(f"test set {test.name}", path) for test in evaluator.tests for path in test.paths]
            )
        translated = evaluator.translate()
        passed = True
        with workers.together(patient=True):
            if workers.first:
                outcome = evaluator.judge(translated)
                tell(outcome)
                passed = outcome.passed
        passed = workers.of_first(passed)
    if not passed:
        raise typer.Exit(GATE_MISSED)
