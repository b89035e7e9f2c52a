"""Metrics of a pool whose items run in whoever submits: an item can scrape the pool that runs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from tests.metrics.scraping import Scrape, scrape
from workpool import Pool, PoolNotStarted, PoolStopped, QueueFull
from workpool.testing import ManualClock


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def value(found: Scrape) -> Callable[[str], float]:
    return lambda series: found.value(f"workpool_{series}", pool="tasks")


def test_an_item_sees_itself_run(registry: CollectorRegistry) -> None:
    seen: list[Scrape] = []
    clock = ManualClock()

    def look(item: int) -> None:
        clock.advance(2)
        seen.append(scrape(registry))

    with Pool(look, workers=3, name="tasks", metrics=registry, executor="inline", clock=clock.clock) as pool:
        pool.submit(1)
        now = value(scrape(registry))
    inside = value(seen[0])
    assert [inside(series) for series in ("workers", "workers_busy", "running", "queue_depth")] == [3, 1, 1, 0]
    assert [inside(series) for series in ("submitted_total", "processed_total", "ledger_imbalance")] == [1, 0, 0]
    assert inside("oldest_running_seconds") == 2
    assert [now(series) for series in ("workers_busy", "running", "processed_total", "ledger_imbalance")] == [
        0,
        0,
        1,
        0,
    ]
    assert scrape(registry).value("workpool_run_seconds_sum", pool="tasks", status="success") == 2


def test_items_inside_each_other_run_or_wait(registry: CollectorRegistry) -> None:
    """Two workers: the third item waits until the second has ended."""
    seen: list[tuple[float, float]] = []

    def look(item: int) -> None:
        if item < 3:
            pool.submit(item + 1)
        now = value(scrape(registry))
        seen.append((now("workers_busy"), now("queue_depth")))
        assert now("ledger_imbalance") == 0

    pool: Pool[int, None] = Pool(look, workers=2, name="tasks", metrics=registry, executor="inline")
    with pool:
        pool.submit(1)
    assert seen == [(2, 1), (2, 0), (1, 0)]
    assert value(scrape(registry))("processed_total") == 3


def test_what_waits_is_refused_or_fails(registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    def divide(item: int) -> int:
        return 1 // item

    pool = Pool(divide, queue_size=2, name="tasks", metrics=registry, metrics_prefix="mp", executor="inline")
    with pytest.raises(PoolNotStarted):
        pool.submit(0)
    with pool:
        pool.pause()
        pool.submit(0)
        pool.submit(1)
        with pytest.raises(QueueFull):
            pool.submit(2)
        found = scrape(registry)
        assert value(found)("queue_depth") == found.value("mp_queue_depth") == 2
        assert found.value("mp_utilization") == 1
        pool.resume()
    with pytest.raises(PoolStopped):
        pool.submit(3)
    found = scrape(registry)
    counts = ("submitted", "processed", "failed", "cancelled", "abandoned")
    assert [value(found)(f"{count}_total") for count in counts] == [2, 2, 1, 0, 0]
    for reason in ("full", "not_started", "stopped"):
        assert found.value("workpool_dropped_total", pool="tasks", reason=reason) == 1
    assert [found.value(f"mp_{count}_total") for count in ("submitted", "processed", "failed", "dropped")] == [
        2,
        2,
        1,
        1,
    ]
