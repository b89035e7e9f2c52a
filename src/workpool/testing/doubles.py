"""Process functions to watch and to hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from workpool.pool import Pool

__all__ = ["Leash", "Recorder", "drain"]

T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 20.0
"""Seconds after which a test that waits for something has failed."""


def drain(pool: Pool[Any, Any], timeout: float | None = PATIENCE) -> dict[str, int]:
    """Wait until all that was accepted has met its fate, and count: `succeeded`, `failed`, `shed`, `cancelled`,
    `abandoned`. The pool goes on. Raises TimeoutError after `timeout` seconds."""
    if not pool.join(timeout):
        raise TimeoutError(f"pool {pool.name!r} has not finished its items within {timeout} s")
    stats = pool.stats()
    return {
        "succeeded": stats.succeeded,
        "failed": stats.failed,
        "shed": sum(stats.shed.values()),
        "cancelled": stats.cancelled,
        "abandoned": stats.abandoned,
    }


class Recorder(Generic[T, R]):
    """A process function that keeps what it was given, in `items`, and does what `function` does.

    `async_process` is the same for an asyncio pool.
    """

    def __init__(self, function: Callable[[T], R]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._items: list[T] = []

    @property
    def items(self) -> list[T]:
        """What it was given so far, in the order of its beginning."""
        with self._lock:
            return list(self._items)

    def process(self, item: T) -> R:
        with self._lock:
            self._items.append(item)
        return self._function(item)

    async def async_process(self, item: T) -> R:
        return self.process(item)


class Leash(Generic[T]):
    """A process function that returns its item when the test lets it: `let_go` lets all.

    `async_process` is the same for an asyncio pool, and ends by its cancellation too.
    """

    def __init__(self) -> None:
        self._begun = threading.Semaphore(0)
        self._gate: Future[None] = Future()
        self.items: list[T] = []
        """What has begun, in that order."""

    def process(self, item: T) -> T:
        self._begin(item)
        self._gate.result(PATIENCE)
        return item

    async def async_process(self, item: T) -> T:
        self._begin(item)
        await asyncio.shield(asyncio.wrap_future(self._gate))
        return item

    def _begin(self, item: T) -> None:
        self.items.append(item)
        self._begun.release()

    def wait_begun(self, count: int = 1) -> None:
        """Wait until `count` more items have begun. Raises TimeoutError after 20 seconds."""
        for _ in range(count):
            if not self._begun.acquire(timeout=PATIENCE):
                raise TimeoutError(f"only {self.items!r} have begun")

    def hold(self) -> None:
        """Take `let_go` back for whatever begins from here on."""
        if self._gate.done():
            self._gate = Future()

    def let_go(self) -> None:
        """End what runs, and whatever comes. Harmless twice."""
        if not self._gate.done():
            self._gate.set_result(None)
