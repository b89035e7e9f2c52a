"""How nats-py is used where it has no call for what is wanted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workpool.sources.jetstream import JetStreamQueue, NatsServer
from workpool.sources.jetstream.client import _NatsConnection
from workpool.sources.jetstream.connection import connect

SECONDS = 10.0


class Watcher:
    def disconnected(self) -> None: ...

    def reconnected(self) -> None: ...


class Plain:
    """A client that can publish one message at a time."""

    is_connected = True
    is_draining = False

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, data: bytes, *_: Any) -> None:
        self.published.append((subject, data))


def test_a_client_that_cannot_send_many_at_once_sends_each() -> None:
    connection = _NatsConnection(Watcher(), {}, SECONDS)
    connection._client = plain = Plain()  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    asyncio.run(connection.publish_to(["a", "b", "c"], b"+ACK"))
    assert plain.published == [("a", b"+ACK"), ("b", b"+ACK"), ("c", b"+ACK")]


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_many_that_are_sent_at_once_all_come(server: NatsServer, count: int) -> None:
    async def send_and_receive() -> list[tuple[str, bytes]]:
        connection = await connect(server.url, "many", Watcher(), timeout=SECONDS, credentials=None)
        try:
            inbox = connection.inbox()
            came: list[tuple[str, bytes]] = []
            await connection.subscribe(f"{inbox}.*", lambda message: came.append((message.subject, message.data)))
            subjects = [f"{inbox}.{number}" for number in range(count)]
            await connection.publish_to(subjects, b"+ACK")
            await connection.publish(f"{inbox}.last", b"")
            async with asyncio.timeout(SECONDS):
                while not came or came[-1][1]:
                    await connection.flush(SECONDS)
            assert came.pop() == (f"{inbox}.last", b"")
            assert came == [(subject, b"+ACK") for subject in subjects]
            return came
        finally:
            await connection.close()

    assert len(asyncio.run(send_and_receive())) == count


def test_the_client_that_is_installed_sends_many_at_once(server: NatsServer, name: str) -> None:
    """Else an acknowledgement costs a third of a message's whole way: see `publish_to`."""
    with JetStreamQueue[str](server.url, name) as queue:
        connection: Any = queue._connection
        assert callable(connection._client._send_command)
