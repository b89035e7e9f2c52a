"""A load, who works on it, and the policies that are to be compared on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, UnionType
from typing import Any, Final, Self

from workpool._checked import checked_count
from workpool._core.discipline import Discipline, Lanes, OneLane
from workpool.simulate.arrivals import Arrivals
from workpool.simulate.numbers import checked_positive, checked_share
from workpool.simulate.service import Service

__all__ = ["Item", "Scenario"]

DEFAULT_WORKERS: Final = 10


@dataclass(frozen=True, slots=True)
class Item:
    """What disciplines are asked about: `Lanes(lambda item: 0 if item.critical else 1, ...)`."""

    critical: bool
    deadline: float
    """Its result is of use within so many seconds of its submission."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A load and what is to be compared on it.

    Args:
        arrivals: when items are submitted.
        service: how long they run.
        deadline: within how many seconds of its submission an item's result is of use.
        critical: the share of items that are critical, from 0 to 1.
        workers: how many items run at a time.
        seconds: of simulated time.
        seed: the same gives the same arrivals for every policy, and the same numbers each time.
        policies: the disciplines to be compared by `workpool simulate`, by their names.
    """

    arrivals: Arrivals
    service: Service
    deadline: float
    critical: float = 0.0
    workers: int = DEFAULT_WORKERS
    seconds: float = 600.0
    seed: int = 1
    policies: Mapping[str, Discipline[Item]] = field(default_factory=dict[str, Discipline[Item]], hash=False)

    def __post_init__(self) -> None:
        _check_kind("arrivals", self.arrivals, Arrivals, "Arrivals, such as Poisson(1000)")
        _check_kind("service", self.service, Service, "a Service, such as Exponential(0.02)")
        checked_positive("deadline", self.deadline)
        checked_share("critical", self.critical)
        checked_positive("seconds", self.seconds)
        _check_kind("seed", self.seed, int, "a whole number")
        object.__setattr__(self, "workers", checked_count("workers", self.workers, DEFAULT_WORKERS))
        _check_policies(self.policies)
        object.__setattr__(self, "policies", MappingProxyType(dict(self.policies)))

    @property
    def capacity(self) -> float:
        """Items a second that the workers can run, on average."""
        return self.workers / self.service.mean_seconds

    def at(self, rate: float) -> Self:
        """The same with so many items a second offered, on average."""
        return replace(self, arrivals=self.arrivals.at(rate))


def _check_kind(what: str, value: object, kind: type[Any] | UnionType, example: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{what} must be {example}, not {value!r}")


def _check_policies(policies: Mapping[Any, Any]) -> None:
    _check_kind("policies", policies, Mapping, "a mapping of names to disciplines")
    for name, discipline in policies.items():
        if not isinstance(name, str):
            raise TypeError(f"the name of a policy must be a str, not {name!r}")
        _check_kind(f"the policy {name!r}", discipline, OneLane | Lanes, "a discipline, such as Fifo(1000)")
