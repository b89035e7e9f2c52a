"""The bounded queue: its lanes, who is woken, and how it ends. The rules at the top of `_queue` hold here."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, Generic, NamedTuple, NoReturn, TypeVar

from workpool._core.lane import Lane
from workpool._core.lifecycle import NOT_ACCEPTING, Event, after
from workpool._future import Place
from workpool._state import QueueState, Waiter, section
from workpool._worker import Entry, Worker
from workpool.errors import PoolNotStarted, QueueFull

__all__ = ["WakingQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
WITHDRAWN: Final = Place.WITHDRAWN


class Seen(NamedTuple, Generic[T]):
    """A lane's entries, how many it had accepted, and the ledger's counts, before somebody may have come."""

    waiting: deque[Entry[T]]
    accepted: int
    counts: tuple[int, ...]


class WakingQueue(QueueState[T]):
    """What is done under the lock, whoever has come for what."""

    __slots__ = ()

    def _look(self) -> None:
        self._detour = self._paused or self._retiring > 0

    def _rouse(self, coming: bool = False) -> None:
        """Wake one worker, if there is something for it to take, or is `coming` in this section."""
        if (coming or self._length()) and self.resting and not self.waking:
            self.waking = True
            for worker in self.resting:  # the first; a call, such as next(), would let an interrupt in
                try:
                    worker.wake(None)
                except BaseException:  # an interrupt in a wake that is not written in C: it may not have woken anybody
                    self.waking = False
                    raise
                return

    def _pass_on(self) -> None:
        """Wake the next worker that has something to do: an entry to take, or to leave.

        One at a time, each waking the next: a thousand at once would spend seconds on fighting for the lock.
        """
        if self._accepting and not self._retiring:
            self._rouse()
            return
        for parked in (self.resting, self._held):
            for worker in parked:
                worker.wake(None)
                return

    def _announce(self) -> None:
        """Wake whoever waits for the pool to be idle, or without workers, if it may be."""
        if self._sleepers and (self.idle or not self.workers):
            for wake in self._sleepers:
                wake(None)

    @section
    def refuse(self, size: int | None = None) -> NoReturn:
        """Count an item that found no room among so many as refused, and raise `QueueFull` (or what the pool's state
        demands)."""
        self._refuse(size)

    def _refuse(self, size: int | None = None) -> NoReturn:
        """Count a refusal and raise it."""
        if self._accepting:
            self.ledger.refused_full += 1
            raise QueueFull(self.name, self.size if size is None else size, self.retry_after)
        error, why = NOT_ACCEPTING[self.state]
        if error is PoolNotStarted:
            self.ledger.refused_not_started += 1
        else:
            self.ledger.refused_stopped += 1
        if self.foreign:
            why = "belongs to the parent process; make a new one in this process"
        elif self.failure:
            why = f"stopped by itself: {self.failure}"
        raise error(f"pool {self.name!r} {why}")

    def _grant(self, lane: Lane[Entry[T]]) -> None:
        """Keep each free slot for the first who waits for one, and wake it."""
        waiters: OrderedDict[Waiter, None] = lane.waiters
        while lane.accepted < lane.limit:
            for waiter in waiters:  # noqa: B007 - the first; a call, such as next(), would let a handler in
                break
            else:
                return
            if waiter in waiters and lane.accepted < lane.limit:  # from here to the wake no call
                lane.limit -= 1
                waiter.granted = True
                del waiters[waiter]
                waiter.wake(None)

    def _release(self, entry: Entry[T]) -> None:
        """The entry is not queued, runs no more and will not: see to those that could not start for it."""

    def _sweep(self, lane: Lane[Entry[T]]) -> None:
        """Rid a lane of dead entries once they are half of it, so that the cost for each is constant."""
        seen = Seen(lane.waiting, lane.accepted, self.ledger.counts())
        dead, length = lane.dead, len(seen.waiting)
        if dead * 2 <= length:
            return
        living = [
            entry
            for entry in [*seen.waiting]
            if entry[2] is None or entry[2].place is not WITHDRAWN or (self.has_rules and self._holds_up(entry))
        ]
        removed = length - len(living)
        if self._exchange(lane, seen, deque(living)):
            lane.dead = dead - removed

    def _holds_up(self, entry: Entry[T]) -> bool:
        """Others wait until the entry has had its turn. (Here nobody does.)"""
        return False

    def _exchange(self, lane: Lane[Entry[T]], seen: Seen[T], entries: deque[Entry[T]]) -> bool:
        """Put `entries` in the place of those of a lane, in one step; False if somebody came since those were seen."""
        push, pop, unpop = entries.append, entries.popleft, entries.extendleft
        waiting, accepted, counts = seen
        # From the end of that call on, also in the caller, no call. It may have counted this lane before the others.
        unchanged = self.ledger.is_at(counts) and lane.waiting is waiting and lane.accepted == accepted
        if unchanged:
            lane.waiting = entries
            lane.push = push
            lane.first = 0
            lane.pop = pop
            lane.unpop = unpop
        return unchanged

    def _leave(self, worker: Worker[T]) -> None:
        worker.leaving = True
        if worker in self.workers:
            del self.workers[worker]
            self._gone.fold(worker.tally)
        self._finish()

    def _finish(self) -> None:
        """The end, if nobody is left: what is still queued then, after a start that did not succeed, is handed back."""
        if not (self.workers or self._accepting):
            self.hand_back(cut=True)
            self.state = after(self.state, Event.FINISH, self.name)

    def hand_back(self, cut: bool) -> None:
        """Take every queued entry out of the line, by putting a new line in its place. `cut`: they were to run."""
        for lane in self.lanes:
            while lane.waiting or not lane.handed_back:
                seen = Seen(lane.waiting, lane.accepted, self.ledger.counts())
                living = sum(entry[2] is None or entry[2].place is not WITHDRAWN for entry in [*seen.waiting])
                handed_back = (*self.handed_back, *seen.waiting) if self.handed_back else seen.waiting
                if self._exchange(lane, seen, deque()):  # from here on no call: all of the lane or nothing
                    self.ledger.cancelled += living
                    self.cut_short = self.cut_short or (cut and living > 0)
                    lane.dead = 0
                    lane.handed_back = True
                    self.handed_back = handed_back
        self._hand_back_others(cut)
        if self.handed_back is None:
            self.handed_back = ()
        self._announce()

    def _hand_back_others(self, cut: bool) -> None:
        """Take out what waits elsewhere, too. (Nothing does here.)"""

    def tell_handed_back(self) -> None:
        """Cancel the futures of what was handed back; for whoever made the queue do so, outside the lock.

        What a callback of one raises is raised when all are told.
        """
        raised: BaseException | None = None
        for entry in self.handed_back or ():
            future = entry[2]
            try:
                if future is not None:
                    future.tell_cancelled()
            except BaseException as error:
                raised = error
        if raised is not None:
            raise raised

    def is_inside(self) -> bool:
        """Whether this is a signal handler or finalizer that interrupted a section."""
        return self._owned()

    def insist_outside(self) -> None:
        """Refuse to wait in a signal handler or finalizer that interrupted a section: all else waits for that."""
        if self.is_inside():
            raise RuntimeError(
                f"this waits for pool {self.name!r}, in a signal handler or finalizer that interrupted it; "
                "use close() or submit() there"
            )
