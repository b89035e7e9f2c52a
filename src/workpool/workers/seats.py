"""Workers whose items run elsewhere: a thread each, here, that hands batches over and settles what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, islice
from operator import itemgetter, sub
from typing import Any, Final, Generic, Protocol, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks, failed, log_error, succeeded_for, tell_stuck
from workpool._worker import FAILED, FUTURE, NONE, SUCCEEDED, Entry, Worker
from workpool.errors import WorkerDied

__all__ = ["KILLED", "Chair", "Hand", "Outcome", "Plan", "Seat", "SeatUnfit"]

T = TypeVar("T")

GIVE_UP: Final = 3
"""So many seats in a row that could not be opened stop the pool."""

KILLED: Final = 0.2
"""What one counts for that was killed meanwhile: that may have been somebody else's doing."""

SPAN: Final = 0.003
"""Seconds that a batch is to take of whose results nobody wants to know. Of two cores that were busy, the parent took
6 % then, and 10 % with batches of half as long."""

AWAITED_SPAN: Final = 0.0015
"""The same, if somebody waits for the result of one. With 1 ms, a child ran dry too often where the CPUs are busy:
whoever is to send it the next may have to wait for one for about as long."""

MEMORY: Final = 64
"""Of so many items the mean run time is what the next are expected to take; the last have more weight."""


QUEUED_AT: Final[Callable[[Entry[Any]], float]] = itemgetter(1)


class SeatUnfit(Exception):
    """A seat could not be opened, for a reason that may well hold for the next."""

    def __init__(self, why: str, counts_for: float = 1) -> None:
        super().__init__(why)
        self.counts_for = counts_for


Outcome = tuple[bool, float, Any]
"""What became of an item over there: whether it succeeded, how many seconds it ran, and the result or the exception."""


class Seat(Protocol[T]):
    """Where the items of one worker run."""

    @property
    def gone(self) -> bool:
        """It has to be replaced before the next batch."""
        ...

    def run(self, hand: Hand[T], take_more: Callable[[], bool]) -> None:
        """Run what is in hand, and say there what became of it. Then nothing is in hand: it ended, or was put back.

        `take_more` takes another batch to be sent ahead, before the one that runs has ended; False: it did not.
        """

    def abort(self, hand: Hand[T]) -> None:
        """End it, after something has failed here; then as after `run`."""

    def rest(self) -> None:
        """Wait until the worker is woken, or the seat is gone."""

    def close(self) -> None:
        """Free what it holds. Its items have ended."""


