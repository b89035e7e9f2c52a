"""The future of one item: a `concurrent.futures.Future` whose `cancel` gives its slot in the queue back at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import TypeVar

__all__ = ["ItemFuture", "Place"]

R = TypeVar("R")


class Place(Enum):
    """Where a future's item is. Written under the queue's lock, so that `cancel` and a worker cannot both win."""

    QUEUED = "queued"
    TAKEN = "taken"
    WITHDRAWN = "withdrawn"


class ItemFuture(Future[R]):
    """What `Pool.call` returns. The ledger has counted the item before its future is done."""

    def __init__(self, withdraw: Callable[[ItemFuture[R]], object]) -> None:
        super().__init__()
        self.place = Place.QUEUED
        self._withdraw = withdraw

    def cancel(self) -> bool:
        """Take the item back while it is queued: True, and it never runs. False once a worker has it."""
        try:
            self._take_back()
        except BaseException:  # Ctrl-C: finish what it kept from being done, else somebody waits for ever
            self._take_back()
            raise
        return self.place is not Place.TAKEN and super().cancel()

    def _take_back(self) -> None:
        self._withdraw(self)
        if self.place is Place.WITHDRAWN:
            self.tell_cancelled()

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
