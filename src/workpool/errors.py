"""Every way to say no: one class for each thing that a caller can do about it.

::

    PoolError                      anything this package raises on its own account
    ├── QueueFull      queue.Full       no room now: wait `retry_after` seconds, or drop the item
    ├── PoolNotStarted RuntimeError     nobody would run it yet: call `start()` first
    ├── PoolAlreadyStarted RuntimeError it runs: there is nothing left to start
    ├── PoolStopped    RuntimeError     it will take nothing any more: make a new pool
    ├── Shed           TimeoutError     the item had been accepted, and was dropped before it ran: see `reason`
    ├── StopTimeout    TimeoutError     stopped, but not everything was done: see `report`
    ├── ItemAbandoned  TimeoutError     the item of this future still ran when its pool gave up on it
    ├── ItemTimeout    TimeoutError     the item ran for longer than `item_timeout`
    ├── WorkerDied     RuntimeError     the process in which the item ran ended: the item may have killed it
    ├── PoolDeadlock   RuntimeError     all workers would wait for each other: do not wait in a process function
    ├── NotPicklable   TypeError        an item, result or exception cannot be sent to another process, or back
    └── NameTaken      ValueError       another running pool exports metrics of that name: choose another

And what a process function raises itself, to say what is to become of its item::

    Transient          Exception        it may work the next time: try it again, if the pool has `retry=`
    Invalid            ValueError       it will never work
    Fatal              RuntimeError     nothing will: stop the pool
    Snooze             Exception        not yet: again in so many seconds
    Discard            Exception        nothing is to be done, and that is no failure

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
    "Discard",
    "Fatal",
    "Invalid",
    "ItemAbandoned",
    "ItemTimeout",
    "NameTaken",
    "NotPicklable",
    "PoolAlreadyStarted",
    "PoolDeadlock",
    "PoolError",
    "PoolNotStarted",
    "PoolStopped",
    "QueueFull",
    "Shed",
    "Snooze",
    "StopTimeout",
    "Transient",
    "WorkerDied",
]


class PoolError(Exception):
    """Base of all errors of this package."""


class QueueFull(PoolError, queue.Full):
    """The queue has no room for the item, at once (`submit`, `call`) or within the timeout (`submit_wait`).

    Not raised for a pool that is stopped, however full it was: that is `PoolStopped`.
    Refusing is cheap: text and `retry_after` are computed when they are read.
    """

    # No `__init__`: one that is written in Python is half of what a refusal costs.
    args: tuple[str, int, Callable[[], float]]

    if TYPE_CHECKING:

        def __init__(self, pool: str, size: int, estimate: Callable[[], float]) -> None: ...

    @property
    def pool(self) -> str:
        """The name of the pool."""
        return self.args[0]

    @property
    def size(self) -> int:
        """How many items may wait there, or in the lane of the item."""
        return self.args[1]

    @property
    def retry_after(self) -> float:
        """Seconds in which the pool is expected to work off half of its queue.

        From the depth and the mean run time at the moment of reading. Half, because a producer that
        sleeps for the whole backlog finds the workers idle when it comes back.
        """
        return self.args[2]()

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


class Shed(PoolError, TimeoutError):
    """What the future of an item fails with that a rule of the queue dropped, after it was accepted and before it ran.

    `reason` is the rule: "max_wait", "deadline", "codel", "overflow" or "key"; `waited`: for how many seconds it was
    queued.
    """

    def __init__(self, pool: str, reason: str, waited: float) -> None:
        super().__init__(f"pool {pool!r} shed the item after {waited:.3g} s in its queue: {reason}")
        self.pool = pool
        self.reason = reason
        self.waited = waited

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.pool, self.reason, self.waited))


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


class PoolDeadlock(PoolError, RuntimeError):
    """A process function would wait, without a limit, for an item of its own pool that nobody can ever run: all workers
    wait like that, or it is of the same key. Raised where it would wait; the message names the items that wait.
    """


class NotPicklable(PoolError, TypeError):
    """An item, result or exception cannot be sent to another process, or back. The message names the culprit."""


class NameTaken(PoolError, ValueError):
    """Another running pool, or another collector, exports this metrics name on this registry."""


class Transient(Exception):
    """It may work the next time: the item is tried again, if the pool has `retry=`, whatever `on` says."""


class Invalid(ValueError):
    """The item will never work: it has failed, and is not tried again."""


class Fatal(RuntimeError):
    """No item will work: this one has failed, and the pool stops without draining, with this as its reason."""


class Snooze(Exception):
    """The item is not ready yet: it is to come again in so many seconds, which is no failure and uses no attempt.

    Raises TypeError or ValueError if `seconds` is not a number from 0.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = _checked_sleep(seconds)


def _checked_sleep(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"Snooze(seconds) wants a number of seconds, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"Snooze(seconds) wants 0 seconds or more, not {seconds}")
    return float(seconds)


class Discard(Exception):
    """Nothing is to be done about the item, which is no failure: it was cancelled elsewhere, or is out of date."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
