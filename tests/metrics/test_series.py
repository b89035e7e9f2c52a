"""The `workpool_*` series: what they are called, what they say, and that they say it at scrape time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from threading import Barrier, Thread

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.metrics.scraping import SOON, Gate, MakePool, Scrape, openmetrics, scrape, text
from workpool import Pool, PoolStats, PoolStopped, QueueFull, StopTimeout
from workpool._clock import SYSTEM, Clock, Parker

POOL = {"pool"}
SERIES = {
    "workpool_queue_depth": ("gauge", "Items that wait for a worker.", POOL),
    "workpool_queue_capacity": ("gauge", "Items that may wait for a worker.", POOL),
    "workpool_workers": ("gauge", "Workers that the pool is to have.", POOL),
    "workpool_workers_busy": ("gauge", "Workers that are running an item.", POOL),
    "workpool_workers_stuck": (
        "gauge",
        "Workers that were given up over an item that took too long, and still run it.",
        POOL,
    ),
    "workpool_keys_held": ("gauge", "Keys that are held because an item of theirs failed for good.", POOL),
    "workpool_running": ("gauge", "Items that are running.", POOL),
    "workpool_waiting": ("gauge", "Items that wait for their next attempt.", POOL),
    "workpool_oldest_running_seconds": (
        "gauge",
        "For how long the longest-running item has been running; 0 if none runs.",
        POOL,
    ),
    "workpool_ledger_imbalance": (
        "gauge",
        "Accepted items less those that are somewhere; anything but 0 is a bug in workpool.",
        POOL,
    ),
    "workpool_submitted": ("counter", "Items that were accepted.", POOL),
    "workpool_processed": ("counter", "Items that ran to an end, failures included.", POOL),
    "workpool_failed": ("counter", "Items whose process function raised.", POOL),
    "workpool_retries": ("counter", "Attempts that failed, and led to another.", POOL),
    "workpool_snoozes": ("counter", "Runs after which an item asked for more time.", POOL),
    "workpool_discarded": ("counter", "Items that were discarded while they ran.", POOL),
    "workpool_cancelled": ("counter", "Accepted items that were taken back before they ran.", POOL),
    "workpool_abandoned": ("counter", "Items that still ran when their pool had stopped.", POOL),
    "workpool_dropped": ("counter", "Items that were refused at submit, by reason.", {"pool", "reason"}),
    "workpool_shed": ("counter", "Accepted items that were dropped before they ran, by reason.", {"pool", "reason"}),
    "workpool_dead": ("counter", "Items that failed, by why they are tried no more.", {"pool", "reason"}),
    "workpool_run_seconds": ("histogram", "Run time of items, by status.", {"pool", "status"}),
    "workpool_queue_wait_seconds": ("histogram", "Time that items waited in the queue.", POOL),
}
BOUNDS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]


def same(item: int) -> int:
    return item


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def assert_equal(found: Scrape, stats: PoolStats) -> None:
    """The scrape says of the pool what `stats` says."""
    pool = stats.pool
    counts = {
        "workpool_queue_depth": stats.queue_depth,
        "workpool_queue_capacity": stats.queue_size,
        "workpool_workers": stats.workers,
        "workpool_workers_busy": stats.workers_busy,
        "workpool_workers_stuck": stats.workers_stuck,
        "workpool_keys_held": stats.keys_held,
        "workpool_running": stats.running,
        "workpool_waiting": stats.waiting,
        "workpool_retries_total": stats.retries,
        "workpool_snoozes_total": stats.snoozes,
        "workpool_discarded_total": stats.discarded,
        "workpool_submitted_total": stats.submitted,
        "workpool_processed_total": stats.processed,
        "workpool_failed_total": stats.failed,
        "workpool_cancelled_total": stats.cancelled,
        "workpool_abandoned_total": stats.abandoned,
        "workpool_queue_wait_seconds_count": stats.queue_wait.count,
        "workpool_queue_wait_seconds_sum": stats.queue_wait.sum,
    }
    assert {name: found.value(name, pool=pool) for name in counts} == counts
    for reason, count in stats.refused.items():
        assert found.value("workpool_dropped_total", pool=pool, reason=reason) == count
    for reason, count in stats.dead.items():
        assert found.value("workpool_dead_total", pool=pool, reason=reason) == count
    for status, histogram in (("success", stats.run_success), ("error", stats.run_error)):
        assert found.value("workpool_run_seconds_count", pool=pool, status=status) == histogram.count
        assert found.value("workpool_run_seconds_sum", pool=pool, status=status) == histogram.sum


@pytest.mark.parametrize("form", ["openmetrics", "text"])
def test_every_series_of_several_pools_in_one_scrape(
    registry: CollectorRegistry, form: str, any_pool: MakePool
) -> None:
    with (
        any_pool(same, name="first", metrics=registry) as first,
        any_pool(same, name="second", metrics=registry) as second,
    ):
        first.call(1).result(SOON)
        second.call(2).result(SOON)
        found = scrape(registry, form)
    assert {name: (each.type, each.documentation) for name, each in found.families.items()} == {
        name: (kind, about) for name, (kind, about, _) in SERIES.items()
    }
    for name, family in found.families.items():
        labels = {frozenset(set(sample.labels) - {"le"}) for sample in family.samples}
        assert labels == {frozenset(SERIES[name][2])}, name
    assert found.pools() == {"first", "second"}


@pytest.mark.parametrize("expose", [openmetrics, text])
def test_each_help_and_type_comes_once_whatever_the_number_of_pools(
    registry: CollectorRegistry, expose: Callable[[CollectorRegistry], str]
) -> None:
    with Pool(same, name="first", metrics=registry), Pool(same, name="second", metrics=registry):
        lines = [line for line in expose(registry).splitlines() if line.startswith(("# HELP", "# TYPE"))]
    assert len(lines) == len(set(lines)) == 2 * len(SERIES)


def test_no_series_says_when_it_was_created(registry: CollectorRegistry) -> None:
    with Pool(same, metrics=registry, metrics_prefix="tasks") as pool:
        pool.call(1).result(SOON)
        assert "_created" not in openmetrics(registry) + text(registry)


def test_a_pool_that_has_not_started_is_not_exported(registry: CollectorRegistry) -> None:
    pool = Pool(same, metrics=registry, metrics_prefix="tasks")
    assert text(registry) == ""
    pool.close()
    assert text(registry) == ""


def test_the_values_are_those_of_stats(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, concurrent_pool: MakePool
) -> None:
    gate = Gate(bad=[3])
    pool = concurrent_pool(gate, workers=2, queue_size=4, name="tasks", metrics=registry)
    with pytest.raises(RuntimeError):
        pool.submit(0)  # refused: not started
    with pool:
        for item in (1, 2):
            pool.submit(item)
        gate.await_running(2)
        for item in (3, 4, 5):
            pool.submit(item)
        taken_back = pool.call(6)
        with pytest.raises(QueueFull):
            pool.submit(7)
        assert taken_back.cancel()
        found = scrape(registry)
        assert_equal(found, pool.stats())
        assert found.value("workpool_queue_depth", pool="tasks") == 3
        assert found.value("workpool_workers_busy", pool="tasks") == 2
        assert found.value("workpool_cancelled_total", pool="tasks") == 1
        gate.open()
        assert pool.join(SOON)
        assert_equal(scrape(registry), pool.stats())
    with pytest.raises(PoolStopped):
        pool.submit(8)
    found = scrape(registry)
    assert_equal(found, pool.stats())
    assert found.value("workpool_submitted_total", pool="tasks") == 6
    assert found.value("workpool_processed_total", pool="tasks") == 5
    assert found.value("workpool_failed_total", pool="tasks") == 1


def test_refusals_are_counted_by_reason(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    gate = Gate()
    pool = concurrent_pool(gate, workers=1, queue_size=1, name="tasks", metrics=registry)
    with pytest.raises(RuntimeError):
        pool.submit(0)
    with pool:
        pool.submit(1)
        gate.await_running(1)
        pool.submit(2)
        for _ in range(3):
            with pytest.raises(QueueFull):
                pool.submit(3)
        gate.open()
    for _ in range(2):
        with pytest.raises(PoolStopped):
            pool.submit(4)
    found = scrape(registry)
    dropped = {
        sample.labels["reason"]: sample.value
        for sample in found.families["workpool_dropped"].samples
        if sample.labels["pool"] == "tasks"
    }
    assert dropped == {"full": 3, "not_started": 1, "stopped": 2}


def test_gauges_are_read_when_they_are_scraped(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    gate = Gate()
    with concurrent_pool(gate, workers=1, name="tasks", metrics=registry) as pool:
        pool.submit(0)
        gate.await_running(1)
        depths = []
        for item in range(1, 4):
            pool.submit(item)
            depths.append(scrape(registry).value("workpool_queue_depth", pool="tasks"))
        assert depths == [1, 2, 3]
        gate.open()
        assert pool.join(SOON)
        assert scrape(registry).value("workpool_queue_depth", pool="tasks") == 0


def test_after_a_stop_nothing_is_queued_or_busy(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    gate = Gate()
    with concurrent_pool(gate, workers=2, name="tasks", metrics=registry) as pool:
        for item in range(5):
            pool.submit(item)
        gate.await_running(2)
        assert scrape(registry).value("workpool_workers_busy", pool="tasks") == 2
        gate.open()
    found = scrape(registry)
    gauges = ("queue_depth", "workers_busy", "running", "oldest_running_seconds", "ledger_imbalance")
    assert [found.value(f"workpool_{gauge}", pool="tasks") for gauge in gauges] == [0] * 5
    assert found.value("workpool_processed_total", pool="tasks") == 5


def test_an_abandoned_item_is_counted_and_no_longer_busy(
    registry: CollectorRegistry, concurrent_pool: MakePool
) -> None:
    clock = Leap()
    gate = Gate()
    pool = concurrent_pool(gate, workers=1, name="tasks", metrics=registry, clock=clock.clock)
    pool.start()
    pool.submit(1)
    gate.await_running(1)
    pool.submit(2)
    clock.leaping = True
    with pytest.raises(StopTimeout):
        pool.stop(timeout=1)
    found = scrape(registry)
    gate.open()
    assert found.value("workpool_abandoned_total", pool="tasks") == 1
    assert found.value("workpool_cancelled_total", pool="tasks") == 1
    assert found.value("workpool_workers_busy", pool="tasks") == 0
    assert found.value("workpool_ledger_imbalance", pool="tasks") == 0


class Leap:
    """A clock on which time passes by leaps: to the end of whatever is waited for."""

    def __init__(self) -> None:
        self.time = 100.0
        self.leaping = False
        self.clock = Clock(lambda: self.time, self._park)

    def _park(self, parker: Parker, seconds: float | None) -> bool:
        if seconds is None or not self.leaping:
            return SYSTEM.park(parker, SOON)
        self.time += seconds
        return False


def test_the_age_of_the_oldest_item_is_the_clocks(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    clock = Leap()
    gate = Gate()
    with concurrent_pool(gate, workers=2, name="tasks", metrics=registry, clock=clock.clock) as pool:
        pool.submit(1)
        gate.await_running(1)
        clock.time += 7
        assert scrape(registry).value("workpool_oldest_running_seconds", pool="tasks") == 7
        gate.open()
        assert pool.join(SOON)
        assert scrape(registry).value("workpool_oldest_running_seconds", pool="tasks") == 0


def test_histograms_are_cumulative_and_end_in_infinity(registry: CollectorRegistry, any_pool: MakePool) -> None:
    clock = Leap()
    run_times = iter([0.0005, 0.001, 0.003, 0.03, 0.7, 4.0, 60.0])

    def run(item: int) -> None:
        clock.time += next(run_times)

    with any_pool(run, workers=1, name="tasks", metrics=registry, clock=clock.clock) as pool:
        for item in range(7):
            pool.call(item).result(SOON)
        found = scrape(registry)
    buckets = found.buckets("workpool_run_seconds", pool="tasks", status="success")
    assert [bound for bound, _ in buckets] == BOUNDS
    counts = [count for _, count in buckets]
    # The second run is the bound itself up to rounding: it may count on either side of it.
    assert counts[0] in (1, 2)
    assert counts[1:] == [3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 7]
    assert found.value("workpool_run_seconds_count", pool="tasks", status="success") == 7
    assert found.value("workpool_run_seconds_sum", pool="tasks", status="success") == pytest.approx(64.7345)
    assert found.buckets("workpool_run_seconds", pool="tasks", status="error") == [(bound, 0) for bound in BOUNDS]


def test_a_failed_run_is_timed_as_an_error(registry: CollectorRegistry, any_pool: MakePool) -> None:
    clock = Leap()

    def run(item: int) -> None:
        clock.time += 0.2
        raise ValueError(item)

    with any_pool(run, workers=1, name="tasks", metrics=registry, clock=clock.clock) as pool:
        with pytest.raises(ValueError):
            pool.call(1).result(SOON)
        found = scrape(registry)
    assert dict(found.buckets("workpool_run_seconds", pool="tasks", status="error"))["0.25"] == 1
    assert found.value("workpool_run_seconds_sum", pool="tasks", status="error") == pytest.approx(0.2)
    assert found.value("workpool_run_seconds_count", pool="tasks", status="success") == 0


def test_time_in_the_queue_is_measured(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    clock = Leap()
    gate = Gate()
    with concurrent_pool(gate, workers=1, name="tasks", metrics=registry, clock=clock.clock) as pool:
        pool.submit(1)
        gate.await_running(1)
        pool.submit(2)
        clock.time += 3
        gate.open()
        assert pool.join(SOON)
        found = scrape(registry)
    buckets = dict(found.buckets("workpool_queue_wait_seconds", pool="tasks"))
    assert (buckets["0.001"], buckets["2.5"], buckets["5.0"], buckets["+Inf"]) == (1, 1, 2, 2)
    assert found.value("workpool_queue_wait_seconds_sum", pool="tasks") == pytest.approx(3)


def test_the_ledger_balances_in_every_scrape_under_load(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, any_pool: MakePool
) -> None:
    caplog.set_level("CRITICAL", "workpool")
    producers = 4
    begin = Barrier(producers + 1)

    def some_fail(item: int) -> None:
        if item % 100 == 0:
            raise ValueError(item)

    def produce(pool: Pool[int, None]) -> None:
        begin.wait(SOON)
        for item in range(1, 1001):
            try:
                if item % 50 == 7:
                    pool.call(item).cancel()
                else:
                    pool.submit(item)
            except QueueFull:
                pool.submit_wait(item)

    with any_pool(some_fail, workers=3, queue_size=20, name="tasks", metrics=registry) as pool:
        threads = [Thread(target=produce, args=(pool,)) for _ in range(producers)]
        for thread in threads:
            thread.start()
        begin.wait(SOON)
        scrapes = 0
        while any(thread.is_alive() for thread in threads) or scrapes < 2:
            found = scrape(registry)
            assert found.value("workpool_ledger_imbalance", pool="tasks") == 0
            processed = found.value("workpool_processed_total", pool="tasks")
            assert processed <= found.value("workpool_submitted_total", pool="tasks")
            scrapes += 1
    found = scrape(registry)
    assert found.value("workpool_ledger_imbalance", pool="tasks") == 0
    assert found.value("workpool_submitted_total", pool="tasks") == producers * 1000


def test_an_imbalance_would_be_seen(registry: CollectorRegistry) -> None:
    with Pool(same, name="tasks", metrics=registry) as pool:
        pool._queue._lane.accepted += 1
        assert scrape(registry).value("workpool_ledger_imbalance", pool="tasks") == 1
        pool._queue._lane.accepted -= 1


def counters(found: Scrape) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample that must never fall."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in found.families.values()
        if family.type in ("counter", "histogram")
        for sample in family.samples
    }


def test_no_counter_falls_when_workers_leave(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, any_pool: MakePool
) -> None:
    caplog.set_level("CRITICAL", "workpool")

    def some_fail(item: int) -> None:
        if item % 3 == 0:
            raise ValueError(item)

    scrapes = []

    def look() -> None:
        scrapes.append(counters(scrape(registry)))

    with any_pool(some_fail, workers=8, name="tasks", metrics=registry, metrics_prefix="mp") as pool:
        for workers in (8, 1, 4, 2):
            pool.resize(workers)
            look()
            futures = [pool.call(item) for item in range(60)]
            look()
            for future in futures:
                future.exception(SOON)
            look()
        pool.resize(1)
        look()
    look()
    pool.stop()
    look()
    for before, after in itertools.pairwise(scrapes):
        assert before.keys() <= after.keys()
        assert [key for key in before if before[key] > after[key]] == []
    assert scrapes[-1]["workpool_processed_total", frozenset({("pool", "tasks")})] == 240
    assert scrapes[-1]["workpool_queue_wait_seconds_count", frozenset({("pool", "tasks")})] == 240


def test_resizing_is_seen(registry: CollectorRegistry, any_pool: MakePool) -> None:
    with any_pool(same, workers=2, name="tasks", metrics=registry) as pool:
        pool.resize(5)
        assert scrape(registry).value("workpool_workers", pool="tasks") == 5


def test_a_scrape_may_ask_for_some_series_only(registry: CollectorRegistry) -> None:
    with Pool(same, name="tasks", metrics=registry):
        some = registry.restricted_registry(["workpool_queue_depth", "workpool_submitted_total"])
        lines = [line for line in generate_latest(some).decode().splitlines() if not line.startswith("#")]
    assert lines == ['workpool_queue_depth{pool="tasks"} 0.0', 'workpool_submitted_total{pool="tasks"} 0.0']


def test_a_name_may_be_any_text(registry: CollectorRegistry) -> None:
    name = 'A "pool"\\ with\nmany faces: ö, 池'
    with Pool(same, name=name, metrics=registry):
        assert scrape(registry).pools() == {name}
        assert scrape(registry, "text").pools() == {name}