class Hand(Generic[T]):
    """The entries that one worker has taken, until each has met its fate or was put back."""

    def __init__(self, queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T]) -> None:
        self._queue = queue
        self._worker = worker
        self._hooks = hooks
        self.expected = 0.0
        """Seconds that an item takes, of late; 0.0 before the first has ended."""
        self.awaited = False
        """Somebody waits for the result of what was sent last, or of some of it."""
        self._known = 0
        """Of how many that is the mean: of the first, each makes up as much of it."""

    @property
    def count(self) -> int:
        """How many have ended. Counted with the fate of each, in one section."""
        return self._worker.passed

    def entries(self, start: int = 0, stop: int | None = None) -> list[Entry[T]]:
        """Those from the one to before the other."""
        worker = self._worker
        entry = worker.entry
        found = [] if entry is None or start else [entry]
        found += islice(worker.ahead, max(0, start - 1), None if stop is None else stop - 1)
        return found

    @property
    def left(self) -> int:
        """How many there are."""
        worker = self._worker
        return 0 if worker.entry is None else 1 + len(worker.ahead)

    @property
    def span(self) -> float:
        """Seconds that a batch is to take."""
        return AWAITED_SPAN if self.awaited else SPAN

    def begin(self) -> None:
        """The first of them may run from now on. Until now it has waited for its seat."""
        self._queue.begin(self._worker, self._queue.clock.now())

    def sent(self) -> None:
        """They are on their way. Who waits for their slots in the queue is woken only now: the two threads would fight
        for the interpreter."""
        self._queue.grant()

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """The first items in hand have ended thus, in their order."""
        worker = self._worker
        if worker.given_up or not outcomes:
            return
        entries = self.entries(0, len(outcomes))  # fewer, if they were given up meanwhile
        ran = [seconds for _, seconds, _ in outcomes]
        self._learn(ran)
        waits = self._waits(entries, ran)
        begun = 0  # from here on, up to the first that is not quiet, they are settled together
        for number, (entry, outcome) in enumerate(zip(entries, outcomes, strict=False)):
            if outcome[0] and entry[2] is None:
                continue
            self._settle_quiet(ran[begun:number], waits[begun:number])
            worker.tally.waited(waits[number])
            self._settle(entry, outcome)
            begun = number + 1
        self._settle_quiet(ran[begun : len(waits)], waits[begun:])
        worker.began = self._queue.clock.now()

    def returned(self, ran: list[float]) -> None:
        """The first items in hand, at least one, have succeeded after so many seconds each, and returned None if
        anybody wants to know: `ended` for what most are like, at half the cost."""
        worker = self._worker
        if worker.given_up:
            return
        entries = self.entries(0, len(ran))
        if any(map(FUTURE, entries)):
            self.ended([(True, seconds, None) for seconds in ran])
            return
        self._learn(ran)
        self._settle_quiet(ran[: len(entries)], self._waits(entries, ran))
        worker.began = self._queue.clock.now()

    def _waits(self, entries: list[Entry[T]], ran: list[float]) -> list[float]:
        """How long each of these, which have run for so many seconds and ended by now, was queued before."""
        starts = accumulate(ran, initial=self._queue.clock.now() - sum(ran))
        waits = list(map(sub, starts, map(QUEUED_AT, entries)))
        return waits if min(waits, default=0.0) >= 0.0 else [max(0.0, wait) for wait in waits]

    def _learn(self, ran: list[float]) -> None:
        """So many items have taken so many seconds each."""
        count = len(ran)
        self._known = min(MEMORY, self._known + count)
        self.expected += (sum(ran) / count - self.expected) * min(1.0, count / self._known)

    def _settle_quiet(self, ran: list[float], waits: list[float]) -> None:
        """So many have succeeded, of whose results nobody wants to know."""
        if not ran:
            return
        tally = self._worker.tally
        tally.waited_all(waits)
        tally.succeeded_all(ran)
        if self._queue.learns:
            for seconds in ran:
                self._queue.learn(seconds)
        self._queue.settle_untold(self._worker, SUCCEEDED, len(ran))

    def _settle(self, entry: Entry[T], outcome: Outcome) -> None:
        queue, worker, future = self._queue, self._worker, entry[2]
        ok, seconds, value = outcome
        worker.began = queue.clock.now() - seconds
        if future is not None:
            future.tell_running()
        if not ok:
            failed(queue, worker, self._hooks, value)
            if worker.fate == FAILED:
                queue.settle_untold(worker, FAILED, 1)
                worker.fate = NONE
        elif future is not None:
            succeeded_for(queue, worker, future, value)

    def running(self) -> None:
        """The first item in hand runs, and has for a while."""
        entry = self._worker.entry
        if entry is not None and entry[2] is not None:
            entry[2].tell_running()

    @property
    def is_late(self) -> bool:
        """The first item in hand takes longer than it may."""
        worker = self._worker
        return worker.late is not None and worker.late is worker.entry

    def stuck(self, stack: str) -> None:
        """The first item in hand has taken too long, and is here."""
        entry = self._worker.entry
        if entry is not None:
            seconds = self._queue.clock.now() - self._worker.began
            tell_stuck(self._queue, self._hooks, entry[0], seconds, stack)

    def put_back(self, count: int) -> None:
        """The last so many items in hand were not begun."""
        if count > 0:
            self._queue.put_back(self._worker, count)


class Plan:
    """What the workers of one pool have in common."""

    def __init__(self, batch: int | None, most: int, max_items: int | None = None) -> None:
        self.batch = batch
        """How many items a batch has; None: as many as take about as long as it is to take, and at most `most`."""
        self.most = most
        self.max_items = max_items
        """After how many items a seat is replaced; None: never."""
        self.failures = 0.0
        """How many seats could not be opened, since the last that could."""

    def sends_ahead(self, expected: float, span: float) -> bool:
        """Whether a batch is sent before the one before it has ended, so that a child need not wait for its next.

        Not if it was said how many are sent at once, and not before it is known how long an item takes; nor if one
        takes longer than a batch is to take: it would mostly be taken back.
        """
        return self.batch is None and 0 < expected < span

    def depth(self, before: int, expected: float, span: float) -> int:
        """How many items the next batch has. Of items that take long, one: none is to wait for another while a worker
        may be idle."""
        if self.batch is not None:
            return self.batch
        return max(1, min(int(span / max(expected, 1e-9)), 2 * before, self.most))


