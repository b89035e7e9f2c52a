"""Workers that are threads.

Rules: the loop holds the queue, never the pool, so that a pool that is dropped can be closed. The clock is
read once between two items: the end of one is the start of the next. Durations are recorded before the
item is settled, so that a snapshot never has more fates than durations; the hook runs before it too, so
that `join` covers it. An idle worker holds no reference to its last item.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Generic, TypeVar

from workpool._clock import Parker
from workpool._context import Context, enter
from workpool._control import ControlledQueue
from workpool._core.ledger import BOUNDS
from workpool._future import ItemFuture
from workpool._worker import DISOWNED, FAILED, SUCCEEDED, Worker

__all__ = ["Hooks", "Threads"]

T = TypeVar("T")
R = TypeVar("R")

REAP = 0.5
"""Seconds to wait for a thread that has left its pool: what it still may do is drop its last item, whose
finalizer is not ours."""

EDGES = (0.0, *BOUNDS, inf)

log = logging.getLogger("workpool")


@dataclass(frozen=True)  # with slots, `Hooks[...](...)` raises TypeError on Python 3.11 and 3.12
class Hooks(Generic[T]):
    """What the pool calls when something happens to an item; in the worker, before the item is settled.

    A hook that raises is logged, and changes nothing.
    """

    error: Callable[[T, BaseException], object] | None = None
    """The process function raised. Not called for an item with a future (`call`, `map`): that has the exception."""


class Threads(Generic[T]):
    """The threads of one pool."""

    def __init__(self, queue: ControlledQueue[T], process: Callable[[T], object], hooks: Hooks[T]) -> None:
        self._queue = queue
        self._process = process
        self._hooks = hooks
        self._threads: dict[Worker[T], threading.Thread] = {}
        self._numbers = count()

    def fill(self) -> None:
        """Start threads until there are as many as the queue wants.

        Raises RuntimeError if the system has no more threads to give; those started before run on.
        """
        self.reap()
        while self._bring():
            pass

    def _bring(self) -> bool:
        """Start one thread, if one is wanted."""
        parker = Parker()
        worker: Worker[T] = Worker(f"{self._queue.name}-{next(self._numbers)}", parker.put)
        thread = threading.Thread(
            target=_serve,
            args=(self._queue, worker, parker, self._process, self._hooks),
            name=worker.name,
            daemon=True,  # a process function that never returns must not keep the interpreter alive
        )
        try:
            if not self._queue.enlist(worker):
                return False
            self._threads[worker] = thread
            thread.start()
        except BaseException:  # the thread may run all the same: Ctrl-C can hit the wait for it
            self._queue.dismiss(worker)
            raise
        return True

    def reap(self) -> None:
        """Wait for the threads whose workers have left; they have nothing more to do but to end."""
        for worker, thread in list(self._threads.items()):
            if worker.leaving:
                given_up = worker.pending == DISOWNED and worker.ident is not None
                if thread.is_alive() and not given_up:
                    thread.join(REAP)
                self._threads.pop(worker, None)


def _serve(
    queue: ControlledQueue[T],
    worker: Worker[T],
    parker: Parker,
    process: Callable[[T], object],
    hooks: Hooks[T],
) -> None:
    """Run items until the worker is told to leave."""
    while not worker.leaving:
        try:
            try:
                if not queue.arrive(worker, threading.get_ident()):
                    return
                enter(Context(queue, worker))
                _work(queue, worker, parker, process, hooks)
            except BaseException as error:
                _interrupted(queue, worker, error)
        except BaseException:  # whatever comes, a worker stays: else its pool has fewer than it says
            continue


def _work(
    queue: ControlledQueue[T],
    worker: Worker[T],
    parker: Parker,
    process: Callable[[T], object],
    hooks: Hooks[T],
) -> None:
    """The loop: the path of every item. What it does not need per item is in a function of its own."""
    now = queue.clock.now
    tally = worker.tally
    success = tally.success
    wait = tally.wait
    first = BOUNDS[0]
    bucket, low, high = 0, 0.0, first
    worker.began = began = now()
    for entry in queue.takes(worker):
        if entry is None:
            if worker.leaving:
                return
            item = future = None
            queue.clock.park(parker, None)
            worker.began = began = now()
            continue
        item, accepted, future = entry
        waited = began - accepted
        if not low < waited <= high:  # waits are alike from one item to the next: most need no search
            waited = max(waited, 0.0)  # the item may have come after the clock was read
            bucket = bisect_left(BOUNDS, waited)
            low, high = EDGES[bucket], EDGES[bucket + 1]
        wait[bucket] += 1
        tally.wait_sum += waited
        if future is not None:
            _work_for(queue, worker, process, future)
            worker.began = began = now()
            continue
        try:
            process(item)
        except BaseException as error:
            _failed(queue, worker, hooks, error)
            worker.began = began = now()
        else:
            worker.fate = SUCCEEDED
            ended = now()
            ran = ended - began
            if ran < first:
                success[0] += 1
            else:
                success[bisect_left(BOUNDS, ran)] += 1
            tally.success_sum += ran
            worker.began = began = ended


def _work_for(queue: ControlledQueue[T], worker: Worker[T], process: Callable[[T], R], future: ItemFuture[R]) -> None:
    """Run an item whose result somebody wants: settled in a section of its own before its future is told."""
    future.set_running_or_notify_cancel()
    try:
        result = process(worker.item)
    except BaseException as error:
        worker.fate = FAILED
        worker.tally.failed(queue.clock.now() - worker.began)
        if queue.settle(worker):
            future.set_exception(error)
        del future  # else the exception's traceback keeps this frame, and this frame the future and its exception
    else:
        worker.fate = SUCCEEDED
        worker.tally.succeeded(queue.clock.now() - worker.began)
        if queue.settle(worker):
            future.set_result(result)


def _failed(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], error: BaseException) -> None:
    """Log an item that failed, once, and give it to the hook; then it may be settled."""
    worker.tally.failed(queue.clock.now() - worker.began)
    worker.fate = FAILED
    if worker.pending == DISOWNED:
        return
    _log(error, "pool %r: an item failed in worker %r", queue.name, worker.name)
    if hooks.error is not None:
        try:
            hooks.error(worker.item, error)
        except BaseException as raised:
            _log(raised, "pool %r: the hook for errors failed", queue.name)


def _log(error: BaseException, message: str, *names: str) -> None:
    """Log an exception; a logging handler that raises is no reason for a worker to end."""
    try:
        log.error(message, *names, exc_info=error)
    except BaseException:
        return


def _interrupted(queue: ControlledQueue[T], worker: Worker[T], error: BaseException) -> None:
    """Somebody threw an exception into the thread, and hit the loop instead of the process function."""
    _log(error, "worker %r of pool %r was interrupted; it goes on", worker.name, queue.name)
    future = worker.telling
    if worker.entry is not None:
        worker.fate = FAILED
        future = worker.entry[2]
        if future is None or not queue.settle(worker):
            return
    if future is not None and not future.done():
        future.set_exception(error)
