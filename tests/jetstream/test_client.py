"""How nats-py is used where it has no call for what is wanted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workpool.sources.jetstream import JetStreamQueue, NatsServer
from workpool.sources.jetstream.client import _NatsConnection
from workpool.sources.jetstream.connection import Message, connect

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


@pytest.mark.parametrize("is_direct", [True, False])
def test_what_comes_is_handled_in_its_order_with_headers_or_without(
    server: NatsServer, is_direct: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def receive() -> None:
        connection: Any = await connect(server.url, "order", Watcher(), timeout=SECONDS, credentials=None)
        try:
            inbox = connection.inbox()
            came: list[tuple[bytes, Any]] = []

            def handle(message: Message) -> None:
                came.append((message.data, message.headers))
                if message.data == b"7":
                    raise ValueError("of whoever handles it")

            subscription = await connection.subscribe(inbox, handle)
            assert len(connection._client.direct) == 1  # else nats-py has renamed what is private
            if not is_direct:
                connection._client.direct.clear()
            for number in range(1000):
                headers = {"Number": str(number)} if number % 3 == 0 else None
                await connection.publish(inbox, str(number).encode(), headers=headers)
            await connection.flush(SECONDS)
            await subscription.drain(SECONDS)
            assert [data for data, _ in came] == [str(number).encode() for number in range(1000)]
            assert [headers for _, headers in came][:4] == [{"Number": "0"}, None, None, {"Number": "3"}]
            assert connection._client.stats["in_msgs"] == 1000
        finally:
            await connection.close()

    asyncio.run(receive())
    assert "not handled" in caplog.text


def test_the_client_that_is_installed_sends_many_at_once(server: NatsServer, name: str) -> None:
    """Else an acknowledgement costs a third of a message's whole way: see `publish_to`."""
    with JetStreamQueue[str](server.url, name) as queue:
        connection: Any = queue._connection
        assert callable(connection._client._send_command)
