"""Pools on each kind of worker: what their metrics say is the same."""

from __future__ import annotations

import pytest

from tests.metrics.scraping import Kind, MakePool


@pytest.fixture(params=["thread", "asyncio", "inline"])
def any_pool(request: pytest.FixtureRequest) -> MakePool:
    """Makes a pool that runs a plain function, on workers of any kind."""
    return Kind(request.param).pool


@pytest.fixture(params=["thread", "asyncio"])
def concurrent_pool(request: pytest.FixtureRequest) -> MakePool:
    """The same, on workers of the kinds that can be held while the test goes on."""
    return Kind(request.param).pool
