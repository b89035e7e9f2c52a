"""What the tests of the core share: a clock in hand, a hurried one, and process functions on a leash."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Generic, TypeVar, cast

from workpool._clock import Clock, Parker, park

R = TypeVar("R")


class ManualClock:
    """Time stands still until `advance`; `sleeping(n)` waits until n threads sleep against it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._changed = threading.Condition()
        self._sleepers: list[tuple[float, Parker]] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self._now, self._park)

    def _park(self, parker: Parker, timeout: float | None) -> bool:
        if timeout is None:
            return park(parker, None)
        sleeper = (self._now + timeout, parker)
        with self._changed:
            self._sleepers.append(sleeper)
            self._changed.notify_all()
        parker.get()
        with self._changed:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
            return self._now < sleeper[0]

    def sleeping(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._sleepers) >= count, 20)

    def advance(self, seconds: float) -> None:
        with self._changed:
            self._now += seconds
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, parker in due:
            parker.put(None)


def hurried(factor: float) -> Clock:
    """Real time, `factor` times as fast: a grace of half a second is over in half a second by `factor`."""
    return Clock(
        lambda: perf_counter() * factor,
        lambda parker, seconds: park(parker, None if seconds is None else seconds / factor),
    )


class Leash:
    """A process function that says what it has begun, and ends when told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.seen: list[object] = []

    def __call__(self, item: object) -> object:
        self.seen.append(item)
        self.begun.release()
        assert self.let_go.wait(20)
        return item

    def has_begun(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=20)


class Task(Generic[R]):
    """A function that runs in a thread, and what it returned or raised."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self._outcome: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._outcome.put((self._function(), None))
        except BaseException as error:
            self._outcome.put((None, error))

    def result(self) -> R:
        value, error = self._outcome.get(timeout=20)
        if error is not None:
            raise error
        return cast(R, value)


def in_thread(function: Callable[[], R]) -> Task[R]:
    return Task(function)


def together(*functions: Callable[[], object]) -> None:
    """Run all at the same time, and have any exception raised here."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        barrier.wait(20)
        return function()

    for task in [Task(partial(run, function)) for function in functions]:
        task.result()
