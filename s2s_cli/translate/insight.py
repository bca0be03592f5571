"""What is told of a translation beside its text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from s2s_cli.translate.alignment import align, pharaoh
from s2s_cli.translate.entry import Translation
from s2s_cli.translate.lines import REPAIRS

SEPARATOR = " ||| "
FIELDS = ("score", "utility", "log_probability", "pieces", "perplexity", "tokens", "alignment")
"""Whatever is told in JSON."""
_DIGITS = 6


@dataclass(frozen=True)
class Insight:
    """What to tell, always in this order: the log-probability, that of each piece, and the alignment."""

    total: bool = False
    """The log-probability of the whole, in nats, the end of sentence included; in JSON also its pieces, the perplexity
    of one, and what it is ranked by."""
    tokens: bool = False
    """The log-probability of each piece and of the end of sentence."""
    alignment: bool = False
    """Links of words, `source-target`; needs attention."""

    def fields(self, translation: Translation) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {}
        if self.total:
            found |= {name: round(figure, _DIGITS) for name, figure in translation.ranked_by.items()}
            found["log_probability"] = round(translation.log_probability, _DIGITS)
            found["pieces"] = translation.length
            found["perplexity"] = round(translation.perplexity, _DIGITS)
        if self.tokens:
            found["tokens"] = [
                {"piece": piece, "score": round(score, _DIGITS)}
                for piece, score in zip(translation.target_pieces, translation.token_scores, strict=True)
            ]
        if self.alignment:
            found["alignment"] = [list(link) for link in align(translation)]
        return found

    def parts(self, translation: Translation) -> Sequence[str]:
        """For a line of text: `-1.2345`, `▁a:-0.1200 </s>:-0.0010`, `0-0 1-2`."""
        found = []
        if self.total:
            found.append(f"{translation.log_probability:.4f}")
        if self.tokens:
            scored = zip(translation.target_pieces, translation.token_scores, strict=True)
            found.append(" ".join(f"{_without_spaces(piece)}:{score:.4f}" for piece, score in scored))
        if self.alignment:
            found.append(pharaoh(align(translation)))
        return found

    def suffix(self, translation: Translation) -> str:
        """The same behind a text: ` ||| ` before each part."""
        return "".join(SEPARATOR + part for part in self.parts(translation))


def _without_spaces(piece: str) -> str:
    """A piece that white space stands in, whatever made the vocabulary, stays one word of the line."""
    return re.sub(r"\s", "▁", piece.translate(REPAIRS))
