"""Workers whose items run elsewhere: a thread each, here, that hands batches over and settles what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks, failed, log_error, succeeded_for, tell_stuck
from workpool._worker import FAILED, NONE, SUCCEEDED, Entry, Worker
from workpool.errors import WorkerDied

__all__ = ["KILLED", "Chair", "Hand", "Outcome", "Plan", "Seat", "SeatUnfit"]

T = TypeVar("T")

GIVE_UP: Final = 3
"""So many seats in a row that could not be opened stop the pool."""

KILLED: Final = 0.2
"""What one counts for that was killed meanwhile: that may have been somebody else's doing."""

SPAN: Final = 0.001
"""Seconds that a batch is to take."""

MEMORY: Final = 1 / 64
"""How much of the expected run time each item makes up anew."""


class SeatUnfit(Exception):
    """A seat could not be opened, for a reason that may well hold for the next."""

    def __init__(self, why: str, counts_for: float = 1) -> None:
        super().__init__(why)
        self.counts_for = counts_for


class Outcome(NamedTuple):
    """What became of an item over there."""

    ok: bool
    seconds: float
    value: Any
    """The result, or the exception."""


class Seat(Protocol[T]):
    """Where the items of one worker run."""

    gone: bool
    """It has to be replaced before the next batch."""

    def run(self, hand: Hand[T]) -> None:
        """Run what is in hand, and say there what became of it. Then nothing is in hand: it ended, or was put back."""

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
        """Seconds that an item takes, of late."""
        self.count = 0
        """How many have ended."""

    @property
    def entries(self) -> list[Entry[T]]:
        worker = self._worker
        entry = worker.entry
        return [] if entry is None else [entry, *worker.ahead]

    @property
    def left(self) -> int:
        """How many there are."""
        worker = self._worker
        return 0 if worker.entry is None else 1 + len(worker.ahead)

    def begin(self) -> None:
        """The first of them may run from now on. Until now it has waited for its seat."""
        self._queue.begin(self._worker, self._queue.clock.now())

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """The first items in hand have ended thus, in their order."""
        if self._worker.given_up:
            return
        quiet = 0
        began = self._queue.clock.now() - sum(outcome.seconds for outcome in outcomes)
        for entry, outcome in zip(self.entries, outcomes, strict=False):  # fewer, if they were given up meanwhile
            self.count += 1
            self._worker.tally.waited(max(0.0, began - entry[1]))
            began += outcome.seconds
            self.expected += (outcome.seconds - self.expected) * MEMORY
            if outcome.ok and entry[2] is None:
                self._worker.tally.succeeded(outcome.seconds)
                quiet += 1
            else:
                self._queue.settle_untold(self._worker, SUCCEEDED, quiet)
                quiet = 0
                self._settle(entry, outcome)
        if quiet:
            self._queue.settle_untold(self._worker, SUCCEEDED, quiet)
        self._worker.began = self._queue.clock.now()

    def _settle(self, entry: Entry[T], outcome: Outcome) -> None:
        queue, worker, future = self._queue, self._worker, entry[2]
        worker.began = queue.clock.now() - outcome.seconds
        if future is not None and not future.running():
            future.set_running_or_notify_cancel()
        if not outcome.ok:
            failed(queue, worker, self._hooks, outcome.value)
            if future is None:
                queue.settle_untold(worker, FAILED, 1)
                worker.fate = NONE
        elif future is not None:
            succeeded_for(queue, worker, future, outcome.value)

    def running(self) -> None:
        """The first item in hand runs, and has for a while."""
        entry = self._worker.entry
        if entry is not None and entry[2] is not None and not entry[2].running():
            entry[2].set_running_or_notify_cancel()

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
        """How many items a batch has; None: as many as take about a millisecond, and at most `most`."""
        self.most = most
        self.max_items = max_items
        """After how many items a seat is replaced; None: never."""
        self.failures = 0.0
        """How many seats could not be opened, since the last that could."""

    def depth(self, before: int, expected: float) -> int:
        """How many items the next batch has. Of items that take long, one: none is to wait for another while a worker
        may be idle."""
        if self.batch is not None:
            return self.batch
        return max(1, min(int(SPAN / max(expected, 1e-9)), 2 * before, self.most))


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
        self._left: int | None = None
        """How many more items the seat may have; None: any number."""
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
        if not hand.left:
            return
        if self._seat is not None and not self._aborted:
            self._aborted = True
            self._seat.abort(hand)
        if hand.left:  # that has failed, too: nothing is known of them but that they may have begun
            lost = WorkerDied(f"what became of it in worker {self._worker.name!r} is not known")
            hand.ended([Outcome(False, 0.0, lost)] * hand.left)
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
            self._hand.put_back(1)
            return
        depth = self._depth if self._left is None else min(self._depth, self._left)
        if depth > 1:
            self._queue.take_ahead(self._worker, depth - 1)
        before = self._hand.count
        seat.run(self._hand)
        self._depth = self._plan.depth(self._depth, self._hand.expected)
        if self._left is not None:
            self._left -= self._hand.count - before
            if self._left <= 0:
                self._close()

    def _ready(self) -> Seat[T] | None:
        """The seat, or a new one in the place of one that is gone. None: it could not be opened."""
        if self._seat is not None and self._seat.gone:
            self._close()
        if self._seat is None:
            try:
                self._seat = self._open_seat()
                self._aborted = False
                self._left = self._plan.max_items
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
