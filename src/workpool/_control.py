"""The bounded queue, with what a pool does to it: start, pause, resize, close, give up, wait.

Apart from `_queue` so that the path of an item can be read on its own; the rules at the top of that module
hold here too. Nothing here waits under the lock, and everything may be called twice.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import TypeVar

from workpool._clock import Steps, Wake
from workpool._core.lifecycle import NOT_ACCEPTING, Event, after
from workpool._core.outcome import NOT_RETRIED
from workpool._nesting import NestingQueue
from workpool._state import section
from workpool._worker import DISOWNED, TELLING, Entry, Worker
from workpool.errors import PoolStopped

__all__ = ["ControlledQueue"]

T = TypeVar("T")

log = logging.getLogger("workpool")


class ControlledQueue(NestingQueue[T]):
    """What a `Pool` holds."""

    __slots__ = ()

    @section
    def start(self) -> None:
        """Accept items from now on. Raises `PoolAlreadyStarted` or `PoolStopped`."""
        running = after(self.state, Event.START, self.name)
        if self.closed_at is not None:  # by a handler, in the line before; from here on no call
            raise PoolStopped(f"pool {self.name!r} was stopped while it started")
        self.state = running
        self._accepting = True
        for lane in self.lanes:
            if self._accepting:  # a handler may close the pool between two; from here on no call
                lane.limit = lane.accepted + lane.size

    @section
    def enlist(self, worker: Worker[T]) -> bool:
        """Count `worker` in; False if the pool is not running, or has as many as it wants."""
        if wanted := self._accepting and len(self.workers) - self._retiring < self.target:
            self.workers[worker] = None
        return wanted

    @section
    def arrive(self, worker: Worker[T], ident: int) -> bool:
        """The worker's thread runs; False if it was dismissed before."""
        if expected := worker.pending != DISOWNED:
            worker.ident = ident
        return expected

    @section
    def dismiss(self, worker: Worker[T]) -> None:
        """Undo `enlist` for a worker that could not be brought. One that has arrived stays."""
        if worker.ident is None and worker in self.workers:
            worker.pending = DISOWNED
            self._leave(worker)
            self._announce()

    @section
    def resize(self, workers: int) -> None:
        """Change the number of workers; those too many leave after their item. New ones are the driver's to bring."""
        self._insist_open()
        self.target = workers
        self._retiring = max(0, len(self.workers) - workers)
        self._look()
        if self._retiring:
            self._pass_on()

    def _insist_open(self) -> None:
        if self.closed_at is not None or self.foreign:
            error, why = NOT_ACCEPTING[self.state]
            raise error(f"pool {self.name!r} {why}")

    @section
    def pause(self) -> None:
        """No worker takes another item; what runs goes on. Raises `PoolStopped`."""
        self._insist_open()
        self._paused = True
        self._look()

    def resume(self) -> None:
        """End a pause, if there is one."""
        self._resume()
        self.attend()

    @section
    def _resume(self) -> None:
        self._lift()

    def _lift(self) -> None:
        self._paused = False
        self._look()
        idle = OrderedDict(self._held)
        idle.update(self.resting)
        self.resting, self._held = idle, OrderedDict()  # they wait all the same
        self._pass_on()

    def close(self, drain: bool, deadline: float | None = None) -> None:
        """Accept nothing more; with `drain=False` take the queued entries out. Wakes everybody, waits for nobody.

        Again: the deadline can only come nearer, and draining only be turned off.
        """
        self._close(drain, deadline, self._now())
        self.tell_handed_back()
        self.attend()

    def fail(self, why: str) -> None:
        """Close without a drain, because no worker can work: `why` is said to whoever submits or stops."""
        if not self.failure:
            self.failure = why
            log.error("pool %r stops: %s", self.name, why, extra={"pool": self.name})
            self.close(drain=False)

    def shut(self) -> None:
        """Close without a drain, and tell no future yet. For whoever finds the workers dead, under the lock."""
        if self.closed_at is None:  # else each worker that cannot be woken would close it again
            self._close(drain=False, deadline=None, now=self._now())

    @section
    def _close(self, drain: bool, deadline: float | None, now: float) -> None:
        self.state = after(self.state, Event.CLOSE, self.name)
        self._accepting = False
        for lane in self.lanes:
            lane.limit = -inf
        if self.closed_at is None:
            self.closed_at = now
            self.done_at_close = self.ledger.succeeded + self.ledger.failed + self.ledger.discarded
        if self.deadline is None or (deadline is not None and deadline < self.deadline):
            self.deadline = deadline
        if not drain:
            self.hand_back(cut=bool(self.failure))
        self._retiring = 0
        self._lift()
        for lane in self.lanes:
            for waiter in lane.waiters:
                waiter.wake(None)
        for wake in self._sleepers:
            wake(None)
        self._finish()

    def cut(self) -> None:
        """The deadline has passed: take out what is queued, and ask what runs to end early."""
        for cancel in self._cut(self._now()):
            cancel(None)
        self.tell_handed_back()

    @section
    def _cut(self, now: float) -> list[Wake]:
        cancels: list[Wake] = []
        if self.cut_at is None:
            self.cut_at = now
        self.hand_back(cut=True)
        for worker in self.workers:
            worker.cancelled = True
            cancels += worker.cancels
        self._pass_on()  # those who had nothing to do but to wait for the next attempts
        return cancels

    def abandon(self) -> None:
        """Give up every worker that is still there; `lost` names those with an entry in hand, and that entry."""
        for worker in self._abandon():
            if worker.end is not None:
                worker.end()

    @section
    def _abandon(self) -> list[Worker[T]]:
        given_up: list[Worker[T]] = []
        for worker in list(self.workers):
            if worker.pending != DISOWNED:
                if worker.pending == TELLING:
                    self._telling -= 1
                worker.pending = DISOWNED
                if worker.entry is not None:
                    self.lost += ((worker, worker.entry),)
                    self.ledger.running -= 1
                    self.ledger.abandoned += 1
                if worker.ahead:
                    self.ledger.running -= len(worker.ahead)
                    self._add_to_handed_back([*worker.ahead][::-1])
                    worker.ahead.clear()
            self._leave(worker)
            worker.wake(None)  # one that only was slow to leave; nobody else would wake it now
            given_up.append(worker)
        self._announce()
        return given_up

    @section
    def mark_late(self, worker: Worker[T], entry: Entry[T], began: float) -> list[Wake]:
        """The item takes too long, if it still runs, and has since then: what to call to say so."""
        if worker.given_up or worker.entry is not entry or worker.began != began:  # no call before the next line
            return []
        worker.late = entry
        return list(worker.cancels)

    @section
    def give_up(self, worker: Worker[T], entry: Entry[T], seconds: float) -> bool:
        """Count the item as failed and its worker as stuck, in the place of which there can be another.

        False if the item has ended, or as many are stuck as there are to be workers, or a stop has lost patience with
        all of them. A pool that drains gets no other worker: if this is the last, what is queued is handed back.
        """
        if self.cut_at is not None or len(self.stuck) >= self.target or worker.ahead:  # those are to be put back first
            return False
        ledger = self.ledger  # from here on no call: with the GIL, the worker may end its item after any
        if worker.entry is not entry or worker.late is not entry or worker.fate or worker.pending == DISOWNED:
            return False
        worker.pending = DISOWNED
        ledger.running -= 1
        ledger.failed += 1
        ledger.dead[NOT_RETRIED] += 1
        self._telling += 1
        self.stuck[worker] = None
        self._gone.failed(seconds)
        return True

    @section
    def let_go(self, worker: Worker[T]) -> None:
        """The item of a worker that was given up is told of its end: not before does its pool go on without it."""
        self._telling -= 1
        if worker in self.workers:
            self._leave(worker)
        self._announce()

    @section
    def on_cancel(self, worker: Worker[T], wake: Wake) -> bool:
        """Have `wake` called when `worker` is asked to end early; False if it was."""
        worker.cancels = [*worker.cancels, wake]
        return not (worker.cancelled or (worker.late is not None and worker.late is worker.entry))

    @section
    def off_cancel(self, worker: Worker[T], wake: Wake) -> None:
        """Undo `on_cancel`."""
        worker.cancels = [other for other in worker.cancels if other is not wake]

    def waiting(self, reached: Callable[[], bool], limit: Callable[[], float | None], wake: Wake) -> Steps[bool]:
        """Wait until `reached()`, which is asked under the lock after each change, or until the time `limit()`.

        `limit` is asked again after each wake, because a second stop may bring it nearer. None: no limit.
        False when the time was up, or no worker will ever come.
        """
        self.insist_outside()
        try:
            while not self._look_in(wake, reached):
                due = self.recall()
                until = limit() if self.attend() else -inf  # which runs, inline, what was recalled
                now = self._now()
                if until is not None and until <= now:
                    return self._look_in(wake, reached)
                left = None if until is None else until - now
                yield left if due is None else due if left is None else min(due, left)
        finally:
            self._forget(wake)
        return True

    @section
    def _look_in(self, wake: Wake, reached: Callable[[], bool]) -> bool:
        if wake not in self._sleepers:
            self._sleepers.append(wake)
        return reached()

    @section
    def _forget(self, wake: Wake) -> None:
        if wake in self._sleepers:
            self._sleepers.remove(wake)

    def disown_workers(self) -> None:
        """This process is a forked child, and the workers stayed in the parent: STOPPED, with a new lock.

        Called with no other thread alive, and without the lock, which a thread of the parent may hold.
        """
        before, self.state = self.state, after(self.state, Event.FORK, self.name)
        if before is self.state:
            self._renew_lock()
        else:
            self.foreign = True
            for lane in self.lanes:
                lane.limit = -inf  # who was forked as it handed an item over still has the old one in its hand
            self._reset()
