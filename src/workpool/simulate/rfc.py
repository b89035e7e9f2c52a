"""Controlled delay as RFC 8289 has it, to be compared with: `workpool.CoDel` is the one for services."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

from workpool._core.discipline import CoDel, OneLane
from workpool._core.lane import CODEL, KEEP, Judge, Lane, Lineup

__all__ = ["RfcCoDel"]


@dataclass(frozen=True)
class RfcCoDel(CoDel):
    """First in, first out; while all items wait too long, one is shed from time to time, ever more often.

    By the square-root law: the n-th is shed interval/√n after the one before. That has senders which slow down for
    every packet lost find their rate; a load that does not care is not slowed down.

    Args:
        target: seconds that an item may wait all the time.
        interval: seconds for which all must have waited longer until the first is shed.
    """

    def open(self) -> Lineup[Any]:
        lineup = super().open()
        lane = lineup.lanes[0]
        lane.ask(_SquareRoot(lane, self.target, self.interval, lane.judge).judge)
        return lineup

    def _judge(self) -> Judge | None:
        return OneLane._judge(self)  # without the other law


class _SquareRoot:
    """The names are those of the RFC's pseudocode, in its section 5."""

    def __init__(self, lane: Lane[Any], target: float, interval: float, inner: Judge | None) -> None:
        self._lane = lane
        self._target = target
        self._interval = interval
        self._inner = inner
        self._first_above_time = inf
        self._dropping = False
        self._drop_next = 0.0
        self._count = self._last_count = 0

    def judge(self, item: Any, waited: float, age: float, now: float, run: float) -> int:
        if self._drops(now, self._ok_to_drop(waited, now)):
            return CODEL
        return KEEP if self._inner is None else self._inner(item, waited, age, now, run)

    def _ok_to_drop(self, waited: float, now: float) -> bool:
        if waited < self._target or not self._lane.waiting:  # it was the last: the queue is empty now
            self._first_above_time = inf
        elif self._first_above_time == inf:
            self._first_above_time = now + self._interval
        return now >= self._first_above_time

    def _drops(self, now: float, ok_to_drop: bool) -> bool:
        if not ok_to_drop:
            self._dropping = False
        elif not self._dropping:
            self._enter(now)
            return True
        elif now >= self._drop_next:
            self._count += 1
            self._drop_next += self._interval / sqrt(self._count)
            return True
        return False

    def _enter(self, now: float) -> None:
        """Begin to drop: as often as at the end of the last time, if that was not long ago."""
        self._dropping = True
        delta = self._count - self._last_count
        recent = now - self._drop_next < 16 * self._interval
        self._count = self._last_count = delta if delta > 1 and recent else 1
        self._drop_next = now + self._interval / sqrt(self._count)
