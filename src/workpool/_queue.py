"""The bounded queue: one lock, one section, one list of those who wait for room.

Rules that hold here:

- Every field is written under the lock, and read under it, except where its comment says otherwise.
- The interpreter may run a signal handler or a finalizer, raise KeyboardInterrupt or, with the GIL, let another
  thread go on, after any call, and nowhere else. So a stretch without a call is one step for everybody, and
  the two that run for each item (`offer`, `takes`) are such stretches, and take no lock. The lock is for whatever
  makes calls; and what holds it reckons with items that come and go at each of its calls.
- So a section makes the calls that it needs first (allocations, wakes first of all), then checks and counts,
  and pushes or pops *last*. Between a check and the last call that depends on it there is no call.
- Without the GIL, other threads go on at any time, and every step takes the lock. So does a worker that is traced
  by Python code, which may run between any two lines.
- The lock is an `RLock`, because a handler may call into this very queue. It is taken and given back through
  bound methods inside `try`, never with `with`. What ends a section by an exception releases first of all, without
  asking whether it holds the lock (RuntimeError: it does not): an interrupt after the question would leave it
  locked for ever.
- Waking is idempotent. A wake that comes twice costs one look; one that got lost would cost an item.
- Nothing that belongs to somebody else (a process function, a hook, a future's callback) is called
  under the lock.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator
from math import inf
from typing import Any, Final, NoReturn, TypeVar

from workpool._clock import Steps, Wake
from workpool._core.discipline import Line
from workpool._core.ledger import BOUNDS, Ledger, Tally
from workpool._core.lifecycle import NOT_ACCEPTING, Event, after
from workpool._future import ItemFuture, Place
from workpool._interpreter import GIL
from workpool._state import QueueState, Waiter, section
from workpool._worker import DISOWNED, NONE, NOTHING_AHEAD, PARKED, SUCCEEDED, TELLING, Entry, Worker
from workpool.errors import PoolNotStarted, QueueFull

__all__ = ["BoundedQueue"]

T = TypeVar("T")


FIRST: Final = BOUNDS[0]
EDGES: Final = (0.0, *BOUNDS, inf)


class BoundedQueue(QueueState[T]):
    """The path of an item: handed over, taken, settled."""

    __slots__ = ()

    # -- handing an item over ------------------------------------------------------------------

    def offer(self, item: T, future: ItemFuture[Any] | None) -> bool:
        """Accept the item if there is room for it: True. False if not, which is not counted as a refusal yet.

        Raises `PoolNotStarted` or `PoolStopped`.
        """
        now = self._now  # a local: calling `self._now()` looks it up anew each time on 3.11
        carry = self.carry
        entry = (item, now(), future, None if carry is None else carry())
        if GIL and (self._waking or not self._idle):  # from here on no call but the last
            ledger = self.ledger
            push = self._line.push
            if ledger.accepted < self._limit:
                ledger.accepted += 1
                push(entry)
                return True
            if self._accepting:
                return False
        try_acquire, release = self.try_acquire, self.release
        try:  # the section is written out, here and in `takes`: without the GIL all items come this way
            if not try_acquire():
                self.contend()
            if self._idle and not self._waking:
                self._rouse(coming=True)
            ledger = self.ledger
            push = self._line.push
            if ledger.accepted < self._limit:
                ledger.accepted += 1
                push(entry)
                release()
                return True
            if not self._accepting:
                self._refuse()
            release()
        except BaseException:
            try:
                release()
            except RuntimeError:
                pass
            raise
        return False

    @section
    def enter(self, entry: Entry[T], waiter: Waiter) -> bool:
        """Accept the entry into the slot that is kept for `waiter`, or a free one; else line it up: False.

        Raises what `offer` does. Whoever gets an exception here, or comes no more, calls `forsake`.
        """
        self._rouse(coming=True)
        self._waiters.pop(waiter, None)
        if not self._accepting:  # from here on no call, else a handler that closes wakes everybody but this waiter
            self._refuse()
        if waiter.granted:
            waiter.granted = False
            self._limit += 1
        if entered := self.ledger.accepted < self._limit:
            self.ledger.accepted += 1
            self._line.push(entry)
        else:
            self._waiters[waiter] = None
        return entered

    def entering(self, item: T, future: ItemFuture[Any] | None, timeout: float | None, wake: Wake) -> Steps[None]:
        """Accept the item as soon as there is room, within `timeout` seconds (None: for ever).

        Raises what `offer` does, and `QueueFull` when the time is up. Whatever it raises, also into its wait,
        means that the item was not accepted.
        """
        self.insist_outside()
        waiter = Waiter(wake)
        context = None if self.carry is None else self.carry()
        until = None if timeout is None else self._now() + timeout
        try:
            while not self.enter((item, self._now(), future, context), waiter):
                left = None if until is None else until - self._now()
                if left is not None and left <= 0:
                    self.refuse()
                yield left
        except BaseException:
            try:
                self.forsake(waiter)
            except BaseException:  # Ctrl-C: a slot would be kept for ever for somebody who comes no more
                self.forsake(waiter)
                raise
            raise
        self.attend()

    @section
    def refuse(self) -> NoReturn:
        """Count an item that found no room as refused, and raise `QueueFull` (or what the pool's state demands)."""
        self._refuse()

    @section
    def forsake(self, waiter: Waiter) -> None:
        """`waiter` comes no more: a slot that is kept for it goes to the next."""
        if waiter.granted:
            waiter.granted = False
            self._limit += 1
        elif waiter in self._waiters:
            del self._waiters[waiter]
        self._grant()

    @section
    def withdraw(self, future: ItemFuture[Any]) -> None:
        """Take a queued item back, for its future's `cancel`, if it is still queued. May be called again."""
        if future.place is Place.QUEUED and self.handed_back is None:
            future.place = Place.WITHDRAWN
            self._dead += 1
            self._limit += 1
            self.ledger.cancelled += 1
        self._grant()
        self._sweep()
        self._announce()

    def _refuse(self) -> NoReturn:
        """Count a refusal and raise it."""
        if self._accepting:
            self.ledger.refused_full += 1
            raise QueueFull(self.name, self.size, self.retry_after)
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

    def _grant(self) -> None:
        """Keep each free slot for the first who waits for one, and wake it."""
        while self.ledger.accepted < self._limit:
            for waiter in self._waiters:  # noqa: B007 - the first; a call, such as next(), would let a handler in
                break
            else:
                return
            if waiter in self._waiters and self.ledger.accepted < self._limit:  # from here to the wake no call
                self._limit -= 1
                waiter.granted = True
                del self._waiters[waiter]
                waiter.wake(None)

    def _sweep(self) -> None:
        """Rid the line of dead entries once they are half of it, so that the cost for each is constant."""
        old, dead, counts = self._line, self._dead, self.ledger.counts()
        if dead * 2 <= len(old.waiting):
            return
        line: Line[Entry[T]] = self._discipline.open()
        for entry in tuple(old.waiting):
            if entry[2] is None or entry[2].place is not Place.WITHDRAWN:
                line.push(entry)
        removed = len(old.waiting) - len(line.waiting)
        if (old, dead, counts) == (self._line, self._dead, self.ledger.counts()):  # nobody came between; no call now
            self._dead = dead - removed
            self._line = line

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

    # -- the worker's side ---------------------------------------------------------------------

    def takes(self, worker: Worker[T]) -> Iterator[Entry[T] | None]:  # noqa: PLR0912, PLR0915 - one frame for each item
        """Settle what `worker` finished (`worker.fate`) and give it the next entry, in one section, at each step.

        Records how long the one ran and the other waited, up to `worker.at`, before it settles: so a snapshot
        never has more fates than durations.

        None: nothing to take now. The worker ends if it is `leaving`; else it waits for its wake and
        comes again. A generator, because its locals and its resumption cost 20 % of an item less than
        a method that is called for each.
        """
        alone = GIL and not _traced()
        try_acquire, release, settle_and_take = self.try_acquire, self.release, self._settle_and_take
        ledger = self.ledger
        waiters = self._waiters
        # Whoever takes several entries may put some back, and records the times of the others when they have ended.
        tally = worker.tally if worker.ahead is NOTHING_AHEAD else Tally()
        success, wait = tally.success, tally.wait
        bucket, low, high = 0, 0.0, FIRST
        while True:
            at = worker.at
            if worker.fate == SUCCEEDED:
                ran = at - worker.began
                if ran < FIRST:
                    success[0] += 1
                else:
                    success[bisect_left(BOUNDS, ran)] += 1
                tally.success_sum += ran
            worker.began = at
            line = self._line
            waiting = line.waiting
            pop = line.pop
            if alone and waiting and not (worker.pending or self._detour or waiters) and waiting[0][2] is None:
                worker.entry = waiting[
                    0
                ]  # from the line before on no call but the last; an interrupt after that finds it
                fate = worker.fate
                if fate == SUCCEEDED:
                    ledger.succeeded += 1
                elif fate:
                    ledger.failed += 1
                else:
                    ledger.running += 1
                self._limit += 1
                worker.entry = pop()  # the same; or another, where a tracer that came later let somebody in between
            else:
                try:
                    if not try_acquire():
                        self.contend()
                    settle_and_take(worker, ledger)
                    release()
                except BaseException:
                    try:
                        release()
                    except RuntimeError:
                        pass
                    raise
            entry = worker.entry
            if entry is not None:
                waited = at - entry[1]
                if not low < waited <= high:  # waits are alike from one item to the next: most need no search
                    waited = max(waited, 0.0)  # the item may have come after the clock was read
                    bucket = bisect_left(BOUNDS, waited)
                    low, high = EDGES[bucket], EDGES[bucket + 1]
                wait[bucket] += 1
                tally.wait_sum += waited
            yield entry

    def _settle_and_take(self, worker: Worker[T], ledger: Ledger) -> None:
        """The same under the lock, where there is more to see to, or another thread may come at any time."""
        if worker.pending == DISOWNED:
            self.stuck.pop(worker, None)
            worker.leaving = True
            worker.entry = None
            return
        if worker.pending:
            self._welcome(worker)
        line = self._line
        pop = line.pop
        if not line.waiting or self._detour:
            self._rest(worker)
            return
        if worker.fate == SUCCEEDED:  # from the line before on no call but the last
            ledger.succeeded += 1
        elif worker.fate:
            ledger.failed += 1
        else:
            ledger.running += 1
        worker.entry = entry = line.waiting[0]
        pop()
        if entry[2] is None or self._claim(worker, entry):
            self._limit += 1
            if self._waiters:
                self._grant()

    @section
    def settle(self, worker: Worker[T]) -> bool:
        """Settle an item that has a future, before the worker tells that, outside the lock.

        False if the item was given up before: it keeps that fate, and its future was told.
        """
        if mine := worker.pending != DISOWNED:
            if worker.pending != TELLING:
                worker.pending = TELLING
                self._telling += 1
            worker.telling = None if worker.entry is None else worker.entry[2]
            self._count(worker.fate)
            self._next(worker)
        worker.fate = NONE
        return mine

    def _next(self, worker: Worker[T]) -> None:
        worker.entry = worker.ahead.popleft() if worker.ahead else None

    def _count(self, fate: int) -> None:
        if fate:
            self.ledger.running -= 1
            if fate == SUCCEEDED:
                self.ledger.succeeded += 1
            else:
                self.ledger.failed += 1

    def _welcome(self, worker: Worker[T]) -> None:
        """See to what is pending for a worker that comes."""
        if worker.pending == TELLING:
            self._telling -= 1
            worker.telling = None
        elif worker in self._held:
            del self._held[worker]
        elif worker in self._idle:
            del self._idle[worker]
            if self._waking:
                self._waking = False  # first: who accepts an item from here on does not count on this worker
                if len(self._line.waiting) > 1:
                    self._rouse()
        worker.pending = NONE

    def _claim(self, worker: Worker[T], entry: Entry[T]) -> bool:
        """Take `entry`, or the first after it whose future was not cancelled; False: there was none."""
        while (future := entry[2]) is not None and future.place is Place.WITHDRAWN:
            self._dead -= 1
            line = self._line
            pop = line.pop
            if not line.waiting:
                self.ledger.running -= 1
                worker.fate = NONE
                self._rest(worker)
                return False
            worker.entry = entry = line.waiting[0]
            pop()
        if future is not None:
            future.place = Place.TAKEN
        return True

    def _rest(self, worker: Worker[T]) -> None:
        """Nothing to take: the worker leaves, is held, or is idle."""
        self._count(worker.fate)
        worker.entry = None
        worker.fate = NONE
        if self._retiring:
            self._retiring -= 1
            self._look()
            self._leave(worker)
            self._pass_on()
        elif self._paused:
            worker.pending = PARKED
            self._held[worker] = None
        elif self._accepting:
            worker.pending = PARKED
            self._idle[worker] = None
            self._idle.move_to_end(worker, last=False)
            self._rouse()  # for an item that came while nobody was idle
        else:
            self._leave(worker)
            self._pass_on()
        self._announce()

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
        line: Line[Entry[T]] = self._discipline.open()
        while self.handed_back is None:
            old, counts = self._line, self.ledger.counts()
            length = len(old.waiting)
            if (old, counts) == (self._line, self.ledger.counts()):  # from here on no call: all or nothing
                self.ledger.cancelled += length - self._dead
                self.cut_short = self.cut_short or (cut and length > self._dead)
                self._dead = 0
                self.handed_back = old.waiting
                self._line = line
        self._announce()

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

    def _rouse(self, coming: bool = False) -> None:
        """Wake one worker, if there is something for it to take, or is `coming` in this section."""
        if (coming or self._line.waiting) and self._idle and not self._waking:
            self._waking = True
            for worker in self._idle:  # the first; a call, such as next(), would let an interrupt in
                try:
                    worker.wake(None)
                except BaseException:  # an interrupt in a wake that is not written in C: it may not have woken anybody
                    self._waking = False
                    raise
                return

    def _pass_on(self) -> None:
        """Wake the next worker that has something to do: an entry to take, or to leave.

        One at a time, each waking the next: a thousand at once would spend seconds on fighting for the lock.
        """
        if self._accepting and not self._retiring:
            self._rouse()
            return
        for parked in (self._idle, self._held):
            for worker in parked:
                worker.wake(None)
                return

    def _announce(self) -> None:
        """Wake whoever waits for the pool to be idle, or without workers, if it may be."""
        if self._sleepers and (self.idle or not self.workers):
            for wake in self._sleepers:
                wake(None)

    def _look(self) -> None:
        self._detour = self._paused or self._retiring > 0


def _traced() -> bool:
    """Whether Python code may run between two lines of this thread: a debugger's, a profiler's, a coverage tool's."""
    monitoring = getattr(sys, "monitoring", None)
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or (monitoring is not None and any(monitoring.get_tool(tool) for tool in range(6)))
    )
