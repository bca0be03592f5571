"""Processes that share work, each with one thread and what it needs made in it.

They are started as they are needed, and end with the process that asked, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from s2s_cli.errors import RunFailed, S2SError

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # items in flight for each process: one that it works on, and one that waits or is waited for
JOIN_SECONDS = 5.0
# Processes leave these to the one that asked; a write to one that has died must raise, and not end the one that asked.
LEFT_ALONE = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


def share(
    make: Callable[[], Callable[[Item], Result]], processes: int, items: Iterator[Item], remedy: str
) -> Generator[Result, None, None]:
    """The results of work on each item, in order, as soon as they are there, whether or not there will be more items.

    Args:
        make: makes what does the work, in any process: what it holds must be such that can be sent there.
        processes: how many.
        items: are taken in another thread.
        remedy: what to do where a process dies, in words.

    Raises:
        RunFailed: where a process died.
        S2SError: what the work raised.
    """
    free = threading.Semaphore(AHEAD * processes)
    coming: SimpleQueue[Future[Result] | BaseException | None] = SimpleQueue()
    with _Processes(make, processes, remedy) as pool:

        def read() -> None:
            try:
                while free.acquire() and (item := next(items, None)) is not None:
                    coming.put(pool.submit(item))
                coming.put(None)
            except BaseException as error:
                coming.put(error)

        threading.Thread(target=read, daemon=True).start()
        while found := coming.get():
            if isinstance(found, BaseException):
                raise found
            yield found.result()
            free.release()


def cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only some systems tell
        return os.cpu_count() or 1


class _Failed(NamedTuple):
    """What a process says in place of a result."""

    error: S2SError | None
    """An end that was foreseen."""
    trace: str


class _Process(NamedTuple):
    process: BaseProcess
    connection: Connection
    remedy: str

    def ask(self, item: object) -> Any:
        """Has an item worked on.

        Raises:
            RunFailed: where the process died.
        """
        try:
            self.connection.send(item)
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(JOIN_SECONDS)
            raise RunFailed(f"a worker {_end(self.process.exitcode)}: {self.remedy}") from None
        if isinstance(found, _Failed):
            raise found.error or RuntimeError(f"in a worker:\n{found.trace}")
        return found


class _Processes(Generic[Item, Result]):
    """A thread for each process, which starts it when there is work for it, and waits for its results."""

    def __init__(self, make: Callable[[], Callable[[Item], Result]], processes: int, remedy: str) -> None:
        self._make, self._remedy = make, remedy
        self._threads = ThreadPoolExecutor(processes, initializer=_leave_signals)
        self._local, self._lock = threading.local(), threading.Lock()
        self._started: list[_Process] = []
        self._ended = False

    def __enter__(self) -> _Processes[Item, Result]:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._ended = True
            for each in self._started:
                each.process.kill()
        for each in self._started:
            each.process.join()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def submit(self, item: Item) -> Future[Result]:
        """The result to come of an item."""
        return self._threads.submit(self._ask, item)

    def _ask(self, item: Item) -> Result:
        if not hasattr(self._local, "process"):
            self._local.process = self._start()
        found: Result = self._local.process.ask(item)
        return found

    def _start(self) -> _Process:
        context = multiprocessing.get_context("spawn")
        with self._lock:
            if self._ended:
                raise RunFailed("the workers have ended")
            resource_tracker.ensure_running()  # as it starts, it lets signals through to this thread again
            _leave_signals()
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._make), daemon=True)
            process.start()
            theirs.close()  # so that its end is seen
            self._started.append(_Process(process, mine, self._remedy))
            return self._started[-1]


def _serve(connection: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """What a process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(1)
        work = make()
        while True:
            connection.send(work(connection.recv()))
    except EOFError:
        return
    except S2SError as error:
        connection.send(_Failed(error, ""))
    except Exception:
        connection.send(_Failed(None, traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os._exit(1)


def _leave_signals() -> None:
    """In this thread, and in the processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_ALONE)


def _end(code: int | None) -> str:
    """How a worker ended, in words."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    why = " (is the memory full?)" if -code == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-code).name}{why}"
