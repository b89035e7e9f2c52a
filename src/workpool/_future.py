"""The future of one item: a `concurrent.futures.Future` whose `cancel` gives its slot in the queue back at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import Any, Final, Protocol, TypeVar, cast

from workpool._core.lane import Lane
from workpool._interpreter import GIL

__all__ = ["ItemFuture", "Place"]

R = TypeVar("R")


class Place(Enum):
    """Where a future's item is. Written under the queue's lock, so that `cancel` and a worker cannot both win."""

    QUEUED = "queued"
    TAKEN = "taken"
    WAITING = "waiting"
    """For its next attempt."""
    BESIDE = "beside"
    """In its slot, but out of its lane, until its key is free."""
    WITHDRAWN = "withdrawn"


# Loading a member of an enum may be a call, on 3.11.
QUEUED: Final = Place.QUEUED
TAKEN: Final = Place.TAKEN
WITHDRAWN: Final = Place.WITHDRAWN

DONE: Final = frozenset({"CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED"})
DONE_UNLESS_ASKED: Final = ("FINISHED", "RUNNING")


class Home(Protocol):
    """The queue that a future's item is in."""

    def withdraw(self, future: ItemFuture[Any], /) -> bool: ...

    def refuse_to_block(self, what: str, instead: str, /) -> object: ...

    def work_until(self, is_over: Callable[[], bool], timeout: float | None, /) -> object: ...

    def nest(self, is_over: Callable[[], bool], future: ItemFuture[Any], /) -> Callable[[], object] | None: ...


class ItemFuture(Future[R]):
    """What `Pool.call` returns. The ledger has counted the item before its future is done.

    It has no condition to wait on until somebody wants to wait: making one is most of what a future costs.
    `Future.__init__` is not called. The first who asks for what that makes (the condition, and lists of callbacks and
    of waiters) is given it then. With the GIL, a future that nobody has asked for those is done by a store.
    """

    place = QUEUED
    _state = "PENDING"
    _exception: BaseException | None = None
    _asked = False
    """Somebody may wait. Set before the condition is made."""

    lane: Lane[Any] | None = None
    """Where it is queued, if its queue has several lanes. Written by the queue before it accepts the item."""

    is_discarded = False
    """Its exception is no failure: the item is of no use. Written before that is told."""

    aside: Any = None
    """What knows of it while it is in no lane: the line of its key, or what waits for its next attempt."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __getattr__(self, name: str) -> Any:
        """Make what `Future` would have. Whoever else does so at the same time gets the same: the first wins."""
        self._asked = True
        own = vars(self)
        made: Future[R] = Future()
        for key, value in vars(made).items():
            own.setdefault(key, value)
        try:
            return own[name]
        except KeyError:
            raise AttributeError(f"a future has no {name!r}") from None

    def set_running_or_notify_cancel(self) -> bool:
        """The worker has it, so that nobody can cancel it any more."""
        if GIL and self._state == "PENDING" and self.place is TAKEN:
            self._state = "RUNNING"
            return True
        return super().set_running_or_notify_cancel()

    def tell_running(self) -> None:
        """Say that it runs, if nobody has said yet what became of it: a stop may give it up at any time."""
        if not GIL:
            with self._condition:
                self._run()
            return
        self._run()

    def tell_waiting(self) -> None:
        """Say that it does not run any more, but will again. The worker still has it."""
        if not GIL:
            with self._condition:
                self._wait()
            return
        self._wait()

    def _wait(self) -> None:
        if self._state == "RUNNING":  # no call before the store
            self._state = "PENDING"

    def _run(self) -> None:
        if self._state == "PENDING":  # no call before the store
            self._state = "RUNNING"

    def set_result(self, result: R) -> None:
        if GIL and self._state == "RUNNING":
            self._result = result
            # One line without a call or a branch: nobody, a tracer included, can come between the look and the store.
            self._state = DONE_UNLESS_ASKED[self._asked]
            if self._state == "FINISHED":
                return
        super().set_result(result)

    def running(self) -> bool:
        return self._state == "RUNNING"

    def done(self) -> bool:
        return self._state in DONE

    @property
    def has_succeeded(self) -> bool:
        """It is done, and has a result. Asks for no condition."""
        return self._state == "FINISHED" and self._exception is None

    def result(self, timeout: float | None = None) -> R:
        if self._state == "FINISHED" and self._exception is None:  # stored last
            return cast(R, self._result)
        self._insist_done("result()", timeout)
        done = None if timeout is not None or self.done() else self._home.nest(self.done, self)
        try:
            return super().result(timeout)
        finally:
            if done is not None:
                done()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._insist_done("exception()", timeout)
        done = None if timeout is not None or self.done() else self._home.nest(self.done, self)
        try:
            return super().exception(timeout)
        finally:
            if done is not None:
                done()

    def _insist_done(self, what: str, timeout: float | None) -> None:
        """Raise RuntimeError if waiting here would keep the item from being done."""
        if self._state not in DONE and (timeout is None or timeout > 0):
            self._home.refuse_to_block(f"{what} of a call that is not done", "acall(), or asyncio.wrap_future()")
            self._home.work_until(self.done, timeout)

    def cancel(self) -> bool:
        """Take the item back while it is queued: True, and it never runs. False once a worker has it."""
        try:
            is_ours = self._take_back()
        except BaseException:  # Ctrl-C: finish what it kept from being done, else somebody waits for ever
            self._take_back()
            raise
        return is_ours and super().cancel()

    def _take_back(self) -> bool:
        """Whether no worker has it. (One that has may give it back the moment after, to be tried again.)"""
        is_ours = self._home.withdraw(self)
        if self.place is WITHDRAWN:
            self.tell_cancelled()
        return is_ours

    def tell_cancelled(self) -> None:
        """Tell whoever waits that the item will not run. Harmless when they know."""
        try:
            super().cancel()
        finally:  # a callback may have raised
            with self._condition:
                if self._state == "CANCELLED":  # no call before the store: a handler may do the same in between
                    self._state = "CANCELLED_AND_NOTIFIED"
                    for waiter in self._waiters:
                        waiter.add_cancelled(self)
