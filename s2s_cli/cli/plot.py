"""`s2s plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2s_cli.cli.app import BeamOption, ModelOption, OfOneModel, app, examples, say


@app.command(
    cls=OfOneModel,
    short_help="Draw a learning curve, scores by length, or an attention map.",
    epilog=examples(
        "s2s plot curve -o curve.png",
        "s2s plot attention --text 'A man is sleeping.' -o map.svg",
        "s2s plot attention --source test.safetensors --line 3 -o map.png",
        "s2s plot length --model runs/new --baseline runs/old -o length.png",
        "s2s plot length --hypothesis a=a.txt --source src.txt --reference ref.txt -o length.png",
    ),
)
def plot(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="curve, attention, length, rarity or position.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Ends in .png, .svg or .pdf.")],
    model: ModelOption = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="The sentence of an attention map.")] = None,
    line: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="... or its number in --source, from 1.", show_default=False)
    ] = None,
    source: Annotated[Path | None, typer.Option(metavar="FILE", help="Source sentences, or feature vectors.")] = None,
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
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="For length: bleu or chrf. Default: bleu.", show_default=False)
    ] = None,
    tokenize: Annotated[
        str | None, typer.Option(metavar="NAME", help="BLEU's tokenizer, as for s2s evaluate.", show_default=False)
    ] = None,
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
        metric=(metric,) if metric else (),
        tokenize=tokenize,
        beam=beam,
    )
    write_result(output, draw(kind, request, output, say, text, line))
