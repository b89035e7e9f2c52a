"""A line of statistics for each pool, again and again; and a warning when its items cannot end in time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

from workpool._core.ledger import Histogram, PoolStats
from workpool.pool import Pool

__all__ = ["Statistics"]

FEW: Final = 100
"""So many items have to have run before 1 in 100 of them says something."""

END: Final = 1.0
"""Seconds in which the thread ends: it does nothing that takes long."""

log = logging.getLogger("workpool")


class Statistics:
    """Looks at the pools each `interval` seconds, in a thread of its own, and has a word on each that was not idle.

    The record has all counts of the pool as `stats`.

    Args:
        budget: seconds that a stop leaves an item to end by itself. A pool of whose items 1 in 100 runs for longer is
            warned of, once.
    """

    def __init__(self, pools: Mapping[str, Pool[Any, Any]], interval: float, budget: float) -> None:
        self._pools = pools
        self._interval = interval
        self._budget = budget
        self._before = {name: pool.stats() for name, pool in pools.items()}
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._begun = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workpool-statistics", daemon=True)

    def start(self) -> None:
        """Raises RuntimeError if there are no more threads, or if it was started or stopped before."""
        with self._lock:  # two that start the same thread at once may both succeed
            if self._begun or self._stopping.is_set():
                raise RuntimeError("the statistics were started or stopped before, and start only once")
            self._begun = True
            self._thread.start()

    def stop(self, _: float) -> None:
        """Log no more. Harmless before the start, and twice."""
        with self._lock:
            self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(END)

    def _run(self) -> None:
        while not self._stopping.wait(self._interval):
            self.look()

    def look(self) -> None:
        """What is done each time."""
        for name, pool in self._pools.items():
            before, stats = self._before[name], pool.stats()
            self._before[name] = stats
            if before.offered != stats.offered or before.processed != stats.processed:
                log.info("%s", _line(before, stats), extra={"pool": name, "stats": _plain(stats)})
            self._warn(name, stats)

    def _warn(self, name: str, stats: PoolStats) -> None:
        late = _slow(stats)
        if name in self._warned or late is None or late <= self._budget:
            return
        self._warned.add(name)
        log.warning(
            "pool %r: 1 item in 100 runs for more than %.3g s, and a stop leaves it %.3g s; raise shutdown.grace, or "
            "set an item_timeout",
            name,
            late,
            self._budget,
            extra={"pool": name},
        )


def _line(before: PoolStats, stats: PoolStats) -> str:
    """What has happened since, and what is now."""
    happened = {
        "accepted": stats.submitted - before.submitted,
        "processed": stats.processed - before.processed,
        "failed": stats.failed - before.failed,
        "refused": sum(stats.refused.values()) - sum(before.refused.values()),
        "shed": sum(stats.shed.values()) - sum(before.shed.values()),
    }
    counts = ", ".join(f"{count} {what}" for what, count in happened.items())
    now = f"{stats.queue_depth}/{stats.queue_size} queued, {stats.workers_busy}/{stats.workers} busy"
    return f"{counts}; {now}"


def _plain(stats: PoolStats) -> dict[str, Any]:
    """The counts, without the histograms, which a log is no place for."""
    histograms = ("run_success", "run_error", "queue_wait")
    return {name: value for name, value in stats.as_dict().items() if name not in histograms}


def _slow(stats: PoolStats) -> float | None:
    """How long 1 item in 100 has run, at least; None: too few have run."""
    runs = stats.run_success, stats.run_error
    counts = tuple(one + other for one, other in zip(*(run.counts for run in runs), strict=True))
    return Histogram(counts, sum(run.sum for run in runs)).at_least(0.99) if sum(counts) >= FEW else None
