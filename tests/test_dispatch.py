"""Pieces of work are each done once and come in order, whoever does them; whatever ends one worker ends all."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest

from s2s_cli import dispatch
from s2s_cli.dispatch import AHEAD, Dispatcher
from s2s_cli.distributed import Workers
from s2s_cli.errors import RunFailed, Stopped, UserError


@dataclass(frozen=True)
class Linked(Workers):
    """Workers that are threads."""

    links: dict[tuple[int, int], Queue[str]] = field(default_factory=dict)

    def send(self, value: object, rank: int = 0) -> None:
        self.links[self.rank, rank].put(json.dumps(value))

    def receive(self, rank: int = 0) -> Any:
        told = json.loads(self.links[rank, self.rank].get(timeout=30))
        if told == "cable cut":
            raise RuntimeError("Connection closed by peer")
        return told


Work = Callable[[int], Any]


class Group:
    """Some workers; the first one is the thread of the test."""

    def __init__(self, size: int, work: Callable[[Dispatcher], Work]) -> None:
        links: dict[tuple[int, int], Queue[str]] = {(a, b): Queue() for a in range(size) for b in range(size)}
        self.links, self._work = links, work
        self.dispatchers = [Dispatcher(Linked(rank, size, links=links)) for rank in range(size)]
        self.ended: dict[int, BaseException | None] = {}
        self._threads = [Thread(target=self._follow, args=(rank,), daemon=True) for rank in range(1, size)]
        for thread in self._threads:
            thread.start()

    def _follow(self, rank: int) -> None:
        try:
            assert not list(self.dispatchers[rank].results(self._work(self.dispatchers[rank])))
            self.ended[rank] = None
        except BaseException as error:
            self.ended[rank] = error

    def results(self) -> Generator[Any, None, None]:
        return self.dispatchers[0].results(self._work(self.dispatchers[0]))

    def end(self) -> list[BaseException | None]:
        for thread in self._threads:
            thread.join(30)
        return [self.ended[rank] for rank in range(1, len(self._threads) + 1)]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_each_piece_is_done_once_and_they_come_in_order(size: int, count: int) -> None:
    draw, done = random.Random(count), []

    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> list[int] | None:
            time.sleep(draw.random() / 1000)
            done.append(number)
            return [number, number**2] if number < count else None

        return piece

    group = Group(size, work)
    assert list(group.results()) == [[number, number**2] for number in range(count)]
    assert group.end() == [None] * (size - 1)
    assert sorted(number for number in done if number < count) == list(range(count))


def test_the_others_go_on_beside_a_slow_worker_until_they_are_far_ahead() -> None:
    size, done, stuck, go_on = 3, [], Queue[int](), Event()

    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> int | None:
            if dispatcher.workers.rank == 1:
                stuck.put(number)
                assert go_on.wait(30)
            done.append(number)
            return number if number < 50 else None

        return piece

    def release() -> None:
        expected = stuck.get(timeout=30) + AHEAD * size - 1
        while len(done) < expected:
            time.sleep(0.01)
        time.sleep(0.1)
        far_ahead.append(len(done) == expected)
        go_on.set()

    far_ahead: list[bool] = []
    Thread(target=release, daemon=True).start()
    group = Group(size, work)
    assert list(group.results()) == list(range(50))
    assert group.end() == [None, None]
    assert far_ahead == [True]


@pytest.mark.parametrize(
    "error", [UserError("line 3: no"), RunFailed("out of memory"), Stopped("stopped by SIGTERM", 15)]
)
def test_what_ends_one_of_the_others_ends_all(error: Exception) -> None:
    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> int:
            if dispatcher.workers.rank == 1 and number > 4:
                raise error
            return number

        return piece

    group = Group(3, work)
    with pytest.raises(type(error), match=str(error)) as found:
        list(group.results())
    assert getattr(found.value, "exit_code") == getattr(error, "exit_code")  # noqa: B009
    assert group.end() == [error, None]


def test_what_ends_the_first_or_the_use_of_results_ends_all() -> None:
    def work(dispatcher: Dispatcher) -> Work:
        return lambda number: number

    group = Group(3, work)
    with closing(group.results()) as results:
        assert next(results) == 0
    assert group.end() == [None, None]
    group = Group(3, work)
    group.dispatchers[0].stop.signal = 2
    with pytest.raises(Stopped, match="SIGINT"):
        list(group.results())
    assert group.end() == [None, None]


def test_a_signal_to_another_worker_stops_all() -> None:
    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> int:
            time.sleep(0.001)
            dispatcher.still_there()
            return number

        return piece

    group = Group(3, work)
    group.dispatchers[2].stop.signal = 15
    with pytest.raises(Stopped, match="SIGTERM"):
        list(group.results())
    first, second = group.end()
    assert first is None and isinstance(second, Stopped)


def test_a_lost_worker_ends_all() -> None:
    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> int:
            if dispatcher.workers.rank == 1:
                dispatcher.workers.send("cable cut")
                raise SystemExit
            return number

        return piece

    group = Group(3, work)
    with pytest.raises(RuntimeError, match="closed by peer"):
        list(group.results())
    assert group.end()[1] is None


def test_while_they_work_or_wait_they_tell_that_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TELL_SECONDS", 0.01)
    told: list[tuple[int, object]] = []
    plain = Linked.send

    def send(self: Linked, value: object, rank: int = 0) -> None:
        told.append((self.rank, value))
        plain(self, value, rank)

    monkeypatch.setattr(Linked, "send", send)

    def work(dispatcher: Dispatcher) -> Work:
        def piece(number: int) -> int | None:
            for _ in range(20 if dispatcher.workers.rank == 1 else 0):
                time.sleep(0.005)
                dispatcher.still_there()
            return number if number < 30 else None

        return piece

    group = Group(3, work)
    assert list(group.results()) == list(range(30))
    assert group.end() == [None, None]
    assert (1, dispatch.STILL_THERE) in told
    assert (0, dispatch.WAIT) in told
