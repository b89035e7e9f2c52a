"""The client, and the thread that it lives in.

What the rest needs of a client is `Connection`: to publish, to subscribe, to ask, to flush and to close. `client` has
it of nats-py, which nothing else knows.

Rules: a connection belongs to one event loop. Whatever is called back is called in that loop, and does not wait.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol, TypeVar

__all__ = ["NO_RESPONDERS", "Connection", "LoopThread", "Message", "Subscription", "Watcher", "connect"]

R = TypeVar("R")

NO_RESPONDERS: Final = "503"
"""The status of an answer when nobody listens to what was asked."""


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

    async def publish_to(self, subjects: Sequence[str], data: bytes) -> None:
        """The same to each of many subjects. Raises what `publish` does: then it may have been sent to some."""

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
    """Connect to a server (several: with commas). Raises ConnectionError with a sentence that says which, and
    ImportError without a client."""
    try:
        from workpool.sources.jetstream.client import open_connection
    except ImportError as error:
        raise ImportError("NATS needs nats-py: pip install 'workpool[nats]'") from error
    return await open_connection(url, name, watcher, timeout=timeout, credentials=credentials)


class LoopThread:
    """A thread with an event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        """Held while work is handed over, so that none comes when the loop has ended."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def start(self, first: Coroutine[Any, Any, object], timeout: float) -> None:
        """Run `first` there, and return when it is done. Raises what that does, and RuntimeError if there are no more
        threads; then there is none, within `timeout` seconds."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=_run, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
        except BaseException:
            first.close()
            loop.close()
            raise
        self._loop, self._thread = loop, thread
        try:
            self.submit(first).result()
        except BaseException:
            self.stop(timeout)
            raise

    def submit(self, work: Coroutine[Any, Any, R]) -> Future[R]:
        """Run it there; cancelled if the thread is stopped first. Raises RuntimeError if there is none."""
        with self._lock:
            if self._loop is None:
                work.close()
                raise RuntimeError("it is not started, or has stopped")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        """Call it there, soon. Nothing if the loop has ended."""
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass

    def stop(self, timeout: float) -> None:
        """Cancel what runs there, and wait for the end of the thread. Harmless before the start, and twice."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(timeout)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        while tasks := asyncio.all_tasks(loop):  # what is cancelled may begin something, to clean up
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
