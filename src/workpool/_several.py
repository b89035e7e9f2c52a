"""The bounded queue, for workers that take several entries at once because what they sit on is far away.

All entries that such a worker has in hand count as running. The first is its `entry`, the others are `ahead`. The rules
at the top of `_queue` hold here too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice, repeat, starmap
from typing import Any, Final, TypeVar

from workpool._core.lane import REASONS, Lane
from workpool._future import Place
from workpool._queue import BoundedQueue
from workpool._state import section
from workpool._worker import DISOWNED, FUTURE, SUCCEEDED, Entry, Worker

__all__ = ["SeveralQueue"]

T = TypeVar("T")

ONCE: Final = ((),)
"""What a function without arguments is called with, once."""

NOWHERE: Final[deque[Any]] = deque(maxlen=0)

# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WITHDRAWN: Final = Place.WITHDRAWN


class SeveralQueue(BoundedQueue[T]):
    """What a worker with a seat far away does to the queue, besides taking one entry at a time."""

    __slots__ = ()

    @section
    def take_ahead(self, worker: Worker[T], most: int, now: float) -> None:
        """Give a worker that has an entry in hand up to `most` more, and no more than its share of what is queued.

        Whoever calls this calls `grant` soon: who waits for room is not woken yet, to be in the way.
        """
        take = worker.ahead.extend
        ledger = self.ledger
        most = len(worker.ahead) + min(most, self._length() // max(1, len(self.workers)))
        lane = self._lane
        if self._choose is not None:
            lane = self._choose(now)
            if lane is not worker.lane:  # what goes first has come meanwhile, for whoever is idle first
                return
        self._take_at_once(worker, lane, most - len(worker.ahead))
        while len(worker.ahead) < most and worker.entry is not None:
            waiting = lane.waiting
            pop = lane.pop
            first = lane.first
            moved = starmap(pop, ONCE)
            if not waiting or self._detour or worker.pending == DISOWNED:  # from here on no call but the last
                break
            if lane.waiting is not waiting or lane.first != first:
                continue
            entry = waiting[first]
            future = entry[2]
            if future is not None:
                if future.place is WITHDRAWN:
                    lane.dead -= 1
                    pop()
                    continue
                future.place = TAKEN
            ledger.running += 1
            lane.limit += 1
            take(moved)

    def _take_at_once(self, worker: Worker[T], lane: Lane[Entry[T]], most: int) -> None:
        """The same for the oldest of a lane, if none of those has a future. One call moves them all, in which no Python
        code runs: with the GIL, too, it is one step for everybody."""
        waiting = lane.waiting
        try:
            seen = list(islice(waiting, max(0, most)))
        except RuntimeError:  # somebody came between those two calls; then they are taken one by one
            return
        if lane.first or not seen or any(map(FUTURE, seen)):
            return
        count, ledger = len(seen), self.ledger
        take, entries = worker.ahead.extend, starmap(lane.pop, repeat((), count))
        if (  # from here on no call but the last
            waiting is lane.waiting
            and waiting
            and waiting[0] is seen[0]  # so nobody has taken any: they are taken from the front alone
            and not self._detour
            and worker.entry is not None
            and worker.pending != DISOWNED
        ):
            ledger.running += count
            lane.limit += count
            take(entries)

    def has_share(self) -> bool:
        """Whether there may be something to take ahead: a look, without the lock. Not where there are rules that say
        which may start: of some that depends on what becomes of those before."""
        return not self.has_rules and self._length() >= len(self.workers)

    def grant(self) -> None:
        """Tell who waits for room that there is some. Who comes to wait after the look has seen it."""
        for lane in self.lanes:
            if lane.waiters:
                self._grant_room(lane)

    @section
    def _grant_room(self, lane: Lane[Entry[T]]) -> None:
        self._grant(lane)

    def judge_ahead(self, worker: Worker[T], start: int) -> None:
        """Shed what is to be shed of the entries that a worker has taken ahead, from the one of that number on, before
        it sends them. The rules are asked outside the lock: they may be anybody's."""
        lane = self._lane if worker.lane is None else worker.lane
        now = self._now()
        for entry in self._ahead(worker, start):
            waited = now - entry[1]
            if waited > lane.unquestioned and (why := self.verdict(lane, entry, waited, now)):
                self.unlearn(why)
                self.tell_shed(entry[0], REASONS[why])
                self._tell_future_of(worker, entry, why)

    def _tell_future_of(self, worker: Worker[T], entry: Entry[T], why: int) -> None:
        if self._shed_ahead(worker, entry, why):
            try:
                self._tell_future(entry, why)
            finally:
                self._told_ahead()

    @section
    def _ahead(self, worker: Worker[T], start: int) -> list[Entry[T]]:
        return list(worker.ahead)[start:]

    @section
    def _shed_ahead(self, worker: Worker[T], entry: Entry[T], why: int) -> bool:
        """Count it, outside which its future is told; False if it was given up meanwhile."""
        kept = [other for other in worker.ahead if other is not entry]
        mine = len(kept) < len(worker.ahead) and worker.pending != DISOWNED
        if mine:
            worker.ahead = deque(kept)
            self.ledger.running -= 1
            self.ledger.shed[why] += 1
            self._telling += 1
        return mine

    @section
    def _told_ahead(self) -> None:
        self._telling -= 1
        self._announce()

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
        lane = self._lane if worker.lane is None else worker.lane
        in_hand = [] if worker.entry is None else [worker.entry, *worker.ahead]
        keep = max(0, len(in_hand) - count)
        back = in_hand[keep:]
        count, kept, reverse = len(back), deque(in_hand[1:keep]), back[::-1]
        if worker.pending == DISOWNED:
            return
        if self.handed_back is None:
            for entry in back:
                if entry[2] is not None:
                    entry[2].place = QUEUED
        while True:
            before = self.handed_back
            handed_back = () if before is None else (*back, *before)
            unpop = lane.unpop
            if self.handed_back is before:  # from here on no call but the last
                break
        if worker.pending == DISOWNED:
            return
        worker.ahead = kept
        if not keep:
            worker.entry = None
        self.ledger.running -= count
        if before is not None:
            self.handed_back = handed_back
            self.ledger.cancelled += count
            self.cut_short = self.cut_short or (count > 0 and (self.cut_at is not None or self.failure != ""))
            return
        lane.limit -= count
        unpop(reverse)

    def _add_to_handed_back(self, entries: Sequence[Entry[T]]) -> None:
        """`entries`, the last first, were to run before all that is there."""
        self.handed_back = (*reversed(entries), *(self.handed_back or ()))
        self.ledger.cancelled += len(entries)
        self.cut_short = self.cut_short or (bool(entries) and (self.cut_at is not None or bool(self.failure)))

    @section
    def settle_untold(self, worker: Worker[T], fate: int, count: int) -> None:
        """Settle the first so many entries that a worker has in hand, which all have this fate and no future."""
        ledger, ahead, has_rules, succeeded = self.ledger, worker.ahead, self.has_rules, fate == SUCCEEDED
        rest = count - 1 if succeeded and not has_rules and len(ahead) >= count - 1 else 0
        forget, forget_all, entries = ahead.popleft, NOWHERE.extend, starmap(ahead.popleft, repeat((), rest))
        if worker.pending == DISOWNED:  # from here on no call but the last
            return
        if rest:  # all but the last in one step, as in `_take_at_once`; whoever calls this holds them
            ledger.running -= rest
            ledger.succeeded += rest
            worker.passed += rest
            worker.entry = ahead[rest - 1]
            forget_all(entries)
        for _ in range(count - rest):
            ended = worker.entry
            if worker.pending == DISOWNED:  # from here on no call but the last
                return
            ledger.running -= 1
            if succeeded:
                ledger.succeeded += 1
            else:
                ledger.failed += 1
            worker.passed += 1
            if ahead:
                worker.entry = ahead[0]
                forget()
            else:
                worker.entry = None
            if has_rules and ended is not None:
                self._release(ended)
                self._rouse()

    def _next(self, worker: Worker[T]) -> None:
        ahead = worker.ahead
        forget = ahead.popleft
        if worker.entry is not None:  # from here on no call but the last
            worker.passed += 1
        if not ahead:
            worker.entry = None
            return
        worker.entry = ahead[0]
        forget()
