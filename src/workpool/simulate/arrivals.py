"""When items are submitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from math import log
from random import Random
from typing import Self

from workpool.simulate.numbers import checked_positive

__all__ = ["Arrivals", "Bursts", "Constant", "Poisson"]


class Arrivals(ABC):
    """A pattern of arrivals; frozen."""

    @property
    @abstractmethod
    def mean_rate(self) -> float:
        """Items a second, over a long time."""

    @abstractmethod
    def at(self, rate: float) -> Self:
        """The same pattern with that mean rate."""

    @abstractmethod
    def times(self, random: Random) -> Iterator[float]:
        """The seconds from the beginning at which an item comes, rising, without end."""


@dataclass(frozen=True)
class _Steady(Arrivals):
    """What comes at one rate, in items a second."""

    rate: float

    def __post_init__(self) -> None:
        checked_positive("rate", self.rate)

    @property
    def mean_rate(self) -> float:
        return self.rate

    def at(self, rate: float) -> Self:
        return replace(self, rate=rate)


@dataclass(frozen=True)
class Constant(_Steady):
    """An item every 1/rate seconds."""

    def times(self, random: Random) -> Iterator[float]:
        gap, number = 1 / self.rate, 0
        while True:
            number += 1
            yield number * gap  # a sum of gaps would drift


@dataclass(frozen=True)
class Poisson(_Steady):
    """Independent items: so come the requests of many users who do not know of each other."""

    def times(self, random: Random) -> Iterator[float]:
        draw, gap, now = random.random, 1 / self.rate, 0.0
        while True:
            now -= log(1.0 - draw()) * gap
            yield now


@dataclass(frozen=True)
class Bursts(Arrivals):
    """Independent items whose rate changes, in phases that repeat for ever.

    Args:
        phases: pairs of a rate, in items a second (0: none), and the seconds for which it lasts:
            `Bursts([(2000, 1), (100, 9)])`.
    """

    phases: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple((rate, seconds) for rate, seconds in self.phases))
        for rate, seconds in self.phases:
            checked_positive("the seconds of a phase", seconds)
            if rate != 0:
                checked_positive("the rate of a phase", rate)
        if not any(rate for rate, _ in self.phases):
            raise ValueError("phases must have at least one with a rate above 0")

    @property
    def mean_rate(self) -> float:
        return sum(rate * seconds for rate, seconds in self.phases) / sum(seconds for _, seconds in self.phases)

    def at(self, rate: float) -> Self:
        checked_positive("rate", rate)
        factor = rate / self.mean_rate
        return replace(self, phases=tuple((each * factor, seconds) for each, seconds in self.phases))

    def times(self, random: Random) -> Iterator[float]:
        """The times of a Poisson process of rate 1, stretched so that as much of it passes in a phase as items come."""
        begin, wait = 0.0, -log(1.0 - random.random())
        for rate, seconds in cycle(self.phases):
            left = rate * seconds
            while wait <= left:
                left -= wait
                yield begin + seconds - left / rate
                wait = -log(1.0 - random.random())
            wait -= left
            begin += seconds
