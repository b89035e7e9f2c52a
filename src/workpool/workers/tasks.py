"""Workers that are tasks of an event loop.

Rules: as for threads, and: whatever comes from another thread into the loop goes through
`call_soon_threadsafe`. A worker that never suspends gives way by time, and the time belongs to the pass of the
loop, not to each worker: fifty workers with a millisecond each would hold everybody else up for fifty.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from math import inf
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

from workpool._awaiting import Bell
from workpool._context import Context, enter
from workpool._control import ControlledQueue
from workpool._fate import Hooks, failed, interrupted, succeeded_for
from workpool._future import ItemFuture
from workpool._worker import NONE, SUCCEEDED, Entry, Worker
from workpool.errors import ItemAbandoned, PoolStopped
from workpool.workers.driver import Driver
from workpool.workers.wrapping import wrapped_async

__all__ = ["Tasks"]

T = TypeVar("T")

SHARE = 0.001
"""Seconds of a pass of the event loop that the workers of one pool take together before they give way."""

ADMITTED = 8
"""Of the workers that wait for a share, how many get a pass: all of ten thousand would take long to find it used up."""

REAP = 0.5
"""Seconds to wait for the pool's own event loop to close, once its workers have left."""


class Turn:
    """The share that the workers of one pool have in a pass of the event loop.

    It is for those that do not suspend of their own accord: who did has given way already.
    """

    __slots__ = ("_expected", "_loop", "_now", "_queue", "passes", "until")

    def __init__(self, loop: asyncio.AbstractEventLoop, now: Callable[[], float]) -> None:
        self._loop = loop
        self._now = now
        self._queue: deque[asyncio.Future[None]] = deque()
        self._expected = False
        self.until = -inf
        """When it is over; minus infinity: in this pass nobody has begun."""
        self.passes = 0
        """In how many passes somebody has begun: changes while a worker is suspended and others are not."""

    async def over(self) -> None:
        """Begin the share if this is the first worker of the pass; if it is used up, queue for another pass's."""
        while self._now() > self.until:
            if self.until == -inf:
                self.until = self._now() + SHARE
                self.passes += 1
                self._expect_pass()
            else:
                admitted: asyncio.Future[None] = self._loop.create_future()
                self._queue.append(admitted)
                await admitted

    def _expect_pass(self) -> None:
        """Once for each pass: two would make it two shares."""
        if not self._expected:
            self._expected = True
            self._loop.call_soon(self._next_pass)

    def _next_pass(self) -> None:
        self._expected = False
        self.until = -inf
        for _ in range(min(ADMITTED, len(self._queue))):
            admitted = self._queue.popleft()
            if not admitted.done():
                admitted.set_result(None)
        if self._queue:  # whom it has admitted may be cancelled, or have nothing more to do
            self._expect_pass()


class Job(NamedTuple, Generic[T]):
    """What the workers of one pool do with an item."""

    process: Callable[[T], Awaitable[object]]
    hooks: Hooks[T]


