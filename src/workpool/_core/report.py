"""What a stop found: the frozen account of every item that was not done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from workpool._core.ledger import PoolStats

__all__ = ["Abandoned", "DrainReport"]

T = TypeVar("T")


@dataclass(frozen=True)  # with slots, `Abandoned[...](...)` raises TypeError on Python 3.11 and 3.12
class Abandoned(Generic[T]):
    """An item that still ran when the pool gave up waiting. It may yet take effect."""

    item: T
    worker: str
    seconds: float
    """How long it had been running."""
    stack: str
    """Where it was, as a traceback prints it; empty if the worker could not be looked at."""


@dataclass(frozen=True)  # with slots, `DrainReport[...](...)` raises TypeError on Python 3.11 and 3.12
class DrainReport(Generic[T]):
    """The result of `Pool.stop`, the same object for whoever asks."""

    pool: str
    stats: PoolStats
    """The last snapshot: its counts by fate are final, and `stats.balance()` is 0."""
    drained: int
    """Items that succeeded or failed after the stop began."""
    unprocessed: tuple[T, ...]
    """Accepted items that were not done, in the order of their submission, or lane by lane: they never ran, or waited
    for their next attempt. They count as cancelled."""
    abandoned: tuple[Abandoned[T], ...]
    drain_seconds: float
    """From the first stop or close until the workers had finished, or the deadline."""
    grace_seconds: float
    """From the deadline until the workers had finished, or were given up; 0.0 if there was no need."""
    cut_short: bool
    """The deadline came before the drain was over, so that items which were to run did not."""

    @property
    def clean(self) -> bool:
        """Everything that was to run has run."""
        return not (self.cut_short or self.abandoned)

    def __str__(self) -> str:
        text = (
            f"pool {self.pool!r} stopped in {self.drain_seconds + self.grace_seconds:.3g} s: "
            f"{self.drained} drained, {len(self.unprocessed)} unprocessed, {len(self.abandoned)} abandoned"
        )
        stuck = [f"{item.worker} for {item.seconds:.3g} s on {_shown(item.item)}" for item in self.abandoned[:3]]
        return f"{text} ({'; '.join(stuck)})" if stuck else text


def _shown(item: object) -> str:
    """An item, for a sentence; it is not ours, and its `repr` may raise."""
    try:
        return f"{item!r:.200}"
    except Exception as error:
        return f"<{type(item).__name__}, whose repr raised {type(error).__name__}>"
