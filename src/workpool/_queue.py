"""The bounded queue: one lock, one section, one list of those who wait for room.

Rules that hold here:

- Every field is written and read under the lock, except where its comment says otherwise.
- The lock is an `RLock`, taken and given back through bound methods inside `try`, never with `with`:
  the interpreter may run a signal handler or a finalizer, or raise KeyboardInterrupt, after any call,
  and a handler may call into this very queue. So a section makes the calls that it needs first
  (allocations before the lock, wakes first of all), then checks and counts, and pushes or pops *last*.
  Between a check and the last call that depends on it there is no call.
- What ends a section by an exception releases first of all, without asking whether it holds the lock
  (RuntimeError: it does not): an interrupt after the question would leave it locked for ever.
- Waking is idempotent. A wake that comes twice costs one look; one that got lost would cost an item.
- Nothing that belongs to somebody else (a process function, a hook, a future's callback) is called
  under the lock.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import sleep
from typing import Any, Final, NoReturn, TypeVar

from workpool._clock import Parker
from workpool._core.discipline import Line
from workpool._core.lifecycle import NOT_ACCEPTING, Event, after
from workpool._future import ItemFuture, Place
from workpool._state import QueueState, Waiter, section
from workpool._worker import DISOWNED, NONE, PARKED, SUCCEEDED, TELLING, Entry, Worker
from workpool.errors import PoolNotStarted, QueueFull

__all__ = ["BoundedQueue"]

T = TypeVar("T")

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
PAUSES: Final = (*[0.0] * 32, *(0.00005 * 2**step for step in range(7))) if GIL else ()
"""Seconds for which a thread lets others run, again and again, before it blocks on the lock, so that it gets it
whatever they do. They rise, because a thousand threads that only yield keep the holder from its turn. None without
the GIL: there the holder runs, and a pause costs a lone worker 2 to 4 times the time for an item."""


class BoundedQueue(QueueState[T]):
    """The path of an item: handed over, taken, settled."""

    __slots__ = ()

    # -- handing an item over ------------------------------------------------------------------

    def offer(self, item: T, future: ItemFuture[Any] | None) -> bool:
        """Accept the item if there is room for it: True. False if not, which is not counted as a refusal yet.

        Raises `PoolNotStarted` or `PoolStopped`.
        """
        # Attributes go into locals before they are called: `self._now()` is looked up anew each time on 3.11.
        now, try_acquire, release = self._now, self._try_acquire, self.release
        entry = (item, now(), future)
        try:
            if not try_acquire():
                self._contend()
            if self._idle and not self._waking:
                self._waking = True
                self._idle[-1].wake(None)
            ledger = self.ledger
            push = self._line.push
            if ledger.accepted < self._limit:
                ledger.accepted += 1
                push(entry)
                release()
                return True
            if not self._accepting:
                self._refuse()
            self.release()
        except BaseException:
            try:
                self.release()
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

    def _contend(self) -> None:
        """Take the lock when somebody else holds it, which is mostly a thread that the interpreter has suspended.

        Blocking on the lock at once would start a convoy: the lock goes to a thread that does not have the
        interpreter, whoever has it blocks in turn, and from then on every item costs two switches of thread
        (3 times the time for an item, measured with a queue of 10,000). So first let the holder run.
        """
        for pause in PAUSES:
            sleep(pause)
            if self._try_acquire():
                return
        self.acquire()

    def put_wait(self, item: T, future: ItemFuture[Any] | None, timeout: float | None) -> None:
        """Accept the item as soon as there is room, within `timeout` seconds (None: for ever).

        Raises what `offer` does, and `QueueFull` when the time is up.
        """
        self.insist_outside()
        parker = Parker()
        waiter = Waiter(parker.put)
        until = None if timeout is None else self._now() + timeout
        try:
            while not self.enter((item, self._now(), future), waiter):
                left = None if until is None else until - self._now()
                if left is not None and left <= 0:
                    self.refuse()
                self.clock.park(parker, left)
        except BaseException:
            try:
                self.forsake(waiter)
            except BaseException:  # Ctrl-C: a slot would be kept for ever for somebody who comes no more
                self.forsake(waiter)
                raise
            raise

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
        old, dead, accepted = self._line, self._dead, self.ledger.accepted
        if dead * 2 <= len(old.waiting):
            return
        line: Line[Entry[T]] = self._discipline.open()
        for entry in tuple(old.waiting):
            if entry[2] is None or entry[2].place is not Place.WITHDRAWN:
                line.push(entry)
        removed = len(old.waiting) - len(line.waiting)
        if self._line is old and self._dead == dead and self.ledger.accepted == accepted:  # no handler came between
            self._dead = dead - removed
            self._line = line

    def insist_outside(self) -> None:
        """Refuse to wait in a signal handler or finalizer that interrupted a section: all else waits for that."""
        if self._owned():
            raise RuntimeError(
                f"this waits for pool {self.name!r}, in a signal handler or finalizer that interrupted it; "
                "use close() or submit() there"
            )

    # -- the worker's side ---------------------------------------------------------------------

    def takes(self, worker: Worker[T]) -> Iterator[Entry[T] | None]:
        """Settle what `worker` finished (`worker.fate`) and give it the next entry, in one section, at each step.

        None: nothing to take now. The worker ends if it is `leaving`; else it waits for its wake and
        comes again. A generator, because its locals and its resumption cost 20 % of an item less than
        a method that is called for each.
        """
        try_acquire = self._try_acquire
        release = self.release
        ledger = self.ledger
        waiters = self._waiters
        entry: Entry[T] | None
        while True:
            fate = worker.fate
            try:
                if not try_acquire():
                    self._contend()
                if worker.pending:
                    if worker.pending == DISOWNED:
                        worker.leaving = True
                        release()
                        return
                    fate = self._welcome(worker, fate)
                line = self._line
                pop = line.pop
                if line.waiting and not self._detour:
                    if fate == SUCCEEDED:
                        ledger.succeeded += 1
                    elif fate:
                        ledger.failed += 1
                    else:
                        ledger.running += 1
                    worker.entry = entry = pop()
                    if entry[2] is None or self._claim(worker, entry):
                        self._limit += 1
                        if waiters:
                            self._grant()
                else:
                    entry = None  # else an idle worker keeps its last item
                    self._rest(worker, fate)
                release()
            except BaseException:
                try:
                    release()
                except RuntimeError:
                    pass
                raise
            yield worker.entry

    @section
    def settle(self, worker: Worker[T]) -> bool:
        """Settle an item that has a future, before the worker tells that, outside the lock.

        False if the item was given up before: it keeps that fate, and its future was told.
        """
        if mine := worker.pending != DISOWNED:
            worker.pending = TELLING
            worker.telling = None if worker.entry is None else worker.entry[2]
            worker.entry = None
            self._telling += 1
            self._count(worker.fate)
        worker.fate = NONE
        return mine

    def _count(self, fate: int) -> None:
        if fate:
            self.ledger.running -= 1
            if fate == SUCCEEDED:
                self.ledger.succeeded += 1
            else:
                self.ledger.failed += 1

    def _welcome(self, worker: Worker[T], fate: int) -> int:
        """See to what is pending for a worker that comes; the fate that is left to settle."""
        if worker.pending == TELLING:
            self._telling -= 1
            worker.telling = None
        elif worker in self._held:
            self._held.remove(worker)
        elif worker in self._idle:
            self._idle.remove(worker)
            if self._waking:
                self._waking = len(self._line.waiting) > 1 and bool(self._idle)
                if self._waking:
                    self._idle[-1].wake(None)
        worker.pending = NONE
        return fate

    def _claim(self, worker: Worker[T], entry: Entry[T]) -> bool:
        """Take `entry`, or the first after it whose future was not cancelled; False: there was none."""
        while (future := entry[2]) is not None and future.place is Place.WITHDRAWN:
            self._dead -= 1
            if not self._line.waiting:
                self.ledger.running -= 1
                self._rest(worker, NONE)
                return False
            worker.entry = entry = self._line.pop()
        if future is not None:
            future.place = Place.TAKEN
        return True

    def _rest(self, worker: Worker[T], fate: int) -> None:
        """Nothing to take: the worker leaves, is held, or is idle."""
        self._count(fate)
        worker.entry = None
        worker.fate = NONE
        if self._retiring:
            self._retiring -= 1
            self._look()
            self._leave(worker)
            self._pass_on()
        elif self._paused:
            worker.pending = PARKED
            self._held.append(worker)
        elif self._accepting:
            worker.pending = PARKED
            self._idle.append(worker)
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
            self.cut_short = self.cut_short or len(self._line.waiting) > self._dead
            self.hand_back()
            self.state = after(self.state, Event.FINISH, self.name)

    def hand_back(self) -> None:
        """Take every queued entry out of the line, by putting a new line in its place."""
        line: Line[Entry[T]] = self._discipline.open()
        while self.handed_back is None:
            old = self._line
            length = len(old.waiting)
            if old is self._line:  # from here on no call: all of it happens, or nothing
                self.ledger.cancelled += length - self._dead
                self._dead = 0
                self.handed_back = old.waiting
                self._line = line
        self._announce()

    def _rouse(self, coming: bool = False) -> None:
        """Wake one worker, if there is something for it to take, or is `coming` in this section."""
        if (coming or self._line.waiting) and self._idle and not self._waking:
            self._waking = True
            self._idle[-1].wake(None)

    def _pass_on(self) -> None:
        """Wake the next worker that has something to do: an entry to take, or to leave.

        One at a time, each waking the next: a thousand at once would spend seconds on fighting for the lock.
        """
        if self._accepting and not self._retiring:
            self._rouse()
            return
        for parked in (self._idle, self._held):
            if parked:
                parked[-1].wake(None)
                return

    def _announce(self) -> None:
        """Wake whoever waits for the pool to be idle, or without workers, if it may be."""
        if self._sleepers and (self.idle or not self.workers):
            for wake in self._sleepers:
                wake(None)

    def _look(self) -> None:
        self._detour = self._paused or self._retiring > 0
