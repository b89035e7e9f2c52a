"""The one source of time: a reading, and a wait that somebody else can end.

Whatever waits, waits through a `Clock`, so that a manual clock can drive stops and timeouts in tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX
from time import perf_counter
from typing import Final

__all__ = ["SYSTEM", "Clock", "Parker", "park"]

Parker = SimpleQueue[None]
"""Where one thread waits: `put(None)` wakes it. A wake is never lost, may come twice (the sleeper looks again
for what it waits for), and is safe in signal handlers and finalizers, which no `Condition` or `Event` is."""


def park(parker: Parker, timeout: float | None) -> bool:
    """Wait for a wake, at most `timeout` seconds (None: for ever). False when the time was up."""
    if timeout is None:
        parker.get()
        return True
    try:
        parker.get(timeout=min(max(timeout, 0.0), TIMEOUT_MAX))
    except Empty:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Clock:
    """`now()` in seconds, from any origin, never backwards; `park(parker, seconds)` waits."""

    now: Callable[[], float]
    park: Callable[[Parker, float | None], bool]


SYSTEM: Final = Clock(perf_counter, park)
