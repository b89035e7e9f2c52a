"""nats-py, behind what `connection` says that a client does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from workpool.sources.jetstream.connection import Connection, Message, Subscription, Watcher

__all__ = ["open_connection"]

BUFFER: Final = 16 * 1024 * 1024
"""Bytes that may be published while there is no connection; they are sent when there is one again."""

PING: Final = 5
"""Seconds between two pings; a server that does not answer two of them is taken for gone."""

RECONNECT: Final = 0.1
"""Seconds between two attempts to reach a server that is gone."""

log = logging.getLogger("workpool")


async def open_connection(
    url: str, name: str, watcher: Watcher, *, timeout: float, credentials: str | None
) -> Connection:
    """Connect to a server (several: with commas). Raises ConnectionError with a sentence that says which."""
    client = Client()

    async def disconnected() -> None:
        watcher.disconnected()

    async def reconnected() -> None:
        watcher.reconnected()

    async def failed(error: Exception) -> None:
        log.debug("NATS: %s", error)  # a server that is gone is one every tenth of a second; the watcher knows

    options: dict[str, Any] = {} if credentials is None else {"user_credentials": credentials}
    options["reconnect_time_wait"] = RECONNECT  # declared as a whole number, and used as any
    try:
        async with asyncio.timeout(timeout):
            await client.connect(
                servers=[each.strip() for each in url.split(",")],
                name=name,
                error_cb=failed,
                disconnected_cb=disconnected,
                reconnected_cb=reconnected,
                max_reconnect_attempts=-1,
                connect_timeout=max(1, round(timeout)),
                ping_interval=PING,
                pending_size=BUFFER,
                skip_subject_validation=True,  # names are checked, and what is answered to came from the server
                **options,
            )
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        await _forget(client)
        why = f" ({error})" if str(error) else ""
        raise ConnectionError(f"no NATS server answers at {url} within {timeout:g} s{why}") from None
    return _NatsConnection(client)


async def _forget(client: Client) -> None:
    try:
        await client.close()
    except (NatsError, OSError, AttributeError):  # it never was open
        pass


class _NatsSubscription:
    def __init__(self, subscription: NatsSubscription) -> None:
        self._subscription: Any = subscription  # parts of it have no types

    async def drain(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._subscription.drain()
        except (NatsError, OSError, TimeoutError):  # the connection is gone, and the subscription with it
            pass


class _NatsConnection:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            await self._client.publish(subject, data, reply, None if headers is None else dict(headers))
        except MaxPayloadError:
            raise ValueError(f"{len(data)} bytes are more than the server takes at once") from None
        except NatsError as error:
            raise ConnectionError(str(error)) from error

    async def subscribe(self, subject: str, handle: Callable[[Message], None]) -> Subscription:
        async def call(message: Message) -> None:
            try:
                handle(message)
            except Exception:
                log.exception("a message of NATS was not handled")

        wanted: Any = call
        client: Any = self._client
        # No bounds of the client's own, beyond which it throws messages away: what comes was asked for.
        return _NatsSubscription(
            await client.subscribe(subject, cb=wanted, pending_msgs_limit=0, pending_bytes_limit=0)
        )

    async def request(self, subject: str, data: bytes, timeout: float) -> Message:
        try:
            answer: Any = await self._client.request(subject, data, timeout=timeout)
        except NoRespondersError:
            raise ConnectionRefusedError(f"nobody listens to {subject}") from None
        except NatsTimeout:
            raise TimeoutError(f"no answer to {subject} within {timeout:g} s") from None
        except NatsError as error:
            raise ConnectionError(str(error)) from error
        message: Message = answer
        return message

    async def flush(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._client.flush(max(1, round(timeout)))
        except NatsTimeout:
            raise TimeoutError(f"the server did not answer within {timeout:g} s") from None
        except NatsError as error:
            raise ConnectionError(str(error)) from error

    async def close(self) -> None:
        await _forget(self._client)

    def inbox(self) -> str:
        return self._client.new_inbox()
