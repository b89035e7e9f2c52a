"""What a process function can ask of the pool that runs it."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from workpool._clock import Parker
from workpool._control import ControlledQueue
from workpool._worker import Worker, attempt_of, context_of

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["Context", "Within", "current", "enter", "entered", "is_worker_of", "worker_here"]

T = TypeVar("T")
R = TypeVar("R")


class Context:
    """The worker's side of a pool, for the process function that it runs."""

    __slots__ = ("_queue", "_worker")

    def __init__(self, queue: ControlledQueue[Any], worker: Worker[Any]) -> None:
        self._queue = queue
        self._worker = worker

    def is_here(self, queue: ControlledQueue[Any]) -> bool:
        """Whether this is a worker of `queue`. (A context can be copied to other threads and tasks.)"""
        worker = self._worker
        return (
            self._queue is queue and worker.ident == get_ident() and (worker.task is None or _is_current(worker.task))
        )

    @property
    def pool(self) -> str:
        """The pool's name."""
        return self._queue.name

    @property
    def worker(self) -> str:
        """The worker's name; that of its thread, too."""
        return self._worker.name

    @property
    def attempt(self) -> int:
        """Which attempt at the item this is, from 1; a run that ended with `Snooze` does not count. (In a process, one
        above the 127th says that it is the 127th.)"""
        entry = self._worker.entry
        return self._worker.attempt if entry is None else attempt_of(entry)

    @property
    def cancelled(self) -> bool:
        """The pool's stop timeout is over, or the item's own: end early, within half a second, or be given up."""
        worker = self._worker
        return worker.cancelled or (worker.late is not None and worker.late is worker.entry)

    def sleep(self, seconds: float) -> bool:
        """Sleep, but wake at once when the item is asked to end early. True if the whole time passed.

        Raises RuntimeError on an event loop: a task has `asyncio.sleep`, which ends by its cancellation.
        """
        if self._worker.task is not None:
            raise RuntimeError(
                "current().sleep() would hold up the event loop; use asyncio.sleep(), which is cancelled"
            )
        parker = Parker()
        wake = parker.put
        try:
            return self._queue.on_cancel(self._worker, wake) and not self._queue.clock.park(parker, seconds)
        finally:
            self._queue.off_cancel(self._worker, wake)


def _is_current(task: Task[None]) -> bool:
    from asyncio import current_task  # whoever has a task has imported it

    try:
        return current_task() is task
    except RuntimeError:  # no event loop runs here
        return False


_current: Final[ContextVar[Context]] = ContextVar("workpool.current")


def current() -> Context:
    """The `Context` of the process function that calls this. LookupError elsewhere."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current() works only inside a pool's process function, in the thread that runs it") from None


def enter(context: Context) -> None:
    """Make `context` the current one, in this thread, for good."""
    _current.set(context)


@contextmanager
def entered(context: Context) -> Generator[None, None, None]:
    """Make `context` the current one for a while."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def is_worker_of(queue: ControlledQueue[Any]) -> bool:
    """Whether the caller runs in a worker of `queue`, which would wait for itself if it waited for that."""
    context = _current.get(None)
    return context is not None and context.is_here(queue)


def worker_here(queue: ControlledQueue[T]) -> Worker[T] | None:
    """The worker of `queue` that the caller runs in."""
    context = _current.get(None)
    return context._worker if context is not None and context.is_here(queue) else None  # pyright: ignore[reportPrivateUsage]


class Within(Generic[T]):
    """A worker's process function, run for each item with the context variables of whoever submitted that.

    `current()` is still the worker's own: whoever submits in one worker is not to be taken for it in another.
    """

    __slots__ = ("_context", "_process", "_worker")

    def __init__(self, queue: ControlledQueue[T], worker: Worker[T], process: Callable[[T], Any]) -> None:
        self._context = Context(queue, worker)
        self._worker = worker
        self._process = process

    def run(self, item: T) -> Any:
        return self._carried().run(self._run, item)

    def _run(self, item: T) -> Any:
        enter(self._context)
        return self._process(item)

    def run_async(self, item: T) -> Awaitable[Any]:
        context = self._carried()
        return _Driven(context, _as_coroutine(context.run(self._run, item)))

    def _carried(self) -> contextvars.Context:
        entry = self._worker.entry
        assert entry is not None
        context = context_of(entry)
        assert context is not None
        return context


def _as_coroutine(awaitable: Any) -> Coroutine[Any, Any, Any]:
    return _awaited(awaitable) if type(awaitable) is not CoroutineType else cast("Coroutine[Any, Any, Any]", awaitable)


async def _awaited(awaitable: Awaitable[R]) -> R:
    return await awaitable


class _Driven(Generic[R]):
    """A coroutine, each step of which runs in a context that is not its task's.

    A task of its own for each item would do as well, and cost ten times as much; and `asyncio.current_task()` would not
    be the worker any more.
    """

    __slots__ = ("_context", "_coroutine")

    def __init__(self, context: contextvars.Context, coroutine: Coroutine[Any, Any, R]) -> None:
        self._context = context
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, R]:
        run = self._context.run
        step: Callable[..., Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                waits_for = run(step, value)
            except StopIteration as end:
                result: R = end.value
                return result
            try:
                value = yield waits_for
                step = self._coroutine.send
            except GeneratorExit:
                run(self._coroutine.close)
                raise
            except BaseException as error:
                step, value = self._coroutine.throw, error
