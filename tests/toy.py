"""A tiny task that needs order and memory: copy a row of letters, or reverse it, as the first word says.

The same task comes as feature vectors: a vector for each word.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import forks
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from s2s_cli.cli.main import app
from s2s_cli.device import has_bf16

needs_bf16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this processor cannot compute in bf16")
LETTERS = "abcdefgh"
WORDS = ("copy", "reverse", *LETTERS)


def pairs(count: int, seed: int, longest: int = 4) -> list[tuple[str, str]]:
    """Distinct pairs such as ("reverse a b c", "c b a")."""
    generator = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        letters = [generator.choice(LETTERS) for _ in range(generator.randint(1, longest))]
        task = generator.choice(("copy", "reverse"))
        found[f"{task} {' '.join(letters)}"] = " ".join(letters if task == "copy" else letters[::-1])
    return list(found.items())


def write_corpus(folder: Path, train: int = 1500, held_out: int = 60, longest: int = 4) -> None:
    """Writes {train,valid,test}.{src,tgt}; no source stands in two of them."""
    rows = pairs(train + 2 * held_out, seed=1, longest=longest)
    rows = sorted(rows, key=lambda row: row[0])
    random.Random(2).shuffle(rows)
    parts = {"valid": rows[:held_out], "test": rows[held_out : 2 * held_out], "train": rows[2 * held_out :]}
    for name, part in parts.items():
        for column, side in enumerate(("src", "tgt")):
            text = "".join(f"{row[column]}\n" for row in part)
            (folder / f"{name}.{side}").write_text(text, encoding="utf-8")


def vectors(lines: list[str], seed: int = 1) -> list[torch.Tensor]:
    """For each line a vector for each of its words: all ones at the word's place, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for line in lines:
        clean = torch.eye(len(WORDS))[[WORDS.index(word) for word in line.split()]].view(-1, len(WORDS))
        found.append(clean + 0.05 * torch.randn(clean.shape, generator=generator))
    return found


def write_vectors(path: Path, items: list[torch.Tensor]) -> None:
    """Items of any lengths, one after the other."""
    lengths = torch.tensor([len(item) for item in items])
    safetensors.torch.save_file({"features": torch.cat(items), "lengths": lengths}, path)


def write_features(folder: Path) -> None:
    """Writes {train,valid,test}.safetensors beside the text that they stand for."""
    for name in ("train", "valid", "test"):
        lines = (folder / f"{name}.src").read_text(encoding="utf-8").splitlines()
        write_vectors(folder / f"{name}.safetensors", vectors(lines))


def of_features(**changes: Any) -> dict[str, Any]:
    """Changes to `config`, so that its sources are feature vectors."""
    data = {
        f"data__{name}": {"source": f"{name}.safetensors", "target": f"{name}.tgt"}
        for name in ("train", "valid", "test")
    }
    return {**data, "source": {"kind": "features", "size": len(WORDS)}, **changes}


def config(**changes: Any) -> dict[str, Any]:
    """A config that learns the task in seconds; `changes` are `section__key=value`."""
    settings: dict[str, Any] = {
        "data": {
            "train": {"source": "train.src", "target": "train.tgt"},
            "valid": {"source": "valid.src", "target": "valid.tgt"},
            "test": {"source": "test.src", "target": "test.tgt"},
        },
        "tokenizer": {"type": "word", "vocab_size": 100},
        "model": {
            "encoder": {"hidden_size": 32},
            "decoder": {"hidden_size": 64},
            "embedding_size": 32,
            "dropout": 0.0,
        },
        "training": {
            "max_steps": 20,
            "validate_every": 10,
            "batch_tokens": 256,
            "learning_rate": 5e-3,
            "label_smoothing": 0.0,
            "precision": "fp32",
            "log_every": 5,
            "samples": 1,
        },
        "decoding": {"beam": 2},
        "evaluation": {"tokenize": "none"},
    }
    for key, value in changes.items():
        *sections, name = key.split("__")
        place = settings
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return settings


def write_config(folder: Path, **changes: Any) -> Path:
    """Writes corpus and config; JSON is YAML too."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "train.src").exists():
        write_corpus(folder)
        write_features(folder)
    path = folder / "toy.yaml"
    path.write_text(json.dumps(config(**changes)), encoding="utf-8")
    return path


def s2s(
    *arguments: object, cwd: Path, stdin: bytes = b"", timeout: float = 300, fresh: bool = False, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Runs the real command; fails only by its exit code.

    Args:
        arguments: of the command.
        cwd, stdin, environment: where it runs, what it reads, and what it finds there.
        timeout: seconds.
        fresh: in a new interpreter; see `forks.py`.
    """
    words = list(map(str, arguments))
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **environment}
    variables.pop("S2S_MODEL", None) if "S2S_MODEL" not in environment else None
    if not fresh:
        return forks.s2s(words, cwd, stdin, timeout, variables)
    command = [sys.executable, "-m", "s2s_cli", *words]
    return subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, env=variables, timeout=timeout)


def invoke(*arguments: object) -> BaseException | None:
    """Runs the command in this process, since to start one for each case would take minutes: how it ended."""
    with patch("s2s_cli.signals.end_quietly_on_closed_pipe"):
        return CliRunner().invoke(app, [str(argument) for argument in arguments]).exception


def metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
