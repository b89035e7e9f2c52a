"""`JetStreamQueue`: the bounded queue, at the broker, for those who submit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import pydantic_core

from workpool._checked import checked_count, checked_seconds
from workpool.errors import PoolError, QueueFull
from workpool.sources.jetstream.broker import Storage, ask, checked_name, ensure_stream
from workpool.sources.jetstream.connection import Connection, LoopThread, connect
from workpool.sources.jetstream.publishing import Full, Letter, Publisher, Settle

__all__ = ["JetStreamQueue", "PublishTimeout", "Published"]

R = TypeVar("R")
T = TypeVar("T")

RETRY_AFTER: Final = 1.0
"""Seconds after which a refused item may be submitted again: how fast the others work, a producer does not know."""

ENDS: Final = 5.0
"""Seconds in which the thread ends."""


class PublishTimeout(PoolError, TimeoutError):
    """The broker did not say in time whether it has the item. It may have it, and be the one who is not heard.

    With an `id`, submit it again: the queue takes it once.
    """


@dataclass(frozen=True)
class Published(Generic[T]):
    """What became of many items, which were submitted together. Each is in one of the three."""

    accepted: int
    """How many are in the queue."""
    refused: tuple[T, ...]
    """Those for which there was no room, in their order: you still have them."""
    unknown: tuple[T, ...]
    """Those of which the broker did not say in time whether it has them, in their order."""


class JetStreamQueue(Generic[T]):
    """A bounded queue that is a stream of NATS JetStream, into which any number of producers submit.

    `with` or `async with` connects, and makes the stream if there is none: a work queue, which has a message until it
    is acknowledged, and refuses new ones when it is full. What is accepted is stored (see `sync_interval` in the
    documentation for what that means when a machine fails), and is worked off by a `JetStreamSource`.

    Items are sent as what that reads: str and bytes as they are, anything else as JSON (builtins,
    dataclasses, TypedDicts, pydantic models, dates).

    May be used from any thread, and from any event loop: the client lives in a thread of its own.

    Args:
        url: of a NATS server; of several of one cluster, with commas.
        name: of the stream, and the subject to which items are published: letters, digits, _ and -.
        size: how many items may be in the queue, those that are being worked on included.
        id: of an item, for the broker to know it by: of two with one id within `duplicate_window` seconds it keeps the
            first, and both are accepted. Needed to try again safely after `PublishTimeout`; with it, what was under way
            when the connection broke is published again.
        publish_timeout: seconds in which the broker has to acknowledge an item.
        duplicate_window: for how many seconds the broker remembers ids, in memory.
        replicas: on how many servers of a cluster the queue is kept.
        storage: "file", or "memory", which does not survive the end of the server.
        credentials: the path of a file with the credentials of the account.

    Raises:
        TypeError, ValueError: of a wrong argument.
    """

    def __init__(
        self,
        url: str,
        name: str,
        size: int = 100_000,
        *,
        id: Callable[[T], str] | None = None,  # noqa: A002 - the name in the field
        publish_timeout: float = 5.0,
        duplicate_window: float = 120.0,
        replicas: int = 1,
        storage: Storage = "file",
        credentials: str | None = None,
    ) -> None:
        self.name = checked_name("name", name)
        self.size = checked_count("size", size, 100_000)
        self._url = url
        self._id = id
        self._timeout = _seconds("publish_timeout", publish_timeout)
        self._stream: dict[str, Any] = {
            "replicas": checked_count("replicas", replicas, 1),
            "storage": storage,
            "duplicate_window": _seconds("duplicate_window", duplicate_window),
        }
        self._credentials = credentials
        self._thread = LoopThread(f"workpool-jetstream-{name}")
        self._connection: Connection | None = None
        self._publisher: Publisher | None = None

    # -- start and end ---------------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and have the stream. Raises ConnectionError if no server answers, `BrokerError` if there is a stream
        of that name that is another queue, RuntimeError if it was started before."""
        if self._connection is not None:
            raise RuntimeError(f"queue {self.name!r} is started already")
        self._thread.start(self._open(), ENDS)

    def close(self) -> None:
        """Send what is under way, and disconnect. Harmless before the start, and twice."""
        if self._connection is None:
            return
        try:
            self._thread.submit(self._close()).result()
        finally:
            self._connection = self._publisher = None
            self._thread.stop(ENDS)

    def __enter__(self) -> JetStreamQueue[T]:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> JetStreamQueue[T]:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # -- submitting ------------------------------------------------------------------------------

    def submit(self, item: T) -> None:
        """Return when the broker has the item. It waits for that, at most `publish_timeout` seconds; not for room.

        Raises:
            QueueFull: there is no room; the item is not accepted.
            PublishTimeout: the broker did not answer; whether it has the item is not known.
            ConnectionError: there is no connection, and so much is under way already that this is not accepted.
            BrokerError: the stream is gone, or takes no such messages.
            TypeError, ValueError: the item is nothing that JSON can say, or is larger than the server takes.
            RuntimeError: the queue is not started, or is closed.
        """
        self._result(self._submit(self._letter(item)))

    async def asubmit(self, item: T) -> None:
        """`submit`, for tasks. Cancelled, it leaves open whether the broker has the item."""
        await self._aresult(self._submit(self._letter(item)))

    def submit_many(self, items: Iterable[T]) -> Published[T]:
        """Submit all, without waiting for each; what became of them. Some may be accepted after one was refused.

        Raises what `submit` does but for `QueueFull` and `PublishTimeout`; then some may have been accepted, unless it
        is that an item is nothing that JSON can say: that is seen before the first is submitted.
        """
        return self._result(self._submit_many(*self._letters(items)))

    async def asubmit_many(self, items: Iterable[T]) -> Published[T]:
        """`submit_many`, for tasks."""
        return await self._aresult(self._submit_many(*self._letters(items)))

    def depth(self) -> int:
        """How many items are in the queue, those that are being worked on included. Asks the broker.

        Raises ConnectionError, TimeoutError or `BrokerError`; RuntimeError if it is not started."""
        return self._result(self._depth())

    def _result(self, work: Coroutine[Any, Any, R]) -> R:
        """Of what runs in the thread. Whoever closes the queue meanwhile leaves it open."""
        try:
            return self._thread.submit(work).result()
        except CancelledError:
            raise self._closed() from None

    async def _aresult(self, work: Coroutine[Any, Any, R]) -> R:
        future = self._thread.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._closed() from None

    def _closed(self) -> PublishTimeout:
        return PublishTimeout(f"queue {self.name!r} was closed before the broker had said whether it has the item")

    # -- in the thread ---------------------------------------------------------------------------

    def disconnected(self) -> None:
        """Nothing: what is published meanwhile is kept, and times out if it takes too long."""

    def reconnected(self) -> None:
        if self._publisher is not None:
            self._publisher.reconnected()

    async def _open(self) -> None:
        connection = await connect(self._url, self.name, self, timeout=self._timeout, credentials=self._credentials)
        try:
            await ensure_stream(connection, self.name, self.size, **self._stream)
            publisher = Publisher(connection, self.name)
            await publisher.open()
        except BaseException:
            await connection.close()
            raise
        self._connection, self._publisher = connection, publisher

    async def _close(self) -> None:
        assert self._connection is not None
        try:
            await self._connection.flush(self._timeout)
        except (ConnectionError, TimeoutError):  # whoever submitted is told
            pass
        await self._connection.close()

    async def _submit(self, letter: Letter) -> None:
        try:
            await self._open_publisher().publish(letter, self._timeout)
        except Full:
            raise self._refusal() from None
        except TimeoutError:
            raise PublishTimeout(
                f"the broker did not say within {self._timeout:g} s whether queue {self.name!r} has the item"
            ) from None

    async def _submit_many(self, items: list[T], sent: list[Letter]) -> Published[T]:
        outcomes: list[Exception | _Unknown | None] = [UNKNOWN] * len(items)

        def letters() -> Iterator[tuple[Letter, Settle]]:
            for place, letter in enumerate(sent):
                yield letter, _noting(outcomes, place)

        await self._open_publisher().publish_many(letters(), self._timeout)
        if error := next(
            (each for each in outcomes if isinstance(each, Exception) and not isinstance(each, Full)), None
        ):
            raise error
        return Published(
            accepted=outcomes.count(None),
            refused=tuple(item for item, each in zip(items, outcomes, strict=True) if isinstance(each, Full)),
            unknown=tuple(item for item, each in zip(items, outcomes, strict=True) if each is UNKNOWN),
        )

    async def _depth(self) -> int:
        assert self._connection is not None
        return int((await ask(self._connection, f"STREAM.INFO.{self.name}"))["state"]["messages"])

    def _open_publisher(self) -> Publisher:
        if self._publisher is None:
            raise RuntimeError(f"queue {self.name!r} is not started, or is closed")
        return self._publisher

    def _refusal(self) -> QueueFull:
        return QueueFull(self.name, self.size, lambda: RETRY_AFTER)

    def _letters(self, items: Iterable[T]) -> tuple[list[T], list[Letter]]:
        kept = list(items)
        return kept, [self._letter(item) for item in kept]

    def _letter(self, item: T) -> Letter:
        return Letter(_encoded(item), None if self._id is None else self._id(item))


class _Unknown:
    """Nobody said."""


UNKNOWN: Final = _Unknown()


def _noting(outcomes: list[Any], place: int) -> Settle:
    def settle(error: Exception | None) -> None:
        outcomes[place] = error

    return settle


def _encoded(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    if isinstance(item, str):
        return item.encode()
    try:
        return pydantic_core.to_json(item)
    except pydantic_core.PydanticSerializationError as error:
        raise TypeError(f"{item!r:.200} cannot be said in JSON: {error}") from None


def _seconds(what: str, seconds: object) -> float:
    checked = checked_seconds(what, seconds)
    if not checked:
        raise ValueError(f"{what} must be more than 0 seconds, not {seconds!r}")
    return checked