class Chair(Generic[T]):
    """One worker, from its first seat to its last."""

    def __init__(
        self,
        queue: ControlledQueue[T],
        worker: Worker[T],
        hooks: Hooks[T],
        plan: Plan,
        open_seat: Callable[[], Seat[T]],
    ) -> None:
        """`open_seat` may raise `SeatUnfit`."""
        worker.ahead = deque()
        self._queue = queue
        self._worker = worker
        self._plan = plan
        self._open_seat = open_seat
        self._hand = Hand(queue, worker, hooks)
        self._last: int | None = None
        """How many items of the worker's have ended when the seat is to be replaced; None: it never is."""
        self._seat: Seat[T] | None = None
        self._aborted = False
        """It was told to settle what it has done, after something failed here: only once."""
        self._depth = 1

    def run(self) -> None:
        """Take batches and have them run until the worker is to leave. Ends if something fails here: call it again."""
        try:
            self._clear()
            self._work()
        except BaseException as error:
            log_error(error, "worker %r of pool %r was interrupted; it goes on", self._worker.name, self._queue.name)
        finally:
            if self._worker.leaving:
                self._close()

    def _clear(self) -> None:
        """After something failed here in the middle of a batch: the seat has to go, and say what it has done."""
        hand = self._hand
        self._queue.grant()
        if not hand.left:
            return
        if self._seat is not None and not self._aborted:
            self._aborted = True
            self._seat.abort(hand)
        if hand.left:  # that has failed, too: nothing is known of them but that they may have begun
            lost = WorkerDied(f"what became of it in worker {self._worker.name!r} is not known")
            hand.ended([(False, 0.0, lost)] * hand.left)
        self._close()

    def _work(self) -> None:
        queue, worker, now = self._queue, self._worker, self._queue.clock.now
        self._ready()
        worker.at = now()
        for entry in queue.takes(worker):
            if entry is None:
                if worker.leaving:
                    return
                if self._ready() is not None:
                    self._rest()
            else:
                del entry
                self._run_batch()
            worker.at = now()

    def _rest(self) -> None:
        assert self._seat is not None
        self._depth = 1
        self._seat.rest()

    def _run_batch(self) -> None:
        seat = self._ready()
        if seat is None:
            self._hand.put_back(self._hand.left)
            return
        self._take_ahead(self._depth - 1)
        seat.run(self._hand, self._take_more)
        self._depth = self._plan.depth(self._depth, self._hand.expected, self._hand.span)
        if self._last is not None and self._hand.count >= self._last:
            self._close()

    def _take_more(self) -> bool:
        """Take what is to be sent ahead of the end of a batch, of a queue that has enough for all workers."""
        hand = self._hand
        before = hand.left
        if not (before and self._queue.has_share() and self._plan.sends_ahead(hand.expected, hand.span)):
            return False
        self._depth = self._plan.depth(self._depth, hand.expected, hand.span)
        self._take_ahead(self._depth)
        return hand.left > before

    def _take_ahead(self, most: int) -> None:
        if self._last is not None:
            most = min(most, self._last - self._hand.count - self._hand.left)
        if most > 0 and self._queue.has_share():
            before = len(self._worker.ahead)
            self._queue.take_ahead(self._worker, most, self._queue.clock.now())
            if self._queue.is_judged:
                self._queue.judge_ahead(self._worker, before)
                self._queue.grant()  # if nothing of it is left, nothing will be sent

    def _ready(self) -> Seat[T] | None:
        """The seat, or a new one in the place of one that is gone. None: it could not be opened."""
        if self._seat is not None and self._seat.gone:
            self._close()
        if self._seat is None:
            try:
                self._seat = self._open_seat()
                self._aborted = False
                most = self._plan.max_items
                self._last = None if most is None else self._hand.count + most
                self._plan.failures = 0
            except SeatUnfit as why:
                self._plan.failures += why.counts_for
                if self._plan.failures >= GIVE_UP:
                    self._queue.fail(f"its workers cannot start: {why}")
        return self._seat

    def _close(self) -> None:
        seat, self._seat = self._seat, None
        if seat is not None:
            seat.close()
