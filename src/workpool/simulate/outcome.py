"""What became of a load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one discipline made of a scenario, until its time was over. Counts are of items."""

    seconds: float
    """For which arrivals came and items were counted."""
    offered: int
    refused: int
    shed: Mapping[str, int] = field(hash=False)
    """By reason; every reason is there."""
    done: int
    useful: int
    """Done within the deadline after its submission."""
    left: int
    """Still waiting, or running, when the time was over."""
    critical_offered: int
    critical_useful: int
    latency_p50: float
    """Seconds from its submission to its end, of what was done; 0 if nothing was."""
    latency_p99: float

    @property
    def balance(self) -> int:
        """Items that were offered and never heard of again: 0."""
        return self.offered - self.refused - sum(self.shed.values()) - self.done - self.left

    @property
    def useful_rate(self) -> float:
        """Useful items a second: the goodput."""
        return self.useful / self.seconds

    @property
    def critical_in_time(self) -> float:
        """The share of the critical items offered that were useful, from 0 to 1; 1 if there were none."""
        return self.critical_useful / self.critical_offered if self.critical_offered else 1.0
