"""The bounded queue: one lock, one section, one list of those who wait for room.

Rules that hold here:

- Every field is written under the lock, and read under it, except where its comment says otherwise.
- The interpreter may run a signal handler or a finalizer, raise KeyboardInterrupt or, with the GIL, let another
  thread go on, after any call, and nowhere else. So a stretch without a call is one step for everybody, and
  those that run for each item (`offer`, `Pool.submit_wait`, `takes`, `succeed`) are such stretches, and take no lock.
  The lock is for whatever makes calls; and what holds it reckons with items that come and go at each of its calls.
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
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator
from math import inf
from typing import Any, Final, NoReturn, TypeVar

from workpool._core.lane import DEADLINE, KEY, REASONS, Lane
from workpool._core.ledger import BOUNDS, Ledger, Tally
from workpool._future import ItemFuture, Place
from workpool._interpreter import GIL
from workpool._state import section
from workpool._submitting import SubmittingQueue
from workpool._worker import (
    DISCARDED,
    DISOWNED,
    FAILED,
    NONE,
    NOTHING_AHEAD,
    PARKED,
    SHED,
    SUCCEEDED,
    TELLING,
    Entry,
    Worker,
    line_of,
    submitted_at,
)

__all__ = ["BoundedQueue"]

T = TypeVar("T")

# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WITHDRAWN: Final = Place.WITHDRAWN

FIRST: Final = BOUNDS[0]
EDGES: Final = (0.0, *BOUNDS, inf)

BURST: Final = 64
"""So many items a worker sheds in a row before it gives way, as if it had waited: on an event loop, others wait."""

MEMORY: Final = 1 / 64
"""How much of the expected run time each item makes up anew, after the first."""


def _raise(error: BaseException) -> NoReturn:
    """Leave it to whoever runs the worker."""
    raise error


class BoundedQueue(SubmittingQueue[T], ABC):
    """The worker's side: an item is taken, and settled."""

    __slots__ = ()

    def takes(  # noqa: C901, PLR0912, PLR0915 - one frame for each item
        self,
        worker: Worker[T],
        run: Callable[[T], object] | None = None,
        fail: Callable[[BaseException], object] = _raise,
    ) -> Iterator[Entry[T] | None]:
        """Settle what `worker` finished (`worker.fate`) and give it the next entry, in one section, at each step.

        With `run`, an item whose result nobody wants is run here, in the same frame, which saves 5 % of what it costs;
        `fail` is called with what it raises. Only the others are given.

        Records how long the one ran and the other waited, up to the time it came back, before it settles: so a
        snapshot never has more fates than durations.

        None: nothing to take now. The worker ends if it is `leaving`; else it waits for its wake and
        comes again. A generator, because its locals and its resumption cost 20 % of an item less than
        a method that is called for each.
        """
        plain = not (self.has_rules or _traced())
        locks = not GIL and plain and self._choose is None  # the same stretch, then, but under the lock
        alone = locks or (GIL and plain)
        calls = alone and worker.ahead is NOTHING_AHEAD
        worker.settles_freely = GIL and calls
        keyed = GIL and self.keys is not None and self.limiter is None and self._only is not None and not _traced()
        try_acquire, release, settle_and_take = self.try_acquire, self.release, self._settle_and_take
        ledger, now = self.ledger, self._now
        lane, is_judged, learns = self._lane, self.is_judged, self.learns
        waiters, first = lane.waiters, lane.first
        choose = None if not alone else self._choose  # else it is asked under the lock: it may turn the lane round
        # A local is found in a third of the time.
        none, succeeded, quick, queued, telling = NONE, SUCCEEDED, FIRST, QUEUED, TELLING
        shed = 0
        hand: list[Entry[T] | None] = []
        head: Entry[T] | None
        entry: Entry[T] | None = None
        _ended: Entry[T] | None = None
        # Whoever takes several entries may put some back, and records the times of the others when they have ended.
        tally = worker.tally if worker.ahead is NOTHING_AHEAD else Tally()
        success, wait = tally.success, tally.wait
        bucket, low, high = 0, 0.0, FIRST
        at = worker.at
        fate = worker.fate  # nobody else writes it
        while True:
            if fate == succeeded:
                ran = at - worker.began
                if ran < quick:
                    success[0] += 1
                else:
                    success[bisect_left(BOUNDS, ran)] += 1
                tally.success_sum += ran
                if learns:
                    self.learn(ran)
            worker.began = at
            if choose is not None:
                lane = worker.lane = choose(at)
                waiters, first = lane.waiters, lane.first
            try:
                if locks:
                    # Its end may be that of somebody's object, and is not to come under the lock.
                    _ended = entry  # pyright: ignore[reportUnknownVariableType]
                    if not try_acquire():
                        self.contend()
                line = lane.waiting
                pop: Callable[[], Entry[T]] = lane.pop
                if (
                    alone
                    and line
                    and not (self._detour or waiters)
                    and ((future := (head := line[first])[2]) is None or (calls and future.place is queued))
                    and (not (pending := worker.pending) or (calls and pending == telling and entry is not None))
                ):
                    # From the line before on no call but the last, nor an end of `head`, which was `entry`, too, or of
                    # a future that was told, which `entry` has; an interrupt after that finds the entry.
                    if pending:
                        self._telling -= 1
                        worker.telling = None
                        worker.pending = none
                    if future is not None:
                        future.place = TAKEN
                    worker.entry = head
                    if fate == succeeded:
                        ledger.succeeded += 1
                    elif fate:
                        ledger.failed += 1
                    else:
                        ledger.running += 1
                    worker.fate = none  # that of `head`, which is yet to run
                    lane.limit += 1
                    entry = pop()
                    if entry is not head:  # a tracer that came later has let somebody in between
                        worker.entry = head = entry
                    if locks:
                        release()
                        _ended = None
                else:
                    if not (keyed and self._take_free(worker, lane)):
                        if not (locks or try_acquire()):
                            self.contend()
                        lane = settle_and_take(worker, ledger)
                        waiters, first = lane.waiters, lane.first
                        release()
                        if self._dropping is not None or self._dropped:
                            self.tell_dropped()
                    head = entry = worker.entry
                    _ended = None
            except BaseException:
                try:
                    release()
                except RuntimeError:
                    pass
                raise
            if entry is None:
                future = None  # an idle worker has nothing of its last item
                yield None
                at = worker.at
                fate = worker.fate
                continue
            waited = at - entry[1]
            if waited <= low or waited > high:  # waits are alike from one item to the next: most need no search
                waited = max(waited, 0.0)  # the item may have come after the clock was read
                bucket = bisect_left(BOUNDS, waited)
                low, high = EDGES[bucket], EDGES[bucket + 1]
            wait[bucket] += 1
            tally.wait_sum += waited
            if is_judged and waited > lane.unquestioned:
                if entry[3] is None:  # most are not tried again, and have no key: a step less
                    why = lane.verdict(entry[0], waited, at, self.recent)
                else:
                    why = self.verdict(lane, entry, waited, at)
                if why:
                    self.shed(worker, entry, why)
                    at = now()
                    fate = worker.fate
                    shed += 1
                    if shed % BURST:
                        continue
                    worker.wake(None)  # so that its wait is none
                    head = entry = None
                    yield None
                    at = worker.at
                    fate = worker.fate
                    continue
            if run is not None and entry[2] is None:
                try:
                    run(entry[0])
                except BaseException as error:
                    fail(error)
                    fate = worker.fate
                else:
                    worker.fate = fate = succeeded  # at once: from here on nobody is to give it up
                at = now()
                continue
            if GIL:
                yield entry
            else:
                hand.append(entry)
                head = entry = None  # see `work`
                yield hand.pop()
            at = worker.at
            fate = worker.fate

    def _settle_and_take(self, worker: Worker[T], ledger: Ledger) -> Lane[Entry[T]]:
        """The same under the lock, where there is more to see to, or another thread may come at any time."""
        lane = self._lane
        if worker.pending == DISOWNED:
            self.stuck.pop(worker, None)
            worker.leaving = True
            ended = worker.entry
            worker.entry = None
            if self.has_rules and ended is not None:
                self._release(ended)
                self._rouse()
            return lane
        if worker.pending:
            self._welcome(worker)
        if self.has_rules:
            return self._take_by_rules(worker, ledger)
        if self._choose is not None:
            lane = self._choose(worker.began)
        waiting = lane.waiting
        pop = lane.pop
        first = lane.first
        if not waiting or self._detour:
            self._rest(worker)
            return lane
        if worker.fate == SUCCEEDED:  # from the line before on no call but the last
            ledger.succeeded += 1
        elif worker.fate:
            ledger.failed += 1
        else:
            ledger.running += 1
        worker.fate = NONE
        worker.entry = entry = waiting[first]
        pop()
        if entry[2] is None or self._claim(worker, lane, entry):
            worker.lane = lane
            lane.limit += 1
            if lane.waiters:
                self._grant(lane)
        return lane

    @abstractmethod
    def _take_by_rules(self, worker: Worker[T], ledger: Ledger) -> Lane[Entry[T]]:
        """The same where not every entry may start when it is next."""

    @abstractmethod
    def _take_free(self, worker: Worker[T], lane: Lane[Entry[T]]) -> bool:
        """That without the lock; False if it cannot be."""

    def learn(self, seconds: float) -> None:
        """An item has run for so long."""
        self.recent += (seconds - self.recent) * MEMORY if self.recent else seconds

    def unlearn(self, why: int) -> None:
        """An item was shed for what items run of late. If none runs, nobody would ever learn that they are quick again:
        so each that is shed is taken for one that takes no time."""
        if why == DEADLINE:
            self.recent *= 1 - MEMORY

    def verdict(self, lane: Lane[Entry[T]], entry: Entry[T], waited: float, now: float) -> int:
        """`KEEP`, or why an entry that is next is to be shed."""
        line = line_of(entry)
        if line is not None and line.is_dropped:
            return KEY
        return lane.verdict(entry[0], waited, now, self.recent, now - submitted_at(entry))

    def shed(self, worker: Worker[T], entry: Entry[T], why: int) -> None:
        """Shed what the worker has in hand, first the hook, then the ledger, then the future."""
        self.unlearn(why)
        self.tell_shed(entry[0], REASONS[why])
        worker.fate = SHED + why
        if self.settle(worker):
            self._tell_future(entry, why)

    def succeed(self, worker: Worker[T], future: ItemFuture[Any]) -> bool:
        """`settle` for an item that has succeeded: without the lock, where nobody can come in between."""
        if worker.settles_freely and not worker.pending:  # from here on no call; `takes` has the entry, too
            worker.pending = TELLING
            self._telling += 1
            worker.telling = future
            self.ledger.running -= 1
            self.ledger.succeeded += 1
            worker.entry = None
            worker.fate = NONE
            return True
        return self.settle(worker)

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
            ended = worker.entry
            self._count(worker.fate)
            self._next(worker)
            if self.has_rules and ended is not None:
                self._release(ended)
                self._rouse()
        worker.fate = NONE
        return mine

    def _next(self, worker: Worker[T]) -> None:
        """What the worker has in hand has ended. (Here it has nothing more.)"""
        worker.entry = None

    def _count(self, fate: int) -> None:
        if fate:
            self.ledger.running -= 1
            if fate == SUCCEEDED:
                self.ledger.succeeded += 1
            elif fate == FAILED:
                self.ledger.failed += 1
            elif fate == DISCARDED:
                self.ledger.discarded += 1
            else:
                self.ledger.shed[fate - SHED] += 1
                if self.limiter is not None:  # it was given to a worker, and has not started
                    self.limiter.undo()

    def _welcome(self, worker: Worker[T]) -> None:
        """See to what is pending for a worker that comes."""
        if worker.pending == TELLING:
            self._telling -= 1
            worker.telling = None
        elif worker in self._held:
            del self._held[worker]
        elif worker in self.resting:
            del self.resting[worker]
            if self.waking:
                self.waking = False  # first: who accepts an item from here on does not count on this worker
                if self._length() > 1 and self._start_at is None:
                    self._rouse()
        worker.pending = NONE

    def _claim(self, worker: Worker[T], lane: Lane[Entry[T]], entry: Entry[T]) -> bool:
        """Take `entry`, or the first after it whose future was not cancelled; False: there was none."""
        while (future := entry[2]) is not None and future.place is WITHDRAWN:
            lane.dead -= 1
            waiting = lane.waiting
            pop = lane.pop
            first = lane.first
            if not waiting:
                self.ledger.running -= 1
                worker.fate = NONE
                self._rest(worker)
                return False
            worker.entry = entry = waiting[first]
            pop()
        if future is not None:
            future.place = TAKEN
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
        elif self._accepting or self._length() or self.ledger.waiting:  # the lane that was chosen is empty
            worker.pending = PARKED
            self.resting[worker] = None
            self.resting.move_to_end(worker, last=False)
            self._rouse()  # for an item that came while nobody was idle
            for lane in self.lanes:
                if lane.waiters:  # whose slot came free without a word: whoever was to say it was interrupted
                    self._grant(lane)
        else:
            self._leave(worker)
            self._pass_on()
        self._announce()


def _traced() -> bool:
    """Whether Python code may run between two lines of this thread: a debugger's, a profiler's, a coverage tool's."""
    monitoring = getattr(sys, "monitoring", None)
    return (
        sys.gettrace() is not None
        or sys.getprofile() is not None
        or (monitoring is not None and any(monitoring.get_tool(tool) for tool in range(6)))
    )
