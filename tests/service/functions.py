"""What configurations of the tests name."""

from __future__ import annotations

from collections.abc import AsyncIterator


class Odd(Exception):
    """An exception that is nobody else's."""


class Opaque:
    """Nothing that JSON could be read as."""


number = 5


def handle(item: object) -> object:
    return item


def handle_opaque(_: Opaque) -> None:
    """Not for lines."""


async def handle_async(item: object) -> object:
    return item


async def generate(item: object) -> AsyncIterator[object]:
    yield item


def two(item: object, what: object) -> None:
    """A hook."""


def three(item: object, what: object, more: object) -> None:
    """A hook."""


def within(_: object) -> float:
    return 5.0


def lane(_: object) -> int:
    return 0


def classify(_: Exception) -> None:
    """Nothing is to be taken for what it is not."""


def backoff(failures: int) -> float:
    return float(failures)


def initialize(*_: object) -> None:
    """For a process."""
