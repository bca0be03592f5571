"""What is read and written around translations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from s2s_cli.translate.entry import Entry, Notices, Translation
from s2s_cli.translate.lines import read_windows, repair


class Format(Protocol):
    """Items of the input, what to translate for each, and what to write of it. It can be sent to another process."""

    def windows(self, source: BinaryIO, notices: Notices) -> Iterator[list[Any]]:
        """Items in order, as many at a time as are translated together."""

    def entries(self, item: Any) -> Sequence[Entry]:
        """What to translate for an item."""

    def render(self, index: int, item: Any, translations: Sequence[list[Translation]]) -> str:
        """The output lines of an item, each with its LF."""


@dataclass(frozen=True)
class Lines:
    """A line of text for each; with `n_best` over one, that many lines `index ||| text ||| score`, the index from 0."""

    n_best: int = 1

    def windows(self, source: BinaryIO, notices: Notices) -> Iterator[list[Entry]]:
        for window in read_windows(source):
            repaired = [repair(line) for line in window]
            notices.add(repaired=sum(changed for _, changed in repaired))
            yield [entry for entry, _ in repaired]

    def entries(self, item: Entry) -> Sequence[Entry]:
        return (item,)

    def render(self, index: int, item: Entry, translations: Sequence[list[Translation]]) -> str:
        (found,) = translations
        if self.n_best == 1:
            return f"{found[0].text}\n"
        # A search may find fewer than were asked for; the count of lines must not depend on it.
        best = (found[min(rank, len(found) - 1)] for rank in range(self.n_best))
        return "".join(f"{index} ||| {one.text} ||| {one.score:.4f}\n" for one in best)
