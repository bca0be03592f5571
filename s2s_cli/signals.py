"""SIGINT and SIGTERM: asked once, a command stops at the next good moment; asked again, at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from s2s_cli.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_WISH = 0.5
"""Seconds within which a second signal means no more than the first: `timeout` and schedulers send two at once."""


class StopRequest:
    """Set by the first signal; work checks it between steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def check(self) -> None:
        """Raises `Stopped` where a signal has come."""
        if self.signal is not None:
            raise stopped_by(self.signal)


def stopped_by(number: int) -> Stopped:
    """The end after a signal."""
    return Stopped(f"stopped by {signal.Signals(number).name}", number)


@contextmanager
def stop_request(*, insistent: bool = True) -> Iterator[StopRequest]:
    """Inside, a first signal is only noted; a later one ends the process at once, where it is taken for `insistent`."""
    request, first = StopRequest(), 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if request.signal is None:
            request.signal, first = number, time.monotonic()
        elif insistent and time.monotonic() - first > ONE_WISH:
            os._exit(128 + number)

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_on_signal() -> None:
    """From here on, a signal raises `Stopped` wherever the program is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("stopped", number)

    for number in SIGNALS:
        signal.signal(number, stop)


def end_quietly_on_closed_pipe() -> None:
    """As other filters do: when the reader has gone, end without a word."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
