"""Items that take too long: told to end, and given up if they do not.

One thread for a pool that has an `item_timeout` looks at its workers when the first of them may be over time, and
otherwise sleeps: an item costs nothing for being watched. What kills or cancels is the worker's own (`Worker.expire`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import InvalidStateError
from typing import Generic, NamedTuple, TypeVar

from workpool import _stopping
from workpool._clock import Steps, Wake, sit
from workpool._control import ControlledQueue
from workpool._fate import Hooks, log_error, tell_failed, tell_stuck
from workpool._worker import Entry, Worker
from workpool.workers.wrapping import late

__all__ = ["Watch"]

T = TypeVar("T")

REAP = 0.5
"""Seconds to wait for the thread to end, when no worker is left."""


class Running(NamedTuple, Generic[T]):
    """An item that runs."""

    worker: Worker[T]
    entry: Entry[T]
    began: float
    due: float
    """When it is next to be seen to."""


class Watch(Generic[T]):
    """Looks after the items of one pool."""

    def __init__(self, queue: ControlledQueue[T], timeout: float, hooks: Hooks[T], fill: Callable[[], object]) -> None:
        """`fill` brings workers in the place of those that were given up."""
        self._queue = queue
        self._timeout = timeout
        self._hooks = hooks
        self._fill = fill
        self._looked_at = queue.clock.now()
        self._thread = threading.Thread(target=self._run, name=f"{queue.name}-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def reap(self) -> None:
        """Wait for the thread, which ends when no worker is left."""
        if self._thread.is_alive() and not self._queue.workers:
            self._thread.join(REAP)

    async def reap_async(self) -> None:
        """The same, for a task."""
        from asyncio import sleep  # whoever waits here has imported it; for the others it is slow

        until = time.monotonic() + REAP
        while self._thread.is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - a thread that ends tells nobody
            await sleep(0.001)

    def _run(self) -> None:
        sit(self._queue.clock, self._watching)

    def _watching(self, wake: Wake) -> Steps[None]:
        queue = self._queue
        while queue.attend() and not (yield from queue.waiting(lambda: not queue.workers, self._next_look, wake)):
            try:
                self._look()
            except BaseException as error:
                log_error(error, "pool %r: a look at what takes too long failed", queue.name)

    def _next_look(self) -> float:
        """When the first of the items that run now, or have begun since the last look, may have to be seen to.

        By the last look, not by now: this is asked again after each wake.
        """
        again = self._looked_at + self._timeout
        return min([again, *(running.due for running in self._running() if running.due > self._looked_at)])

    def _running(self) -> list[Running[T]]:
        """Those that run now."""
        found: list[Running[T]] = []
        for worker in list(self._queue.workers):
            entry = worker.entry
            if entry is not None:
                began = worker.began
                grace = _stopping.GRACE if worker.late is entry else 0.0
                found.append(Running(worker, entry, began, began + self._timeout + grace))
        return found

    def _look(self) -> None:
        self._looked_at = self._queue.clock.now()
        for running in self._running():
            if running.due > self._looked_at:
                continue
            if running.worker.late is not running.entry:
                self._tell(running)
            elif running.worker.end is None:  # else it is being killed
                self._give_up(running.worker, running.entry)

    def _tell(self, running: Running[T]) -> None:
        """Have the item end, or be ended."""
        worker, entry, began, _ = running
        cancels = self._queue.mark_late(worker, entry, began)
        if worker.expire is not None:
            worker.expire(entry)
        else:
            for cancel in cancels:
                cancel(None)

    def _give_up(self, worker: Worker[T], entry: Entry[T]) -> None:
        """It did not end. It has failed all the same, and another worker takes the place of the one that is stuck."""
        seconds = self._queue.clock.now() - worker.began
        stack = _stopping.stack_of(worker)
        if not self._queue.give_up(worker, entry, seconds):
            return
        error = late(worker, self._timeout)
        item, future = entry[0], entry[2]
        try:
            tell_stuck(self._queue, self._hooks, item, seconds, stack)
            if future is None:
                tell_failed(self._queue, worker, self._hooks, item, error)
            self._queue.tell_dead(entry, error)
            if future is not None:
                future.set_exception(error)
        except InvalidStateError:  # it was told otherwise by a stop
            pass
        finally:
            self._queue.let_go(worker)
        self._fill()
