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

    def __init__(self, withdraw: Callable[[ItemFuture[R]], bool]) -> None:
        super().__init__()
        self.place = Place.QUEUED
        self._withdraw = withdraw
        self._told = False

    def cancel(self) -> bool:
        """Take the item back while it is queued: True, and it never runs. False once a worker has it."""
        if self._withdraw(self):
            self.tell_cancelled()
        return self.place is not Place.TAKEN and super().cancel()

    def tell_cancelled(self) -> None:
        """Tell whoever waits that the item will not run. Only the first call does."""
        with self._condition:
            told, self._told = self._told, True
        if not told:
            super().cancel()
            self.set_running_or_notify_cancel()
