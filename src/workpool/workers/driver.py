"""What a pool needs of whoever brings its workers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from workpool._control import ControlledQueue
from workpool._future import ItemFuture

__all__ = ["Driver"]

T = TypeVar("T")


class Driver(ABC, Generic[T]):
    """The workers of one pool. What has a body here is for kinds of workers that need nothing special."""

    def __init__(self, queue: ControlledQueue[T]) -> None:
        self._queue = queue
        self.offer: Callable[[T, ItemFuture[Any] | None], bool] = queue.offer
        """The queue's `offer`, or that and whatever must happen with it."""
        self.offer_waiting = self.offer
        """The same, for whoever waits in its thread if there is no room. May raise what `refuse_to_block` does."""

    @abstractmethod
    def fill(self) -> None:
        """Bring workers until there are as many as the queue wants. Raises if the system has no more to give."""

    def refuse_with_block(self) -> None:
        """Raise RuntimeError if the end of a `with` block, here, would wait for ever."""

    def reap(self) -> None:
        """Wait for what is left of workers that have left, for a moment."""

    async def reap_async(self) -> None:
        """The same, for a task, which must not hold up its event loop."""
