"""Objects of one kind that are alive, for whoever has to see to all of them some day, and keeps none of them so."""

from __future__ import annotations

from itertools import count
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

__all__ = ["Living"]

T = TypeVar("T")


class Living(Generic[T]):
    """Each by a number that none has again. Gone through in one step: without a GIL others come and are collected
    meanwhile, which a `WeakSet` does not bear."""

    def __init__(self) -> None:
        self._all: WeakValueDictionary[int, T] = WeakValueDictionary()
        self._numbers = count()

    def add(self, one: T) -> None:
        """From now on until it is collected, `one` is among them."""
        self._all[next(self._numbers)] = one

    def all(self) -> list[T]:
        """Those that are alive, the oldest first."""
        return [one for reference in self._all.valuerefs() if (one := reference()) is not None]
