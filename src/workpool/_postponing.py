"""The bounded queue, with a waiting room: for items that are to be tried again later.

They are with no worker and take no slot. Whoever waits for the queue (a stop, a join, the pool's timekeeper) lets those
go on whose time has come. The rules at the top of `_queue` hold here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeVar

from workpool._core.lane import Lane
from workpool._core.outcome import BUDGET, MAX_WAITING, Again
from workpool._future import ItemFuture, Place
from workpool._several import SeveralQueue
from workpool._state import section
from workpool._worker import (
    DISOWNED,
    NONE,
    NOTHING_AHEAD,
    Entry,
    Postponed,
    Ticket,
    Worker,
    attempt_of,
    context_of,
    line_of,
    submitted_at,
)

__all__ = ["PostponingQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
WAITING: Final = Place.WAITING
WITHDRAWN: Final = Place.WITHDRAWN


class PostponingQueue(SeveralQueue[T]):
    """What a worker does to the queue when its item is to be tried again, and what happens when the time has come."""

    __slots__ = ()

    def postpone(self, worker: Worker[T], again: Again) -> int:
        """Let the entry that a worker has in hand wait for its next attempt: 0. Else, why it is not to be tried again.

        After a stop that handed the queued entries back this one is handed back too.
        """
        entry = worker.entry
        if entry is None:
            return 0
        future = entry[2]
        if future is not None:
            future.tell_waiting()
        why = self._postpone(worker, again, self._now())
        if why:
            if future is not None:
                future.tell_running()
        else:
            self.tell_handed_back()
            self.keep_time()
        return why

    @section
    def _postpone(self, worker: Worker[T], again: Again, now: float) -> int:
        entry = worker.entry
        if entry is None or worker.pending == DISOWNED:
            return 0
        lane = self._lane if worker.lane is None else worker.lane
        if self.handed_back is None and (why := self._refusal(again, now)):
            return why
        line = line_of(entry)
        ticket = Ticket(context_of(entry), line)
        ticket.attempt = attempt_of(entry) + again.counts
        ticket.submitted_at = submitted_at(entry)
        due = now + again.seconds
        postponed: Postponed[T] = Postponed((entry[0], due, entry[2], ticket), lane)
        self._postponings += 1
        one = (due, self._postponings, postponed)
        future, ledger = entry[2], self.ledger
        if not again.counts:  # from here on no call but the push: a handler sees it run, or wait
            ledger.snoozes += 1
        elif self.handed_back is None:
            ledger.retries += 1
        if future is not None:
            future.place = WAITING
            future.aside = postponed
        if line is not None and line.owner is entry:  # it holds its key
            line.owner = postponed.entry
        ledger.running -= 1
        ledger.waiting += 1
        postponed.waits = True
        worker.fate = NONE
        if worker.ahead is NOTHING_AHEAD:
            worker.entry = None
        heappush(self._postponed, one)
        if worker.ahead is not NOTHING_AHEAD:
            self._next(worker)
        if self.handed_back is not None:
            self._hand_back_others(cut=self.cut_at is not None or bool(self.failure))
        elif self._postponed and self._postponed[0][2] is postponed:  # who waits for a later one is to look again
            for wake in self._sleepers:
                wake(None)
        return 0

    def _refusal(self, again: Again, now: float) -> int:
        """Why there can be no other attempt; 0: there can."""
        if self.ledger.waiting >= self.most_waiting:
            return MAX_WAITING
        if again.counts and self.budget is not None and not self.budget.take(now, self.ledger.accepted):
            return BUDGET
        return 0

    @section
    def count_dead(self, why: int) -> None:
        """An item that is about to be settled as failed is not tried again, for that reason."""
        self.ledger.dead[why] += 1

    def recall(self) -> float | None:
        """Let what is due be the next in the queue. Seconds until something else is; None: nothing waits."""
        # A look without the lock: whoever adds something wakes those who wait.
        if not self._postponed and self._start_at is None:
            return None
        return self._recall(self._now())

    @section
    def _recall(self, now: float) -> float | None:
        waits = [seconds for seconds in (self._may_start(now), self._recall_due(now)) if seconds is not None]
        return min(waits) if waits else None

    def _recall_due(self, now: float) -> float | None:
        ledger = self.ledger
        while heap := self._postponed:  # each time: a handler may have done the same, or closed the pool
            due, _, postponed = heap[0]
            if due > now and postponed.waits and not _is_withdrawn(postponed):
                return due - now
            lane: Lane[Entry[T]] = postponed.lane
            unpop = lane.unpop
            back = [postponed.entry]
            future = postponed.entry[2]
            # From here on no call but the last.
            if postponed.waits and (future is None or future.place is not WITHDRAWN):
                postponed.waits = False
                if future is not None:
                    future.place = QUEUED
                    future.aside = None
                ledger.waiting -= 1
                lane.limit -= 1
                unpop(back)
            elif postponed.waits:  # whoever took it back may have been interrupted before this
                self._release(postponed.entry)
            if heap and heap[0][2] is postponed:  # after an interrupt before this it is found not to wait
                heappop(heap)
            self._rouse()
        return None

    def _may_start(self, now: float) -> float | None:
        """Seconds until something queued may start, if none may yet. (It always may, but for other rules.)"""

    def _hand_back_others(self, cut: bool) -> None:
        while True:
            counts = self.ledger.counts()
            entries = self._waiting_entries()
            handed_back = (*(self.handed_back or ()), *entries)
            fresh: list[tuple[float, int, Postponed[T]]] = []
            count = len(entries)
            if not count:
                return
            unchanged = self.ledger.is_at(counts)
            if unchanged:  # from here on no call: all or nothing
                self._postponed = fresh
                self.ledger.waiting -= count
                self.ledger.cancelled += count
                self.cut_short = self.cut_short or cut
                self.handed_back = handed_back
                return

    def _forget_aside(self, future: ItemFuture[Any]) -> None:
        one = future.aside
        if future.place is not WITHDRAWN or not isinstance(one, Postponed):
            return
        future.aside = None
        self._withdrawn += 1
        if not self._accepting:
            self._pass_on()  # it may have been what the workers still waited for
        if self._withdrawn * 2 > len(self._postponed):
            self._rid_heap()

    def _rid_heap(self) -> None:
        """Rid the heap of cancelled entries, now that they are half of it."""
        heap = self._postponed
        before = [*heap]
        living = [one for one in before if one[2].waits and not _is_withdrawn(one[2])]
        heapify(living)
        unchanged = self._postponed is heap and before == heap  # which compares no more than two numbers
        if unchanged:  # from here on no call
            self._postponed = living
            self._withdrawn = 0

    def _waiting_entries(self) -> Sequence[Entry[T]]:
        """What waits for its next attempt, the first to come first."""
        waiting = [(due, number, one) for due, number, one in self._postponed if one.waits and not _is_withdrawn(one)]
        return [one.entry for _, _, one in sorted(waiting, key=_due)]


def _due(one: tuple[float, int, object]) -> tuple[float, int]:
    return one[:2]


def _is_withdrawn(postponed: Postponed[T]) -> bool:
    future = postponed.entry[2]
    return future is not None and future.place is WITHDRAWN
