"""`metrics_prefix`: exactly the seven series that the Go package exports."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter

from tests.metrics.scraping import SOON, Gate, MakePool, openmetrics, scrape, text
from workpool import NameTaken, Pool, QueueFull

PREFIX = "message_processor"
BOUNDS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "+Inf"]
DURATION = f"{PREFIX}_processing_duration_seconds"


def same(item: int) -> int:
    return item


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.mark.parametrize("form", ["openmetrics", "text"])
def test_exactly_the_seven_series(registry: CollectorRegistry, form: str, any_pool: MakePool) -> None:
    with any_pool(same, metrics=registry, metrics_prefix=PREFIX) as pool:
        pool.call(1).result(SOON)
        found = scrape(registry, form)
    kinds = {name: each.type for name, each in found.families.items() if not name.startswith("workpool_")}
    assert kinds == {
        "message_processor_queue_depth": "gauge",
        "message_processor_utilization": "gauge",
        "message_processor_submitted": "counter",
        "message_processor_processed": "counter",
        "message_processor_failed": "counter",
        "message_processor_dropped": "counter",
        "message_processor_processing_duration_seconds": "histogram",
    }
    assert {name for name in found.names() if not name.startswith("workpool_")} == {
        "message_processor_queue_depth",
        "message_processor_utilization",
        "message_processor_submitted_total",
        "message_processor_processed_total",
        "message_processor_failed_total",
        "message_processor_dropped_total",
        "message_processor_processing_duration_seconds_bucket",
        "message_processor_processing_duration_seconds_count",
        "message_processor_processing_duration_seconds_sum",
    }
    for name, family in found.families.items():
        if name in kinds:
            assert family.documentation
            labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            assert labels == ({frozenset({"status"})} if name == DURATION else {frozenset()})


def test_the_histogram_has_the_go_packages_buckets(registry: CollectorRegistry, any_pool: MakePool) -> None:
    with any_pool(same, metrics=registry, metrics_prefix=PREFIX) as pool:
        for item in range(3):
            pool.call(item).result(SOON)
        found = scrape(registry)
        stats = pool.stats()
    for status, histogram in (("success", stats.run_success), ("error", stats.run_error)):
        buckets = found.buckets(DURATION, status=status)
        assert [bound for bound, _ in buckets] == BOUNDS
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        assert counts[-1] == found.value(f"{DURATION}_count", status=status) == histogram.count
        assert found.value(f"{DURATION}_sum", status=status) == histogram.sum


def test_the_values_are_those_of_stats(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, concurrent_pool: MakePool
) -> None:
    gate = Gate(bad=[1])
    with concurrent_pool(gate, workers=1, queue_size=4, metrics=registry, metrics_prefix=PREFIX) as pool:
        pool.submit(1)
        gate.await_running(1)
        for item in (2, 3, 4):
            pool.submit(item)
        found = scrape(registry)
        assert found.value(f"{PREFIX}_queue_depth") == 3
        assert found.value(f"{PREFIX}_utilization") == 0.75
        pool.submit(5)
        with pytest.raises(QueueFull):
            pool.submit(6)
        assert scrape(registry).value(f"{PREFIX}_utilization") == 1
        gate.open()
    found = scrape(registry)
    values = {name: found.value(f"{PREFIX}_{name}_total") for name in ("submitted", "processed", "failed", "dropped")}
    assert values == {"submitted": 5, "processed": 5, "failed": 1, "dropped": 1}
    assert found.value(f"{PREFIX}_queue_depth") == found.value(f"{PREFIX}_utilization") == 0
    assert found.value(f"{DURATION}_count", status="error") == 1
    assert found.value(f"{DURATION}_count", status="success") == 4


def test_only_refusals_for_a_full_queue_are_dropped(registry: CollectorRegistry, any_pool: MakePool) -> None:
    pool = any_pool(same, name="tasks", metrics=registry, metrics_prefix=PREFIX)
    with pytest.raises(RuntimeError):
        pool.submit(1)
    with pool:
        found = scrape(registry)
    assert found.value("workpool_dropped_total", pool="tasks", reason="not_started") == 1
    assert found.value(f"{PREFIX}_dropped_total") == 0


def test_a_prefix_implies_metrics() -> None:
    with Pool(same, name="implied", metrics_prefix=PREFIX) as pool:
        found = scrape(REGISTRY)
        assert f"{PREFIX}_queue_depth" in found.families
        assert found.value("workpool_queue_depth", pool="implied") == 0
    pool.unregister()
    assert PREFIX not in text(REGISTRY)
    assert "workpool_" not in text(REGISTRY)


def test_two_prefixes_on_one_registry(registry: CollectorRegistry) -> None:
    with (
        Pool(same, name="first", metrics=registry, metrics_prefix="mp"),
        Pool(same, name="second", metrics=registry, metrics_prefix="bp") as second,
    ):
        second.call(1).result(SOON)
        assert second.join(SOON)
        found = scrape(registry)
    assert found.value("mp_submitted_total") == 0
    assert found.value("bp_submitted_total") == 1


def test_a_prefix_in_use_refuses_the_start(registry: CollectorRegistry, any_pool: MakePool) -> None:
    later = any_pool(same, name="later", metrics=registry, metrics_prefix=PREFIX)
    with any_pool(same, name="first", metrics=registry, metrics_prefix=PREFIX) as first:
        with pytest.raises(NameTaken, match=PREFIX):
            later.start()
        assert later.stats().state == "new"
        first.call(1).result(SOON)
        assert first.join(SOON)
        found = scrape(registry)
        assert found.value(f"{PREFIX}_submitted_total") == 1
        assert found.pools() == {"first"}
    with later:
        assert later.call(2).result(SOON) == 2
        assert later.call(3).result(SOON) == 3
        found = scrape(registry)
    assert found.value(f"{PREFIX}_submitted_total") == 2
    assert found.pools() == {"first", "later"}


def test_the_prefix_of_another_collector_refuses_the_start(registry: CollectorRegistry) -> None:
    foreign = Counter("message_processor_failed", "Somebody else's.", registry=registry)
    pool = Pool(same, metrics=registry, metrics_prefix=PREFIX)
    with pytest.raises(NameTaken, match=PREFIX):
        pool.start()
    assert pool.stats().state == "new"
    assert "workpool_" not in text(registry)
    foreign.inc()
    assert scrape(registry).value("message_processor_failed_total") == 1
    registry.unregister(foreign)
    with pool:
        assert scrape(registry).value("message_processor_failed_total") == 0


def test_a_prefix_that_fails_leaves_the_name_to_whoever_had_it(registry: CollectorRegistry) -> None:
    Counter("message_processor_failed", "Somebody else's.", registry=registry)
    with Pool(same, name="tasks", metrics=registry) as stopped:
        stopped.call(1).result(SOON)
    with pytest.raises(NameTaken):
        Pool(same, name="tasks", metrics=registry, metrics_prefix=PREFIX).start()
    assert scrape(registry).value("workpool_submitted_total", pool="tasks") == 1


def test_the_prefix_of_the_pools_own_series_is_taken(registry: CollectorRegistry) -> None:
    with pytest.raises(NameTaken):
        Pool(same, metrics=registry, metrics_prefix="workpool").start()
    assert openmetrics(registry) == "# EOF\n"


@pytest.mark.parametrize("prefix", ["", "9lives", "with-dash", "with space", "ö", "line\n", "a{b}", "job:rule"])
def test_a_prefix_that_no_metric_can_have(registry: CollectorRegistry, prefix: str) -> None:
    with pytest.raises(ValueError, match="metrics_prefix"):
        Pool(same, metrics=registry, metrics_prefix=prefix)


def test_a_prefix_that_is_no_text(registry: CollectorRegistry) -> None:
    with pytest.raises(TypeError, match="metrics_prefix"):
        Pool(same, metrics=registry, metrics_prefix=7)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("prefix", ["a", "_private", "Upper9"])
def test_a_prefix_that_a_metric_can_have(registry: CollectorRegistry, prefix: str) -> None:
    with Pool(same, metrics=registry, metrics_prefix=prefix):
        assert scrape(registry).value(f"{prefix}_queue_depth") == 0
