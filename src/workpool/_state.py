"""The fields of the bounded queue, the critical section that guards them, and a snapshot of them.

The rules for whoever touches the fields stand at the top of `_queue`.
"""

from __future__ import annotations

import contextvars
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial, wraps
from math import inf
from time import sleep
from typing import Any, Concatenate, Final, Generic, ParamSpec, TypeVar

from workpool._clock import Clock
from workpool._core.discipline import Discipline
from workpool._core.keys import Keys, Line
from workpool._core.lane import REASONS, Lane
from workpool._core.ledger import Histogram, Ledger, PoolStats, Tally
from workpool._core.lifecycle import State
from workpool._core.outcome import DEATHS, Budget, Failures
from workpool._core.rate import Limiter
from workpool._core.report import DrainReport
from workpool._interpreter import GIL
from workpool._worker import Entry, Postponed, Ticket, Worker

__all__ = ["PAUSES", "Dropped", "QueueState", "Waiter", "section"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
Q = TypeVar("Q", bound="QueueState[Any]")

SHORTEST_RETRY = 0.001
"""Seconds: the least that `retry_after` says, and what it says before anything was measured."""


PAUSES: Final = (*[0.0] * 32, *(0.00005 * 2**step for step in range(7))) if GIL else ()
"""Seconds for which a thread lets others run, again and again, before it blocks on the lock, so that it gets it
whatever they do. They rise, because a thousand threads that only yield keep the holder from its turn. None without
the GIL: there the holder runs, and a pause costs a lone worker 2 to 4 times the time for an item."""

TRIES: Final = 0 if GIL else 100
"""So often a thread asks for the lock again before it blocks, where whoever holds it runs meanwhile, and gives it back
within a microsecond: that takes 22 to 50 % off an item, on two cores. Ten tries, or a thousand, save less."""


def section(method: Callable[Concatenate[Q, P], R]) -> Callable[Concatenate[Q, P], R]:
    """Run a method of the queue in its critical section."""

    @wraps(method)
    def inside(queue: Q, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if not queue.try_acquire():
                queue.contend()
            result = method(queue, *args, **kwargs)
            queue.release()
        except BaseException:
            try:
                queue.release()
            except RuntimeError:
                pass
            raise
        return result

    return inside


class Waiter:
    """Somebody who waits for room."""

    __slots__ = ("granted", "lane", "wake")

    def __init__(self, lane: Lane[Any], wake: Callable[[None], object]) -> None:
        self.lane = lane
        self.wake = wake
        self.granted = False
        """A slot is kept for it, and missing from its lane's room."""


def _nothing() -> None:
    """Nothing is to be done."""


def _tell_nobody_of_death(entry: object, error: BaseException) -> None:
    """Nobody wants to know what is dead."""


def _nobody() -> None:
    """The caller is no worker."""


def _wait_elsewhere(is_over: Callable[[], bool], timeout: float | None) -> None:
    """Nothing is to be done here while somebody waits."""


def _they_come() -> bool:
    return True


class Dropped(Generic[T]):
    """An entry that made room for another, until whoever wants to know was told."""

    __slots__ = ("entry", "teller")

    def __init__(self, entry: Entry[T]) -> None:
        self.entry = entry
        self.teller: object = None
        """Who tells of it; None: nobody yet."""


def _tell_nobody(item: object, why: str) -> None:
    """Nobody wants to know what is shed."""


def _let_block(what: str, instead: str) -> None:
    """Whoever waits holds nobody up."""


class QueueState(Generic[T]):
    """Entries, workers, those who wait, and the ledger, under one lock."""

    __slots__ = (
        "__weakref__",
        "_accepting",
        "_beside",
        "_choose",
        "_detour",
        "_dropped",
        "_dropping",
        "_gone",
        "_held",
        "_held_lines",
        "_lane",
        "_lines",
        "_nested",
        "_now",
        "_numbered",
        "_only",
        "_owned",
        "_paused",
        "_plain",
        "_postponed",
        "_postponings",
        "_rank",
        "_retiring",
        "_sleepers",
        "_start_at",
        "_telling",
        "_withdrawn",
        "acquire",
        "attend",
        "budget",
        "carries_context",
        "carry",
        "clock",
        "closed_at",
        "cut_at",
        "cut_short",
        "deadline",
        "direct",
        "discipline",
        "done_at_close",
        "failure",
        "failures",
        "foreign",
        "handed_back",
        "has_rules",
        "here",
        "is_judged",
        "item_timeout",
        "keep_time",
        "keys",
        "lanes",
        "learns",
        "ledger",
        "limiter",
        "lost",
        "most_waiting",
        "name",
        "recent",
        "refuse_here",
        "release",
        "report",
        "resting",
        "size",
        "state",
        "stop_timeout",
        "stuck",
        "target",
        "tell_dead",
        "tell_shed",
        "try_acquire",
        "waking",
        "work_here",
        "workers",
    )

    def __init__(
        self, name: str, discipline: Discipline[T], workers: int, clock: Clock, stop_timeout: float | None
    ) -> None:
        self.name = name
        self.size = discipline.capacity
        self.clock = clock
        self._now = clock.now
        self.discipline = discipline
        self.target = workers
        """How many workers there are to be."""
        self.stop_timeout = stop_timeout
        """Seconds (None: no limit) for a stop that nobody called: at the end of a `with` block, and at exit."""
        self.stuck: dict[Worker[T], None] = {}
        """Those that were given up over an item, and have not come since."""
        self.item_timeout: float | None = None
        """Seconds that an item may run; None: as long as it wants."""
        self._set_no_rules()
        self._call_nobody()
        self.failure = ""
        """Why the pool stopped by itself, if it did."""
        self.foreign = False
        """This process is a fork of the one that has the workers."""
        self.state = State.NEW
        self._reset()

    def _set_no_rules(self) -> None:
        """What the pool may set before its start: what becomes of items that fail, their order, how fast they start."""
        self.failures = Failures(None, None)
        """What becomes of items that raise."""
        self.budget: Budget | None = None
        """How many retries there may be; None: no limit."""
        self.most_waiting = self.size
        """How many entries may wait for their next attempt."""
        self.carry: Callable[[T], contextvars.Context | Line[Any] | Ticket] | None = None
        """Gives what an entry takes along besides its item, if there is something. `take_along` sets it."""
        self.carries_context = False
        """Among that are the context variables of whoever submits, to be those of the process function."""
        self.keys: Keys[T] | None = None
        """The order by keys, if there is one."""
        self.limiter: Limiter | None = None
        """The rate at which entries may start, if there is one."""
        self.has_rules = False
        """There is one of these: not every entry may start when it is next."""

    def _call_nobody(self) -> None:
        """What the pool and its driver set: whom to call. Nothing of it is called under the lock."""
        self.keep_time: Callable[[], object] = _nothing
        """Called outside the lock when something is to happen later: sees to it that somebody waits for that."""
        self.attend: Callable[[], bool] = _they_come
        """Called outside the lock by whoever waits for workers, or has woken some: runs those that do not come by
        themselves. False: none will ever come again, so that waiting is in vain. The driver's to set, as are these:"""
        self.work_here: Callable[[Callable[[], bool], float | None], object] = _wait_elsewhere
        """Called by whoever is about to wait until that is so, within so many seconds: runs those that do not come by
        themselves."""
        self.refuse_here: Callable[[str, str], object] = _let_block
        """Does what `refuse_to_block` does."""
        self.here: Callable[[], Worker[T] | None] = _nobody
        """Which worker of this queue the caller runs in."""
        self.tell_shed: Callable[[T, str], object] = _tell_nobody
        """Called outside the lock with an item that is shed, and why. Raises only what interrupts the main thread as
        it submits."""
        self.tell_dead: Callable[[Entry[T], BaseException], object] = _tell_nobody_of_death
        """Called outside the lock with the entry of an item that has failed for good, before it is settled."""

    def _renew_lock(self) -> None:
        lock: Any = threading.RLock()
        self.acquire: Callable[[], object] = lock.acquire
        self.try_acquire: Callable[[], bool] = partial(lock.acquire, False)
        self.release: Callable[[], object] = lock.release
        self._owned: Callable[[], bool] = lock._is_owned

    def refuse_to_block(self, what: str, instead: str) -> None:
        """Raise RuntimeError if this thread would keep the workers from working while it waits, as `what` does."""
        self.refuse_here(what, instead)

    def work_until(self, is_over: Callable[[], bool], timeout: float | None) -> None:
        """Where nobody else does the work, do it until that is so, for at most so many seconds."""
        self.work_here(is_over, timeout)

    def contend(self) -> None:
        """Take the lock when somebody else holds it, which is mostly a thread that the interpreter has suspended.

        Blocking on the lock at once would start a convoy: the lock goes to a thread that does not have the
        interpreter, whoever has it blocks in turn, and from then on every item costs two switches of thread
        (3 times the time for an item, measured with a queue of 10,000). So first let the holder run.
        """
        for _ in range(TRIES):
            if self.try_acquire():
                return
        for pause in PAUSES:
            sleep(pause)
            if self.try_acquire():
                return
        self.acquire()

    def _reset(self) -> None:
        """As if nothing had ever happened."""
        self._renew_lock()
        self.workers: dict[Worker[T], None] = {}
        """Those there are, in the order of their coming."""
        self._open_lanes()
        self._accepting = False
        self._paused = False
        self._retiring: int = 0
        """How many workers are to leave although there is work."""
        self._detour = False
        """`_paused or _retiring`: no worker takes an entry. The one thing that the hot path looks at."""
        self.resting: OrderedDict[Worker[T], None] = OrderedDict()
        """Who waits for an entry, the last to come first. Not a list: of ten thousand, one must leave in no time."""
        self.waking = False
        """An idle worker was woken and has not come yet: it will wake the next."""
        self._held: OrderedDict[Worker[T], None] = OrderedDict()
        """Who waits for the end of a pause."""
        self._telling: int = 0
        """Entries that are settled while their futures are being told."""
        self._sleepers: list[Callable[[None], object]] = []
        """Who waits for the pool to be idle, or without workers."""
        self._gone = Tally()
        """What workers that left had counted."""
        self.closed_at: float | None = None
        self.done_at_close = 0
        self.deadline: float | None = None
        self.cut_at: float | None = None
        """When the deadline was found to have passed."""
        self.cut_short = False
        """The deadline took entries out of the line that were to run."""
        self.lost: list[tuple[Worker[T], Entry[T]]] = []
        """Workers that were given up, and what each had in hand."""
        self.report: DrainReport[T] | None = None
        """What a stop found; the first to get there writes it."""
        self.handed_back: Sequence[Entry[T]] | None = None
        """What a stop took out of the line; entries whose futures had been cancelled before are among it."""
        self._reset_others()

    def _reset_others(self) -> None:
        """No entry is anywhere but in a lane."""
        self._postponed: list[tuple[float, int, Postponed[T]]] = []
        """A heap of what waits for its next attempt: when that is due, and a number that tells two apart."""
        self._postponings = 0
        self._withdrawn = 0
        """How many of those were cancelled, about."""
        self._beside = 0
        """Entries that were next while their keys were not free, and are beside their lanes until they are."""
        self._lines: dict[Line[Entry[T]], None] = {}
        """Those that may have some."""
        self._nested: dict[Worker[T], Any] = {}
        """Those that wait for their own pool, and what for."""
        self._held_lines: dict[Line[Entry[T]], Entry[T]] = {}
        """Those of which no more is to run, and what had failed of each."""
        self._start_at: float | None = None
        """When the next entry may start, if workers were told to wait for that."""

    def _open_lanes(self) -> None:
        lineup = self.discipline.open()
        self.lanes: tuple[Lane[Entry[T]], ...] = lineup.lanes
        self.ledger = Ledger(lineup.lanes)
        self._lane: Lane[Entry[T]] = lineup.lanes[0]
        """The only one, or the first."""
        self._only = None if lineup.rank else self._lane
        """The only one; None: there are several. One look for each item, instead of two."""
        self._plain: Lane[Entry[T]] | None = self._only if self.carry is None else None
        """The same, if entries take nothing along besides their items: one look, instead of three."""
        self.direct: Lane[Entry[T]] | None = None
        """The same, if whoever submits may push into it where nobody is to be woken: with the GIL, and if nothing else
        is to happen with an item. `let_push` sets it."""
        self._rank = lineup.rank
        """The number of the lane that an item is for; None: there is only one."""
        self._numbered = lineup.numbered
        self._choose = lineup.choose
        """Which lane is next; None: the only one. A hint: others may come and go before an entry is taken."""
        self.is_judged = any(lane.is_judged for lane in lineup.lanes)
        """Whether an entry may be shed when its turn comes."""
        self.learns = any(lane.learns for lane in lineup.lanes)
        self.recent: float = 0.0
        """Seconds that items run, of late, if a rule wants to know. Written by workers, without the lock."""
        self._dropping: Entry[T] | None = None
        """The last entry that made room for another, if nobody was told yet: written before it is taken out."""
        self._dropped: list[Dropped[T]] = []
        """Those before."""

    def judge_all(self) -> None:
        """Have every entry looked at before it runs: it may have to be shed for what became of another."""
        self.is_judged = True
        for lane in self.lanes:
            lane.unquestioned = -inf

    def take_along(self, carry: Callable[[T], contextvars.Context | Line[Any] | Ticket]) -> None:
        """Have entries take along what `carry` gives for their items. It is called outside the lock."""
        self.carry = carry
        self._plain = self.direct = None

    def let_push(self) -> None:
        """With an item that is handed over nothing is to happen but what `offer` does."""
        self.direct = self._plain if GIL else None

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nobody being told. To be read under the lock."""
        depth, (_, running, waiting, *_) = self._facts()
        return not (depth or running or waiting or self._telling)

    def stats(self) -> PoolStats:
        """A snapshot, from one section. The tallies are added up after it: they only grow."""
        now = self._now()
        total = Tally()
        workers, busy, depth, counts = self._read(total)
        accepted, running, waiting, succeeded, failed, discarded, cancelled, abandoned, *more = counts
        full, not_started, stopped, *shed = more
        ledger = self.ledger
        for worker in workers:
            total.fold(worker.tally)
        return PoolStats(
            workers=self.target,
            queue_size=self.size,
            queue_depth=depth,
            submitted=accepted,
            processed=succeeded + failed + discarded,
            failed=failed,
            dropped=full,
            pool=self.name,
            state=self.state.value,
            refused={"full": full, "not_started": not_started, "stopped": stopped},
            succeeded=succeeded,
            shed=dict(zip(REASONS[1:], shed, strict=True)),
            cancelled=cancelled,
            abandoned=abandoned,
            running=running,
            waiting=waiting,
            discarded=discarded,
            retries=ledger.retries,
            snoozes=ledger.snoozes,
            dead=dict(zip(DEATHS[1:], ledger.dead[1:], strict=True)),
            workers_busy=len(busy),
            workers_stuck=len(self.stuck),
            keys_held=len(self._held_lines),
            oldest_running=max(0.0, now - min(busy, default=now)),
            run_success=Histogram(tuple(total.success), total.success_sum),
            run_error=Histogram(tuple(total.error), total.error_sum),
            queue_wait=Histogram(tuple(total.wait), total.wait_sum),
        )

    @section
    def _read(self, total: Tally) -> tuple[list[Worker[T]], list[float], int, tuple[int, ...]]:
        workers = list(self.workers)
        busy = [worker.began for worker in workers if worker.entry is not None]
        total.fold(self._gone)
        return workers, busy, *self._facts()

    def _length(self) -> int:
        """How many entries wait, dead ones included."""
        lane = self._lane
        return len(lane.waiting) if self._rank is None else sum(len(lane.waiting) for lane in self.lanes)

    def _facts(self) -> tuple[int, tuple[int, ...]]:
        """The depth of the queue and the ledger's counts, of one moment. To be read under the lock."""
        while True:  # until nobody came in between
            counts = self.ledger.counts()
            depth = self._beside + self._length() - sum(lane.dead for lane in self.lanes)
            if self.ledger.is_at(counts):
                return depth, counts

    def retry_after(self) -> float:
        """See `QueueFull.retry_after`."""
        stats = self.stats()
        seconds = stats.run_mean or stats.oldest_running
        return max(SHORTEST_RETRY, stats.queue_depth * seconds / stats.workers / 2)
