"""How a pool stops, also when nobody told it to: at interpreter exit, and in a forked child.

`stop` has no coordinator: whoever calls it walks through the same steps, each of which may be done twice.
So stops may be concurrent, nested (a signal handler interrupts one), or broken off by Ctrl-C, and a later
one finishes what an earlier one left.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import traceback
import weakref
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from workpool._control import ControlledQueue
from workpool._core.report import Abandoned, DrainReport
from workpool._future import ItemFuture, Place
from workpool._queue import section
from workpool._worker import Entry, Worker
from workpool.errors import ItemAbandoned, StopTimeout

__all__ = ["GRACE", "stop", "watch"]

T = TypeVar("T")

GRACE: Final = 0.5
"""Seconds between asking a running item to end early and giving it up: long enough for a `sleep` of the
context to return and a rollback to be written, short enough not to outgrow a deadline that somebody chose."""

log = logging.getLogger("workpool")


def stop(queue: ControlledQueue[T], timeout: float | None, drain: bool) -> DrainReport[T]:
    """Close, wait for the workers, give up those that the timeout leaves. Raises `StopTimeout`."""
    if queue.report is not None:
        return queue.report
    queue.close(drain, None if timeout is None else queue.clock.now() + timeout)
    if not queue.wait(lambda: not queue.workers, lambda: queue.deadline):
        queue.cut()
        queue.wait(lambda: not queue.workers, lambda: (queue.cut_at or 0.0) + GRACE)
    report = _give_up(queue)
    if not report.clean:
        raise StopTimeout(str(report), report)
    return report


def _give_up(queue: ControlledQueue[T]) -> DrainReport[T]:
    """Abandon what still runs, tell every future that is left, and have the one report."""
    stacks = _stacks(queue)
    report, lost = _conclude(queue, queue.clock.now(), stacks)
    queue.tell_handed_back()
    for worker, (_, _, future) in lost:
        if future is not None:
            future.set_exception(ItemAbandoned(f"pool {queue.name!r} gave up on it in worker {worker.name!r}"))
    return report


@section
def _conclude(
    queue: ControlledQueue[T], now: float, stacks: Mapping[Worker[T], str]
) -> tuple[DrainReport[T], list[tuple[Worker[T], Entry[T]]]]:
    """The report, and what this call gave up. In one section: of two stops at once, one writes, both read."""
    lost = queue.abandon()
    if queue.report is None:
        stats = queue.stats()
        closed_at = now if queue.closed_at is None else queue.closed_at
        cut_at = now if queue.cut_at is None else queue.cut_at
        queue.report = DrainReport(
            pool=queue.name,
            stats=stats,
            drained=stats.processed - queue.done_at_close,
            unprocessed=tuple(item for item, _, future in queue.handed_back or () if _never_ran(future)),
            abandoned=tuple(
                Abandoned(entry[0], worker.name, max(0.0, now - worker.began), stacks.get(worker, ""))
                for worker, entry in lost
            ),
            drain_seconds=cut_at - closed_at,
            grace_seconds=now - cut_at,
            cut_short=queue.cut_short,
        )
    return queue.report, lost


def _never_ran(future: ItemFuture[Any] | None) -> bool:
    """Of an entry that was handed back: nobody had cancelled it before, who then has the item."""
    return future is None or future.place is not Place.WITHDRAWN


def _stacks(queue: ControlledQueue[T]) -> dict[Worker[T], str]:
    frames = sys._current_frames() if queue.workers else {}  # pyright: ignore[reportPrivateUsage]
    found = ((worker, frames.get(worker.ident or 0)) for worker in list(queue.workers))
    return {worker: "".join(traceback.format_stack(frame)) for worker, frame in found if frame is not None}


_watched: set[weakref.ref[ControlledQueue[Any]]] = set()
"""The queue of every pool that was started. A worker keeps its queue alive, nothing here does."""


def watch(queue: ControlledQueue[Any]) -> None:
    """See to it that the pool stops at exit, and is closed in a forked child."""
    _watched.add(weakref.ref(queue, _watched.discard))


def _alive() -> list[ControlledQueue[Any]]:
    return [queue for ref in list(_watched) if (queue := ref()) is not None]


def _at_exit() -> None:
    """Stop what nobody stopped, all at the same time, and log what that lost. Starts no thread."""
    left = [queue for queue in _alive() if queue.workers]
    for queue in left:
        timeout = queue.stop_timeout
        queue.close(drain=True, deadline=None if timeout is None else queue.clock.now() + timeout)
    for queue in left:
        try:
            report: DrainReport[Any] = stop(queue, queue.stop_timeout, drain=True)
        except StopTimeout as error:
            report = error.report
        if report.unprocessed or report.abandoned:
            log.error("%s; nobody had stopped it when the interpreter ended", report)


def _in_forked_child() -> None:
    for queue in _alive():
        queue.disown_workers()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
