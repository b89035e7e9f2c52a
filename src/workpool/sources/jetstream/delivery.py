"""A message that a consumer delivered, and what it is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from workpool._future import ItemFuture
from workpool.sources.jetstream.broker import nanoseconds
from workpool.sources.jetstream.connection import Message

__all__ = ["ACK", "IN_PROGRESS", "TERM", "Delivery", "Identity", "delivered", "nak"]

ACK: Final = b"+ACK"
TERM: Final = b"+TERM"
IN_PROGRESS: Final = b"+WPI"

LONG: Final = 11
"""Parts of the subject for an answer, at least, where it also names a domain and an account."""


Identity = tuple[str, str]
"""Of a message, however often it is delivered: its number in the stream, and when it was stored. (A stream that was
made anew counts from 1 again.)"""


@dataclass(slots=True)
class Delivery:
    """A message that is here."""

    identity: Identity
    reply: str
    """Where the answer goes: of the last delivery, if there were several."""
    attempt: int
    """How many deliveries this is the last of."""
    data: bytes
    headers: Mapping[str, str] | None
    extended: float
    """When the server was told last that it is being worked on."""
    item: Any = None
    future: ItemFuture[Any] | None = None
    is_given_back: bool = False


def delivered(message: Message, now: float) -> Delivery:
    """Raises ValueError if it is none of a consumer's.

    The subject for its answer says all of it: $JS.ACK, a domain and an account where there are such, the stream and the
    consumer; then attempt, sequence, its number for the consumer, when it was stored, and how many there still are.
    """
    parts = message.reply.split(".")
    if not message.reply.startswith("$JS.ACK.") or len(parts) < 9:
        raise ValueError(f"not a message of a consumer: its answer would go to {message.reply!r}")
    at = 6 if len(parts) >= LONG else 4
    identity = parts[at + 1], parts[at + 3]
    return Delivery(identity, message.reply, int(parts[at]), message.data, message.headers, now)


LONGEST: Final = 365 * 86_400.0
"""Seconds: what is further off, "never" included, is no number of nanoseconds to the server."""


def nak(seconds: float) -> bytes:
    """Deliver it again, in so many seconds."""
    if seconds <= 0:
        return b"-NAK"
    return b"-NAK " + json.dumps({"delay": nanoseconds(min(seconds, LONGEST))}).encode()
