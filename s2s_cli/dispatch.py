"""Numbered pieces of work, each done by the worker that is free, and their results in order.

The first worker gives the numbers out and does pieces itself. For each other worker it has a thread that sends a number
and waits for the result: who is slow does fewer. Both sides tell now and then that they are still there, so that only
silence is a reason to give up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Condition, Lock, Thread
from typing import Any, Generic, TypeVar

from s2s_cli.distributed import Workers, joined, launched, packed_error, unpacked_error, world_size
from s2s_cli.errors import S2SError
from s2s_cli.signals import StopRequest, stop_request

Value = TypeVar("Value")
Work = Callable[[int], Value | None]
"""Does a piece, by its number from 0; the numbers come in order, with gaps. None is the end: there is no such piece."""

SILENCE_SECONDS = 600.0
"""How long another worker may say nothing."""
TELL_SECONDS = 20.0
LOOK_SECONDS = 0.2
AHEAD = 4
"""So many pieces for each worker may be given out from the oldest one on that is not done."""
WAIT = -1
STILL_THERE = {"still": "there"}


class Dispatcher:
    """Divides work among the workers, or does it where there is one.

    Args:
        workers: all of them.
        stop: set by signals.
    """

    def __init__(self, workers: Workers | None = None, stop: StopRequest | None = None) -> None:
        self.workers, self.stop = workers or Workers(), stop or StopRequest()
        self._telling, self._told = Lock(), time.monotonic()

    @property
    def pieces(self) -> int:
        """Into how many a whole of known size is divided."""
        return 1 if self.workers.size == 1 else AHEAD * self.workers.size

    def still_there(self) -> None:
        """To be called now and then while a piece is done, by any thread.

        Raises:
            Stopped: after a signal.
        """
        self.stop.check()
        if self.workers.first:
            return
        with self._telling:
            if time.monotonic() - self._told > TELL_SECONDS:
                self.workers.send(STILL_THERE)
                self._told = time.monotonic()

    def results(self, work: Work[Value]) -> Generator[Value, None, None]:
        """What work on the pieces gives, JSON, in order and as soon as it is there; only the first worker gets any.

        All workers must call it.

        Raises:
            S2SError: what the work raised; in the first worker that of the others too.
            Stopped: after a signal.
            RuntimeError: where another worker is gone.
        """
        if self.workers.first:
            yield from _Leader(self, work).results()
        else:
            self._follow(work)

    def _follow(self, work: Work[Value]) -> None:
        while (number := self.workers.receive()) is not None:
            if number == WAIT:
                continue
            self._told = time.monotonic()
            try:
                self.stop.check()
                found = work(number)
            except S2SError as error:
                self.workers.send({"error": packed_error(error)})
                raise
            self.workers.send({"found": found})


class _Leader(Generic[Value]):
    """What the first worker knows of the pieces."""

    def __init__(self, dispatcher: Dispatcher, work: Work[Value]) -> None:
        self._workers, self._stop, self._work = dispatcher.workers, dispatcher.stop, work
        self._changed = Condition()
        self._given = self._taken = 0
        self._found: dict[int, Value] = {}
        self._ended = False
        """Whether no more is given out."""
        self._error: BaseException | None = None

    def results(self) -> Generator[Value, None, None]:
        threads = [Thread(target=self._lead, args=(rank,), daemon=True) for rank in self._workers.others]
        for thread in threads:
            thread.start()
        try:
            while True:
                self._stop.check()
                with self._changed:
                    found, number = self._found.pop(self._taken, None), None
                    if found is not None:
                        self._taken += 1
                        self._changed.notify_all()
                    elif self._error:
                        raise self._error
                    elif self._ended and self._taken >= self._given:
                        return
                    elif (number := self._next()) is None:
                        self._changed.wait(LOOK_SECONDS)
                if found is not None:
                    yield found
                elif number is not None:
                    self._take(number, self._work(number))
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            for thread in threads:
                thread.join()

    def _next(self) -> int | None:
        """A number to give out, where there is one now."""
        if self._ended or self._given >= self._taken + AHEAD * self._workers.size:
            return None
        self._given += 1
        return self._given - 1

    def _take(self, number: int, found: Value | None) -> None:
        with self._changed:
            if found is None:
                self._ended = True
                self._given = min(self._given, number)
            else:
                self._found[number] = found
            self._changed.notify_all()

    def _lead(self, rank: int) -> None:
        """Has another worker do pieces."""
        try:
            while not self._ended:
                with self._changed:
                    number = self._next()
                    if number is None:
                        self._changed.wait(TELL_SECONDS)
                if number is None:
                    self._workers.send(WAIT, rank)
                    continue
                self._workers.send(number, rank)
                told: dict[str, Any] = STILL_THERE
                while told == STILL_THERE:
                    told = self._workers.receive(rank)
                if "error" in told:
                    raise unpacked_error(*told["error"])
                self._take(number, told["found"])
            self._workers.send(None, rank)
        except BaseException as error:
            with self._changed:
                self._error, self._ended = self._error or error, True
                self._changed.notify_all()


@contextmanager
def sharing() -> Iterator[Dispatcher]:
    """What divides work among the workers that were started together.

    A signal is then noted, and looked at between pieces and within; a process that was started alone leaves signals as
    they are.

    Raises:
        RunFailed: inside, where another worker is gone or says nothing any more.
    """
    if world_size() == 1:
        yield Dispatcher()
        return
    words = "the time limit", "give the same command again"
    with stop_request(insistent=not launched()) as stop, joined("cpu", SILENCE_SECONDS, *words) as (workers, _):
        yield Dispatcher(workers, stop)
