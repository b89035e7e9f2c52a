"""Fixtures for pytest, which finds them by itself where workpool is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, Unpack

import pytest

from workpool.pool import Options, Pool
from workpool.testing.clock import ManualClock

__all__ = ["InlinePool", "inline_pool", "manual_clock"]

T = TypeVar("T")
R = TypeVar("R")


class InlinePool(Protocol):
    """What the fixture `inline_pool` gives."""

    def __call__(self, process: Callable[[T], R], **options: Unpack[Options[T]]) -> Pool[T, R]: ...


@pytest.fixture
def inline_pool() -> Iterator[InlinePool]:
    """Makes started pools whose items have run when `submit` returns: `inline_pool(process, queue_size=2)`.

    At the end of the test they are stopped, whatever is still queued does not run, and their ledgers are checked.
    """
    made: list[Pool[Any, Any]] = []

    def make(process: Callable[[T], R], **options: Unpack[Options[T]]) -> Pool[T, R]:
        options.setdefault("executor", "inline")
        pool: Pool[T, R] = Pool(process, **options)
        made.append(pool)
        pool.start()
        return pool

    yield make
    for pool in made:
        stats = pool.stop(drain=False).stats
        assert stats.balance() == 0, stats


@pytest.fixture
def manual_clock() -> ManualClock:
    """Time that passes when the test says so: `Pool(..., clock=manual_clock.clock)`, `manual_clock.advance(5)`."""
    return ManualClock()
