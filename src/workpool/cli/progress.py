"""The bar on stderr: how far, how fast, how many failed, are queued and are tried again, how long yet.

Rules: it draws in a thread of its own, because a terminal can be slow; it only reads what others count.
rich is imported here, where it is used.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Final

from workpool._core.ledger import PoolStats
from workpool.cli.job import Job

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["progress"]

EVERY: Final = 0.1
"""Seconds between two drawings."""


@contextmanager
def progress(job: Job, total: int | None) -> Generator[None, None, None]:
    """Draw while the block runs. `total`: bytes of the whole input, None if nobody knows."""
    bar = _bar(total is not None)
    update = _Update(bar, job, total)
    over = Event()

    def draw() -> None:
        while not over.wait(EVERY):
            update()
            bar.refresh()

    thread = Thread(target=draw, name="workpool-progress", daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(timeout=1.0)  # a terminal that was halted (Ctrl-S) must not hold up the end
            update()


def _bar(known: bool) -> Progress:
    from rich import progress as rich
    from rich.console import Console

    ahead = [rich.BarColumn(bar_width=24), *([rich.TaskProgressColumn()] if known else [])]
    texts = [rich.TextColumn(f"{{task.fields[{name}]}}") for name in ("lines", "rate", "failed", "queue", "again")]
    time = [rich.TimeRemainingColumn(), rich.TextColumn("left")] if known else [rich.TimeElapsedColumn()]
    return rich.Progress(*ahead, *texts, *time, console=Console(stderr=True), auto_refresh=False)


class _Update:
    """Writes what is so now into the bar."""

    def __init__(self, bar: Progress, job: Job, total: int | None) -> None:
        self._bar = bar
        self._job = job
        self._began = monotonic()
        self._task = bar.add_task("", total=total, lines="", rate="", failed="", queue="", again="")

    def __call__(self) -> None:
        tally = self._job.writer.tally
        stats = self._job.pool.stats()
        done = tally.done
        seconds = max(monotonic() - self._began, 1e-9)
        self._bar.update(
            self._task,
            completed=tally.bytes,
            lines=f"{done:,} lines",
            rate=f"{done / seconds:,.0f}/s",
            failed=f"{tally.failed:,} failed",
            queue=f"{stats.queue_depth:,} queued",
            again=_again(stats),
        )


def _again(stats: PoolStats) -> str:
    """Nothing, in a run without such lines."""
    retries = f"{stats.retries:,} {'retry' if stats.retries == 1 else 'retries'}" if stats.retries else ""
    waiting = f"{stats.waiting:,} waiting" if stats.waiting else ""
    return ", ".join(filter(None, (retries, waiting)))
