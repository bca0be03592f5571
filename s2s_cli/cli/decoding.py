"""Options that are keys of a run's decoding section: left out, they leave the key as it is."""

from __future__ import annotations

from typing import Annotated

import typer

NBest = Annotated[int | None, typer.Option("--n-best", metavar="N", help="N lines for each: index ||| text ||| score.")]
Search = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="beam, diverse (groups of beams) or sampling. Default: the run's."),
]
Stopping = Annotated[str | None, typer.Option(metavar="NAME", help="When a beam ends: early, full or exact.")]
LengthPenalty = Annotated[
    float | None,
    typer.Option(metavar="ALPHA", help="How much scores make up for length: more favours longer; 0 is off."),
]
Normalization = Annotated[
    str | None, typer.Option(metavar="NAME", help="Scores are divided by gnmt's length penalty, average or none.")
]
CoveragePenalty = Annotated[
    float | None, typer.Option(metavar="BETA", help="Against leaving parts of the source out; 0 is off.")
]
BeamGroups = Annotated[
    int | None, typer.Option(metavar="G", help="diverse: groups of the beam. Default: of one hypothesis each.")
]
Diversity = Annotated[
    float | None, typer.Option(metavar="X", help="diverse: what a piece loses for each group that chose it.")
]
Samples = Annotated[int | None, typer.Option(metavar="N", help="sampling: translations drawn for each line.")]
Temperature = Annotated[float | None, typer.Option(metavar="T", help="sampling: below 1 the probable becomes more so.")]
TopK = Annotated[int | None, typer.Option(metavar="K", help="sampling: among the K most probable pieces.")]
TopP = Annotated[
    float | None, typer.Option(metavar="P", help="sampling: among the fewest pieces of probability P together.")
]
MinP = Annotated[
    float | None,
    typer.Option(metavar="P", help="sampling: among pieces of at least P times the best one's probability."),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="sampling: other seeds draw otherwise.")]
Mbr = Annotated[
    bool | None,
    typer.Option("--mbr/--no-mbr", help="Give what agrees most with all that was found (minimum Bayes risk, chrF)."),
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(metavar="X", help="Over 1: pieces that were said are less probable.")
]
NoRepeatNgram = Annotated[
    int | None, typer.Option(metavar="N", help="No sequence of N pieces occurs twice in a translation.")
]
MinLength = Annotated[int | None, typer.Option(metavar="N", help="Least pieces of a translation.")]
MinLengthRatio = Annotated[float | None, typer.Option(metavar="X", help="Least pieces for each piece of the source.")]
MaxLength = Annotated[int | None, typer.Option(metavar="N", help="Most pieces of a translation.")]
MaxLengthRatio = Annotated[
    float | None,
    typer.Option(metavar="X", help="Most pieces for each piece of the source (and ten more, a hundred for vectors)."),
]
MaxSourceLength = Annotated[
    int | None, typer.Option(metavar="N", help="Sources of more pieces or vectors are cut, with a warning.")
]
AllowUnknown = Annotated[
    bool | None,
    typer.Option("--allow-unknown/--no-allow-unknown", help="Let the unknown piece stand in translations."),
]
Precision = Annotated[str | None, typer.Option(metavar="NAME", help="fp32, bf16 or auto.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.")]
