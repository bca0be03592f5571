"""Pieces a second of a trained model's translations. A model that has hardly learned does not end its sentences."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks.corpus import Text
from benchmarks.measure import ENVIRONMENT, RESULTS, Figures
from benchmarks.training import model
from s2s_cli.config import EvaluationConfig
from s2s_cli.device import choose_precision
from s2s_cli.evaluate import compute_scores
from s2s_cli.translate.translator import Translator

MODELS = {
    "luong-general": model("lstm", "luong-general", feeding=False, tie_embeddings="all", embedding_dropout=0.0),
    "bahdanau": model("lstm", "bahdanau", feeding=True, tie_embeddings="all", embedding_dropout=0.0),
}
SETTINGS = [(1, 1), (1, 64), (1, 256), (5, 1), (5, 64), (5, 256)]  # beam, batch
SINGLE = 50  # sentences where each is a batch


def trained(text: Text, name: str, updates: int) -> Path:
    """A run of one of MODELS by the command line; a finished one is kept."""
    config = {
        "data": {side: pair.model_dump(mode="json", exclude_none=True) for side, pair in text.sides.items()},
        "tokenizer": text.tokenizer_config.model_dump(mode="json", exclude_defaults=True),
        "model": MODELS[name].model_dump(mode="json"),
        "training": {
            "max_steps": updates,
            "validate_every": updates,
            "validation_beam": 1,
            "batch_tokens": 2048,
            "learning_rate": 2e-3,
            "warmup_steps": 50,
        },
    }
    RESULTS.mkdir(exist_ok=True)
    stem = f"{text.name.split()[0].lower()}-{name}-{updates}"
    path = RESULTS / f"{stem}.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "s2s_cli", "train", "--config", path.name]
    subprocess.run(command, check=True, cwd=RESULTS, env=ENVIRONMENT)
    return RESULTS / "runs" / stem


def precisions() -> list[str]:
    """What decoding is measured in: bf16 too where the processor has it."""
    return ["fp32", "bf16"] if choose_precision("auto", torch.device("cpu")) == torch.bfloat16 else ["fp32"]


def measure(text: Text, run: Path, beam: int, batch: int, precision: str, repeats: int) -> Figures:
    """The rates of `Translator.translate`, start-up left out; pieces with the ends of sentences."""
    translator = Translator.load(run, beam=beam, batch_size=batch, precision=precision)
    lines = text.lines[: SINGLE if batch == 1 else len(text.lines)]
    translator.translate(lines[:batch])
    pieces, sentences = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        # One after the other, as they would come from a person; or all that there are.
        found = [translator.translate([s])[0] for s in lines] if batch == 1 else translator.translate(lines)
        taken = time.perf_counter() - began
        pieces.append(sum(best.length for best, *_ in found) / taken)
        sentences.append(len(lines) / taken)
    return {"tokens_per_second": round(median(pieces)), "sentences_per_second": round(median(sentences), 1)}


def agreement(text: Text, run: Path, beam: int, sentences: int) -> Figures:
    """How many of the first sentences bf16 translates as fp32 does, and the BLEU of each."""
    sources, references = text.lines[:sentences], text.references[:sentences]
    found = {}
    for precision in ("fp32", "bf16"):
        translator = Translator.load(run, beam=beam, precision=precision)
        found[precision] = [best.text for best, *_ in translator.translate(sources)]
    same = sum(a == b for a, b in zip(*found.values(), strict=True)) / len(sources)
    scores = {
        f"bleu_{name}": round(compute_scores(lines, [references], EvaluationConfig())["bleu"].value, 2)
        for name, lines in found.items()
    }
    return {"beam": beam, "the_same": round(same, 3), **scores}
