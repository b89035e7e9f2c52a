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
from workpool._core.discipline import Fifo, Line
from workpool._core.ledger import Histogram, Ledger, PoolStats, Tally
from workpool._core.lifecycle import State
from workpool._core.report import DrainReport
from workpool._interpreter import GIL
from workpool._worker import Entry, Worker

__all__ = ["PAUSES", "QueueState", "Waiter", "section"]

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

    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[None], object]) -> None:
        self.wake = wake
        self.granted = False
        """A slot is kept for it, and missing from the queue's `_limit`."""


def _they_come() -> bool:
    return True


def _let_block(what: str, instead: str) -> None:
    """Whoever waits holds nobody up."""


class QueueState(Generic[T]):
    """Entries, workers, those who wait, and the ledger, under one lock."""

    __slots__ = (
        "__weakref__",
        "_accepting",
        "_dead",
        "_detour",
        "_discipline",
        "_gone",
        "_held",
        "_idle",
        "_limit",
        "_line",
        "_now",
        "_owned",
        "_paused",
        "_retiring",
        "_sleepers",
        "_telling",
        "_waiters",
        "_waking",
        "acquire",
        "attend",
        "carry",
        "clock",
        "closed_at",
        "cut_at",
        "cut_short",
        "deadline",
        "done_at_close",
        "failure",
        "foreign",
        "handed_back",
        "item_timeout",
        "ledger",
        "lost",
        "name",
        "refuse_here",
        "release",
        "report",
        "size",
        "state",
        "stop_timeout",
        "stuck",
        "target",
        "try_acquire",
        "workers",
    )

    def __init__(self, name: str, discipline: Fifo, workers: int, clock: Clock, stop_timeout: float | None) -> None:
        self.name = name
        self.size = discipline.size
        self.clock = clock
        self._now = clock.now
        self._discipline = discipline
        self.target = workers
        """How many workers there are to be."""
        self.stop_timeout = stop_timeout
        """Seconds (None: no limit) for a stop that nobody called: at the end of a `with` block, and at exit."""
        self.stuck: dict[Worker[T], None] = {}
        """Those that were given up over an item, and have not come since."""
        self.item_timeout: float | None = None
        """Seconds that an item may run; None: as long as it wants."""
        self.attend: Callable[[], bool] = _they_come
        """Called outside the lock by whoever waits for workers, or has woken some: runs those that do not come by
        themselves. False: none will ever come again, so that waiting is in vain. The driver's to set, as is this:"""
        self.refuse_here: Callable[[str, str], object] = _let_block
        """Does what `refuse_to_block` does."""
        self.carry: Callable[[], contextvars.Context] | None = None
        """Gives the context variables of whoever submits, if they are to be those of the process function."""
        self.failure = ""
        """Why the pool stopped by itself, if it did."""
        self.foreign = False
        """This process is a fork of the one that has the workers."""
        self.state = State.NEW
        self._reset()

    def _renew_lock(self) -> None:
        lock: Any = threading.RLock()
        self.acquire: Callable[[], object] = lock.acquire
        self.try_acquire: Callable[[], bool] = partial(lock.acquire, False)
        self.release: Callable[[], object] = lock.release
        self._owned: Callable[[], bool] = lock._is_owned

    def refuse_to_block(self, what: str, instead: str) -> None:
        """Raise RuntimeError if this thread would keep the workers from working while it waits, as `what` does."""
        self.refuse_here(what, instead)

    def contend(self) -> None:
        """Take the lock when somebody else holds it, which is mostly a thread that the interpreter has suspended.

        Blocking on the lock at once would start a convoy: the lock goes to a thread that does not have the
        interpreter, whoever has it blocks in turn, and from then on every item costs two switches of thread
        (3 times the time for an item, measured with a queue of 10,000). So first let the holder run.
        """
        for pause in PAUSES:
            sleep(pause)
            if self.try_acquire():
                return
        self.acquire()

    def _reset(self) -> None:
        """As if nothing had ever happened."""
        self._renew_lock()
        self.ledger = Ledger()
        self.workers: dict[Worker[T], None] = {}
        """Those there are, in the order of their coming."""
        self._line: Line[Entry[T]] = self._discipline.open()
        """Whoever takes many entries out puts another line here, in one store: nothing can come between."""
        self._limit: float = -inf
        """How far `accepted` may grow: by the slots that are neither filled nor kept for a waiter.
        Minus infinity, which no freed slot changes, while nothing is accepted."""
        self._dead = 0
        """Entries in the line whose futures were cancelled: they hold no slot and are skipped."""
        self._accepting = False
        self._paused = False
        self._retiring = 0
        """How many workers are to leave although there is work."""
        self._detour = False
        """`_paused or _retiring`: no worker takes an entry. The one thing that the hot path looks at."""
        self._idle: OrderedDict[Worker[T], None] = OrderedDict()
        """Who waits for an entry, the last to come first. Not a list: of ten thousand, one must leave in no time."""
        self._waking = False
        """An idle worker was woken and has not come yet: it will wake the next."""
        self._held: OrderedDict[Worker[T], None] = OrderedDict()
        """Who waits for the end of a pause."""
        self._waiters: OrderedDict[Waiter, None] = OrderedDict()
        """Who waits for room. While there is anyone, every free slot is kept for one."""
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

    @property
    def idle(self) -> bool:
        """Nothing queued, nothing running, nobody being told. To be read under the lock."""
        depth, (_, running, *_) = self._facts()
        return not (depth or running or self._telling)

    def stats(self) -> PoolStats:
        """A snapshot, from one section. The tallies are added up after it: they only grow."""
        now = self._now()
        total = Tally()
        workers, busy, depth, counts = self._read(total)
        accepted, running, succeeded, failed, cancelled, abandoned, full, not_started, stopped = counts
        for worker in workers:
            total.fold(worker.tally)
        return PoolStats(
            workers=self.target,
            queue_size=self.size,
            queue_depth=depth,
            submitted=accepted,
            processed=succeeded + failed,
            failed=failed,
            dropped=full,
            pool=self.name,
            state=self.state.value,
            refused={"full": full, "not_started": not_started, "stopped": stopped},
            succeeded=succeeded,
            cancelled=cancelled,
            abandoned=abandoned,
            running=running,
            workers_busy=len(busy),
            workers_stuck=len(self.stuck),
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

    def _facts(self) -> tuple[int, tuple[int, ...]]:
        """The depth of the queue and the ledger's counts, of one moment. To be read under the lock."""
        counts = self.ledger.counts()  # from its first reading to the length no call
        dead = self._dead
        return len(self._line.waiting) - dead, counts

    def retry_after(self) -> float:
        """See `QueueFull.retry_after`."""
        stats = self.stats()
        seconds = stats.run_mean or stats.oldest_running
        return max(SHORTEST_RETRY, stats.queue_depth * seconds / stats.workers / 2)
