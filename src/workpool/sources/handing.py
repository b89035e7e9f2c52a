"""Handing items over to a pool, as a source does: each with somebody who is told when its fate is known.

What a source needs of a pool beyond what it offers to everybody is here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from workpool._control import ControlledQueue
from workpool._future import Home, ItemFuture
from workpool.pool import Pool

__all__ = ["TellingFuture", "hand_over", "home_of", "process_of", "room_of"]

T = TypeVar("T")


class TellingFuture(ItemFuture[Any]):
    """A future that tells one listener, which costs a part of a callback: that wants a condition, and a list."""

    _has_told = False

    def __init__(self, home: Home, tell: Callable[[Any], object]) -> None:
        """`tell` is called with the future, once, when it is done: in whatever thread, and it must not raise."""
        self._home = home  # as the base does: a call of that is a tenth of a hand-over
        self._tell = tell

    def set_result(self, result: Any) -> None:
        # By its name: super() costs as much as all that is done here.
        ItemFuture.set_result(self, result)  # pyright: ignore[reportUnknownMemberType]
        if not self._has_told:
            self._has_told = True
            self._tell(self)

    def _invoke_callbacks(self) -> None:
        """Called for all that is not a result, and for results where there is no GIL."""
        super()._invoke_callbacks()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        if not self._has_told:
            self._has_told = True
            self._tell(self)


def hand_over(pool: Pool[T, Any], item: T, future: TellingFuture) -> None:
    """`pool.call`, with a future of one's own.

    Raises what `call` does; then nothing is told, and the future may be used again.
    """
    if not pool._offer(item, future):  # pyright: ignore[reportPrivateUsage]
        refusal = home_of(pool).press(item, future)
        if refusal is not None:
            raise refusal


def home_of(pool: Pool[T, Any]) -> ControlledQueue[T]:
    """The queue that the futures of its items belong to."""
    return pool._queue  # pyright: ignore[reportPrivateUsage]


def process_of(pool: Pool[Any, Any]) -> Callable[[Any], object]:
    """Its function."""
    return pool._process  # pyright: ignore[reportPrivateUsage]


def room_of(pool: Pool[Any, Any]) -> int:
    """For how many items there is room: slots in its queue, and workers."""
    queue = home_of(pool)
    return queue.size + queue.target
