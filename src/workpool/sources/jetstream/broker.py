"""Streams and consumers, as JetStream's own API wants them: JSON that is asked of subjects.

The names of fields and the numbers of errors are the server's. Durations are in its unit, nanoseconds.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, Literal

from workpool.errors import PoolError
from workpool.sources.jetstream.connection import Connection

__all__ = [
    "FULL",
    "NO_STREAM",
    "BrokerError",
    "Storage",
    "checked_name",
    "dead_letters",
    "ensure_consumer",
    "ensure_stream",
    "nanoseconds",
]

Storage = Literal["file", "memory"]

FULL: Final = 10077
"""What a stream answers that has as many messages as it may, or as many bytes."""

NO_STREAM: Final = 10059
NO_CONSUMER: Final = 10014
NAME_IN_USE: Final = 10058

PATIENCE: Final = 5.0
"""Seconds in which the server is to answer."""

NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


class BrokerError(PoolError, RuntimeError):
    """JetStream refuses what was asked, and will the next time: a stream that is not as it should be, or not there.

    `code` is its number for that, or 0.
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.code))


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def checked_name(what: str, name: object) -> str:
    """Raises TypeError or ValueError: a name is a part of subjects and of file names."""
    if not isinstance(name, str):
        raise TypeError(f"{what} must be text, not {name!r}")
    if not NAME.fullmatch(name):
        raise ValueError(f"{what} must be letters, digits, _ and - only, not {name!r}")
    return name


async def ask(connection: Connection, what: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the API answers. Raises `BrokerError`, TimeoutError or ConnectionError."""
    data = b"" if content is None else json.dumps(content).encode()
    answer = await connection.request(f"$JS.API.{what}", data, PATIENCE)
    found: dict[str, Any] = json.loads(answer.data)
    if (error := found.get("error")) is not None:
        raise BrokerError(f"{what}: {error.get('description', 'refused')}", int(error.get("err_code", 0)))
    return found


async def ensure_stream(
    connection: Connection, name: str, size: int, *, replicas: int, storage: Storage, duplicate_window: float
) -> None:
    """Have a stream that is a bounded queue. Raises `BrokerError` if there is one of that name that is not."""
    wanted = {
        "name": name,
        "subjects": [name],
        "retention": "workqueue",
        "discard": "new",
        "max_msgs": size,
        "storage": storage,
        "num_replicas": replicas,
        "duplicate_window": nanoseconds(duplicate_window),
    }
    try:
        await ask(connection, f"STREAM.CREATE.{name}", wanted)
    except BrokerError as error:
        if error.code != NAME_IN_USE:
            raise
        there = (await ask(connection, f"STREAM.INFO.{name}"))["config"]
        differs = [
            f"{key} is {there.get(key)!r}, not {wanted[key]!r}"
            for key in ("subjects", "retention", "discard", "max_msgs", "storage", "num_replicas", "duplicate_window")
            if there.get(key) != wanted[key]
        ]
        raise BrokerError(
            f"there is a stream {name!r} that is another queue: {', '.join(differs) or error}; take another name, or "
            "change or delete that stream",
            error.code,
        ) from None


def dead_letters(stream: str) -> tuple[str, str]:
    """The stream of what has failed for good, and its subject."""
    return f"{stream}-dead", f"{stream}.dead"


async def ensure_dead_letters(connection: Connection, stream: str) -> str:
    """Have a place for what has failed for good; its subject. As safe as the queue itself is."""
    name, subject = dead_letters(stream)
    there = (await ask(connection, f"STREAM.INFO.{stream}"))["config"]
    wanted = {"name": name, "subjects": [subject], "storage": there["storage"], "num_replicas": there["num_replicas"]}
    try:
        await ask(connection, f"STREAM.CREATE.{name}", wanted)
    except BrokerError as error:
        if error.code != NAME_IN_USE:  # else somebody has made it, with limits of their own
            raise
    return subject


async def ensure_consumer(
    connection: Connection, stream: str, consumer: str, *, ack_wait: float, max_ack_pending: int
) -> float:
    """Have a durable consumer; how many seconds it waits for an acknowledgement. One that is there stays as it is.

    It delivers for ever: how often is enough is for the source to say, which can tell somebody then. (The server would
    only leave the message where it is.)
    """
    try:
        there = await ask(connection, f"CONSUMER.INFO.{stream}.{consumer}")
    except BrokerError as error:
        if error.code == NO_STREAM:
            raise BrokerError(f"there is no stream {stream!r}", error.code) from None
        if error.code != NO_CONSUMER:
            raise
        config = {
            "durable_name": consumer,
            "name": consumer,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(ack_wait),
            "max_deliver": -1,
            "max_ack_pending": max_ack_pending,
        }
        request = {"stream_name": stream, "config": config}
        there = await ask(connection, f"CONSUMER.CREATE.{stream}.{consumer}", request)
    config = there["config"]
    if config.get("ack_policy") != "explicit" or config.get("deliver_subject"):
        raise BrokerError(f"consumer {consumer!r} of stream {stream!r} is not one to pull from with acknowledgements")
    return float(config["ack_wait"]) / 1e9
