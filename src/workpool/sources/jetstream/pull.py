"""What to ask a consumer for: as many messages as there is free room, in a request that stands until they have come.

A value that is told what happens and asked what to do, without a clock or a connection of its own. The protocol is that
of JetStream's pull consumers (ADR-37 of the NATS project): a request for so many messages is answered by messages, and
ends by itself when all have come, or by a status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["EXPIRES", "HEARTBEAT", "Ask", "Pull", "Status"]

EXPIRES: Final = 30.0
"""Seconds for which a request stands."""

HEARTBEAT: Final = 2.0
"""Seconds after which the server says that it still has the request, if nothing else is to be said."""

MISSED: Final = 2.5
"""Heartbeats after which a server that says nothing is taken for one that has no request of ours."""

BACKOFF: Final = 0.5
"""Seconds until the next request after one that was refused: whatever refuses it does not pass at once."""


class Ask(NamedTuple):
    """A request to send."""

    token: int
    """Its own: the last part of the subject that the status of its end comes to."""
    batch: int
    """How many messages."""


class Status(NamedTuple):
    """An answer that is no message."""

    code: str
    description: str


@dataclass
class _Request:
    token: int
    left: int


class Pull:
    """What is asked for and what is held, of a pool that has room for `capacity` items.

    At no time is more asked for than there is room; asked is again when half of the room is free.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.held = 0
        """Messages that are here, until their fate."""
        self.asked = 0
        """Messages that are asked for and have not come."""
        self._requests: list[_Request] = []
        self._count = 0
        self._heard = 0.0
        self._not_before = 0.0

    @property
    def is_due(self) -> bool:
        """Whether half of the room is free."""
        return self.held + self.asked <= self.capacity // 2

    def ask(self, now: float) -> Ask | None:
        """What to ask for now."""
        if now < self._not_before or not self.is_due:
            return None
        if not self._requests:
            self._heard = now
        self._count += 1
        request = _Request(self._count, self.capacity - self.held - self.asked)
        self._requests.append(request)
        self.asked += request.left
        return Ask(request.token, request.left)

    def arrived(self, now: float) -> None:
        """A message has come. The server answers the oldest request first."""
        self._heard = now
        self.held += 1
        if self._requests:
            oldest = self._requests[0]
            oldest.left -= 1
            self.asked -= 1
            if oldest.left <= 0:
                del self._requests[0]

    def settled(self, count: int = 1) -> None:
        """So many that were held have met their fates."""
        self.held -= count

    def told(self, token: int, status: Status, now: float) -> bool:
        """A status has come for a request; True if there may be no such consumer."""
        self._heard = now
        if status.code == "100":
            return False
        self._requests = [request for request in self._requests if request.token != token]
        self.asked = sum(request.left for request in self._requests)
        if status.code in {"404", "408"}:  # no messages, or its time is up
            return False
        text = status.description.lower()
        if "batch completed" in text:
            return False
        self._not_before = now + BACKOFF
        # No responders: there is no such consumer, or its leader is changing.
        return status.code == "503" or "deleted" in text or "not found" in text

    def is_silent(self, now: float) -> bool:
        """Whether something is asked for of a server that does not even say that it has the request."""
        return bool(self._requests) and now - self._heard > MISSED * HEARTBEAT

    def forget(self, now: float, wait: float = 0.0) -> None:
        """Nothing is asked for any more: the connection was another. Ask again in `wait` seconds."""
        self._requests = []
        self.asked = 0
        self._heard = now
        self._not_before = now + wait
