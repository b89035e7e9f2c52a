"""What a worker and the queue know of each other."""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from workpool._core.ledger import Tally
from workpool._future import ItemFuture

if TYPE_CHECKING:
    from asyncio import Task  # at run time it would cost whoever has no event loop the import

__all__ = ["DISOWNED", "FAILED", "NONE", "NOTHING_AHEAD", "PARKED", "SUCCEEDED", "TELLING", "Entry", "Worker"]

T = TypeVar("T")

Entry = tuple[T, float, ItemFuture[Any] | None, contextvars.Context | None]
"""An accepted item, when it was accepted, its future if somebody wants the result, and the context variables of whoever
submitted it if the pool carries them."""

# What a worker says of the item in its hand. Plain ints: comparing an enum costs 4 % of an item.
NONE: Final = 0
SUCCEEDED: Final = 1
FAILED: Final = 2

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
        "began",
        "cancelled",
        "cancels",
        "end",
        "entry",
        "expire",
        "fate",
        "ident",
        "late",
        "leaving",
        "name",
        "pending",
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
        self.ahead: deque[Entry[T]] = NOTHING_AHEAD
        """What it has taken besides, to run after that. Counts as running."""
        self.at = 0.0
        """The clock, when it last came from an item or a wait. Written by the worker without the lock."""
        self.began = 0.0
        """Since when it runs its entry. Written without the lock, always before it takes one."""
        self.fate = NONE
        """What became of its entry. Written by the worker without the lock, read when it comes."""
        self.pending = NONE
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
