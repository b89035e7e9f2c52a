"""A message that a consumer delivered, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from workpool._future import Home
from workpool.sources.handing import TellingFuture
from workpool.sources.jetstream.broker import nanoseconds
from workpool.sources.jetstream.connection import Message

__all__ = ["ACK", "IN_PROGRESS", "TERM", "Delivery", "nak"]

ACK: Final = b"+ACK"
TERM: Final = b"+TERM"
IN_PROGRESS: Final = b"+WPI"

SHORT: Final = 9
"""Parts of the subject for an answer."""

LONG: Final = 11
"""The same, at least, where it also names a domain and an account."""


class Delivery(TellingFuture):
    """A message that is here, and the future of its item: of thousands a second, one object less for each counts.

    Raises ValueError if the message is none of a consumer's. The subject for its answer says all of it: $JS.ACK, a
    domain and an account where there are such, the stream and the consumer; then attempt, sequence, its number for the
    consumer, when it was stored, and how many there still are.
    """

    attempt = 1
    """How many deliveries this is the last of."""
    headers: Mapping[str, str] | None = None
    item: Any = None
    """What its pool has had no room for."""
    is_handed_over = False
    """Its pool has the item."""
    is_given_back = False
    is_repeated = False
    """It was done before."""

    def __init__(self, home: Home, tell: Callable[[Delivery], object], message: Message, now: float) -> None:
        parts = message.reply.split(".")
        if len(parts) < SHORT or parts[1] != "ACK" or parts[0] != "$JS":
            raise ValueError(f"not a message of a consumer: its answer would go to {message.reply!r}")
        at = 6 if len(parts) >= LONG else 4
        # Not the message itself: of what is here, the garbage collector goes through each that can hold others.
        self._home = home  # as the base does
        self._tell = tell
        self.reply = message.reply
        """Where the answer goes: of the last delivery, if there were several."""
        self.data = message.data
        if message.headers is not None:
            self.headers = message.headers
        self.identity = f"{parts[at + 1]}-{parts[at + 3]}"
        """Of the message, however often it is delivered: its number in the stream, and when it was stored. (A stream
        that was made anew counts from 1 again.)"""
        if parts[at] != "1":
            self.attempt = int(parts[at])
        self.extended = now
        """When the server was told last that it is being worked on."""

    @property
    def sequence(self) -> str:
        """Its number in the stream."""
        return self.identity.partition("-")[0]


LONGEST: Final = 365 * 86_400.0
"""Seconds: what is further off, "never" included, is no number of nanoseconds to the server."""


def nak(seconds: float) -> bytes:
    """Deliver it again, in so many seconds."""
    if seconds <= 0:
        return b"-NAK"
    return b"-NAK " + json.dumps({"delay": nanoseconds(min(seconds, LONGEST))}).encode()
