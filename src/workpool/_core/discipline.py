"""Which item is next: the rule of the queue, as a value that opens a line.

A discipline is frozen and shared; the `Line` that it opens belongs to one queue, is touched only under
that queue's lock, and gives the queue two calls, `push` and `pop`. For `Fifo` they are the deque's own,
because a Python function there costs 12-48 % of an item.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Fifo", "Line"]

E = TypeVar("E")


@dataclass(frozen=True, eq=False)  # with slots, `Line[...](...)` raises TypeError on Python 3.11 and 3.12
class Line(Generic[E]):
    """The entries that wait, and how one joins and leaves them.

    `waiting` is in the order in which `pop` would give them. Its own truth, length and first element, `push`
    and `pop` are written in C: the queue relies on it that nobody comes in between.
    """

    waiting: Sequence[E]
    push: Callable[[E], Any]
    pop: Callable[[], E]
    unpop: Callable[[Iterable[E]], Any]
    """Puts back what `pop` gave, the last of it first."""


@dataclass(frozen=True, slots=True)
class Fifo:
    """First in, first out; refuses what finds no room."""

    size: int

    def open(self) -> Line[Any]:
        """A new, empty line."""
        entries: deque[Any] = deque()
        return Line(entries, entries.append, entries.popleft, entries.extendleft)
