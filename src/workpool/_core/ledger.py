"""What happened to every item, and the law that the numbers obey.

``accepted = queued + running + waiting + succeeded + failed + discarded + shed + cancelled + abandoned``, at every
snapshot.

Rules: a `Ledger` is written and read under its queue's lock. `running` is counted on its own, never
derived, so that the law can fail. A `Tally` belongs to one worker, which alone writes it, without a lock;
it is read at any time and only ever grows. Nothing here knows of metrics: they read a `PoolStats`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import Any, Final

from workpool._core.lane import CODEL, DEADLINE, KEY, MAX_WAIT, OVERFLOW, REASONS, Lane
from workpool._core.outcome import DEATHS

__all__ = ["BOUNDS", "Histogram", "Ledger", "PoolStats", "Tally"]

BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets, in seconds: the Go package's nine, and three above them."""


class Ledger:
    """The pool's counters that move under the queue's lock. What was accepted is counted by its lanes, at least one."""

    __slots__ = (
        "_first",
        "_others",
        "abandoned",
        "cancelled",
        "dead",
        "discarded",
        "failed",
        "refused_full",
        "refused_not_started",
        "refused_stopped",
        "retries",
        "running",
        "shed",
        "snoozes",
        "succeeded",
        "waiting",
    )

    def __init__(self, lanes: Sequence[Lane[Any]]) -> None:
        self._first, *self._others = lanes
        self.succeeded = 0
        self.failed = 0
        self.cancelled = 0
        self.abandoned = 0
        self.running = 0
        self.waiting = 0
        """For their next attempt."""
        self.discarded = 0
        self.retries = 0
        """Attempts that failed, and led to another."""
        self.snoozes = 0
        self.dead = [0] * len(DEATHS)
        """Those that failed, by the reason for which they are tried no more. Counted just before."""
        self.shed = [0] * len(REASONS)
        """By reason."""
        self.refused_full = 0
        self.refused_not_started = 0
        self.refused_stopped = 0

    @property
    def accepted(self) -> int:
        return self._first.accepted + sum(lane.accepted for lane in self._others)

    def counts(self) -> tuple[int, ...]:
        """All of them, the accepted first, of one moment: nobody comes between the reading of one and the next. But for
        the accepted of several lanes, which are read one after the other, before the rest."""
        shed = self.shed
        accepted = 0
        for lane in self._others:
            accepted += lane.accepted
        return (
            accepted + self._first.accepted,
            self.running,
            self.waiting,
            self.succeeded,
            self.failed,
            self.discarded,
            self.cancelled,
            self.abandoned,
            self.refused_full,
            self.refused_not_started,
            self.refused_stopped,
            shed[MAX_WAIT],
            shed[DEADLINE],
            shed[CODEL],
            shed[OVERFLOW],
            shed[KEY],
        )

    def is_at(self, counts: tuple[int, ...]) -> bool:
        """Whether they are still these, those of refusals aside. Whoever has anything hang on that asks here, after all
        else: a tuple to compare with would have to be made, and what makes a container may run finalizers (on 3.11,
        which collects garbage there), and others with them, after it has read."""
        shed = self.shed
        accepted = 0
        for lane in self._others:
            accepted += lane.accepted
        return (
            counts[0] == accepted + self._first.accepted
            and counts[1] == self.running
            and counts[2] == self.waiting
            and counts[3] == self.succeeded
            and counts[4] == self.failed
            and counts[5] == self.discarded
            and counts[6] == self.cancelled
            and counts[7] == self.abandoned
            and counts[11] == shed[MAX_WAIT]
            and counts[12] == shed[DEADLINE]
            and counts[13] == shed[CODEL]
            and counts[14] == shed[OVERFLOW]
            and counts[15] == shed[KEY]
        )


class Tally:
    """Durations of one worker: run times by status, and how long its items had waited in the queue."""

    __slots__ = ("error", "error_sum", "success", "success_sum", "wait", "wait_sum")

    def __init__(self) -> None:
        self.success = [0] * (len(BOUNDS) + 1)
        self.success_sum = 0.0
        self.error = [0] * (len(BOUNDS) + 1)
        self.error_sum = 0.0
        self.wait = [0] * (len(BOUNDS) + 1)
        self.wait_sum = 0.0

    def succeeded(self, seconds: float) -> None:
        """Record a run that succeeded. (The loop for items without a future writes it out.)"""
        self.success[0 if seconds <= BOUNDS[0] else bisect_left(BOUNDS, seconds)] += 1  # most need no search
        self.success_sum += seconds

    def failed(self, seconds: float) -> None:
        """Record a run that failed."""
        self.error[bisect_left(BOUNDS, seconds)] += 1
        self.error_sum += seconds

    def waited(self, seconds: float) -> None:
        """Record how long an item was queued. (The loop for one item at a time writes it out.)"""
        self.wait[bisect_left(BOUNDS, seconds)] += 1
        self.wait_sum += seconds

    def succeeded_all(self, seconds: Sequence[float]) -> None:
        """Record several runs, at least one, that succeeded."""
        _add(self.success, seconds)
        self.success_sum += sum(seconds)

    def waited_all(self, seconds: Sequence[float]) -> None:
        """Record how long several items, at least one, were queued."""
        _add(self.wait, seconds)
        self.wait_sum += sum(seconds)

    def fold(self, other: Tally) -> None:
        """Add `other` to this one: a worker that leaves hands over what it counted."""
        for mine, theirs in ((self.success, other.success), (self.error, other.error), (self.wait, other.wait)):
            for bucket, count in enumerate(theirs):
                mine[bucket] += count
        self.success_sum += other.success_sum
        self.error_sum += other.error_sum
        self.wait_sum += other.wait_sum


