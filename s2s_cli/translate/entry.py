"""What goes into a translator and what comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from threading import Lock

from torch import Tensor

from s2s_cli.config import DecodingConfig
from s2s_cli.data.corpus import Source
from s2s_cli.data.words import Words
from s2s_cli.errors import UserError
from s2s_cli.forced import perplexity

MAX_LINE_BYTES = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One source, and what is asked of its translation."""

    source: Source
    cut: bool = False
    """Whether the source is only the beginning of one too long."""
    prefix: str = ""
    """What the translation begins with; its last word may be cut."""
    force: tuple[str, ...] = ()
    """Words and phrases that stand in the translation."""
    forbid: tuple[str, ...] = ()
    """Words and phrases that do not."""
    target: tuple[int, ...] | None = None
    """The pieces of its translation, where that is given and only to be scored."""


class Refused(UserError):
    """What is asked of some entries contradicts itself."""

    def __init__(self, messages: dict[int, str]) -> None:
        super().__init__(next(iter(messages.values())))
        self.messages = messages
        """Why, by the places of the entries among those given."""


@dataclass(frozen=True)
class Translation:
    """One of the translations of a line or an item."""

    text: str
    score: float
    """What search ranks it by: its log-probability in nats over the length penalty; 0 for a blank line."""
    ids: tuple[int, ...] = ()
    """Target pieces, the end of sentence left out."""
    token_scores: tuple[float, ...] = ()
    """The log-probability of each piece and of the end of sentence, in nats; none for a blank line."""
    source_pieces: tuple[str, ...] = ()
    """What attention looks at; here, and in what follows, only where that was asked for."""
    target_pieces: tuple[str, ...] = ()
    """The pieces and the end of sentence in writing; none for a blank line."""
    attention: Tensor | None = None
    """Weights (target pieces, source pieces), both with the end of sentence."""
    source_words: Words = ()
    target_words: Words = ()
    """Of each of those pieces the words that it is part of, in the text that was given and in this one."""
    utility: float | None = None
    """With minimum Bayes risk, what it is ranked by: its mean chrF (0 to 100) against the others that were found; 0 for
    a blank line."""

    @property
    def ranked_by(self) -> dict[str, float]:
        """The `score`, and with minimum Bayes risk the `utility`, which then counts."""
        score = {"score": self.score}
        return score if self.utility is None else {**score, "utility": self.utility}

    @property
    def log_probability(self) -> float:
        """In nats, the end of sentence included; 0 for a blank line."""
        return math.fsum(self.token_scores)

    @property
    def length(self) -> int:
        """Target pieces, the end of sentence included; 0 for a blank line."""
        return len(self.token_scores)

    @property
    def perplexity(self) -> float:
        """Of a piece, the end of sentence included; 1 for a blank line."""
        return perplexity(-self.log_probability / max(1, self.length))


@dataclass
class Notices:
    """Counts of what was done to the input, by any number of threads."""

    why: str = field(default="", init=False)
    """The first of what was damaged, in words."""

    lines: int = 0
    """Of the input, or items."""
    bytes: int = 0
    """Of the lines, their ends included, as far as they are kept."""
    sources: int = 0
    """What was translated; the sentences, where lines were divided into them."""
    repaired: int = 0
    damaged: int = 0
    """Lines that could not be read, or of which something was asked that contradicts itself."""
    cut: int = 0
    ended: int = 0
    """Translations, at max_length..."""
    ended_by_ratio: int = 0
    """... and at what max_length_ratio allows for their source, where that is less."""
    _lock: Lock = field(default_factory=Lock, init=False, repr=False, compare=False)

    def add(self, why: str = "", /, **counts: int) -> None:
        """Counts on, by name."""
        with self._lock:
            self.why = self.why or why
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

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
        if self.ended_by_ratio:
            found.append(
                f"the translations of {self.ended_by_ratio:,} of {self.sources:,} sources were ended at "
                f"what decoding.max_length_ratio ({config.max_length_ratio:g}) allows for their length"
            )
        return found

    def refuse_damaged(self) -> None:
        """What the user must hear when all else is done.

        Raises:
            UserError: where lines could not be read.
        """
        if self.damaged:
            raise UserError(
                f"{self.damaged:,} of {self.lines:,} lines could not be translated, all others were: mend them"
                f"{self.why and f' ({self.why})'}; with --format jsonl the output says of each what is wrong"
            )
