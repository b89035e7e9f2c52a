"""`SourceStats`: what a source has done, and how it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["SourceStats"]


@dataclass
class SourceStats:
    """Counts of messages. Each that was delivered is answered once, or is in flight: see `balance`."""

    connected: bool = False
    state: str = "new"
    """"pulling", "stopping" or "stopped"; else a sentence about what is wrong."""
    delivered: int = 0
    """That have come."""
    redelivered: int = 0
    """Of these, those that had been delivered before, to whomever."""
    repeated: int = 0
    """Of these, those that this source had, or had done: they were not run again."""
    acknowledged: int = 0
    retried: int = 0
    """Handed back after a failure, to be delivered again after a time; or because there was no place for the dead."""
    given_back: int = 0
    """Handed back because they had not begun when the source was stopped."""
    left: int = 0
    """Not answered, because they still ran when their pool was stopped."""
    dead: dict[str, int] = field(default_factory=dict[str, int])
    """Put among the dead letters, by the reason."""
    reconnects: int = 0
    in_flight: int = 0
    """That are here: queued, running, or about to be answered."""
    asked: int = 0
    """For which there is room, and which the broker may send."""

    def copy(self, *, in_flight: int, asked: int) -> SourceStats:
        return replace(self, dead=dict(self.dead), in_flight=in_flight, asked=asked)

    def balance(self) -> int:
        """0 when every message that was delivered has one answer, or none yet."""
        answered = self.acknowledged + self.retried + self.given_back + self.left + sum(self.dead.values())
        return self.delivered - self.repeated - answered - self.in_flight

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)
