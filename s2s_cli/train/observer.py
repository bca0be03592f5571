"""What training tells whoever watches: a terminal, a log, a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Observer(Protocol):
    """Receives messages and figures; decides nothing."""

    def info(self, text: str) -> None:
        """A line for the user."""

    def warn(self, text: str) -> None:
        """A line that the user should not miss."""

    def logging_to(self, path: Path) -> AbstractContextManager[None]:
        """Inside, messages also go to a file."""

    def training(self) -> AbstractContextManager[None]:
        """Inside, updates are made."""

    def advance(self, share: float | None, step: int, figures: str) -> None:
        """An update was made; `share` of the way is done, where that is known."""

    def step(self, step: int, figures: str) -> None:
        """It is time for a line of figures."""

    def validation(self, step: int, scores: Mapping[str, float], best: bool, samples: Sequence[Sequence[str]]) -> None:
        """Scores of a validation, and a few triples of source, reference and translation."""
