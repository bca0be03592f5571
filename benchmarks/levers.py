"""What each lever gives: trainings that differ from a preset in one thing, judged on validation text alone.

MULTI30K_DIR=... python -m benchmarks.levers    # trains what is missing and prints the table
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import yaml

from benchmarks.claims.runner import Commands, Failed, side_by_side
from benchmarks.measure import ROOT, Figures, about
from s2s_cli.files import json_sha256, write_atomically
from s2s_cli.run import read_metrics
from s2s_cli.signals import raise_on_signal

CONFIG = ROOT / "configs" / "multi30k-en-de.yaml"
KEPT = ROOT / "docs" / "levers.json"
UPDATES = 4000
SEEDS = (1, 2)
LEVERS: dict[str, tuple[str, ...]] = {
    "the preset": (),
    "vocabulary of 3,000": ("tokenizer.vocab_size=3000",),
    "vocabulary of 10,000": ("tokenizer.vocab_size=10000",),
    "subword sampling, alpha 0.3": ("tokenizer.sampling.alpha=0.3",),
    "subword sampling of sources, alpha 0.3": ("tokenizer.sampling.alpha=0.3", "tokenizer.sampling.sides=source"),
    "dropout 0.1": ("model.dropout=0.1",),
    "dropout 0.3": ("model.dropout=0.3",),
    "no embedding dropout": ("model.embedding_dropout=0",),
    "word dropout 0.1": ("model.word_dropout=0.1",),
    "no label smoothing": ("training.label_smoothing=0",),
    "label smoothing 0.2": ("training.label_smoothing=0.2",),
    "layer normalization": ("model.encoder.layer_norm=true", "model.decoder.layer_norm=true"),
    "three layers, residual": (
        "model.encoder.layers=3",
        "model.decoder.layers=3",
        "model.encoder.residual=true",
        "model.decoder.residual=true",
    ),
    "embeddings not tied": ("model.tie_embeddings=none", "model.readout_size=256"),
    "batches of 512 tokens, twice the updates": ("training.batch_tokens=512", f"training.max_steps={2 * UPDATES}"),
    "batches of 2,048 tokens, half the updates": ("training.batch_tokens=2048", f"training.max_steps={UPDATES // 2}"),
    "learning rate 1e-3": ("training.learning_rate=1e-3",),
    "learning rate 3e-3": ("training.learning_rate=3e-3",),
    "inverse square root": ("training.schedule=inverse-sqrt",),
    "no R-Drop, twice the updates": ("training.r_drop=0", f"training.max_steps={2 * UPDATES}"),
    "no R-Drop": ("training.r_drop=0",),
    "R-Drop of weight 0.5": ("training.r_drop=0.5",),
    "R-Drop of weight 2": ("training.r_drop=2",),
    "bpe": ("tokenizer.type=bpe",),
    "no dropout of encoder states": ("model.encoder_dropout=0",),
    "variational dropout": ("model.variational_dropout=true",),
    "recurrent dropout 0.1": ("model.recurrent_dropout=0.1",),
    "one layer": ("model.encoder.layers=1", "model.decoder.layers=1", "model.decoder.attend_after=last"),
    "GRU": ("model.encoder.cell=gru", "model.decoder.cell=gru"),
    "lexical decoder": ("model.decoder.lexical=true",),
    "input feeding": ("model.decoder.input_feeding=true",),
    "attention after the last layer": ("model.decoder.attend_after=last",),
    "eight heads": ("model.attention=multi-head", "model.attention_heads=8"),
}


@dataclass(frozen=True)
class Lever:
    """One change of the preset, by one seed."""

    name: str
    seed: int

    @property
    def key(self) -> str:
        """Under which its figure is kept: the preset's settings as they are now, and all that differs from them."""
        preset = f"{CONFIG.stem} {json_sha256(yaml.safe_load(CONFIG.read_bytes()))[:12]}"
        return f"{preset}, {UPDATES:,} updates, seed {self.seed}: {' '.join(LEVERS[self.name])}"


def measure(commands: Commands, lever: Lever, data: Path) -> Figures:
    """Trains and scores one on one thread: BLEU of the validation text by the preset's beam, and what it cost.

    The last weights are scored, so that none is the best of more than another.
    """
    with tempfile.TemporaryDirectory(dir=commands.work) as folder:
        run, scores = Path(folder) / "run", Path(folder) / "scores.json"
        once = f"training.validate_every={2 * UPDATES}"  # at the end alone: none is trained for longer
        changes = (f"training.max_steps={UPDATES}", once, f"training.seed={lever.seed}", *LEVERS[lever.name])
        options = [part for change in changes for part in ("--set", change)]
        commands.run("s2s_cli", "train", "--config", str(CONFIG), "--run", str(run), *options)
        sides = ("--source", str(data / "val.en"), "--reference", str(data / "val.de"))
        commands.run("s2s_cli", "evaluate", "--model", str(run), *sides, "--metric", "bleu", "--json", str(scores))
        bleu = json.loads(scores.read_bytes())["scores"]["bleu"]
        trained = read_metrics(run / "metrics.jsonl")[-1]
    return {"bleu": round(bleu["value"], 2), "signature": bleu["signature"], "seconds": round(trained["seconds"])}


def table(kept: Mapping[str, Figures]) -> str:
    """Markdown: each lever beside the preset, the best first."""
    scores, seconds = {}, {}
    for name in LEVERS:
        found = [kept[lever.key] for lever in (Lever(name, seed) for seed in SEEDS) if lever.key in kept]
        if found:
            scores[name], seconds[name] = ([one[key] for one in found] for key in ("bleu", "seconds"))
    first = next(iter(LEVERS))
    lines = ["| | validation BLEU, seed by seed | beside the preset | minutes |", "|---|---|---|---|"]
    for name in sorted(scores, key=lambda name: -mean(scores[name])):
        each = ", ".join(f"{score:.2f}" for score in scores[name])
        gain = "" if name == first else f"{mean(scores[name]) - mean(scores[first]):+.2f}"
        lines.append(f"| {name} | {each} | {gain} | {mean(seconds[name]) / 60:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures what is missing, each figure kept as soon as it is there, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=LEVERS, metavar="LEVER", help="may be repeated")
    parser.add_argument("--at-once", type=int, default=2, metavar="N", help="trainings of one thread each (default: 2)")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    asked = parser.parse_args()
    kept: dict[str, Figures] = json.loads(KEPT.read_bytes()) if KEPT.exists() else {}
    wanted = [Lever(name, seed) for seed in SEEDS for name in (asked.only or LEVERS)]
    missing = [] if asked.table else [lever for lever in wanted if lever.key not in kept]
    if missing:
        work = ROOT / "build" / "levers"
        work.mkdir(parents=True, exist_ok=True)
        commands, lock, data = Commands(work), threading.Lock(), Path(os.environ["MULTI30K_DIR"]).resolve()
        here = about()

        def keep(lever: Lever) -> None:
            try:
                found = measure(commands, lever, data)
            except Failed as error:  # the others go on
                said = str(error)
            else:
                with lock:
                    kept[lever.key] = {**found, "about": here}
                    write_atomically(KEPT, f"{json.dumps(kept, indent=1, sort_keys=True)}\n".encode())
                said = f"{found['bleu']:.2f}"
            print(f"{lever.name}, seed {lever.seed}: {said}", file=sys.stderr, flush=True)

        raise_on_signal()
        side_by_side(commands, keep, missing, asked.at_once)
    print(table(kept), end="")
    if any(lever.key not in kept for lever in missing):
        sys.exit(1)


if __name__ == "__main__":
    main()
