"""The one source of time: a reading, and a wait that somebody else can end.

Whatever waits, waits through a `Clock`, so that a manual clock can drive stops and timeouts in tests. What waits is
written once, as `Steps`: a generator that gives the seconds that it wants to wait for, and looks again after each
wait, however that ended. `sit` runs one in a thread; a task has a way of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from threading import TIMEOUT_MAX
from time import perf_counter
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop  # at run time it would cost whoever has no event loop the import

__all__ = ["SYSTEM", "Clock", "Parker", "Steps", "Wake", "later", "park", "sit"]

R = TypeVar("R")

Wake = Callable[[None], object]
"""Ends a wait, from any thread, signal handler or finalizer. May come twice, and when nobody waits."""

Steps = Generator[float | None, None, R]
"""Seconds to wait for (None: until woken), again and again; returns what it waited for. To be closed."""


class Parker:
    """Where one thread waits: `put` wakes it.

    A wake is never lost, may come twice (the sleeper looks again for what it waits for), and is safe in signal handlers
    and finalizers, which no `Condition` or `Event` is. Nor would a SimpleQueue do: until Python 3.13 its `get` with a
    timeout waits for ever if the thread does not get to run, or a signal handler runs, until the time is up.
    """

    __slots__ = ("_release", "acquire")

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.acquire: Final = lock.acquire
        self._release: Final = lock.release

    def put(self, _: None = None) -> None:
        """A `Wake`."""
        try:
            self._release()
        except RuntimeError:  # somebody has woken it, and it has not come round yet
            pass


def park(parker: Parker, timeout: float | None) -> bool:
    """Wait for a wake, at most `timeout` seconds (None: for ever). False when the time was up."""
    return parker.acquire(True, -1 if timeout is None else min(max(timeout, 0.0), TIMEOUT_MAX))


def later(loop: AbstractEventLoop, seconds: float, wake: Wake) -> Callable[[], object]:
    """Have `wake` called by the event loop, after so many seconds of its own clock."""
    return loop.call_later(seconds, wake, None).cancel


@dataclass(frozen=True, slots=True)
class Clock:
    """`now()` in seconds, from any origin, never backwards; `park(parker, seconds)` waits, in a thread.

    `later(loop, seconds, wake)` has `wake` called after so many seconds, for a task that waits in that event loop;
    what it returns is called to undo it.
    """

    now: Callable[[], float]
    park: Callable[[Parker, float | None], bool]
    later: Callable[[AbstractEventLoop, float, Wake], Callable[[], object]] = later


def sit(clock: Clock, start: Callable[[Wake], Steps[R]]) -> R:
    """Run what waits in this thread. `start` gets what wakes it."""
    parker = Parker()
    steps = start(parker.put)
    try:
        while True:
            clock.park(parker, next(steps))
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()


SYSTEM: Final = Clock(perf_counter, park)
