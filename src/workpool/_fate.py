"""What a worker of any kind does when an item ended, or the worker itself was hit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any, Generic, NamedTuple, TypeVar

from workpool._control import ControlledQueue
from workpool._core.keys import OnDead
from workpool._core.lane import OVERFLOW, REASONS
from workpool._core.outcome import FATAL, NOT_RETRIED, Again, Dead, Discarded
from workpool._future import ItemFuture
from workpool._worker import DISCARDED, DISOWNED, FAILED, SUCCEEDED, Entry, Worker, attempt_of

__all__ = [
    "Hooks",
    "failed",
    "interrupted",
    "log_error",
    "succeeded_for",
    "tell_dead",
    "tell_failed",
    "tell_shed",
    "tell_stuck",
]

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("workpool")


@dataclass(frozen=True)  # with slots, `Hooks[...](...)` raises TypeError on Python 3.11 and 3.12
class Hooks(Generic[T]):
    """What the pool calls when something happens to an item; in the worker, before the item is settled.

    A hook that raises is logged, and changes nothing. On an event loop it holds the loop up while it runs.
    """

    error: Callable[[T, BaseException], object] | None = None
    """The process function raised, and the item is not tried again. Not called for an item with a future (`call`,
    `map`): that has the exception."""
    shed: Callable[[T, str], object] | None = None
    """A rule of the queue has dropped the item before it ran. Called with the item and the reason, "max_wait",
    "deadline", "codel", "overflow" or "key", in the worker whose turn it was to take it, or, for "overflow", by whoever
    submitted the item that has its place now."""
    dead: Callable[[T, BaseException, int], object] | None = None
    """The item has failed for good, whether or not it has a future. Called with the item, the error of its last attempt
    and the number of attempts. A place for dead letters."""
    stuck: Callable[[T, float, str], object] | None = None
    """The item has run for longer than `item_timeout`, and is killed, or given up because it did not end when it was
    told to. Called with the item, the seconds that it has run, and the stack where it is, in a thread of the pool's."""


def succeeded_for(queue: ControlledQueue[Any], worker: Worker[Any], future: ItemFuture[R], result: R) -> None:
    """Settle an item whose result somebody wants, in a section of its own before its future is told."""
    worker.fate = SUCCEEDED
    seconds = queue.clock.now() - worker.began
    worker.tally.succeeded(seconds)
    if queue.learns:
        queue.learn(seconds)
    if queue.succeed(worker, future):
        future.set_result(result)


def failed(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], error: BaseException) -> None:
    """See to an item whose process function raised: it is tried again, or done with.

    If it has failed for good and has no future, `worker.fate` says so, and it is yet to be settled. Else it was.
    """
    entry = worker.entry
    assert entry is not None
    attempt = attempt_of(entry)
    verdict = queue.failures.of(error, attempt, random())
    seconds = queue.clock.now() - worker.began
    if isinstance(verdict, Again):
        if verdict.counts:
            worker.tally.failed(seconds)
        why = queue.postpone(worker, verdict)
        if not verdict.counts:
            (worker.tally.failed if why else worker.tally.succeeded)(seconds)
        if not why:
            _log_again(queue, worker, verdict, attempt, error)
            return
        verdict = Dead(why)
    elif isinstance(verdict, Dead):
        worker.tally.failed(seconds)
    if isinstance(verdict, Discarded):
        worker.tally.succeeded(seconds)
        worker.fate = DISCARDED
        if entry[2] is not None:
            entry[2].is_discarded = True
        _tell_future(queue, worker, entry, error)
    else:
        _died(queue, worker, hooks, Death(error, verdict.why))


class Death(NamedTuple):
    """How an item has failed for good."""

    error: BaseException
    why: int


