"""Time that stands still until a test moves it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from workpool._clock import Clock, Parker, Wake, park

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["ManualClock"]

PATIENCE = 20.0
"""Real seconds after which a test that waits for a sleeper has failed."""


class ManualClock:
    """Time for `Pool(clock=manual.clock)`: stops, timeouts and `current().sleep` go by it, no test has to wait.

    Workers that wait for an item, and `submit_wait` without a timeout, wait as ever.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._changed = threading.Condition()
        self._sleepers: list[tuple[float, Wake]] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self._now, self._park, self._later)

    def advance(self, seconds: float) -> None:
        """Move time, and wake whoever slept until then, the soonest first."""
        with self._changed:
            self._now += seconds
            due = sorted((sleeper for sleeper in self._sleepers if sleeper[0] <= self._now), key=lambda due: due[0])
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, wake in due:
            wake(None)

    def wait_for_sleepers(self, count: int = 1) -> None:
        """Wait until so many threads and tasks sleep by this clock. Raises TimeoutError after 20 real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= count, PATIENCE):
                raise TimeoutError(f"{len(self._sleepers)} sleep by the manual clock, not {count}")

    def _park(self, parker: Parker, timeout: float | None) -> bool:
        if timeout is None:
            return park(parker, None)
        until = self._now + timeout
        undo = self._sleep(until, parker.put)
        park(parker, None)
        undo()
        return self._now < until

    def _later(self, loop: AbstractEventLoop, seconds: float, wake: Wake) -> Callable[[], object]:
        def in_loop(_: None) -> None:
            loop.call_soon_threadsafe(wake, None)

        return self._sleep(self._now + seconds, in_loop)

    def _sleep(self, until: float, wake: Wake) -> Callable[[], object]:
        sleeper = (until, wake)
        with self._changed:
            self._sleepers.append(sleeper)
            self._changed.notify_all()

        def undo() -> None:
            with self._changed:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)

        return undo
