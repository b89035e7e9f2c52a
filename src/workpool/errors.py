"""Every way to say no: one class for each thing that a caller can do about it.

::

    PoolError                      anything this package raises on its own account
    ├── QueueFull      queue.Full       no room now: wait `retry_after` seconds, or drop the item
    ├── PoolNotStarted RuntimeError     nobody would run it yet: call `start()` first
    ├── PoolAlreadyStarted RuntimeError it runs: there is nothing left to start
    ├── PoolStopped    RuntimeError     it will take nothing any more: make a new pool
    ├── StopTimeout    TimeoutError     stopped, but not everything was done: see `report`
    ├── ItemAbandoned  TimeoutError     the item of this future still ran when its pool gave up on it
    ├── ItemTimeout    TimeoutError     the item ran for longer than `item_timeout`
    ├── WorkerDied     RuntimeError     the process in which the item ran ended: the item may have killed it
    ├── NotPicklable   TypeError        an item, result or exception cannot be sent to another process, or back
    └── NameTaken      ValueError       another running pool exports metrics of that name: choose another

`QueueFull`, `PoolNotStarted` and `PoolStopped` always mean that the item was not accepted: the caller
still has it. Wrong arguments are plain `ValueError` and `TypeError`. Tell errors apart with `isinstance`,
never by their text.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workpool._core.report import DrainReport

__all__ = [
    "ItemAbandoned",
    "ItemTimeout",
    "NameTaken",
    "NotPicklable",
    "PoolAlreadyStarted",
    "PoolError",
    "PoolNotStarted",
    "PoolStopped",
    "QueueFull",
    "StopTimeout",
    "WorkerDied",
]


class PoolError(Exception):
    """Base of all errors of this package."""


class QueueFull(PoolError, queue.Full):
    """The queue has no room for the item, at once (`submit`, `call`) or within the timeout (`submit_wait`).

    Not raised for a pool that is stopped, however full it was: that is `PoolStopped`.
    Refusing is cheap: text and `retry_after` are computed when they are read.
    """

    def __init__(self, pool: str, size: int, estimate: Callable[[], float]) -> None:
        self.pool = pool
        self.size = size
        self._estimate = estimate

    @property
    def retry_after(self) -> float:
        """Seconds in which the pool is expected to work off half of its queue.

        From the depth and the mean run time at the moment of reading. Half, because a producer that
        sleeps for the whole backlog finds the workers idle when it comes back.
        """
        return self._estimate()

    def __str__(self) -> str:
        return f"the queue of pool {self.pool!r} is full ({self.size} items); try again in {self.retry_after:.3g} s"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pool!r}, size={self.size}, retry_after={self.retry_after:.3g})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_thawed, (self.pool, self.size, self.retry_after))


def _thawed(pool: str, size: int, retry_after: float) -> QueueFull:
    """A `QueueFull` that has crossed to another process, where there is no queue left to ask."""
    return QueueFull(pool, size, lambda: retry_after)


class PoolNotStarted(PoolError, RuntimeError):
    """The pool has no workers yet: enter it with `with`, or call `start()`."""


class PoolAlreadyStarted(PoolError, RuntimeError):
    """`start()` of a pool that runs or drains. A pool that has stopped raises `PoolStopped` instead."""


class PoolStopped(PoolError, RuntimeError):
    """The pool drains, or has stopped, or belongs to the parent process: it accepts nothing, for ever."""


class StopTimeout(PoolError, TimeoutError):
    """The pool is stopped, but its timeout cut the drain short or an item had to be abandoned.

    `report` names every item that was not done.
    """

    def __init__(self, message: str, report: DrainReport[Any]) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.report))


class ItemAbandoned(PoolError, TimeoutError):
    """What the future of an item fails with that was still running when its pool stopped waiting for it.

    The item may still take effect: a thread cannot be killed.
    """


class ItemTimeout(PoolError, TimeoutError):
    """The item ran for longer than the pool's `item_timeout`, and was ended, or given up."""


class WorkerDied(PoolError, RuntimeError):
    """The process that ran the item ended before the item did: the message says by which signal or exit code.

    The item is not run again: it may be what killed the process, and it may have taken effect.
    """


class NotPicklable(PoolError, TypeError):
    """An item, result or exception cannot be sent to another process, or back. The message names the culprit."""


class NameTaken(PoolError, ValueError):
    """Another running pool, or another collector, exports this metrics name on this registry."""
