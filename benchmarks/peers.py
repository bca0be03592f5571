"""s2s and another system in turn, the ratio of the medians: `python -m benchmarks.peers --help`.

A peer is any program that takes `train` or `translate` and prints, as its last line, a JSON object with
`target_tokens_per_s`: pieces with the ends of sentences and without padding, start-up left out.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from statistics import median
from typing import Annotated

import typer

from benchmarks import decoding, training
from benchmarks.corpus import read_text
from benchmarks.measure import Figures, machine

MODELS = {
    "additive": training.model("lstm", "bahdanau", feeding=True, readout_size=512),
    "general": training.model("lstm", "luong-general", feeding=False, readout_size=512),
}
"""As wide before the output as the peers' models; those always feed back."""


def main(
    program: Annotated[Path, typer.Option(help="The program that measures a peer.")],
    python: Annotated[Path, typer.Option(help="The interpreter of the peers' environment.")],
    peer: Annotated[str, typer.Option(help="The peer's name, given to the program as --peer.")],
    phase: Annotated[str, typer.Option(help="train or translate.")] = "train",
    attention: Annotated[str, typer.Option(help="train: additive (fed back on both sides) or general.")] = "additive",
    tokens: Annotated[int, typer.Option(help="train: tokens a batch.")] = 2048,
    precision: Annotated[str, typer.Option(help="Ours: fp32, bf16 or auto.")] = "auto",
    beam: Annotated[int, typer.Option(help="translate: the beam.")] = 1,
    batch: Annotated[int, typer.Option(help="translate: sentences at once.")] = 64,
    rounds: Annotated[int, typer.Option(help="Measurements of each.")] = 3,
    learn: Annotated[int, typer.Option(help="translate: updates of our model, which is kept.")] = 400,
) -> None:
    """Measure s2s and a peer in turn. Let nothing else run meanwhile."""
    text = read_text()
    run = decoding.trained(text, "luong-general", learn) if phase == "translate" else None
    command = [str(python), str(program), phase, "--peer", peer]
    settings: Figures = {"beam": beam, "batch": batch} if run else {"attention": attention, "tokens": tokens}
    for name, value in settings.items():
        command += [f"--{name}", str(value)]
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        output = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ)).stdout
        theirs.append(json.loads(output.splitlines()[-1])["target_tokens_per_s"])
        if run:
            found = decoding.measure(text, run, beam, batch, precision, 1)
        else:
            found = training.measure(text, MODELS[attention], tokens, 30, precision)
        ours.append(found["tokens_per_second"])
        typer.echo(f"{peer} {theirs[-1]:,.0f}, s2s {ours[-1]:,.0f}", err=True)
    figures: Figures = {"peer": peer, "phase": phase, "theirs": median(theirs), "ours": median(ours)}
    ratio = round(median(ours) / median(theirs), 2)
    figures |= {**settings, "precision": found.get("precision", precision), "ratio": ratio, "rounds": rounds}
    typer.echo(json.dumps({**figures, "machine": machine()}))


if __name__ == "__main__":
    typer.run(main)
