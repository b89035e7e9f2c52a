"""Memory that a worker's process, or interpreter, shares with its parent: how far it has come with what it was sent.

Counters instead of messages: they cost the child a store each, wake nobody, and are there after its death. One side
writes each: the child `begun` and `done`, the parent `limit`. An item is the child's when that has written `begun` and
then found it below the limit; it is the parent's again when that has lowered the limit and then found it not begun.
Between its store and its load each side passes a fence, so that at least one sees the other: both may think that the
item is the other's, and so it is nobody's until the child says that it is through; never both that it is their own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Container
from typing import TYPE_CHECKING, Any, Final

from workpool.workers.settings import MOST

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext  # an interpreter of a worker has no use for it

__all__ = ["BYTES", "FAILED", "ITEMS", "NOTHING", "POSTED", "RESULT", "Board"]

ITEMS: Final = MOST

SPACE: Final = 1 << 16
"""Bytes for the results of those. What does not fit is posted through the socket."""

BYTES: Final = 24 + 17 * ITEMS + SPACE
"""How much memory a board takes."""

BEGUN, LIMIT, DONE = range(3)

# What became of an item.
NOTHING: Final = 0
"""It succeeded, and returned None or is not asked for its result."""
RESULT: Final = 1
FAILED: Final = 2
POSTED: Final = 4
"""Added to either: its result or exception came through the socket."""

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
    """One side's view. A child's board has room for one batch at a time, and starts empty with each."""

    def __init__(self, array: Any) -> None:
        whole = memoryview(array).cast("B")
        counters, status, seconds, lengths = 24, ITEMS, 8 * ITEMS, 8 * ITEMS
        at = [0]
        for size in (counters, seconds, lengths, status, SPACE):
            at.append(at[-1] + size)
        self._counters = whole[at[0] : at[1]].cast("Q")
        self._seconds = whole[at[1] : at[2]].cast("d")
        self._lengths = whole[at[2] : at[3]].cast("Q")
        self._status = whole[at[3] : at[4]]
        self._space = whole[at[4] : at[5]]
        self._written = 0

    @staticmethod
    def array(context: BaseContext) -> Any:
        """Memory for one, to be given to a child that is started."""
        return context.RawArray("B", BYTES)

    # -- the parent ----------------------------------------------------------------------------

    def reset(self, count: int) -> None:
        """Before a batch of so many items is sent."""
        self._counters[BEGUN] = self._counters[DONE] = 0
        self._counters[LIMIT] = count
        self._written = 0

    @property
    def begun(self) -> int:
        return self._counters[BEGUN]

    @property
    def done(self) -> int:
        done = self._counters[DONE]
        _fence()  # what stands on the board about those is read after this
        return done

    def cut(self, least: int) -> tuple[int, int]:
        """Let the child begin no more items, but the first `least` ones.

        How many are certainly its own, and how many may be: it may have begun one more before it saw the limit.
        """
        limit = min(self._counters[LIMIT], max(least, self._counters[BEGUN]))  # once lowered it stays
        self._counters[LIMIT] = limit
        _fence()
        return limit, max(limit, self._counters[BEGUN])

    def is_here(self, number: int, posted: Container[int]) -> bool:
        """Whether all about an item that is done is on the board, or was posted."""
        return self._status[number] < POSTED or number in posted

    def read(self, number: int) -> tuple[int, float, memoryview]:
        """What became of an item that is done, how long it ran, and what was written about it."""
        length = self._lengths[number]
        start, self._written = self._written, self._written + length
        return self._status[number], self._seconds[number], self._space[start : start + length]

    # -- the child -----------------------------------------------------------------------------

    def begin(self, number: int) -> bool:
        """Begin that item; False if it was taken back."""
        if number == 0:
            self._written = 0
        self._counters[BEGUN] = number + 1
        _fence()
        if self._counters[LIMIT] > number:
            return True
        self._counters[BEGUN] = number
        return False

    def has_room(self, length: int) -> bool:
        return self._written + length <= SPACE

    def end(self, number: int, status: int, seconds: float, data: bytes = b"") -> None:
        """Write down what became of the item that was begun, with what there is room for."""
        length = len(data)
        if length:
            self._space[self._written : self._written + length] = data
            self._written += length
        self._lengths[number] = length
        self._status[number] = status
        self._seconds[number] = seconds
        _fence()  # whoever finds it done finds the above
        self._counters[DONE] = number + 1
