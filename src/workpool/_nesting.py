"""The bounded queue, whose workers may wait for each other: for the result of an item, or for room for one.

When all of them do, nothing will ever happen again. Whoever would be the last to wait is told so instead. The rules at
the top of `_queue` hold here too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from workpool._future import ItemFuture
from workpool._ordering import OrderingQueue
from workpool._state import section
from workpool._worker import Entry, Worker, line_of
from workpool.errors import PoolDeadlock

__all__ = ["NestingQueue"]

T = TypeVar("T")

SHOWN = 3
"""So many items a message names."""


class Wait(NamedTuple):
    """What a worker waits for."""

    is_over: Callable[[], bool]
    future: ItemFuture[Any] | None


class Caught(NamedTuple):
    """Why nobody would ever go on, and who runs what."""

    why: str
    entries: list[tuple[str, Entry[Any] | None]]


class NestingQueue(OrderingQueue[T]):
    """What a worker does before it waits for its own pool."""

    __slots__ = ()

    def nest(self, is_over: Callable[[], bool], future: ItemFuture[Any] | None) -> Callable[[], object] | None:
        """This thread, or task, is about to wait without a limit, until `is_over`, or for that future.

        If it is a worker of this pool, what to call when it has waited; else None. Raises `PoolDeadlock` if all workers
        wait like that, or if the item that is waited for can run only when the one that waits has ended.
        """
        worker = self.here()
        if worker is None or self.item_timeout is not None:  # which ends every wait
            return None
        caught = self._nest(worker, Wait(is_over, future))
        if caught is not None:
            raise PoolDeadlock(f"{caught.why}: {_shown(caught.entries)}")
        return lambda: self._unnest(worker)

    @section
    def _nest(self, worker: Worker[T], wait: Wait) -> Caught | None:
        if wait.is_over():
            return None
        self._nested[worker] = wait
        circle = self._circle(worker)
        if circle is not None:
            caught = Caught(f"items of pool {self.name!r} would wait for each other", circle)
        elif self._is_all() and all(map(self._waits, list(self.workers))):
            everybody = [(other.name, other.entry) for other in list(self.workers)]
            why = f"all {len(everybody)} workers of pool {self.name!r} would wait for items that only they can run"
            caught = Caught(why, everybody)
        else:
            return None
        self._nested.pop(worker, None)
        return caught

    def _is_all(self) -> bool:
        """No other worker will come."""
        return len(self.workers) - self._retiring >= self.target or not self._accepting

    def _waits(self, worker: Worker[T]) -> bool:
        wait = self._nested.get(worker)
        return wait is not None and not wait.is_over()

    def _circle(self, first: Worker[T]) -> list[tuple[str, Entry[Any] | None]] | None:
        """Those who wait for an item that waits, or whose key is held by one that waits, and so on, for the first.
        None: there is no such circle."""
        found: list[tuple[str, Entry[Any] | None]] = []
        worker: Worker[T] | None = first
        while worker is not None and self._waits(worker) and len(found) < len(self.workers):
            found.append((worker.name, worker.entry))
            worker = self._in_the_way_of(self._nested[worker].future)
            if worker is first:
                return found
        return None

    def _in_the_way_of(self, future: ItemFuture[Any] | None) -> Worker[T] | None:
        """Who runs that item, or, if it is queued, the one that holds its key."""
        if future is None:
            return None
        for worker in list(self.workers):
            if worker.entry is not None and worker.entry[2] is future:
                return worker
        if self.keys is None:
            return None
        beside = [entry for entry, _ in self._pairs_beside()]
        queued: list[Entry[T]] = [*beside, *(entry for lane in self.lanes for entry in [*lane.waiting])]
        line = next((line_of(entry) for entry in queued if entry[2] is future), None)
        if line is None or line.owner is None:
            return None
        return next((worker for worker in list(self.workers) if worker.entry is line.owner), None)

    @section
    def _unnest(self, worker: Worker[T]) -> None:
        self._nested.pop(worker, None)


def _shown(entries: list[tuple[str, Entry[Any] | None]]) -> str:
    """Who runs what, for a sentence."""
    texts: list[str] = []
    for name, entry in entries[:SHOWN]:
        try:
            texts.append(f"{name} on {None if entry is None else entry[0]!r:.100}")
        except Exception as error:
            texts.append(f"{name} on an item whose repr raised {type(error).__name__}")
    return "; ".join(texts) + ("; ..." if len(entries) > SHOWN else "")
