"""How a run came to be, from what training left in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from s2s_cli.config import Config, better
from s2s_cli.errors import Damaged
from s2s_cli.manifest import STATE, Manifest
from s2s_cli.run import RunDirectory, figure, figures, read_metrics
from s2s_cli.train.progress import Progress

STATES = {
    "begun": "it has no checkpoint yet",
    "being trained": "a trainer holds it now",
    "unfinished": "the same `s2s train` goes on with it",
    "finished": "a limit was reached",
    "averaged": "made by `s2s average`",
    "weights alone": "what training needs was left out",
}


@dataclass(frozen=True)
class Origin:
    """A checkpoint that went into an average."""

    run: str
    checkpoint: str
    sha256: str
    """Of its weights."""


@dataclass(frozen=True)
class Validation:
    """A validation in training."""

    step: int
    epoch: float | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class History:
    """What training left behind; None where it does not tell."""

    state: str
    """One of STATES."""
    reason: str | None
    """Which limit ended it."""
    step: int | None
    epochs: float | None
    target_pieces: int | None
    """Target pieces trained on, the ends of sentences included."""
    seconds: float | None
    """In updates alone..."""
    elapsed: float | None
    """... and in all."""
    monitor: str
    best: float | None
    """The best value of the monitored score."""
    best_checkpoint: str | None
    validations: tuple[Validation, ...]
    origins: tuple[Origin, ...]
    """Of an average."""

    @property
    def pieces_per_second(self) -> float | None:
        """Target pieces a second of updates."""
        return self.target_pieces / self.seconds if self.target_pieces and self.seconds else None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "pieces_per_second": self.pieces_per_second}


@dataclass(frozen=True)
class _Position:
    epoch: int


@dataclass(frozen=True)
class _Saved:
    """What is read of a `state.json`."""

    progress: Progress | None = None
    sampler: _Position | None = None
    average: tuple[Origin, ...] = ()


@cache
def _reader() -> TypeAdapter[_Saved]:
    return TypeAdapter(_Saved)


def read_history(run: RunDirectory, config: Config, last: Manifest | None) -> History:
    """What training left in a run.

    Args:
        run: the run.
        config: of the run.
        last: its newest checkpoint, if it has one.

    Raises:
        UserError: where something is damaged.
    """
    rows = read_metrics(run.metrics_path)
    saved = _read_state(last) if last else _Saved()
    progress = saved.progress
    validations = tuple(_validations(rows))
    epochs = max((epoch for row in rows if (epoch := figure(row.get("epoch"))) is not None), default=None)
    if progress is None:
        best, step = _best(config.monitor, validations), int(last.path.name.rpartition("-")[2]) if last else None
    else:
        best, step = progress.best, progress.step
    reason = progress.finished(config, saved.sampler.epoch if saved.sampler else 0) if progress else None
    return History(
        state=_state(run, last, saved, reason),
        reason=reason,
        step=step,
        epochs=epochs,
        target_pieces=progress.tokens if progress else None,
        seconds=progress.seconds if progress else None,
        elapsed=progress.elapsed if progress else None,
        monitor=config.monitor,
        best=best,
        best_checkpoint=progress.best_checkpoint if progress else None,
        validations=validations,
        origins=saved.average,
    )


def _read_state(checkpoint: Manifest) -> _Saved:
    if not checkpoint.holds(STATE):
        return _Saved()
    try:
        return _reader().validate_python(checkpoint.state())
    except ValidationError:
        raise Damaged(f"{checkpoint.path / STATE}: this is not what training saves") from None


def _state(run: RunDirectory, last: Manifest | None, saved: _Saved, reason: str | None) -> str:
    if run.is_being_trained():
        return "being trained"
    if last is None:
        return "begun"
    if saved.average:
        return "averaged"
    if saved.progress is None:
        return "weights alone"
    return "finished" if reason else "unfinished"


def _validations(rows: Iterable[Mapping[str, Any]]) -> Iterable[Validation]:
    for row in rows:
        if isinstance(row.get("scores"), dict):
            yield Validation(row["step"], figure(row.get("epoch")), figures(row["scores"]))


def _best(monitor: str, validations: Iterable[Validation]) -> float | None:
    best = None
    for validation in validations:
        value = validation.scores.get(monitor)
        if value is not None and better(monitor, value, best):
            best = value
    return best
