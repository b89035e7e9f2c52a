"""Workers that are nothing of their own: whoever hands an item over runs it, there and then.

For tests. The queue, the ledger and the stop are the pool's own; only when a worker comes is different: the queue wakes
workers as ever, and whoever made it do so runs those that were woken before it goes on. So everything happens in
one thread, in one order. A process function that submits to its own pool runs that item inside itself, as long
as there is an idle worker, else when it has ended; just as many items run inside each other as there are workers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

from workpool._clock import sit
from workpool._context import Context, entered
from workpool._control import ControlledQueue
from workpool._fate import Hooks, interrupted
from workpool._future import ItemFuture
from workpool._worker import Worker
from workpool.workers.driver import Driver
from workpool.workers.threads import work
from workpool.workers.wrapping import wrapped

__all__ = ["Inline"]

T = TypeVar("T")


class Inline(Driver[T]):
    """The workers of one pool, who run in the threads of those that submit."""

    def __init__(self, queue: ControlledQueue[T], process: Callable[[T], object], hooks: Hooks[T]) -> None:
        super().__init__(queue)
        self._process = process
        self._hooks = hooks
        self._numbers = count()
        self._woken: deque[_Seat[T]] = deque()
        self.offer = self.offer_waiting = self._offer
        queue.attend = partial(_attend, queue, self._woken)
        queue.work_here = partial(_work_here, queue)
        queue.refuse_here = partial(_refuse_inside, queue.name, queue.workers)

    def _offer(self, item: T, future: ItemFuture[Any] | None) -> bool:
        self._queue.recall()
        accepted = self._queue.offer(item, future)
        self._queue.attend()
        return accepted

    def fill(self) -> None:
        while True:
            seat = _Seat(self._queue, f"{self._queue.name}-{next(self._numbers)}", self._woken)
            if not self._queue.enlist(seat.worker):
                break
            seat.prepare(self._process, self._hooks)
        self._queue.attend()


class _Seat(Generic[T]):
    """One worker, and where it stands."""

    def __init__(self, queue: ControlledQueue[T], name: str, woken: deque[_Seat[T]]) -> None:
        self._queue = queue
        self._woken = woken
        self._rung = False
        self._taken = threading.Lock()
        """Whoever has it is the worker."""
        self._interrupt: KeyboardInterrupt | None = None
        self.worker: Worker[T] = Worker(name, self.ring)

    def prepare(self, process: Callable[[T], object], hooks: Hooks[T]) -> None:
        self._process = wrapped(self._queue, self.worker, process)
        self._hooks = hooks
        self._context = Context(self._queue, self.worker)
        self.ring()

    def ring(self, _: None = None) -> None:
        """Have it looked after, by whoever attends next. May come at any time, as every wake."""
        self._rung = True
        self._woken.append(self)

    def serve(self) -> None:
        """Be the worker for as long as there is something to do; or leave it to whoever is."""
        while self._rung and self._taken.acquire(blocking=False):
            try:
                self._rung = False
                self._serve()
            except BaseException:
                self.ring()  # it stands in the middle of something; whoever attends next goes on with that
                raise
            finally:
                self._taken.release()

    def _serve(self) -> None:
        if self.worker.leaving or not self._queue.arrive(self.worker, threading.get_ident()):
            return
        with entered(self._context):
            try:
                work(self._queue, self.worker, _not_here, self._run, self._hooks)
            except BaseException as error:
                interrupted(self._queue, self.worker, error)
                raise
            finally:
                self.worker.ident = 0
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt

    def _run(self, item: T) -> object:
        try:
            return self._process(item)
        except KeyboardInterrupt as interrupt:  # fails the item, and is for whoever runs it too
            self._interrupt = interrupt
            raise


def _not_here() -> bool:
    """How such a worker waits for its wake."""
    return False


def _attend(queue: ControlledQueue[T], woken: deque[_Seat[T]]) -> bool:
    """Run the workers that were woken. Not in a signal handler that interrupted the queue, which would run under its
    lock; whoever was interrupted attends afterwards."""
    while woken and not queue.is_inside():
        try:
            seat = woken.popleft()
        except IndexError:  # another thread was quicker
            break
        seat.serve()
    return True


def _work_here(queue: ControlledQueue[Any], is_over: Callable[[], bool], timeout: float | None) -> None:
    """Be the workers until that is so, as whoever waits for the pool is."""
    until = None if timeout is None else queue.clock.now() + timeout
    sit(queue.clock, partial(queue.waiting, is_over, lambda: until))


def _refuse_inside(name: str, workers: dict[Worker[Any], None], what: str, _: str) -> None:
    me = threading.get_ident()
    if any(worker.ident == me for worker in list(workers)):
        raise RuntimeError(f"{what} inside an item of the inline pool {name!r} would wait for that item itself")
