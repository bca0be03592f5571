"""All that there is to know of one run. What it translates with is verified as when it is loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s2s_cli.checkpoint import Checkpoint, offering_others
from s2s_cli.config import Config
from s2s_cli.data.tokenizer import fingerprint
from s2s_cli.errors import UserError
from s2s_cli.info.history import History, read_history
from s2s_cli.info.log import Logged, read_log
from s2s_cli.manifest import Manifest
from s2s_cli.run import FORMAT, RunDirectory, find_run, is_checkpoint, is_latest


@dataclass(frozen=True)
class Weights:
    """What a run translates with."""

    checkpoint: str
    sha256: str
    parts: Mapping[str, int]
    """Parameters of each part of the model; weights that are shared count once."""
    vocabulary: Mapping[str, int]
    """Pieces of each side; of features the width of a vector."""

    @property
    def parameters(self) -> int:
        """Of all parts."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class Saved:
    """A checkpoint."""

    name: str
    saved: float
    """When, in seconds since 1970."""
    bytes: int
    pointers: tuple[str, ...]
    """`best` and `last`, where they name it."""
    resumable: bool = False
    """Whether training can go on from here."""
    damage: str | None = None


@dataclass(frozen=True)
class Description:
    """A run."""

    path: Path
    config: Config
    version: str
    """Of the s2s that wrote it."""
    latest: bool
    tokenizer_sha256: str
    weights: Weights | None
    """None where it has no checkpoint yet."""
    history: History
    logged: Logged
    checkpoints: tuple[Saved, ...]
    bytes: Mapping[str, int]
    """On the disk: of its checkpoints, its tokenized text, its tokenizer, and all else."""

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        weights = {**asdict(self.weights), "parameters": self.weights.parameters} if self.weights else None
        return {
            "run": str(self.path),
            "s2s": self.version,
            "format": FORMAT,
            "latest": self.latest,
            "weights": weights,
            "tokenizer_sha256": self.tokenizer_sha256,
            "history": self.history.as_json(),
            "logged": asdict(self.logged),
            "checkpoints": [asdict(saved) for saved in self.checkpoints],
            "bytes": dict(self.bytes),
            "config": self.config.model_dump(mode="json"),
        }


def describe(path: Path | None) -> Description:
    """Reads a run.

    Args:
        path: the run, or one of its checkpoints; default: as for `find_model`.

    Raises:
        UserError: where there is none, or what it translates with is damaged.
    """
    run, used = find_run(path)
    config, tokenizer = run.read_config(), fingerprint(run.read_tokenizer_files())
    pointers = {name: run.pointer(name) for name in ("best", "last")}
    newest = pointers["last"] or used
    return Description(
        path=run.path,
        config=config,
        version=run.written_by(),
        latest=is_latest(run),
        tokenizer_sha256=tokenizer,
        weights=_weights(run, used, config, tokenizer) if used else None,
        history=read_history(run, config, Manifest(newest) if newest else None),
        logged=read_log(run.log_path),
        checkpoints=_checkpoints(run, pointers),
        bytes=_bytes(run),
    )


def _weights(run: RunDirectory, path: Path, config: Config, tokenizer: str) -> Weights:
    with offering_others(run, path, config, tokenizer, "name it instead"):
        checkpoint = Checkpoint(path, config, tokenizer)
        digest, shapes = checkpoint.model_sha256(), checkpoint.shapes()
    parts: dict[str, int] = {}
    for name, shape in shapes.items():
        part = "attention" if name.startswith("decoder.attention.") else name.split(".")[0]
        parts[part] = parts.get(part, 0) + math.prod(shape)
    axis = 0 if config.source.kind == "text" else 1
    try:
        vocabulary = {"source": shapes["source_embedding.weight"][axis], "target": shapes["output.bias"][0]}
    except (KeyError, IndexError):
        raise UserError(f"{path}: its weights do not fit this model") from None
    return Weights(path.name, digest, parts, vocabulary)


def _checkpoints(run: RunDirectory, pointers: Mapping[str, Path | None]) -> tuple[Saved, ...]:
    """All checkpoints, oldest first; of these, manifests alone are read."""
    found = []
    folder = run.checkpoints_path
    paths = [path for path in folder.iterdir() if is_checkpoint(path)] if folder.is_dir() else []
    for path in sorted(paths, key=lambda path: path.name.rpartition("-")[2]):
        named = tuple(name for name, target in pointers.items() if target and target.name == path.name)
        size = _size(path)
        with suppress(FileNotFoundError):  # a trainer has just removed it
            saved = path.stat().st_mtime
            try:
                found.append(Saved(path.name, saved, size, named, Manifest(path).resumable))
            except UserError as error:
                found.append(Saved(path.name, saved, size, named, damage=str(error)))
    return tuple(found)


def _bytes(run: RunDirectory) -> dict[str, int]:
    folders = (run.checkpoints_path, run.corpus_path, run.tokenizer_path)
    parts = {path.name: _size(path) for path in folders}
    inside = sum(parts[path.name] for path in folders if not path.is_symlink())
    return {**parts, "other": _size(run.path) - inside}


def _size(folder: Path) -> int:
    """Bytes of the files in a folder, no links in it followed; what a trainer has just removed counts no more."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total
