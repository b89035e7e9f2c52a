"""Metrics of pools whose workers are tasks of a loop that others use too: `async with`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from tests.metrics.scraping import SOON, Gate, Scrape, scrape
from workpool import NameTaken, Pool, PoolStopped, QueueFull

COUNTERS = ("submitted", "processed", "failed", "cancelled", "abandoned")


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def threads() -> Iterator[set[threading.Thread]]:
    """Those there were before the test, which leaves no other."""
    before = set(threading.enumerate())
    yield before
    assert set(threading.enumerate()) <= before


def counts(found: Scrape) -> dict[str, float]:
    return {name: found.value(f"workpool_{name}_total", pool="tasks") for name in COUNTERS}


async def same(item: int) -> int:
    return item


def test_the_values_while_items_run_wait_and_fail_and_after_astop(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        gate = Gate(bad=[3])
        pool = Pool(gate.wait, workers=2, queue_size=3, name="tasks", metrics=registry, metrics_prefix="mp")
        async with pool:
            for item in (1, 2):
                await pool.asubmit(item)
            await asyncio.to_thread(gate.await_running, 2)
            for item in (3, 4, 5):
                pool.submit(item)
            with pytest.raises(QueueFull):
                pool.submit(6)
            with pytest.raises(QueueFull):
                await pool.asubmit(7, timeout=0)
            found = scrape(registry)
            assert found.value("workpool_workers_busy", pool="tasks") == 2
            assert found.value("workpool_queue_depth", pool="tasks") == found.value("mp_queue_depth") == 3
            assert found.value("mp_utilization") == 1
            assert found.value("workpool_oldest_running_seconds", pool="tasks") > 0
            gate.open()
            await pool.astop(SOON)
        with pytest.raises(PoolStopped):
            await pool.asubmit(8)

    asyncio.run(main())
    found = scrape(registry)
    assert counts(found) == {"submitted": 5, "processed": 5, "failed": 1, "cancelled": 0, "abandoned": 0}
    for gauge in ("queue_depth", "workers_busy", "running", "oldest_running_seconds", "ledger_imbalance"):
        assert found.value(f"workpool_{gauge}", pool="tasks") == 0
    for reason, refused in {"full": 2, "not_started": 0, "stopped": 1}.items():
        assert found.value("workpool_dropped_total", pool="tasks", reason=reason) == refused
    assert found.value("mp_processed_total") == 5
    assert found.value("mp_failed_total") == 1
    assert found.value("mp_processing_duration_seconds_count", status="error") == 1
    assert found.value("workpool_queue_wait_seconds_count", pool="tasks") == 5


def test_what_a_stop_cancels_has_failed_and_what_it_hands_back_is_cancelled(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def endless(item: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        async with Pool(endless, workers=1, name="tasks", metrics=registry) as pool:
            pool.submit(1)
            await asyncio.wait_for(begun.wait(), SOON)
            pool.submit(2)
            await pool.astop(timeout=0, drain=False)

    asyncio.run(main())
    assert counts(scrape(registry)) == {"submitted": 2, "processed": 1, "failed": 1, "cancelled": 1, "abandoned": 0}


def test_a_plain_function_under_async_with_is_seen_too(registry: CollectorRegistry) -> None:
    async def main() -> None:
        async with Pool(int, name="tasks", metrics=registry) as pool:
            assert [result async for result in pool.amap(range(5))] == list(range(5))
            assert await pool.ajoin(SOON)
            assert counts(scrape(registry))["processed"] == 5

    asyncio.run(main())


@pytest.mark.parametrize("taken", ["name", "prefix"])
def test_a_start_that_is_refused_leaves_no_task_and_no_thread(
    registry: CollectorRegistry, threads: set[threading.Thread], taken: str
) -> None:
    async def main() -> None:
        names = ("tasks", "mp"), ("tasks", "other") if taken == "name" else ("others", "mp")
        (name, prefix), (second_name, second_prefix) = names
        async with Pool(same, name=name, metrics=registry, metrics_prefix=prefix) as first:
            tasks = asyncio.all_tasks()
            second = Pool(same, name=second_name, metrics=registry, metrics_prefix=second_prefix)
            with pytest.raises(NameTaken):
                async with second:
                    pytest.fail("it has started")
            assert asyncio.all_tasks() == tasks
            assert set(threading.enumerate()) == threads
            assert second.stats().state == "new"
            assert await first.acall(1) == 1
            assert scrape(registry).pools() == {"tasks"}
        async with second:
            assert await second.acall(2) == 2
            assert scrape(registry).value(f"{second_prefix}_queue_depth") == 0

    asyncio.run(main())


@pytest.mark.parametrize("taken", ["name", "prefix"])
def test_a_start_that_is_refused_starts_no_event_loop(
    registry: CollectorRegistry, threads: set[threading.Thread], taken: str
) -> None:
    second = Pool(same, name="tasks" if taken == "name" else "others", metrics=registry, metrics_prefix="mp")
    with Pool(same, name="tasks", metrics=registry, metrics_prefix="mp" if taken == "prefix" else None):
        running = set(threading.enumerate())
        with pytest.raises(NameTaken):
            second.start()
        assert set(threading.enumerate()) == running
    with second:
        assert second.call(1).result(SOON) == 1


def test_a_scrape_from_another_thread_while_the_loop_is_busy_balances(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Items that never suspend, ones that do, ones that fail and ones that are taken back."""
    caplog.set_level("CRITICAL", "workpool")
    scrapes: list[Scrape] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set() or len(scrapes) < 2:
            scrapes.append(scrape(registry))

    async def handle(item: int) -> None:
        if item % 7 == 0:
            await asyncio.sleep(0)
        if item % 100 == 0:
            raise ValueError(item)

    async def main() -> None:
        async with Pool(handle, workers=5, queue_size=50, name="tasks", metrics=registry) as pool:
            looking = asyncio.create_task(asyncio.to_thread(look))
            try:
                for item in range(1, 5001):
                    if item % 50 == 7:
                        with suppress(QueueFull):
                            pool.call(item).cancel()
                    await pool.asubmit(item)
            finally:
                over.set()
            await looking

    asyncio.run(main())
    for found in scrapes:
        assert found.value("workpool_ledger_imbalance", pool="tasks") == 0
        assert counts(found)["processed"] <= counts(found)["submitted"]
    assert counts(scrape(registry))["failed"] == 50


def test_a_scrape_does_not_wait_for_the_loop(registry: CollectorRegistry) -> None:
    """A function that holds the loop up is what one wants to see."""
    held, go_on = threading.Event(), threading.Event()

    async def hold(item: int) -> None:
        held.set()
        assert go_on.wait(SOON)

    with Pool(hold, workers=2, name="tasks", metrics=registry) as pool:
        pool.submit(1)
        assert held.wait(SOON)
        pool.submit(2)
        found = scrape(registry)
        go_on.set()
    assert found.value("workpool_workers_busy", pool="tasks") == 1
    assert found.value("workpool_queue_depth", pool="tasks") == 1
