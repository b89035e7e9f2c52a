"""What is put around a process function, where a pool has asked for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from workpool._context import Within
from workpool._control import ControlledQueue
from workpool._worker import Entry, Worker
from workpool.errors import ItemTimeout

__all__ = ["late", "wrapped", "wrapped_async"]

T = TypeVar("T")


def wrapped(queue: ControlledQueue[T], worker: Worker[T], process: Callable[[T], Any]) -> Callable[[T], Any]:
    """The function for this worker: with carried context variables, and within the time that an item has."""
    if queue.carries_context:
        process = Within(queue, worker, process).run
    if queue.item_timeout is not None:
        process = Timed(queue, worker, process, queue.item_timeout).run
    return process


def wrapped_async(
    queue: ControlledQueue[T], worker: Worker[T], process: Callable[[T], Awaitable[Any]]
) -> Callable[[T], Awaitable[Any]]:
    """The same for one that is awaited."""
    if queue.carries_context:
        process = Within(queue, worker, process).run_async
    if queue.item_timeout is not None:
        process = Timed(queue, worker, process, queue.item_timeout).run_async
    return process


class Timed(Generic[T]):
    """A worker's process function, of which an item that is over time has failed, however it ends."""

    def __init__(
        self, queue: ControlledQueue[T], worker: Worker[T], process: Callable[[T], Any], timeout: float
    ) -> None:
        self._queue = queue
        self._worker = worker
        self._process = process
        self._timeout = timeout

    def run(self, item: T) -> Any:
        entry = self._worker.entry
        try:
            result = self._process(item)
        except BaseException as error:
            self._insist_in_time(entry, error)
            raise
        self._insist_in_time(entry, None)
        return result

    async def run_async(self, item: T) -> Any:
        entry = self._worker.entry
        try:
            awaitable: Awaitable[Any] = self._process(item)
            result = await awaitable
        except BaseException as error:
            self._forget_cancellation(entry)
            self._insist_in_time(entry, error)
            raise
        self._forget_cancellation(entry)
        self._insist_in_time(entry, None)
        return result

    def _forget_cancellation(self, entry: Entry[T] | None) -> None:
        """The item was cancelled, which is over with it; not the worker."""
        worker = self._worker
        if worker.late is entry and worker.task is not None and not worker.cancelled:
            worker.task.uncancel()

    def _insist_in_time(self, entry: Entry[T] | None, error: BaseException | None) -> None:
        worker = self._worker
        if worker.late is entry or self._queue.clock.now() - worker.began >= self._timeout:
            raise late(worker, self._timeout) from error


def late(worker: Worker[Any], timeout: float) -> ItemTimeout:
    """What an item fails with that took too long."""
    return ItemTimeout(f"it ran for more than {timeout:g} s in worker {worker.name!r}")
