"""The client, and the thread that it lives in.

What the rest needs of a client is `Connection`: to publish, to subscribe, to ask, to flush and to close. nats-py is
behind it, and nowhere else.

Rules: a connection belongs to one event loop. Whatever is called back is called in that loop, and does not wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

from nats.aio.client import Client
from nats.aio.subscription import Subscription as NatsSubscription
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError
from nats.errors import TimeoutError as NatsTimeout

__all__ = ["NO_RESPONDERS", "Connection", "LoopThread", "Message", "Subscription", "Watcher", "connect"]

R = TypeVar("R")

NO_RESPONDERS: Final = "503"
"""The status of an answer when nobody listens to what was asked."""

BUFFER: Final = 16 * 1024 * 1024
"""Bytes that may be published while there is no connection; they are sent when there is one again."""

PING: Final = 5
"""Seconds between two pings; a server that does not answer two of them is taken for gone."""

RECONNECT: Final = 0.1
"""Seconds between two attempts to reach a server that is gone."""

log = logging.getLogger("workpool")


class Message(Protocol):
    """What came."""

    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str] | None


class Subscription(Protocol):
    async def drain(self, timeout: float) -> None:
        """Take no more; return when all that the server had sent was handled."""


class Watcher(Protocol):
    """Who is told of what happens to a connection, in its loop."""

    def disconnected(self) -> None: ...

    def reconnected(self) -> None: ...


class Connection(Protocol):
    """A connection to a NATS server, or to one of several, that comes again by itself when it is lost."""

    async def publish(
        self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        """Send it, soon. Raises ConnectionError if there is no connection, and no room to keep it until there is."""

    async def subscribe(self, subject: str, handle: Callable[[Message], None]) -> Subscription: ...

    async def request(self, subject: str, data: bytes, timeout: float) -> Message:
        """Ask, and have the answer. Raises TimeoutError, or ConnectionError if nobody listens."""
        ...

    async def flush(self, timeout: float) -> None:
        """Return when the server has all that was published. Raises TimeoutError or ConnectionError."""

    async def close(self) -> None: ...

    def inbox(self) -> str:
        """A subject that nobody else has."""
        ...


async def connect(url: str, name: str, watcher: Watcher, *, timeout: float, credentials: str | None) -> Connection:
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


class LoopThread:
    """A thread with an event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises RuntimeError if there are no more threads."""
        loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            loop.close()
            self._thread = None
            raise
        self._loop = loop

    def submit(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Run it there. Raises RuntimeError if there is no thread, or not any more."""
        if self._loop is None:
            work.close()
            raise RuntimeError("it is not started, or has stopped")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Call it there, soon. Nothing if the loop has ended."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass

    def stop(self, timeout: float) -> None:
        """End the loop, and wait for the thread. Harmless before the start, and twice."""
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_ended(tasks))
        loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    waits: list[Awaitable[Any]] = list(tasks)
    await asyncio.gather(*waits, return_exceptions=True)
