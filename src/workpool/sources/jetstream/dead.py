"""What has failed for good: kept in a stream of its own, with the reason, until somebody takes it away."""

from __future__ import annotations

from typing import Final

from workpool._named import one_line
from workpool.sources.jetstream.broker import BrokerError, ensure_dead_letters
from workpool.sources.jetstream.connection import Connection
from workpool.sources.jetstream.delivery import Delivery
from workpool.sources.jetstream.publishing import Full, Letter, Publisher

__all__ = ["DeadLetters", "NotPut"]

TOLD: Final = 1000
"""Characters of an error."""


class NotPut(Exception):
    """A letter is not known to be there. The text says why."""


class DeadLetters:
    """Those of one consumer. In the loop of its connection."""

    def __init__(self, publisher: Publisher, stream: str, consumer: str) -> None:
        self._publisher = publisher
        self._stream = stream
        self._consumer = consumer

    @classmethod
    async def open(cls, connection: Connection, stream: str, consumer: str, subject: str | None) -> DeadLetters:
        """With a stream that is made, if no subject is given. Raises `BrokerError`, ConnectionError or TimeoutError."""
        publisher = Publisher(connection, subject or await ensure_dead_letters(connection, stream))
        await publisher.open()
        return cls(publisher, stream, consumer)

    def reconnected(self) -> None:
        self._publisher.reconnected()

    async def put(self, delivery: Delivery, reason: str, text: str, timeout: float) -> None:
        """Return when it is stored; once, however often it is put within two minutes. Raises `NotPut`."""
        about = {
            "Workpool-Reason": reason,
            "Workpool-Error": " ".join(text.split())[:TOLD],
            "Workpool-Stream": self._stream,
            "Workpool-Consumer": self._consumer,
            "Workpool-Sequence": delivery.sequence,
            "Workpool-Deliveries": str(delivery.attempt),
        }
        kept = {name: value for name, value in (delivery.headers or {}).items() if not name.startswith("Nats-")}
        identity = f"{self._stream}-{delivery.identity}"
        try:
            await self._publisher.publish(Letter(delivery.data, identity, kept | about), timeout)
        except (Full, BrokerError, ConnectionError, TimeoutError, ValueError) as error:
            raise NotPut(one_line(error)) from None
