"""How long items run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import exp, log
from random import Random

from workpool.simulate.numbers import checked_positive

__all__ = ["Exponential", "Fixed", "LogNormal", "Service"]


class Service(ABC):
    """A distribution of run times; frozen."""

    @property
    @abstractmethod
    def mean_seconds(self) -> float:
        """Seconds that an item runs, on average."""

    @abstractmethod
    def times(self, random: Random) -> Iterator[float]:
        """The seconds that one item runs after the other, without end."""


@dataclass(frozen=True)
class Fixed(Service):
    """Every item runs so many seconds."""

    seconds: float

    def __post_init__(self) -> None:
        checked_positive("seconds", self.seconds)

    @property
    def mean_seconds(self) -> float:
        return self.seconds

    def times(self, random: Random) -> Iterator[float]:
        return repeat(self.seconds)


@dataclass(frozen=True)
class Exponential(Service):
    """Mostly short, sometimes long: 1 in 100 runs 4.6 times the mean, in seconds, or more."""

    mean: float

    def __post_init__(self) -> None:
        checked_positive("mean", self.mean)

    @property
    def mean_seconds(self) -> float:
        return self.mean

    def times(self, random: Random) -> Iterator[float]:
        draw, mean = random.random, self.mean
        while True:
            yield -log(1.0 - draw()) * mean


@dataclass(frozen=True)
class LogNormal(Service):
    """A long tail, as measured run times have.

    Args:
        mean: seconds.
        sigma: how long the tail is, as the standard deviation of the logarithm: with 1, 1 in 100 runs 6.2 times the
            mean or more.
    """

    mean: float
    sigma: float

    def __post_init__(self) -> None:
        checked_positive("mean", self.mean)
        checked_positive("sigma", self.sigma)

    @property
    def mean_seconds(self) -> float:
        return self.mean

    def times(self, random: Random) -> Iterator[float]:
        draw, mu, sigma = random.gauss, log(self.mean) - self.sigma**2 / 2, self.sigma
        while True:
            yield exp(draw(mu, sigma))
