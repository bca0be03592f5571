"""The few exceptions that end a command with one clear line and an exit code.

Exit codes: 0 done; 1 a gate was missed; 2 the user must change something; 3 the run failed; 70 an internal
error; 130 and 143 after SIGINT and SIGTERM; 141 where the reader of the output has gone.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

GATE_MISSED = 1
INTERNAL_ERROR = 70


_OBEYED = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of text."""


def printable(text: str) -> str:
    """A name from the disk, or from a stranger: what a terminal or a CI would obey is not handed on."""
    return "".join("?" if _is_obeyed(character) else character for character in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _OBEYED


class S2SError(Exception):
    """An end that was foreseen: its text is shown to the user, without a traceback."""

    exit_code = INTERNAL_ERROR
    quiet = False
    """Whether another process tells it."""


class UserError(S2SError):
    """The user must change something: an option, the config, a file."""

    exit_code = 2


class Damaged(UserError):
    """A file of a checkpoint is not what it was; another checkpoint may be whole."""


class RunFailed(S2SError):
    """The run could not go on: it diverged, the disk is full, memory ran out."""

    exit_code = 3


class Stopped(S2SError):
    """A signal asked the command to stop."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal = signal_number
        self.exit_code = 128 + signal_number


def suggest(name: str, choices: Iterable[str]) -> str:
    """Words for an error about an unknown name: the nearest of `choices`, and all of them."""
    known = list(choices)
    by_lower = {choice.lower(): choice for choice in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    listed = f"known: {', '.join(known)}"
    return f"did you mean '{by_lower[near[0]]}'? ({listed})" if near else listed


def duration(seconds: float) -> str:
    """About how long, in words."""
    for most, unit, words in ((90, 1, "{:.0f} s"), (90 * 60, 60, "{:.0f} min"), (48 * 3600, 3600, "{:.1f} h")):
        if seconds < most:
            return words.format(seconds / unit)
    return f"{seconds / 86_400:.1f} days"
