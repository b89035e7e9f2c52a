"""Workers that are threads.

Rules: the loop holds the queue, never the pool, so that a pool that is dropped can be closed. The clock is
read once between two items: the end of one is the start of the next. The hook runs before an item is settled, so
that `join` covers it. An idle worker holds no reference to its last item.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, TypeVar

from workpool._clock import Parker
from workpool._context import Context, enter
from workpool._control import ControlledQueue
from workpool._fate import Hooks, failed, interrupted, succeeded_for
from workpool._worker import Worker
from workpool.workers.driver import Driver
from workpool.workers.wrapping import wrapped

__all__ = ["Threads", "work"]

T = TypeVar("T")

REAP = 0.5
"""Seconds to wait for a thread that has left its pool: what it still may do is drop its last item, whose
finalizer is not ours."""


REAP_DISTANT = 2.0
"""The same, where it first has a process end."""


class Threads(Driver[T]):
    """The threads of one pool."""

    def __init__(self, queue: ControlledQueue[T], process: Callable[[T], object], hooks: Hooks[T]) -> None:
        super().__init__(queue)
        self._process = process
        self._hooks = hooks
        self._threads: dict[Worker[T], threading.Thread] = {}
        self._numbers = count()
        queue.let_push()

    def fill(self) -> None:
        """Raises RuntimeError if the system has no more threads to give; those started before run on."""
        self.reap()
        while self._bring():
            pass

    def _bring(self) -> bool:
        """Start one thread, if one is wanted."""
        worker, run = self._prepared(f"{self._queue.name}-{next(self._numbers)}")
        thread = threading.Thread(
            target=_serve,
            args=(self._queue, worker, run),
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

    def _prepared(self, name: str) -> tuple[Worker[T], Callable[[], None]]:
        """A worker, and what its thread runs until the worker is to leave."""
        parker = Parker()
        worker: Worker[T] = Worker(name, parker.put)
        process = wrapped(self._queue, worker, self._process)
        wait = partial(self._queue.clock.park, parker, None)
        return worker, partial(work, self._queue, worker, wait, process, self._hooks)

    async def reap_async(self) -> None:
        from asyncio import sleep  # whoever waits here has imported it; for the others it is slow

        until = time.monotonic() + REAP
        while time.monotonic() < until and any(  # noqa: ASYNC110 - a thread that ends tells nobody
            worker.leaving and thread.is_alive() and not _may_go_on(worker)
            for worker, thread in list(self._threads.items())
        ):
            await sleep(0.001)
        self.reap()

    def reap(self) -> None:
        """Wait for the threads whose workers have left; they have nothing more to do but to end."""
        for worker, thread in list(self._threads.items()):
            if worker.leaving:
                if thread.is_alive() and not _may_go_on(worker):
                    thread.join(REAP if worker.end is None else REAP_DISTANT)
                self._threads.pop(worker, None)


def _may_go_on(worker: Worker[Any]) -> bool:
    """It was given up over an item, which nothing can end."""
    return worker.given_up and worker.ident is not None and worker.end is None


def _serve(
    queue: ControlledQueue[T],
    worker: Worker[T],
    run: Callable[[], None],
) -> None:
    """Run items until the worker is told to leave."""
    while not worker.leaving:
        try:
            try:
                if not queue.arrive(worker, threading.get_ident()):
                    return
                enter(Context(queue, worker))
                run()
            except BaseException as error:
                interrupted(queue, worker, error)
        except BaseException:  # whatever comes, a worker stays: else its pool has fewer than it says
            continue


def work(
    queue: ControlledQueue[T],
    worker: Worker[T],
    wait: Callable[[], bool],
    process: Callable[[T], object],
    hooks: Hooks[T],
) -> None:
    """The loop: the path of every item. What it does not need per item is in a function of its own.

    It ends when the worker is to leave; or when there is nothing to do, and `wait`, which gives way until the worker is
    woken, says False.
    """
    now = queue.clock.now
    worker.at = now()
    for entry in queue.takes(worker, process, partial(failed, queue, worker, hooks)):
        if entry is None:
            item = future = result = None
            if worker.leaving or not wait():
                return
            worker.at = now()
            continue
        item, _, future, _ = entry
        assert future is not None
        future.set_running_or_notify_cancel()
        try:
            result = process(item)
        except BaseException as error:
            failed(queue, worker, hooks, error)
        else:
            # Without the GIL, an entry ends in the thread that made it, after the worker has let it go; its
            # future with it, and the result in the worker again, which may be idle by then: it would stay.
            del entry
            succeeded_for(queue, worker, future, result)
            result = None  # it is the caller's now
        worker.at = now()
