"""What a worker of any kind does when an item ended, or the worker itself was hit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from workpool._control import ControlledQueue
from workpool._future import ItemFuture
from workpool._worker import DISOWNED, FAILED, SUCCEEDED, Worker

__all__ = ["Hooks", "failed", "interrupted", "log_error", "succeeded_for", "tell_failed", "tell_stuck"]

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("workpool")


@dataclass(frozen=True)  # with slots, `Hooks[...](...)` raises TypeError on Python 3.11 and 3.12
class Hooks(Generic[T]):
    """What the pool calls when something happens to an item; in the worker, before the item is settled.

    A hook that raises is logged, and changes nothing. On an event loop it holds the loop up while it runs.
    """

    error: Callable[[T, BaseException], object] | None = None
    """The process function raised. Not called for an item with a future (`call`, `map`): that has the exception."""
    stuck: Callable[[T, float, str], object] | None = None
    """The item has run for longer than `item_timeout`, and is killed, or given up because it did not end when it was
    told to. Called with the item, the seconds that it has run, and the stack where it is, in a thread of the pool's."""


def succeeded_for(queue: ControlledQueue[Any], worker: Worker[Any], future: ItemFuture[R], result: R) -> None:
    """Settle an item whose result somebody wants, in a section of its own before its future is told."""
    worker.fate = SUCCEEDED
    worker.tally.succeeded(queue.clock.now() - worker.began)
    if queue.settle(worker):
        future.set_result(result)


def failed(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], error: BaseException) -> None:
    """Settle an item that failed and tell its future; or log it, once, and give it to the hook, to be settled then."""
    worker.tally.failed(queue.clock.now() - worker.began)
    worker.fate = FAILED
    entry = worker.entry
    assert entry is not None
    item, future = entry[0], entry[2]
    if future is not None:
        if queue.settle(worker):
            future.set_exception(error)
        del future, entry  # else the traceback keeps this frame, and the frame the future and its exception
        return
    if worker.pending == DISOWNED:
        return
    tell_failed(queue, worker, hooks, item, error)


def tell_failed(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], item: T, error: BaseException) -> None:
    """Log what an item without a future failed with, and give it to the hook."""
    log_error(error, "pool %r: an item failed in worker %r", queue.name, worker.name)
    if hooks.error is not None:
        try:
            hooks.error(item, error)
        except BaseException as raised:
            log_error(raised, "pool %r: the hook for errors failed", queue.name)


def tell_stuck(queue: ControlledQueue[T], hooks: Hooks[T], item: T, seconds: float, stack: str) -> None:
    """Log where an item is that takes too long, and give that to the hook."""
    log.warning("pool %r: an item has been running for %.3g s, and is here:\n%s", queue.name, seconds, stack)
    if hooks.stuck is not None:
        try:
            hooks.stuck(item, seconds, stack)
        except BaseException as raised:
            log_error(raised, "pool %r: the hook for what is stuck failed", queue.name)


def log_error(error: BaseException, message: str, *names: str) -> None:
    """Log an exception; a logging handler that raises is no reason for a worker to end."""
    try:
        log.error(message, *names, exc_info=error)
    except BaseException:
        return


def interrupted(queue: ControlledQueue[T], worker: Worker[T], error: BaseException) -> None:
    """Somebody threw an exception into the worker, and hit its loop instead of the process function."""
    log_error(error, "worker %r of pool %r was interrupted; it goes on", worker.name, queue.name)
    future = worker.telling
    if worker.entry is not None:
        worker.tally.failed(queue.clock.now() - worker.began)
        worker.fate = FAILED
        future = worker.entry[2]
        if future is None or not queue.settle(worker):
            return
    if future is not None and not future.done():
        future.set_exception(error)
