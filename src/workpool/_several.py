"""The bounded queue, for workers that take several entries at once because what they sit on is far away.

All entries that such a worker has in hand count as running. The first is its `entry`, the others are `ahead`. The rules
at the top of `_queue` hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from workpool._future import Place
from workpool._queue import BoundedQueue
from workpool._state import section
from workpool._worker import DISOWNED, Entry, Worker

__all__ = ["SeveralQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WITHDRAWN: Final = Place.WITHDRAWN


class SeveralQueue(BoundedQueue[T]):
    """What a worker with a seat far away does to the queue, besides taking one entry at a time."""

    __slots__ = ()

    @section
    def take_ahead(self, worker: Worker[T], most: int) -> None:
        """Give a worker that has an entry in hand up to `most` more, and no more than its share of what is queued."""
        append = worker.ahead.append
        ledger = self.ledger
        most = min(most, len(self._line.waiting) // max(1, len(self.workers)))
        while len(worker.ahead) < most and worker.pending != DISOWNED:
            line = self._line
            pop = line.pop
            if not line.waiting or self._detour:  # from here on no call but a pop
                break
            entry = line.waiting[0]
            future = entry[2]
            if future is not None:
                if future.place is WITHDRAWN:
                    self._dead -= 1
                    pop()
                    continue
                future.place = TAKEN
            ledger.running += 1
            self._limit += 1
            append(pop())
        self._grant()

    @section
    def begin(self, worker: Worker[T], now: float) -> None:
        """What the worker has in hand is sent only now: it is not late, however long that took."""
        worker.began = now
        worker.late = None

    def put_back(self, worker: Worker[T], count: int) -> None:
        """The last so many entries that a worker has in hand were not begun: they are the next again, in their order.

        They keep their places though the queue may have filled up meanwhile. Of a queue that was emptied they are
        handed back, too.
        """
        self._put_back(worker, count)
        self.tell_handed_back()

    @section
    def _put_back(self, worker: Worker[T], count: int) -> None:
        self._rouse(coming=True)
        back: list[Entry[T]] = []  # the last first
        while len(back) < count and worker.pending != DISOWNED:
            if worker.ahead:
                back.append(worker.ahead.pop())
            elif worker.entry is not None:
                back.append(worker.entry)
                worker.entry = None
            else:
                break
        count = len(back)
        if self.handed_back is not None:
            self._add_to_handed_back(back)
            self.ledger.running -= count
            return
        for entry in back:
            if entry[2] is not None:
                entry[2].place = QUEUED
        unpop = self._line.unpop
        self.ledger.running -= count  # from here on no call but the last
        self._limit -= count
        unpop(back)

    def _add_to_handed_back(self, entries: Sequence[Entry[T]]) -> None:
        """`entries`, the last first, were to run before all that is there."""
        self.handed_back = (*reversed(entries), *(self.handed_back or ()))
        self.ledger.cancelled += len(entries)
        self.cut_short = self.cut_short or (bool(entries) and (self.cut_at is not None or bool(self.failure)))

    @section
    def settle_untold(self, worker: Worker[T], fate: int, count: int) -> None:
        """Settle the first so many entries that a worker has in hand, which all have this fate and no future."""
        if worker.pending != DISOWNED:
            for _ in range(count):
                self._count(fate)
                self._next(worker)
