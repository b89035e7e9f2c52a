"""Handing items over to a pool, as a source does: each with somebody who is told when its fate is known.

What a source needs of a pool beyond what it offers to everybody is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from workpool._future import Home, ItemFuture
from workpool.pool import Pool

__all__ = ["TellingFuture", "hand_over", "process_of", "room_of"]

S = TypeVar("S")
T = TypeVar("T")


class TellingFuture(ItemFuture[Any]):
    """A future that tells one listener, which costs a part of a callback: that wants a condition, and a list."""

    _has_told = False

    def __init__(self, home: Home, tell: Callable[[Any], object], of: object) -> None:
        self._home = home  # as the base does: a call of that is a tenth of a hand-over
        self._tell = tell
        self._of = of

    def set_result(self, result: Any) -> None:
        super().set_result(result)
        if not self._has_told:
            self._has_told = True
            self._tell(self._of)

    def _invoke_callbacks(self) -> None:
        """Called for all that is not a result, and for results where there is no GIL."""
        super()._invoke_callbacks()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if not self._has_told:
            self._has_told = True
            self._tell(self._of)


def hand_over(pool: Pool[T, Any], item: T, tell: Callable[[S], object], of: S) -> ItemFuture[Any]:
    """`pool.call`, with `tell(of)` called once when the future is done: in whatever thread, and it must not raise.

    Raises what `call` does; then it is not called.
    """
    queue = pool._queue  # pyright: ignore[reportPrivateUsage]
    future = TellingFuture(queue, tell, of)
    if not pool._offer(item, future) and (refusal := queue.press(item, future)) is not None:  # pyright: ignore[reportPrivateUsage]
        raise refusal
    return future


def process_of(pool: Pool[Any, Any]) -> Callable[[Any], object]:
    """Its function."""
    return pool._process  # pyright: ignore[reportPrivateUsage]


def room_of(pool: Pool[Any, Any]) -> int:
    """For how many items there is room: slots in its queue, and workers."""
    queue = pool._queue  # pyright: ignore[reportPrivateUsage]
    return queue.size + queue.target
