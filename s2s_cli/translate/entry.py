"""What goes into a translator and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from threading import Lock

from torch import Tensor

from s2s_cli.config import DecodingConfig
from s2s_cli.data.corpus import Source
from s2s_cli.errors import UserError

MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One source, and what is asked of its translation."""

    source: Source
    cut: bool = False
    """Whether the source is only the beginning of one too long."""


@dataclass(frozen=True)
class Translation:
    """One of the translations of a line or an item."""

    text: str
    score: float
    """What it is ranked by: its log-probability in nats over the length penalty; 0 for a blank line."""
    ids: tuple[int, ...] = ()
    """Target pieces, the end of sentence left out."""
    token_scores: tuple[float, ...] = ()
    """The log-probability of each piece and of the end of sentence, in nats; none for a blank line."""
    source_pieces: tuple[str, ...] = ()
    target_pieces: tuple[str, ...] = ()
    attention: Tensor | None = None
    """Weights (target pieces, source pieces), both with the end of sentence, where they were asked for."""

    @property
    def length(self) -> int:
        """Target pieces, the end of sentence included; 0 for a blank line."""
        return len(self.token_scores)


@dataclass
class Notices:
    """Counts of what was done to the input, by any number of threads."""

    lines: int = 0
    """Of the input, or items."""
    sources: int = 0
    """What was translated; the sentences, where lines were divided into them."""
    repaired: int = 0
    damaged: int = 0
    cut: int = 0
    ended: int = 0
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def add(
        self, *, lines: int = 0, sources: int = 0, repaired: int = 0, damaged: int = 0, cut: int = 0, ended: int = 0
    ) -> None:
        """Counts on."""
        with self._lock:
            self.lines += lines
            self.sources += sources
            self.repaired += repaired
            self.damaged += damaged
            self.cut += cut
            self.ended += ended

    def take(self) -> dict[str, int]:
        """The counts so far, by name; from here on they begin at 0."""
        with self._lock:
            counts = {count.name: getattr(self, count.name) for count in fields(self) if count.init}
            for name in counts:
                setattr(self, name, 0)
        return counts

    def messages(self, config: DecodingConfig) -> list[str]:
        """Warnings for the user; none where nothing happened."""
        found = []
        if self.repaired:
            found.append(
                f"{self.repaired:,} of {self.lines:,} lines held broken UTF-8, carriage returns, BOMs or control "
                "characters: repaired"
            )
        if self.cut:
            found.append(
                f"{self.cut:,} of {self.sources:,} sources were longer than {config.max_source_length:,} pieces or "
                f"vectors (decoding.max_source_length) or {MAX_LINE_BYTES:,} bytes: only their beginning was translated"
            )
        if self.ended:
            found.append(
                f"the translations of {self.ended:,} of {self.sources:,} sources were ended at {config.max_length:,} "
                "pieces (decoding.max_length)"
            )
        return found

    def refuse_damaged(self) -> None:
        """What the user must hear when all else is done.

        Raises:
            UserError: where lines could not be read.
        """
        if self.damaged:
            raise UserError(
                f"{self.damaged:,} of {self.lines:,} lines could not be read, all others were translated: mend "
                "those whose output holds an `error`, which says what is wrong"
            )
