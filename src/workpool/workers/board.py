"""Memory that a worker's process, or interpreter, shares with its parent: how far it has come with what it was sent.

Counters instead of messages: they cost the child a store each, wake nobody, and are there after its death. One side
writes each: the child `begun` and `done`, the parent `limit` and `sent`. An item is the child's when that has written
`begun` and then found it below the limit; it is the parent's again when that has lowered the limit and then found it
not begun. Between its store and its load each side passes a fence, so that at least one sees the other: both may think
that the item is the other's, and so it is nobody's until the child says that it is through; never both that it is their
own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

from workpool.workers.settings import MOST

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext  # an interpreter of a worker has no use for it

__all__ = ["BYTES", "FAILED", "ITEMS", "NOTHING", "POSTED", "RAW", "RESULT", "Board"]

ITEMS: Final = MOST

SLOTS: Final = 2 * ITEMS
"""Items that there is room for: those of the batch that the child runs, and of the one that is sent ahead."""

HALF: Final = 1 << 16
"""Bytes for the results of one batch. What does not fit is posted through the socket."""

BYTES: Final = 32 + 17 * SLOTS + 2 * HALF
"""How much memory a board takes."""

BEGUN, LIMIT, DONE, SENT = range(4)

NONE_BACK: Final = 1 << 63
"""The limit while nothing was taken back."""

# What became of an item.
NOTHING: Final = 0
"""It succeeded, and returned None or is not asked for its result."""
RESULT: Final = 1
FAILED: Final = 2
RAW: Final = 4
"""Added to `RESULT`: what stands there is the result itself, a `bytes`, and not pickled."""
POSTED: Final = 8
"""Added to any of those, the greatest: its result or exception came through the socket."""

_lock = threading.Lock()


def _fence() -> None:
    """No store before this comes after a load behind it: taking a lock is an atomic read and write, a full barrier."""
    lock = _lock
    lock.acquire()
    lock.release()


def _renew_lock() -> None:
    """In a forked child: a thread of the parent may have had it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Board:
    """One side's view.

    Items are numbered from the first that the child is sent to the last, and no number comes twice. There is room for
    two batches: each has a half of the bytes in turn, and the third is sent when all of the first was read.
    """

    def __init__(self, array: Any) -> None:
        whole = memoryview(array).cast("B")
        at = [0]
        for size in (32, 8 * SLOTS, 4 * SLOTS, 4 * SLOTS, SLOTS, 2 * HALF):
            at.append(at[-1] + size)
        self._counters = whole[at[0] : at[1]].cast("Q")
        self._seconds = whole[at[1] : at[2]].cast("d")
        self._starts = whole[at[2] : at[3]].cast("I")
        self._lengths = whole[at[3] : at[4]].cast("I")
        self._status = whole[at[4] : at[5]]
        self._space = whole[at[5] : at[6]]
        self._written = 0
        self._full = HALF

    @staticmethod
    def array(context: BaseContext) -> Any:
        """Memory for a board, to be handed to the process when it starts."""
        return context.RawArray("B", BYTES)

    # -- the parent ----------------------------------------------------------------------------

    def lift(self) -> None:
        """Let the child begin whatever it is sent: it is through with all it was sent before."""
        self._counters[LIMIT] = NONE_BACK

    def announce(self, end: int) -> None:
        """All before that number are about to be sent: the child is not to say that it has nothing to do."""
        self._counters[SENT] = end

    @property
    def begun(self) -> int:
        return self._counters[BEGUN]

    @property
    def done(self) -> int:
        return self._counters[DONE]

    def cut(self, least: int) -> tuple[int, int]:
        """Let the child begin no more items, but those before number `least`.

        Before which number are certainly its own, and before which may be: it may have begun one more before it saw the
        limit.
        """
        limit = min(self._counters[LIMIT], max(least, self._counters[BEGUN]))  # once lowered it stays
        self._counters[LIMIT] = limit
        _fence()
        return limit, max(limit, self._counters[BEGUN])

    def read(self, first: int, end: int, posted: Container[int]) -> tuple[bytes, list[float]]:
        """What became of each item from the one to before the other, and how long each ran: as far as it is done, and
        all about it is on the board or was posted."""
        count = min(end, self._counters[DONE]) - first
        _fence()  # what stands on the board about those is read after this
        if count <= 0:
            return b"", []
        start = first % SLOTS
        stop, over = start + count, max(0, start + count - SLOTS)
        statuses = self._status[start:stop].tobytes() + self._status[:over].tobytes()
        seconds: list[float] = [*self._seconds[start:stop], *self._seconds[:over]]
        if max(statuses) >= POSTED:
            for number, status in enumerate(statuses):
                if status >= POSTED and first + number not in posted:
                    return statuses[:number], seconds[:number]
        return statuses, seconds

    def written(self, number: int) -> memoryview:
        """What was written about an item that is done."""
        slot = number % SLOTS
        start = self._starts[slot]
        return self._space[start : start + self._lengths[slot]]

    # -- the child -----------------------------------------------------------------------------

    def is_all(self, end: int) -> bool:
        """Whether nothing more comes than what is before that number, as far as is known."""
        return self._counters[SENT] <= end

    def turn(self, number: int) -> bool:
        """A batch begins with that item: its bytes go to the other half. False if it was taken back."""
        self._written = 0 if self._full > HALF else HALF
        self._full = self._written + HALF
        return self._counters[LIMIT] > number

    def begin(self, number: int) -> bool:
        """Begin that item; False if it was taken back."""
        counters, lock = self._counters, _lock
        counters[BEGUN] = number + 1
        lock.acquire()  # a fence, written out, as it is in `end`
        lock.release()
        if counters[LIMIT] > number:
            return True
        counters[BEGUN] = number
        return False

    def has_room(self, length: int) -> bool:
        return self._written + length <= self._full

    def write(self, number: int, data: bytes) -> None:
        """Write down what became of an item that has ended."""
        slot = number % SLOTS
        start = self._starts[slot] = self._written
        self._written = start + len(data)
        self._lengths[slot] = len(data)
        self._space[start : self._written] = data

    def end(self, number: int, status: int, seconds: float) -> None:
        """The item that was begun has ended so, and what there is to write about it was written, or posted."""
        slot, lock = number % SLOTS, _lock
        self._status[slot] = status
        self._seconds[slot] = seconds
        lock.acquire()  # whoever finds it done finds the above
        lock.release()
        self._counters[DONE] = number + 1