def _died(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], death: Death) -> None:
    """Settle an item that has failed for good and tell its future; or log it, once, and give it to the hook, to be
    settled then."""
    worker.fate = FAILED
    entry = worker.entry
    assert entry is not None
    error = death.error
    if worker.pending != DISOWNED:
        queue.count_dead(death.why)
        if entry[2] is None:
            tell_failed(queue, worker, hooks, entry[0], error)
        queue.tell_dead(entry, error)
    if entry[2] is not None:
        _tell_future(queue, worker, entry, error)
    if death.why == FATAL:
        queue.fail(f"an item failed with {type(error).__name__}: {error}")
    del death, error, entry  # else the traceback keeps this frame, and the frame the future and its exception


def _tell_future(queue: ControlledQueue[T], worker: Worker[T], entry: Entry[T], error: BaseException) -> None:
    """Settle what the worker has in hand and tell its future, if it has one."""
    future = entry[2]
    if queue.settle(worker) and future is not None:
        future.set_exception(error)
    del future, entry, error


def _log_again(
    queue: ControlledQueue[Any], worker: Worker[Any], again: Again, attempt: int, error: BaseException
) -> None:
    if log.isEnabledFor(logging.INFO):
        what = f"attempt {attempt} of an item failed with" if again.counts else "an item asked for more time with"
        try:
            text = f"{type(error).__name__}: {error}"
            log.info(
                "pool %r: %s %s, in worker %r; again in %.3g s", queue.name, what, text, worker.name, again.seconds
            )
        except BaseException:
            return


def tell_failed(queue: ControlledQueue[T], worker: Worker[T], hooks: Hooks[T], item: T, error: BaseException) -> None:
    """Log what an item without a future failed with, and give it to the hook."""
    log_error(error, "pool %r: an item failed in worker %r", queue.name, worker.name)
    if hooks.error is not None:
        try:
            hooks.error(item, error)
        except BaseException as raised:
            log_error(raised, "pool %r: the hook for errors failed", queue.name)


def tell_dead(queue: ControlledQueue[T], hooks: Hooks[T], entry: Entry[T], error: BaseException) -> None:
    """Do to the rest of its key what is to be done when an item has failed for good, and give it to the hook."""
    if queue.keys is not None:
        _see_to_key(queue, queue.keys.on_dead, entry)
    item, attempts = entry[0], attempt_of(entry)
    if hooks.dead is not None:
        try:
            hooks.dead(item, error, attempts)
        except BaseException as raised:
            log_error(raised, "pool %r: the hook for what is dead failed", queue.name)


def _see_to_key(queue: ControlledQueue[T], on_dead: OnDead, entry: Entry[T]) -> None:
    try:
        if on_dead == "hold":
            queue.hold(entry)
        elif on_dead == "drop":
            queue.drop(entry)
    except Exception as raised:  # of somebody's function for the key
        log_error(raised, "pool %r: what follows the key of an item that failed for good is not dropped", queue.name)


def tell_shed(queue: ControlledQueue[T], hook: Callable[[T, str], object], item: T, why: str) -> None:
    """Give an item that is shed to the hook. In the thread of somebody who submits, Ctrl-C is theirs."""
    try:
        hook(item, why)
    except BaseException as raised:
        theirs = why == REASONS[OVERFLOW] and threading.current_thread() is threading.main_thread()
        if theirs and not isinstance(raised, Exception):
            raise
        log_error(raised, "pool %r: the hook for what is shed failed", queue.name)


def tell_stuck(queue: ControlledQueue[T], hooks: Hooks[T], item: T, seconds: float, stack: str) -> None:
    """Log where an item is that takes too long, and give that to the hook."""
    log.warning(
        "pool %r: an item has been running for %.3g s, and is here:\n%s",
        queue.name,
        seconds,
        stack,
        extra={"pool": queue.name},
    )
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
        if not worker.given_up:
            queue.count_dead(NOT_RETRIED)
            queue.tell_dead(worker.entry, error)
        future = worker.entry[2]
        if future is None or not queue.settle(worker):
            return
    if future is not None and not future.done():
        future.set_exception(error)
