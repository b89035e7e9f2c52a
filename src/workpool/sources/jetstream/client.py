"""nats-py, behind what `connection` says that a client does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

from workpool.sources.jetstream.connection import Connection, Message, Subscription, Watcher

__all__ = ["open_connection"]

BUFFER: Final = 16 * 1024 * 1024
"""Bytes that may be published while there is no connection; they are sent when there is one again."""

PING: Final = 5
"""Seconds between two pings; a server that does not answer two of them is taken for gone."""

RENEW: float = 10.0
"""Seconds without a connection after which another client takes the place of one that may have given up."""

ENDS: Final = 5.0
"""Seconds in which a client closes."""

RECONNECT: Final = 0.1
"""Seconds between two attempts to reach a server that is gone."""

NOT_HANDLED: Final = "a message of NATS was not handled"

log = logging.getLogger("workpool")


async def open_connection(
    url: str, name: str, watcher: Watcher, *, timeout: float, credentials: str | None
) -> Connection:
    """Connect to a server (several: with commas). Raises ConnectionError with a sentence that says which."""
    options: dict[str, Any] = {} if credentials is None else {"user_credentials": credentials}
    options["reconnect_time_wait"] = RECONNECT  # declared as a whole number, and used as any
    options |= {"servers": [each.strip() for each in url.split(",")], "name": name}
    connection = _NatsConnection(watcher, options, timeout)
    try:
        await connection.open()
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        why = f" ({error})" if str(error) else ""
        raise ConnectionError(f"no NATS server answers at {url} within {timeout:g} s{why}") from None
    return connection


async def _forget(client: Client) -> None:
    try:
        async with asyncio.timeout(ENDS):
            await client.close()
    except (NatsError, OSError, AttributeError, TimeoutError):  # it never was open, or hangs
        pass
    finally:
        _close_transport(client)


def _close_transport(client: Client) -> None:
    """What an attempt to connect has opened, if it failed or was given up: nats-py leaves that open."""
    transport: Any = getattr(client, "_transport", None)
    if transport is not None:
        transport.close()


class _Arrived:
    """A message."""

    __slots__ = ("data", "headers", "reply", "subject")

    def __init__(self, subject: str, reply: str, data: bytes, headers: Mapping[str, str] | None) -> None:
        self.subject = subject
        self.reply = reply
        self.data = data
        self.headers = headers


class _Client(Client):
    """A client that does two things otherwise. If nats-py renames what is private here, it does them its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.direct: dict[int, Callable[[Message], None]] = {}
        """By the number of a subscription, who is called with what comes. nats-py has a queue, a task and a coroutine
        for that, which are a third of a message's whole way."""

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        handle = self.direct.get(sid)
        if handle is None:
            process: Any = super()._process_msg
            await process(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        client: Any = self
        read = await client._process_headers(headers) if headers else None
        try:
            handle(_Arrived(subject.decode(), reply.decode(), data, read))
        except Exception:
            log.exception(NOT_HANDLED)

    async def _connect_to_server(self, *args: Any, **more: Any) -> None:
        """First close what the last attempt to connect has opened: nats-py leaves that open where a server went away
        before all was said."""
        _close_transport(self)
        connect: Any = super()._connect_to_server
        await connect(*args, **more)


class _NatsSubscription:
    def __init__(self, subject: str, handle: Callable[[Message], None]) -> None:
        self._subject = subject
        self._handle = handle
        self._subscription: Any = None  # parts of it have no types

    async def begin(self, client: Any) -> None:
        # No bounds of the client's own, beyond which it throws messages away: what comes was asked for.
        self._subscription = await client.subscribe(
            self._subject, cb=self._called, pending_msgs_limit=0, pending_bytes_limit=0
        )
        number = getattr(self._subscription, "_id", None)
        if number is not None:
            client.direct[number] = self._handle

    async def _called(self, message: Message) -> None:
        try:
            self._handle(message)
        except Exception:
            log.exception(NOT_HANDLED)

    async def drain(self, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._subscription.drain()
        except (NatsError, OSError, TimeoutError):  # the connection is gone, and the subscription with it
            pass


class _NatsConnection:
    """A client; and another in its place when it has not come back by itself.

    nats-py closes for good when a server tells it of an error (`-ERR`): a slow consumer, credentials that have expired,
    too many connections. Each of these may pass.
    """

    def __init__(self, watcher: Watcher, options: dict[str, Any], timeout: float) -> None:
        self._watcher = watcher
        self._options = options
        self._timeout = timeout
        self._client: Client = _Client()
        self._subscriptions: list[_NatsSubscription] = []
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises what nats-py does."""
        self._client = await self._connected()
        self._keeper = asyncio.ensure_future(self._keep())

    async def _connected(self) -> Client:
        client = _Client()

        async def disconnected() -> None:
            if client is self._client:
                self._watcher.disconnected()

        async def reconnected() -> None:
            if client is self._client:
                self._watcher.reconnected()

        async def failed(error: Exception) -> None:
            # A server that is gone is such an error every tenth of a second; the watcher knows.
            log.debug("NATS: %s", error)
            if not client.is_connected:
                _close_transport(client)

        try:
            async with asyncio.timeout(self._timeout):
                await client.connect(
                    error_cb=failed,
                    disconnected_cb=disconnected,
                    reconnected_cb=reconnected,
                    max_reconnect_attempts=-1,
                    connect_timeout=max(1, round(self._timeout)),
                    ping_interval=PING,
                    pending_size=BUFFER,
                    skip_subject_validation=True,  # names are checked, and what is answered to came from the server
                    **self._options,
                )
        except BaseException:
            await _forget(client)
            raise
        return client

    async def _keep(self) -> None:
        """Connect anew if the client has not, for long."""
        lost: float | None = None
        while True:
            await asyncio.sleep(RENEW / 10)
            if self._client.is_connected:
                lost = None
                continue
            lost = monotonic() if lost is None else lost
            if monotonic() - lost >= RENEW:
                await self._renew()

    async def _renew(self) -> None:
        try:
            client = await self._subscribed()
        except Exception as error:  # whatever it is: it is tried again
            log.debug("NATS: %s", error)
            return
        before, self._client = self._client, client
        self._watcher.reconnected()
        await _forget(before)

    async def _subscribed(self) -> Client:
        client = await self._connected()
        try:
            for subscription in self._subscriptions:
                await subscription.begin(client)
        except BaseException:
            await _forget(client)
            raise
        return client

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        try:
            await self._client.publish(subject, data, reply, None if headers is None else dict(headers))
        except MaxPayloadError:
            raise ValueError(f"{len(data)} bytes are more than the server takes at once") from None
        except NatsError as error:
            raise ConnectionError(str(error)) from error

    async def publish_to(self, subjects: Sequence[str], data: bytes) -> None:
        # nats-py has no call for many, and one for each costs a third of a message's whole way. What it sends commands
        # with is private: where that is missing, each is published by itself.
        client = self._client
        send: Any = getattr(client, "_send_command", None)
        if len(subjects) > 1 and send is not None and client.is_connected and not client.is_draining:
            end = f" {len(data)}\r\n{data.decode()}\r\n"
            await send("".join([f"PUB {subject}{end}" for subject in subjects[:-1]]).encode())
            subjects = subjects[-1:]  # which has all of it sent
        for subject in subjects:
            await self.publish(subject, data)

    async def subscribe(self, subject: str, handle: Callable[[Message], None]) -> Subscription:
        subscription = _NatsSubscription(subject, handle)
        await subscription.begin(self._client)
        self._subscriptions.append(subscription)
        return subscription

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
        if self._keeper is not None:
            self._keeper.cancel()
        await _forget(self._client)

    def inbox(self) -> str:
        return self._client.new_inbox()
