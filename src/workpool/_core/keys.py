"""Order by key: items of one key run one at a time and in their order.

A line is what is known of a key of which there are items. Which line an item belongs to is looked up when it is
submitted, outside the queue's lock, because that calls the hash and the comparison of somebody's key; from then on its
entry holds the line, and nothing is looked up under the lock.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from workpool._core.lane import Lane
from workpool._interpreter import GIL

__all__ = ["ByKey", "Keys", "Line", "OnDead", "checked_key"]

T = TypeVar("T")
E = TypeVar("E", bound="tuple[Any, ...]")

OnDead = Literal["go_on", "hold", "drop"]


@dataclass(frozen=True)  # with slots, `ByKey[...](...)` raises TypeError on Python 3.11 and 3.12
class ByKey(Generic[T]):
    """Items of one key run one at a time and in the order of their submission; other keys are not held up.

    Of several lanes, one that goes first goes first here too. An item that waits for its next attempt holds its key,
    and so does a thread that was given up over an item until it ends.

    Args:
        key: called with an item when it is submitted: anything hashable. What it raises, `submit` raises.
        on_dead: what happens to the rest of a key when an item of it has failed for good. "go_on": the next runs.
            "hold": none runs until `Pool.release(key)`; they keep their slots in the queue. "drop": those that are
            queued by then are shed, for the reason "key".
    """

    key: Callable[[T], Hashable]
    on_dead: OnDead = "go_on"

    def __post_init__(self) -> None:
        if not callable(self.key):
            raise TypeError(f"key must be a function of one item, not {self.key!r}")
        if self.on_dead not in ("go_on", "hold", "drop"):
            raise ValueError(f'on_dead must be "go_on", "hold" or "drop", not {self.on_dead!r}')


def checked_key(key: Callable[[T], Hashable] | ByKey[T] | None) -> ByKey[T] | None:
    """The order, if there is to be one. Raises TypeError."""
    return key if key is None or isinstance(key, ByKey) else ByKey(key)  # pyright: ignore[reportUnknownVariableType]


class Line(Generic[E]):
    """The items of one key that there are. Under the queue's lock."""

    __slots__ = ("__weakref__", "behind", "cell", "gone", "is_dropped", "is_held", "owner")

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        """Where it is found, unless it was dropped."""
        self.owner: E | None = None
        """The entry whose turn it is: until that has ended, all others wait."""
        self.behind: deque[tuple[E, Lane[E]] | None] | None = None
        """Those that came to the front of their lane meanwhile, the first first. None is one that is out."""
        self.gone = 0
        """Of those, how many were cancelled."""
        self.is_held = False
        """Even when that has ended they wait."""
        self.is_dropped = False
        """Those that are in it are to be shed."""


class Cell:
    """Where the line of a key is, while there is one."""

    __slots__ = ("ref",)

    def __init__(self) -> None:
        self.ref = NOBODY


class Nobody(Line[Any]):
    """No line."""

    def __init__(self) -> None:
        """It has nothing."""


NOBODY: Final[weakref.ref[Line[Any]]] = weakref.ref(Nobody())
"""Refers to no line: that one is gone at once."""

SWEEP: Final = 4096
"""So many keys may be idle before they are forgotten: to make a line costs more than to find one."""


class Keys(Generic[T]):
    """The lines of one queue, by key. A line lives as long as there are entries that hold it, and a while longer.

    With the GIL nothing is locked: another thread, or a handler, may come in at each call, so each look is repeated
    right before what depends on it. A key has never two lines.
    """

    def __init__(self, order: ByKey[T]) -> None:
        self.on_dead: OnDead = order.on_dead
        self._key = order.key
        self._cells: dict[Hashable, Cell] = {}
        self._made = 0
        """How many lines were ever put into a cell."""
        self._sweep_at = SWEEP
        self._recent: list[Line[Any]] = []
        """Those that were made since the last sweep. Until the next they live though their keys may be idle."""
        self._lock = threading.RLock()

    def line_of(self, item: T) -> Line[Any]:
        """The line that an item belongs to. Raises what the key's function does, or TypeError for a bad key."""
        key = self._key(item)
        try:
            if not GIL:
                with self._lock:
                    return self._line(key)
            cell = self._cells.get(key)
            return self._line(key) if cell is None or (line := cell.ref()) is None else line
        except TypeError as error:
            raise TypeError(f"key gave {key!r} for an item, by which nothing can be looked up: {error}") from error

    def find(self, key: Hashable) -> Line[Any] | None:
        """The line of a key, if there is one."""
        cell = self._cells.get(key)
        return None if cell is None else cell.ref()

    def drop(self, line: Line[Any]) -> None:
        """Have what is in a line be shed. What comes from now on is in another line of that key."""
        line.is_dropped = True
        cell = line.cell
        seen = cell.ref
        if seen() is line and cell.ref is seen:  # no call before the store
            cell.ref = NOBODY

    def _line(self, key: Hashable) -> Line[Any]:
        while True:
            cells = self._cells
            cell = cells.get(key) or cells.setdefault(key, Cell())
            seen = cell.ref
            line = seen()
            if line is not None:
                return line
            made: Line[Any] = Line(cell)
            ref = weakref.ref(made)
            if self._cells is cells and cell.ref is seen:  # from here on no call
                cell.ref = ref
                self._made += 1
                break
        self._recent.append(made)
        if self._made > self._sweep_at:
            self._sweep()
        return made

    def _sweep(self) -> None:
        """Forget the keys that are idle, unless somebody came meanwhile."""
        made = self._made
        self._recent = []
        kept = {key: cell for key, cell in list(self._cells.items()) if cell.ref() is not None}
        if self._made == made:  # from here on no call
            self._cells = kept
        self._sweep_at = self._made + max(SWEEP, len(kept))