class Tasks(Driver[T]):
    """The tasks of one pool, in the event loop that ran when it was started, or in one of their own."""

    def __init__(self, queue: ControlledQueue[T], process: Callable[[T], Awaitable[object]], hooks: Hooks[T]) -> None:
        super().__init__(queue)
        self.offer, self.offer_waiting = self._offer, self._offer_waiting
        self._job = Job(process, hooks)
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn: Turn | None = None
        self._own: OwnLoop | None = None

    def fill(self) -> None:
        """Bring as many tasks as the queue wants. Where no event loop runs, the first call starts one in a thread."""
        loop = self._loop
        if loop is None:
            self._loop = loop = _running_loop() or self._start_loop()
            self._turn = Turn(loop, self._queue.clock.now)
            self._queue.attend = partial(_is_alive, loop, threading.get_ident())
            self._queue.refuse_here = partial(_refuse_in, loop, self._queue.name)
        while self._bring(loop):
            pass
        self.reap()  # if the pool was closed meanwhile, no task will end the loop that was just started

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        self._own = OwnLoop(f"{self._queue.name}-loop")
        return self._own.start_and_wait()

    def _bring(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Bring one worker, if one is wanted: counted in at once, also if its task can only start later."""
        bell = Bell(self._queue.clock, loop, self._queue.shut)
        worker: Worker[T] = Worker(f"{self._queue.name}-{next(self._numbers)}", bell.ring)
        worker.cancels = [partial(_ask_to_end, loop, worker)]
        worker.expire = partial(_expire, loop, worker)
        try:
            if not self._queue.enlist(worker):
                return False
            if _running_loop() is loop:
                self._begin(loop, worker, bell)
            else:
                loop.call_soon_threadsafe(self._begin, loop, worker, bell)
        except BaseException:
            self._queue.dismiss(worker)
            raise
        return True

    def _begin(self, loop: asyncio.AbstractEventLoop, worker: Worker[T], bell: Bell) -> None:
        assert self._turn is not None
        serving = _serve(self._queue, worker, bell, self._turn, self._job)
        worker.task = task = loop.create_task(serving, name=worker.name)
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, worker))

    def _ended(self, worker: Worker[T], task: asyncio.Task[None]) -> None:
        """The last one lets the pool's own event loop end, also if the pool was dropped and nobody reaps."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a KeyboardInterrupt, which the loop has raised: not to be reported again
        if not worker.leaving:  # cancelled before its first step, which then never comes: the loop is being taken down
            self._queue.close(drain=False)
            self._queue.dismiss(worker)
        if self._own is not None and self._queue.closed_at is not None and not self._tasks:
            self._own.ask_to_end()

    def refuse_with_block(self) -> None:
        loop = _running_loop()
        if loop is not None:
            _refuse_in(loop, self._queue.name, "the end of a `with` block", "`async with`")

    def _offer(self, item: T, future: ItemFuture[Any] | None) -> bool:
        """The queue's `offer`. Raises `PoolStopped` if the event loop is closed: nobody would ever take the item."""
        if self._loop is not None and self._loop.is_closed() and self._queue.closed_at is None:
            self._queue.close(drain=False)
            raise PoolStopped(f"pool {self._queue.name!r} ran on an event loop that is closed; make a new pool")
        return self._queue.offer(item, future)

    def _offer_waiting(self, item: T, future: ItemFuture[Any] | None) -> bool:
        self._queue.refuse_to_block("waiting for room", "asubmit() or amap()")
        return self._offer(item, future)

    def reap(self) -> None:
        """Close the pool's own event loop, if it has one and its workers have left."""
        if self._own is not None and not self._queue.workers:
            self._own.end()

    async def reap_async(self) -> None:
        """The same. The workers' tasks have ended in the step in which they left."""
        if self._own is not None and not self._queue.workers:
            self._own.ask_to_end()
            while self._own.is_alive() and not self._own.is_stuck():  # noqa: ASYNC110 - a thread that ends tells nobody
                await asyncio.sleep(0.001)


class OwnLoop:
    """An event loop in a thread of its own."""

    def __init__(self, name: str) -> None:
        self._ready: SimpleQueue[asyncio.AbstractEventLoop | BaseException] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._first_to_ask = threading.Lock()
        """Whoever gets it is: it is never given back."""
        self._asked_at: float | None = None

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            try:
                loop = runner.get_loop()
            except BaseException as error:
                self._ready.put(error)
                return
            self._ready.put(loop)
            loop.run_forever()

    def start_and_wait(self) -> asyncio.AbstractEventLoop:
        """Raises RuntimeError or OSError if the system has no thread for it, or no file descriptors."""
        self._thread.start()
        ready = self._ready.get()
        if isinstance(ready, BaseException):
            self._thread.join(REAP)
            raise ready
        self._loop = ready
        return ready

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def is_stuck(self) -> bool:
        """It was asked to end long ago: some task does not let it."""
        return self._asked_at is not None and time.monotonic() > self._asked_at + REAP

    def ask_to_end(self) -> None:
        """Once: a second `stop` would break off the cleaning up that comes after the first."""
        if not self._first_to_ask.acquire(blocking=False):
            return
        self._asked_at = time.monotonic()
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._loop.stop)
            except RuntimeError:  # closed just now
                return

    def end(self) -> None:
        if self.is_alive() and not self.is_stuck():
            self.ask_to_end()
            self._thread.join(REAP)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _is_alive(loop: asyncio.AbstractEventLoop, ident: int) -> bool:
    """Somebody runs the loop, or may while this thread waits."""
    return not loop.is_closed() and (loop.is_running() or threading.get_ident() != ident)


