"""At most so many items in so much time: a value, and the count that one queue keeps by it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final

from workpool._checked import checked_count, checked_limit

__all__ = ["NOTHING", "Limiter", "Rate"]

NOTHING: Final = 1e-9
"""Seconds that are not worth a wait: what adding up fractions leaves."""


@dataclass(frozen=True)
class Rate:
    """At most `limit` items start in `per` seconds, in the long run, and at most `burst` at once.

    Each attempt counts. What may not start yet stays in the queue, and is refused or shed by the queue's rule if there
    is too much of it.

    Args:
        limit: how many items.
        per: seconds.
        burst: how many may start at once, after a time in which fewer did. With 1 each comes at least `per / limit`
            seconds after the one before; then what a worker comes late is lost, which is some tenths of a millisecond.
    """

    limit: float
    per: float = 1.0
    burst: int = 1

    def __post_init__(self) -> None:
        for what in ("limit", "per"):
            if isinstance(getattr(self, what), bool) or not isinstance(getattr(self, what), int | float):
                raise TypeError(f"{what} must be a number, not {getattr(self, what)!r}")
        if not 0 < self.limit < inf:
            raise ValueError(f"limit must be more than 0, not {self.limit}; a pool without a limit has no rate")
        if checked_limit("per", self.per) == inf:
            raise ValueError("per must be a number of seconds that ends, not inf")
        checked_count("burst", self.burst, 1)

    def open(self) -> Limiter:
        """A count of its own."""
        return Limiter(self.per / self.limit, self.burst)


class Limiter:
    """When the next item may start. (The generic cell rate algorithm: a token bucket that keeps one number.)"""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval = interval
        self._tolerance = (burst - 1) * interval
        self._expected = -inf
        """When the next would come, if they came evenly."""

    def wait(self, now: float) -> float:
        """Seconds until one may start; 0.0: now."""
        seconds = self._expected - self._tolerance - now
        return seconds if seconds > NOTHING else 0.0

    def start(self, now: float) -> None:
        """One starts."""
        self._expected = max(self._expected, now) + self._interval

    def undo(self) -> None:
        """One of those did not start after all."""
        self._expected -= self._interval
