"""Entries that wait in one lane, and the rule by which one of them is shed.

An entry is a tuple that begins with the item and the time of its acceptance, in seconds of the queue's clock. A lane
belongs to one queue, under whose lock it is. What the queue needs of it for each item are plain fields, and methods
that are written in C: a Python function there costs 12-48 % of an item, and lets others in.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

__all__ = ["CODEL", "DEADLINE", "KEEP", "KEY", "MAX_WAIT", "OVERFLOW", "REASONS", "Judge", "Lane", "Lineup"]

T = TypeVar("T")
E = TypeVar("E", bound="tuple[Any, ...]")

log = logging.getLogger("workpool")

# What a rule says of an item. Plain ints, for the reason that fates are.
KEEP: Final = 0
MAX_WAIT: Final = 1
DEADLINE: Final = 2
CODEL: Final = 3
OVERFLOW: Final = 4
KEY: Final = 5

REASONS: Final = ("", "max_wait", "deadline", "codel", "overflow", "key")
"""Why an item was shed, in words, by those numbers."""

Judge = Callable[[Any, float, float, float, float], int]
"""Of an item that is next: `(item, waited, age, now, run)`, the seconds that it was queued, and those since it was
submitted, which are more if it is not its first attempt; the time, and the seconds that items run of late. `KEEP`, or
why it is to be shed."""


class Lane(Generic[E]):
    """Entries that wait, the oldest first."""

    __slots__ = (
        "accepted",
        "dead",
        "drops",
        "first",
        "handed_back",
        "judge",
        "learns",
        "limit",
        "max_wait",
        "pop",
        "push",
        "size",
        "unpop",
        "unquestioned",
        "waiters",
        "waiting",
    )

    def __init__(self, size: int, drops: bool, max_wait: float | None, judge: Judge | None) -> None:
        self.size = size
        self.drops = drops
        """When there is no room, the oldest entry makes some."""
        self.judge: Judge | None = None
        self.max_wait = inf
        self.unquestioned = inf
        """An item that has waited for no longer than so many seconds is not to be shed."""
        self.bound(max_wait)
        if judge is not None:
            self.ask(judge)
        self.learns = False
        """Its judge wants to know how long items run."""
        self.waiting: deque[E] = deque()
        self.first = 0
        """The index of the entry that `pop` gives: 0, the oldest, or -1, the newest."""
        self.push: Callable[[E], object] = self.waiting.append
        self.pop: Callable[[], E] = self.waiting.popleft
        self.unpop: Callable[[list[E]], object] = self.waiting.extendleft
        """Puts back what `pop` gave, the last of it first."""
        self.accepted = 0
        """Entries that it has accepted so far. Below `limit`, there is room for one more."""
        self.limit: float = -inf
        """How many it may have accepted: one more for each slot that comes free, one less for each that is kept for a
        waiter. Minus infinity, which no freed slot changes, while nothing is accepted. Two numbers, which only grow
        as items come and go, because one that who submits and the workers both write costs 15-20 % of an item without
        the GIL."""
        self.dead = 0
        """Entries whose futures were cancelled: they hold no slot and are skipped."""
        self.handed_back = False
        """What waited in it was taken out: there is nothing to be cancelled."""
        self.waiters: OrderedDict[Any, None] = OrderedDict()
        """Who waits for room. While there is anyone, every free slot is kept for one."""

    def ask(self, judge: Judge) -> None:
        """Have it say of every item whether that is to be shed."""
        self.judge = judge
        self.unquestioned = -inf

    def bound(self, max_wait: float | None) -> None:
        """Shed what has waited for longer than so many seconds, too; None: for however long."""
        self.max_wait = min(self.max_wait, inf if max_wait is None else max_wait)
        self.unquestioned = min(self.unquestioned, self.max_wait)

    @property
    def is_judged(self) -> bool:
        """Whether it may shed what is next."""
        return self.unquestioned < inf

    def turn(self, newest: bool) -> None:
        """Give the newest entry next, or the oldest."""
        first = -1 if newest else 0
        if first != self.first:
            waiting = self.waiting
            pop, unpop = (waiting.pop, waiting.extend) if newest else (waiting.popleft, waiting.extendleft)
            if waiting is self.waiting:  # others were not put in its place meanwhile; from here on no call
                self.first = first
                self.pop = pop
                self.unpop = unpop

    def verdict(self, item: object, waited: float, now: float, run: float, age: float | None = None) -> int:
        """`KEEP`, or why the item, which is next, is to be shed. A rule that raises is logged, and sheds nothing."""
        if waited > self.max_wait:
            return MAX_WAIT
        if self.judge is None:
            return KEEP
        try:
            return self.judge(item, waited, waited if age is None else age, now, run)
        except Exception:
            log.exception("the rule of a queue failed for an item, which is kept")
            return KEEP


NONE: Final[Mapping[int, Lane[Any]]] = MappingProxyType({})


@dataclass(frozen=True)  # with slots, `Lineup[...](...)` raises TypeError on Python 3.11 and 3.12
class Lineup(Generic[T]):
    """The lanes of one queue."""

    lanes: tuple[Lane[Any], ...]
    rank: Callable[[T], int] | None = None
    """The number of the lane that an item is for; None: there is only one."""
    numbered: Mapping[int, Lane[Any]] = field(default_factory=lambda: NONE)
    """The lanes by those numbers. Raises ValueError for what is none."""
    choose: Callable[[float], Lane[Any]] | None = None
    """Which lane is next at that time, turned as it is to be; None: always the only one, the oldest first."""
