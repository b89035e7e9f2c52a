"""What a worker and the queue know of each other."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from workpool._core.keys import Line
from workpool._core.lane import Lane
from workpool._core.ledger import Tally
from workpool._future import ItemFuture

if TYPE_CHECKING:
    from asyncio import Task  # at run time it would cost whoever has no event loop the import

__all__ = [
    "DISCARDED",
    "DISOWNED",
    "FAILED",
    "FUTURE",
    "NONE",
    "NOTHING_AHEAD",
    "PARKED",
    "SHED",
    "SUCCEEDED",
    "TELLING",
    "Entry",
    "Postponed",
    "Ticket",
    "Worker",
    "attempt_of",
    "context_of",
    "line_of",
    "submitted_at",
]

T = TypeVar("T")


class Ticket:
    """What is to be known of an entry besides what most have."""

    __slots__ = ("attempt", "context", "line", "submitted_at")

    def __init__(self, context: contextvars.Context | None, line: Line[Any] | None) -> None:
        self.context = context
        self.line = line
        """The items of its key, if there is an order by keys."""
        self.submitted_at: float | None = None
        """When it was accepted, if that is not since when it is queued."""
        self.attempt = 1
        """Which run of the item is its next, or the one that runs; from 1."""


Entry = tuple[T, float, ItemFuture[Any] | None, contextvars.Context | Line[Any] | Ticket | None]
"""An accepted item, since when it is queued, its future if somebody wants the result, and what else is to be known of
it: the context variables of whoever submitted it, the line of its key, or a ticket with several of those."""

FUTURE: Final[Callable[[Entry[Any]], ItemFuture[Any] | None]] = itemgetter(2)
"""Of an entry: in C, so that nobody comes in between where many are asked."""


def attempt_of(entry: Entry[Any]) -> int:
    """Which run of the item it is, or will be."""
    ticket = entry[3]
    return ticket.attempt if isinstance(ticket, Ticket) else 1


def context_of(entry: Entry[Any]) -> contextvars.Context | None:
    """The context variables of whoever submitted the item."""
    more = entry[3]
    if isinstance(more, Ticket):
        return more.context
    return more if isinstance(more, contextvars.Context) else None


def line_of(entry: Entry[Any]) -> Line[Any] | None:
    """The items of its key, if there is an order by keys."""
    more = entry[3]
    if isinstance(more, Ticket):
        return more.line
    return more if isinstance(more, Line) else None


def submitted_at(entry: Entry[Any]) -> float:
    """When it was accepted."""
    more = entry[3]
    at = more.submitted_at if isinstance(more, Ticket) else None
    return entry[1] if at is None else at


class Postponed(Generic[T]):
    """An entry that waits for its next attempt."""

    __slots__ = ("entry", "lane", "waits")

    def __init__(self, entry: Entry[T], lane: Lane[Entry[T]]) -> None:
        self.entry = entry
        self.lane = lane
        """Where it goes."""
        self.waits = False
        """It counts as waiting. Else it was interrupted on its way in, or is out again."""


# What a worker says of the item in its hand. Plain ints: comparing an enum costs 4 % of an item.
NONE: Final = 0
SUCCEEDED: Final = 1
FAILED: Final = 2
DISCARDED: Final = -1
SHED: Final = 2
"""To be added to the reason."""

# What the queue has to see to when a worker comes (NONE: nothing).
PARKED: Final = 1
"""It is among the idle or the held."""
TELLING: Final = 2
"""It has settled an item and was telling its future."""
DISOWNED: Final = 3
"""It was given up: nothing that it says counts any more."""


NOTHING_AHEAD: Final[deque[Any]] = deque(maxlen=0)
"""Of the workers that take one entry at a time: one for all of them."""


class Worker(Generic[T]):
    """One worker. Fields belong to the queue's lock, except where they say otherwise."""

    __slots__ = (
        "ahead",
        "at",
        "attempt",
        "began",
        "cancelled",
        "cancels",
        "end",
        "entry",
        "expire",
        "fate",
        "ident",
        "lane",
        "late",
        "leaving",
        "name",
        "passed",
        "pending",
        "settles_freely",
        "stack",
        "tally",
        "task",
        "telling",
        "wake",
    )

    def __init__(self, name: str, wake: Callable[[None], object]) -> None:
        self.name = name
        self.wake = wake
        """Ends its wait, from any thread; may be called when it does not wait."""
        self.tally = Tally()
        """Written by the worker alone, without the lock."""
        self.entry: Entry[T] | None = None
        """What it runs."""
        self.attempt = 1
        """Which run of the item it is, where `entry` is not known: in the process of a worker."""
        self.ahead: deque[Entry[T]] = NOTHING_AHEAD
        """What it has taken besides, to run after that. Counts as running."""
        self.lane: Lane[Entry[T]] | None = None
        """The one that its entries are from, if it takes several."""
        self.passed = 0
        """How many of its entries it has settled, if it takes several."""
        self.at = 0.0
        """The clock, when it last came from an item or a wait. Written by the worker without the lock."""
        self.began = 0.0
        """Since when it runs its entry. Written without the lock, always before it takes one."""
        self.fate = NONE
        """What became of its entry; `NONE` while that runs. Written by the worker without the lock."""
        self.pending = NONE
        self.settles_freely = False
        """It settles an item that has succeeded without the lock. Written by itself, before it takes the first."""
        self.leaving = False
        """It is to end now."""
        self.telling: ItemFuture[Any] | None = None
        """The future of the item that it has settled, while it tells that."""
        self.cancelled = False
        """Its running item was asked to end early."""
        self.cancels: list[Callable[[None], object]] = []
        """What to call when that happens."""
        self.late: Entry[T] | None = None
        """An entry that has taken longer than it may."""
        self.expire: Callable[[Entry[T]], object] | None = None
        """Has such an entry end, if it still runs; None: `cancels` ask it to. To be called outside the lock."""
        self.stack: Callable[[], str] | None = None
        """Where its item is, as a traceback prints it; None: where its thread or task is."""
        self.end: Callable[[], object] | None = None
        """Ends by force what it runs, when it was given up; None: nothing can. To be called outside the lock."""
        self.ident: int | None = None
        """Its thread's, to find the stack; None until it has arrived."""
        self.task: Task[None] | None = None
        """Itself, if it is a task in that thread."""

    @property
    def given_up(self) -> bool:
        """A stop waits for it no longer, and nothing that it says counts any more."""
        return self.pending == DISOWNED

    @property
    def item(self) -> T:
        """What it runs; only for the worker itself, while it does."""
        assert self.entry is not None
        return self.entry[0]