def _add(buckets: list[int], durations: Sequence[float]) -> None:
    """Count each in its bucket. Those of one batch are alike: mostly all are in one."""
    bucket = bisect_left(BOUNDS, min(durations))
    if bucket == bisect_left(BOUNDS, max(durations)):
        buckets[bucket] += len(durations)
        return
    for seconds in durations:
        buckets[bisect_left(BOUNDS, seconds)] += 1


@dataclass(frozen=True, slots=True)
class Histogram:
    """Durations in seconds: one count for each bucket of `BOUNDS` and one above the last; not cumulative."""

    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Seconds; 0.0 when nothing was measured."""
        count = self.count
        return self.sum / count if count else 0.0

    def cumulative(self) -> tuple[int, ...]:
        """How many were at or below each bound; the last is the count of all."""
        return tuple(accumulate(self.counts))

    def at_least(self, share: float) -> float:
        """Seconds that all of them took at least, but for the quickest, which are that share: the lower bound of a
        bucket; or of the last, which has no upper one, what those in it took at least on average. Raises StopIteration
        if nothing was measured."""
        wanted = share * self.count
        reached = next(place for place, count in enumerate(self.cumulative()) if count >= wanted)
        if reached == len(BOUNDS):
            others = sum(bound * count for bound, count in zip(BOUNDS, self.counts, strict=False))
            return max(BOUNDS[-1], (self.sum - others) / self.counts[-1])
        return BOUNDS[reached - 1] if reached else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values: `count`, `sum`, `mean`, and `buckets` from upper bound to cumulative count."""
        bounds = [*map(str, BOUNDS), "+Inf"]
        return {
            "count": self.count,
            "sum": self.sum,
            "mean": self.mean,
            "buckets": dict(zip(bounds, self.cumulative(), strict=True)),
        }


EMPTY: Final = Histogram((0,) * (len(BOUNDS) + 1), 0.0)
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A snapshot of one pool, taken in one critical section: the counts belong together.

    The first eight fields are the Go package's. `processed` counts failures and what was discarded too; `submitted`
    counts what was accepted; `dropped` counts refusals for a full queue. Durations are in seconds.
    """

    workers: int
    queue_size: int
    queue_depth: int
    submitted: int
    processed: int
    failed: int
    dropped: int

    pool: str = ""
    state: str = "new"
    refused: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    """Items that were not accepted, by reason: `full`, `not_started`, `stopped`."""
    succeeded: int = 0
    shed: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    """Accepted items that a rule of the queue dropped before they ran, by reason."""
    cancelled: int = 0
    """Taken back before they ran: by `Future.cancel`, or by a stop that did not drain."""
    abandoned: int = 0
    """Still running when the pool stopped waiting for them."""
    running: int = 0
    waiting: int = 0
    """Waiting for their next attempt: with no worker, and outside the queue."""
    discarded: int = 0
    """Their process function raised `Discard`: they ran, and that was no failure."""
    retries: int = 0
    """Attempts that failed and led to another."""
    snoozes: int = 0
    """Runs that ended with `Snooze`."""
    dead: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    """Items that failed, by the reason for which they are tried no more."""
    workers_busy: int = 0
    workers_stuck: int = 0
    """Threads or tasks that still run an item that was given up because it took too long; not among `workers`."""
    keys_held: int = 0
    """Keys of which an item has failed for good, and no other runs until `Pool.release`."""
    oldest_running: float = 0.0
    """For how long the longest-running item has been running; 0.0 when none runs."""
    run_success: Histogram = EMPTY
    run_error: Histogram = EMPTY
    queue_wait: Histogram = EMPTY

    @property
    def offered(self) -> int:
        """Accepted and refused together."""
        return self.submitted + sum(self.refused.values())

    @property
    def utilization(self) -> float:
        """How full the queue is, 0.0 to 1.0, as in the Go package. How busy the workers are is
        `workers_busy / workers`."""
        return self.queue_depth / self.queue_size

    @property
    def run_mean(self) -> float:
        """Mean run time in seconds of everything that finished; 0.0 before the first."""
        count = self.run_success.count + self.run_error.count
        return (self.run_success.sum + self.run_error.sum) / count if count else 0.0

    def balance(self) -> int:
        """0 when the ledger's law holds: every accepted item is in exactly one place."""
        fates = self.succeeded + self.failed + self.discarded + self.cancelled + self.abandoned
        return self.submitted - self.queue_depth - self.running - self.waiting - fates - sum(self.shed.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the Go package's names first, in its order, then ours."""
        return {
            "workers": self.workers,
            "queue_size": self.queue_size,
            "queue_depth": self.queue_depth,
            "submitted": self.submitted,
            "processed": self.processed,
            "failed": self.failed,
            "dropped": self.dropped,
            "pool": self.pool,
            "state": self.state,
            "refused": dict(self.refused),
            "succeeded": self.succeeded,
            "shed": dict(self.shed),
            "cancelled": self.cancelled,
            "abandoned": self.abandoned,
            "running": self.running,
            "waiting": self.waiting,
            "discarded": self.discarded,
            "retries": self.retries,
            "snoozes": self.snoozes,
            "dead": dict(self.dead),
            "workers_busy": self.workers_busy,
            "workers_stuck": self.workers_stuck,
            "keys_held": self.keys_held,
            "oldest_running": self.oldest_running,
            "run_success": self.run_success.as_dict(),
            "run_error": self.run_error.as_dict(),
            "queue_wait": self.queue_wait.as_dict(),
        }
