"""Training on several workers: how much of their speed is left, and what a network lets many have.

    python -m benchmarks.scaling measure    # 1 and 2 workers of one thread each, on this machine
    python -m benchmarks.scaling predict    # 8 to 512 workers, by arithmetic

A worker on its own computes an update in `seconds`; the gradients of `parameters` weights are 4 bytes each, and a ring
all-reduce sends 2 (n - 1) / n of them from each of n workers, in 2 (n - 1) rounds for each bucket of 8 MiB (Patarasuk
and Yuan 2009; Li et al. 2020). All but the last bucket travel during the backward pass, two thirds of an update. Two
more rings of n - 1 rounds agree on figures. All wait for the worker with the largest share.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.corpus import Text, read_text
from benchmarks.measure import ENVIRONMENT, Figures
from benchmarks.training import SIZES
from s2s_cli.distributed import BUCKET_MB

BACKWARD = 2 / 3
"""Of an update's time: a backward pass has twice the products of a forward pass."""
UNEVEN = 1.07
"""The largest share beside the mean one, in tokens with padding: of 8 workers on Multi30k, with a batch each."""
NETWORKS = {"1 Gb/s": (1e9 / 8, 50e-6), "10 Gb/s": (1e10 / 8, 30e-6), "100 Gb/s": (1e11 / 8, 10e-6)}
"""Bytes a second between two workers, and seconds of one round."""
WORKERS = (8, 16, 32, 64, 128, 256, 512)
app = typer.Typer(add_completion=False)


def bytes_sent(parameters: int, workers: int) -> float:
    """What each worker sends in an update."""
    return 2 * (workers - 1) / workers * 4 * parameters


def efficiency(seconds: float, parameters: int, workers: int, bandwidth: float, latency: float) -> float:
    """What is left of the workers' speed, from 0 to 1, where each has a batch of its own.

    Args:
        seconds: of an update of one worker on its own.
        parameters: of the model.
        workers: how many, of equal speed.
        bandwidth, latency: of the network.
    """
    buckets = max(1, math.ceil(4 * parameters / (BUCKET_MB * 2**20)))
    reduction = bytes_sent(parameters, workers) / bandwidth + buckets * 2 * (workers - 1) * latency
    hidden = min(reduction * (buckets - 1) / buckets, BACKWARD * seconds)
    agreement = 2 * (workers - 1) * latency
    return seconds / (UNEVEN * seconds + reduction - hidden + agreement)


@app.command()
def predict(
    seconds: Annotated[float, typer.Option(help="Of an update of one worker on its own.")],
    parameters: Annotated[int, typer.Option(help="Of the model.")],
) -> None:
    """What is left of the speed of 8 to 512 workers, by arithmetic."""
    print(f"{parameters:,} parameters, {seconds:g} s an update; MB sent by each: ", end="")
    print(", ".join(f"{bytes_sent(parameters, n) / 1e6:.1f} ({n})" for n in (2, WORKERS[0], WORKERS[-1])))
    print("| network |" + "".join(f" {n} |" for n in WORKERS) + "\n|---|" + "---|" * len(WORKERS))
    for name, (bandwidth, latency) in NETWORKS.items():
        shares = [efficiency(seconds, parameters, n, bandwidth, latency) for n in WORKERS]
        print(f"| {name} |" + "".join(f" {share:.0%} |" for share in shares))


@app.command()
def measure(
    updates: Annotated[int, typer.Option(help="Updates that are timed, after a third as many that are not.")] = 60,
    workers: Annotated[int, typer.Option(help="The most workers; each has one thread.")] = 2,
    batch_tokens: Annotated[int, typer.Option(help="training.batch_tokens.")] = 2048,
) -> None:
    """Trains by 1 worker and by several, each with a batch of its own, and all with one batch together."""
    text = read_text()
    rows = [train(text, 1, 1, updates, batch_tokens)]
    for size in range(2, workers + 1):
        rows += [train(text, size, size, updates, batch_tokens), train(text, size, 1, updates, batch_tokens)]
    print(f"{text.name}, {rows[0]['parameters']:,} parameters, batches of {batch_tokens:,} tokens, one thread each")
    print("| workers | batches an update | pieces/s | efficiency | s an update | MB an update on the loopback |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        left = row["rate"] / row["workers"] / rows[0]["rate"]
        print(
            f"| {row['workers']} | {row['batches']} | {row['rate']:,.0f} | {left:.0%} | {row['seconds']:.3f} "
            f"| {row['megabytes']:.1f} |"
        )


def train(text: Text, workers: int, batches: int, updates: int, batch_tokens: int) -> Figures:
    """A training by torchrun; its figures are those of its log, from the first line on."""
    skipped = math.ceil(updates / 3)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "scaling.yaml"
        config.write_text(json.dumps(_config(text, batches, skipped, batch_tokens)), encoding="utf-8")
        before = _loopback_bytes()
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(workers)]
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "-m", "s2s_cli", "train", "--config", str(config)],
            cwd=folder,
            env={**ENVIRONMENT, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        sent = _loopback_bytes() - before
        if done.returncode:
            sys.exit(done.stderr)
        logged = (Path(folder) / "runs" / "scaling" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    first, last = (row for row in map(json.loads, logged) if "loss" in row and row["step"] in (skipped, skipped * 4))
    taken = last["seconds"] - first["seconds"]
    parameters = next(line for line in done.stderr.splitlines() if line.startswith("model: "))
    return {
        "workers": workers,
        "batches": batches,
        "parameters": int(parameters.split()[1].replace(",", "")),
        "rate": (last["tokens"] - first["tokens"]) / taken,
        "seconds": taken / (last["step"] - first["step"]),
        "megabytes": sent / last["step"] / 1e6,
    }


def _config(text: Text, batches: int, skipped: int, batch_tokens: int) -> dict[str, Any]:
    sides = {
        name: {side: str(getattr(files, side)) for side in ("source", "target")} for name, files in text.sides.items()
    }
    return {
        "data": sides,
        "tokenizer": text.tokenizer_config.model_dump(exclude_defaults=True),
        "model": {**SIZES, "tie_embeddings": "all"},
        "training": {
            "max_steps": skipped * 4,
            "validate_every": 10**6,
            "log_every": skipped,
            "batch_tokens": batch_tokens,
            "accumulate": batches,
            "validation_beam": 1,
        },
    }


def _loopback_bytes() -> int:
    """What was sent to this machine itself since it started; Linux alone."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[9]) for line in lines if line.strip().startswith("lo:")), 0)


if __name__ == "__main__":
    app()