def _refuse_in(loop: asyncio.AbstractEventLoop, name: str, what: str, instead: str) -> None:
    """Raise RuntimeError in the event loop's thread: who waits there keeps the workers from working."""
    if _running_loop() is loop:
        raise RuntimeError(
            f"{what} would hold up the event loop that the workers of pool {name!r} run on; use {instead}"
        )


def _ask_to_end(loop: asyncio.AbstractEventLoop, worker: Worker[Any], _: None = None) -> None:
    """The stop timeout is over: cancel the task, if it runs an item."""
    try:
        loop.call_soon_threadsafe(_cancel, worker)
    except RuntimeError:  # the loop is closed
        return


def _expire(loop: asyncio.AbstractEventLoop, worker: Worker[T], entry: Entry[T]) -> None:
    """The item takes too long: cancel the task, if it still runs that."""
    try:
        loop.call_soon_threadsafe(_cancel_late, worker, entry)
    except RuntimeError:  # the loop is closed
        return


def _cancel_late(worker: Worker[T], entry: Entry[T]) -> None:
    if worker.entry is entry and worker.fate == NONE and worker.task is not None:
        worker.task.cancel()


def _cancel(worker: Worker[Any]) -> None:
    if worker.entry is not None and worker.task is not None:
        worker.task.cancel()


async def _serve(
    queue: ControlledQueue[T],
    worker: Worker[T],
    bell: Bell,
    turn: Turn,
    job: Job[T],
) -> None:
    """Run items until the worker is told to leave."""
    if not queue.arrive(worker, threading.get_ident()):
        return
    enter(Context(queue, worker))
    job = job._replace(process=wrapped_async(queue, worker, job.process))
    while not worker.leaving:
        try:
            await _work(queue, worker, bell, turn, job)
        except BaseException as error:
            if _is_the_end(worker, error):
                _desert(queue, worker)
                raise
            if not isinstance(error, asyncio.CancelledError):
                interrupted(queue, worker, error)


def _is_the_end(worker: Worker[Any], error: BaseException) -> bool:
    """Not the pool wants this task to end, but whoever runs the event loop."""
    if isinstance(error, asyncio.CancelledError):
        return not worker.cancelled
    return isinstance(error, GeneratorExit | KeyboardInterrupt)


def _desert(queue: ControlledQueue[Any], worker: Worker[Any]) -> None:
    """Settle what is in hand, and leave: the loop that the pool stands on is being taken down."""
    queue.close(drain=False)
    for _ in queue.takes(worker):
        if worker.leaving:
            return


async def _work(
    queue: ControlledQueue[T],
    worker: Worker[T],
    bell: Bell,
    turn: Turn,
    job: Job[T],
) -> None:
    """The loop: the path of every item, as for threads."""
    now = queue.clock.now
    process, hooks = job
    worker.at = now()
    for entry in queue.takes(worker):
        if entry is None:
            if worker.leaving:
                return
            item = future = result = None
            await bell.wait(None)
            worker.at = now()
            continue
        item, _, future, _ = entry
        if future is not None:
            future.set_running_or_notify_cancel()
        passes = turn.passes
        try:
            result = await process(item)
        except BaseException as error:
            failed(queue, worker, hooks, error if future is None else _for_future(worker, error))
            if _ends_the_loop(worker, error):
                raise
        else:
            if future is None:
                worker.fate = SUCCEEDED
            else:
                succeeded_for(queue, worker, future, result)
                result = None  # it is the caller's now
        worker.at = at = now()
        if at > turn.until and passes == turn.passes:
            await turn.over()
            worker.at = now()


def _for_future(worker: Worker[Any], error: BaseException) -> BaseException:
    """Whoever waits for a result must not take the pool's cancellation of the item for one of their own."""
    if not (worker.cancelled and isinstance(error, asyncio.CancelledError)):
        return error
    abandoned = ItemAbandoned(f"it was cancelled in worker {worker.name!r}, when the time for the stop was up")
    abandoned.__cause__ = error
    return abandoned


def _ends_the_loop(worker: Worker[Any], error: BaseException) -> bool:
    """Whether what a process function raised is meant for this task, and not of the function's own making."""
    if isinstance(error, asyncio.CancelledError):
        return not worker.cancelled and worker.task is not None and worker.task.cancelling() > 0
    return isinstance(error, GeneratorExit | KeyboardInterrupt)
