"""A real nats-server: one for all tests, each of which has streams of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from workpool.sources.jetstream import NatsServer

_numbers = count()


@pytest.fixture(scope="session")
def server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def name() -> str:
    """Of a stream that nobody else has."""
    return f"queue-{next(_numbers)}"
