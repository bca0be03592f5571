"""Processes that share the windows of one input: each has the model and one thread.

They are started as they are needed, and end with the process that asked, however it ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import NamedTuple

import torch

from s2s_cli.errors import RunFailed, S2SError, UserError
from s2s_cli.translate.attention_file import Watch
from s2s_cli.translate.formats import Format
from s2s_cli.translate.streams import Answer, Window, Work, alone, answer
from s2s_cli.translate.translator import Translator
from s2s_cli.translate.wishes import Wishes

AHEAD = 2  # windows in flight for each worker: one that it translates, and one that waits or is waited for
JOIN_SECONDS = 5.0
# Workers leave these to the process that asked; a write to one that has died must raise, and not end that process.
LEFT_ALONE = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)

Load = Callable[[], Translator]
"""Makes the translator, in any process: what it holds must be such that can be sent there."""


def count_workers(asked: str, device: torch.device) -> int:
    """What --workers means.

    Raises:
        UserError: where it is no number, or the device is one that processes cannot share.
    """
    if asked == "auto":
        return _cores() if device.type == "cpu" else 1
    if not asked.isdecimal() or not 0 < int(asked) <= 10_000:
        raise UserError(f"--workers {asked}: give a number from 1, or auto (one a core)")
    if int(asked) > 1 and device.type != "cpu":
        raise UserError(
            f"--workers {asked}: workers share the cores of a processor, but this model runs on {device.type}, which "
            "one process fills: leave --workers out, or give --device cpu"
        )
    return int(asked)


def shared(translator: Translator, load: Load, form: Format, workers: int, watches: Sequence[Watch] = ()) -> Work:
    """The windows shared by some processes; by this one alone where one is enough.

    Raises:
        UserError: where watches would have to see what others do.
    """
    if workers == 1:
        return alone(translator, form, watches)
    if watches:
        raise UserError("--attention and --show-attention see what this process does: leave them out, or --workers")
    return partial(_share, partial(_alike, load, translator.wishes, translator.keep_attention), form, workers)


def _alike(load: Load, wishes: Wishes, keep_attention: bool) -> Translator:
    """Another translator like the first."""
    translator = load()
    translator.wishes, translator.keep_attention = wishes, keep_attention
    return translator


def _share(load: Load, form: Format, workers: int, windows: Iterator[Window]) -> Generator[Answer, None, None]:
    """Answers in order, as soon as they are there, whether or not the input goes on."""
    free = threading.Semaphore(AHEAD * workers)
    coming: SimpleQueue[Future[Answer] | BaseException | None] = SimpleQueue()
    with _Workers(load, form, workers) as pool:

        def read() -> None:
            try:
                while free.acquire() and (window := next(windows, None)):
                    coming.put(pool.submit(window))
                coming.put(None)
            except BaseException as error:
                coming.put(error)

        threading.Thread(target=read, daemon=True).start()
        while found := coming.get():
            if isinstance(found, BaseException):
                raise found
            yield found.result()
            free.release()


class _Failed(NamedTuple):
    """What a worker says in place of an answer."""

    error: S2SError | None
    """An end that was foreseen."""
    trace: str


class _Worker(NamedTuple):
    process: BaseProcess
    connection: Connection

    def ask(self, window: Window) -> Answer:
        """Has a window translated.

        Raises:
            RunFailed: where the worker died.
        """
        try:
            self.connection.send(window)
            found = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(JOIN_SECONDS)
            raise RunFailed(f"a worker {_end(self.process.exitcode)}: lower --workers or --batch-size") from None
        if isinstance(found, _Failed):
            raise found.error or RuntimeError(f"in a worker:\n{found.trace}")
        assert isinstance(found, Answer)
        return found


class _Workers:
    """A thread for each process, which starts it when there is work for it, and waits for its answers."""

    def __init__(self, load: Load, form: Format, workers: int) -> None:
        self._load, self._form = load, form
        self._threads = ThreadPoolExecutor(workers, initializer=_leave_signals)
        self._local, self._lock = threading.local(), threading.Lock()
        self._started: list[_Worker] = []
        self._ended = False

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._ended = True
            for worker in self._started:
                worker.process.kill()
        for worker in self._started:
            worker.process.join()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def submit(self, window: Window) -> Future[Answer]:
        """The answer to come of a window."""
        return self._threads.submit(self._answer, window)

    def _answer(self, window: Window) -> Answer:
        if not hasattr(self._local, "worker"):
            self._local.worker = self._start()
        worker: _Worker = self._local.worker
        return worker.ask(window)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        with self._lock:
            if self._ended:
                raise RunFailed("the workers have ended")
            resource_tracker.ensure_running()  # as it starts, it lets signals through to this thread again
            _leave_signals()
            mine, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self._load, self._form), daemon=True)
            process.start()
            theirs.close()  # so that its end is seen
            self._started.append(_Worker(process, mine))
            return self._started[-1]


def _serve(connection: Connection, load: Load, form: Format) -> None:
    """What a worker does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        torch.set_num_threads(1)
        translator = load()
        while True:
            connection.send(answer(translator, form, connection.recv()))
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


def _cores() -> int:
    """Those that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only some systems tell
        return os.cpu_count() or 1
