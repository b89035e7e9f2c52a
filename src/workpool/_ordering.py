"""The bounded queue, of which not every entry may start when it is next: another of its key runs, or it is too soon.

With such rules an entry is always taken under the lock. One whose key is not free when it comes to the front of its
lane steps out of that, still in its slot, and is the next once it is free: so other keys are not held up, and among all
that may start the order is the queue's. The rules at the top of `_queue` hold here too.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from typing import Any, Final, TypeVar

from workpool._core.keys import Line
from workpool._core.lane import Lane
from workpool._core.ledger import Ledger
from workpool._core.rate import NOTHING
from workpool._future import ItemFuture, Place
from workpool._postponing import PostponingQueue
from workpool._state import section
from workpool._worker import NONE, PARKED, SUCCEEDED, Entry, Postponed, Ticket, Worker, line_of

__all__ = ["OrderingQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
BESIDE: Final = Place.BESIDE
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WITHDRAWN: Final = Place.WITHDRAWN


class OrderingQueue(PostponingQueue[T]):
    """What becomes of an entry that may not start yet."""

    __slots__ = ()

    def _take_by_rules(self, worker: Worker[T], ledger: Ledger) -> Lane[Entry[T]]:
        """Settle what the worker finished, and give it the next entry that may start."""
        ended, limiter = worker.entry, self.limiter
        self._count(worker.fate)
        worker.fate = NONE
        worker.entry = None
        if ended is not None:
            self._release(ended)
        if self._detour or not self._length():
            self._rest(worker)
            return self._lane
        now = self._now()
        seconds = 0.0 if limiter is None else limiter.wait(now)
        lane = self._next_lane(now)
        while waiting := lane.waiting:
            pop = lane.pop
            entry = waiting[lane.first]
            future = entry[2]
            line: Any = entry[3]
            if line.__class__ is not Line:
                line = line.line if line.__class__ is Ticket else None
            if future is not None and future.place is WITHDRAWN:
                lane.dead -= 1
                pop()
                self._release(entry)
            elif line is not None and line.owner is not None and line.owner is not entry:
                self._step_out(line, lane, entry)
            elif seconds:
                self._hold_back(worker, now + seconds)
                return lane
            else:  # from the first line of the loop on no call but the last
                if line is not None:
                    line.owner = entry
                if future is not None:
                    future.place = TAKEN
                ledger.running += 1
                lane.limit += 1
                worker.lane = lane
                worker.entry = entry
                pop()
                if limiter is not None:
                    limiter.start(now)
                if lane.waiters:
                    self._grant(lane)
                return lane
            lane = self._next_lane(now)
        self._rest(worker)
        return lane

    def _take_free(self, worker: Worker[T], lane: Lane[Entry[T]]) -> bool:
        """Do so without the lock, of a queue of one lane and with the GIL: if the next entry may start, and nobody
        waits for the end of the last. This is one stretch without a call, as that in `takes`; False: nothing was done.
        """
        ledger, ended, fate = self.ledger, worker.entry, worker.fate
        waiting = lane.waiting
        pop = lane.pop
        first = lane.first
        if not waiting or worker.pending or self._detour or lane.waiters:
            return False
        entry = waiting[first]
        line: Any = entry[3]
        if entry[2] is not None or line.__class__ is not Line:
            return False
        if line.owner is not None and line.owner is not entry and line.owner is not ended:
            return False
        if ended is not None:
            before: Any = ended[3]
            if before.__class__ is not Line or before.behind or before.is_held:
                return False
            before.owner = None
        if fate == SUCCEEDED:
            ledger.succeeded += 1
        elif fate:
            ledger.failed += 1
        else:
            ledger.running += 1
        worker.fate = NONE
        lane.limit += 1
        line.owner = entry
        worker.entry = entry
        pop()
        return True

    def _next_lane(self, now: float) -> Lane[Entry[T]]:
        return self._lane if self._choose is None else self._choose(now)

    def _step_out(self, line: Line[Entry[T]], lane: Lane[Entry[T]], entry: Entry[T]) -> None:
        """Its key is not free: have the first entry of a lane wait for that beside it."""
        if line.behind is None:
            line.behind = deque()
        behind, future = line.behind, entry[2]
        pair = (entry, lane)
        behind.append(None)
        self._lines[line] = None
        waiting, pop = lane.waiting, lane.pop
        # from here on no call but the last
        if waiting and waiting[lane.first] is entry and not (future is not None and future.place is WITHDRAWN):
            behind[-1] = pair
            self._beside += 1
            if future is not None:
                future.place = BESIDE
                future.aside = line
            pop()

    def _release(self, entry: Entry[T]) -> None:
        """Its turn is over: the next of its key is the first of its lane."""
        line = line_of(entry)
        if line is not None and line.owner is entry and not line.is_held:
            self._advance(line)

    def _forget_aside(self, future: ItemFuture[Any]) -> None:
        aside: Any = future.aside
        if future.place is not WITHDRAWN:
            return
        if aside.__class__ is Postponed:
            self._release(aside.entry)
            self._rouse()
        elif aside.__class__ is Line:
            future.aside = None
            aside.gone += 1
            self._rid(aside)
        super()._forget_aside(future)

    def _rid(self, line: Line[Entry[T]]) -> None:
        """Rid a line of cancelled entries once they are half of it."""
        behind = line.behind
        if behind is None or line.gone * 2 <= len(behind):
            return
        counts, beside = self.ledger.counts(), self._beside
        pairs = [*behind]
        living: deque[tuple[Entry[T], Lane[Entry[T]]] | None] = deque(
            pair for pair in pairs if pair is not None and not _is_withdrawn(pair[0])
        )
        unchanged = self.ledger.is_at(counts) and line.behind is behind and beside == self._beside
        if unchanged:  # from here on no call
            line.behind = living
            line.gone = 0

    def _holds_up(self, entry: Entry[T]) -> bool:
        line = line_of(entry)
        return line is not None and line.owner is entry

    def _advance(self, line: Line[Entry[T]]) -> None:
        behind = line.behind
        while behind:
            pair = behind[0]
            if pair is None:
                behind.popleft()
                continue
            entry, lane = pair
            future, back, unpop = entry[2], [entry], lane.unpop
            if future is not None and future.place is WITHDRAWN:  # from here on no call
                behind[0] = None
            else:
                behind[0] = None
                line.owner = entry
                self._beside -= 1
                if future is not None:
                    future.place = QUEUED
                    future.aside = None
                unpop(back)
                return
        line.owner = None
        self._lines.pop(line, None)

    @section
    def hold(self, entry: Entry[T]) -> None:
        """No other item of the key of this one, which has failed for good, is to run until it is let go."""
        line = line_of(entry)
        if line is not None:
            line.is_held = True
            self._lines[line] = None
            self._held_lines[line] = entry

    @section
    def let_go_on(self, line: Line[Entry[T]]) -> bool:
        """End that; False if it was not held."""
        entry = self._held_lines.get(line)
        if entry is None:
            return False
        line.is_held = False
        if line.owner is entry and not self._is_in_hand(entry):  # else whoever has it gives the key on when that ends
            self._advance(line)
        self._rouse()
        self._held_lines.pop(line, None)  # last: whoever was interrupted before this may come again
        return True

    def _is_in_hand(self, entry: Entry[T]) -> bool:
        return any(worker.entry is entry for worker in (*self.workers, *self.stuck))

    def drop(self, entry: Entry[T]) -> None:
        """What is queued of the key of this one, which has failed for good, is to be shed."""
        line = line_of(entry)
        if line is not None and self.keys is not None:
            self.keys.drop(line)

    def _hold_back(self, worker: Worker[T], until: float) -> None:
        """Nothing may start before that: nobody is woken until then."""
        worker.pending = PARKED
        self.resting[worker] = None
        self.resting.move_to_end(worker, last=False)
        self.waking = True  # so that whoever submits does not try to
        if self._start_at != until:
            self._start_at = until
            for wake in self._sleepers:
                wake(None)

    def _may_start(self, now: float) -> float | None:
        """Wake somebody if something may start again. Seconds until it may, if it may not; None: it may."""
        until = self._start_at
        if until is None:
            return None
        if until - now > NOTHING:
            return until - now
        self._start_at = None
        self.waking = False
        self._rouse()
        return None

    def _pairs_beside(self) -> list[tuple[Entry[T], Lane[Entry[T]]]]:
        """The entries that are beside their lanes, with those."""
        return [pair for line in [*self._lines] for pair in [*(line.behind or ())] if pair is not None]

    def _hand_back_others(self, cut: bool) -> None:
        super()._hand_back_others(cut)
        while True:
            counts, beside = self.ledger.counts(), self._beside
            lines = [*self._lines]
            entries = [entry for entry, _ in self._pairs_beside() if not _is_withdrawn(entry)]
            handed_back = (*(self.handed_back or ()), *entries)
            fresh: dict[Line[Entry[T]], None] = {}
            nobody: dict[Line[Entry[T]], Entry[T]] = {}
            # One call, in which no Python code runs: a loop would let others in at each turn.
            nowhere: deque[None] = deque(maxlen=0)
            clear, cleared = nowhere.extend, map(setattr, lines, repeat("behind"), repeat(None))
            unchanged = self.ledger.is_at(counts) and beside == self._beside
            if unchanged:  # from here on no call but the last: all or nothing
                self._lines = fresh
                self._held_lines = nobody
                self.ledger.cancelled += beside
                self._beside = 0
                self.cut_short = self.cut_short or (cut and beside > 0)
                self.handed_back = handed_back
                clear(cleared)
                return


def _is_withdrawn(entry: Entry[Any]) -> bool:
    return entry[2] is not None and entry[2].place is WITHDRAWN
