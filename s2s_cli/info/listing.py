"""The runs of a folder at a glance. It needs no torch, so that it is quick."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from s2s_cli.errors import UserError
from s2s_cli.files import is_there
from s2s_cli.info.history import History, read_history
from s2s_cli.manifest import Manifest
from s2s_cli.run import RUNS, RunDirectory, is_latest


@dataclass(frozen=True)
class Listed:
    """A run; None where it does not tell."""

    name: str
    latest: bool
    """Whether it is the one that is used where none is named."""
    changed: float
    """When its newest checkpoint was saved, in seconds since 1970."""
    history: History | None = None
    parameters: int | None = None
    damage: str | None = None
    """Why it cannot be read; nothing else is known then."""

    def as_json(self) -> dict[str, Any]:
        """All of it, the validations left out."""
        history = self.history.as_json() if self.history else {"state": "damaged"}
        history.pop("validations", None)
        return {**asdict(self), "history": history}


def list_runs(folder: Path = RUNS) -> list[Listed]:
    """The runs of a folder, the newest first; one that is damaged says why.

    Weights are not hashed for it: what `s2s info RUN` finds damaged may look whole here.

    Raises:
        UserError: where the folder cannot be read.
    """
    try:
        runs = [RunDirectory(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    except OSError as error:
        raise UserError(f"{folder}: cannot read it: {error.strerror}") from None
    found = [_look(run) for run in runs if run.exists or is_there(run.checkpoints_path)]
    return sorted(found, key=lambda one: (-one.changed, one.name))


def _look(run: RunDirectory) -> Listed:
    name, latest, changed = run.path.name, is_latest(run), run.path.stat().st_mtime
    try:
        config = run.read_config()
        last, best = run.pointer("last"), run.pointer("best")
        newest, used = (Manifest(path) if path else None for path in (last or best, best or last))
        if newest:
            changed = newest.path.stat().st_mtime
        parameters = sum(map(math.prod, used.shapes().values())) if used else None
        return Listed(name, latest, changed, read_history(run, config, newest), parameters)
    except UserError as error:
        return Listed(name, latest, changed, damage=str(error).splitlines()[0])
    except OSError as error:
        return Listed(name, latest, changed, damage=f"{error.filename}: cannot read it: {error.strerror}")
