"""A terminal to draw on, whose reader may go."""

from __future__ import annotations

from rich.console import Console as _RichConsole


class Console(_RichConsole):
    """Where nobody reads any more, whoever prints decides what becomes of it: rich would end the process with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
