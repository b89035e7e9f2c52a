"""A pool's place in a registry: who has a name, who gets it next, and how it is given up."""

from __future__ import annotations

import gc
import weakref
from threading import Barrier, Thread

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge

from tests.metrics.scraping import SOON, Gate, MakePool, scrape, text
from workpool import NameTaken, Pool, PoolAlreadyStarted, PoolError


def same(item: int) -> int:
    return item


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_a_name_in_use_refuses_the_start(registry: CollectorRegistry, any_pool: MakePool) -> None:
    later = any_pool(same, name="tasks", metrics=registry, metrics_prefix="later")
    with any_pool(same, name="tasks", metrics=registry) as first:
        first.call(1).result(SOON)
        with pytest.raises(NameTaken, match="'tasks'") as refused:
            later.start()
        assert isinstance(refused.value, PoolError)
        assert isinstance(refused.value, ValueError)
        assert later.stats().state == "new"
        found = scrape(registry)
        assert found.value("workpool_submitted_total", pool="tasks") == 1
        assert "later_queue_depth" not in found.families
        assert first.call(2).result(SOON) == 2
    with later:
        assert later.call(3).result(SOON) == 3
        assert later.stats().state == "running"
        assert scrape(registry).value("workpool_submitted_total", pool="tasks") == 1


def test_a_pool_that_drains_still_has_its_name(registry: CollectorRegistry, concurrent_pool: MakePool) -> None:
    gate = Gate()
    later = concurrent_pool(same, name="tasks", metrics=registry)
    with concurrent_pool(gate, workers=1, name="tasks", metrics=registry, metrics_prefix="mp") as first:
        first.submit(1)
        gate.await_running(1)
        first.close()
        assert first.stats().state == "draining"
        with pytest.raises(NameTaken):
            later.start()
        with pytest.raises(NameTaken):
            concurrent_pool(same, name="other", metrics=registry, metrics_prefix="mp").start()
        gate.open()
    with later:
        pass


def test_a_stopped_pool_yields_its_name_and_prefix_again_and_again(
    registry: CollectorRegistry, any_pool: MakePool
) -> None:
    for run in range(3):
        with any_pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as pool:
            for item in range(run):
                pool.call(item).result(SOON)
            assert pool.join(SOON)
            found = scrape(registry)
            assert found.value("workpool_submitted_total", pool="tasks") == run
            assert found.value("mp_submitted_total") == run


def test_a_stopped_pool_keeps_its_series_until_somebody_wants_them(
    registry: CollectorRegistry, any_pool: MakePool
) -> None:
    with any_pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as pool:
        pool.call(1).result(SOON)
    found = scrape(registry)
    assert found.value("workpool_processed_total", pool="tasks") == found.value("mp_processed_total") == 1


def test_a_predecessor_cannot_take_away_what_it_has_yielded(registry: CollectorRegistry) -> None:
    with Pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as old:
        pass
    with Pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as new:
        new.call(1).result(SOON)
        assert new.join(SOON)
        old.unregister()
        found = scrape(registry)
        assert found.value("workpool_processed_total", pool="tasks") == found.value("mp_processed_total") == 1


def test_one_name_on_two_registries() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    with (
        Pool(same, name="tasks", metrics=first, metrics_prefix="mp") as pool,
        Pool(same, name="tasks", metrics=second, metrics_prefix="mp"),
    ):
        pool.call(1).result(SOON)
        assert scrape(first).value("mp_submitted_total") == 1
        assert scrape(second).value("mp_submitted_total") == 0


def test_a_second_start_changes_nothing(registry: CollectorRegistry, any_pool: MakePool) -> None:
    with any_pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as pool:
        with pytest.raises(PoolAlreadyStarted):
            pool.start()
        assert scrape(registry).value("mp_queue_depth") == 0
        assert scrape(registry).pools() == {"tasks"}


def test_of_two_starts_at_once_one_wins_and_is_exported(any_pool: MakePool) -> None:
    for _ in range(50):
        registry = CollectorRegistry()
        pool = any_pool(same, workers=1, name="tasks", metrics=registry, metrics_prefix="mp")
        together = Barrier(2)
        refusals: list[Exception] = []
        threads = [Thread(target=start_together, args=(pool, together, refusals)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert [type(error) for error in refusals] == [PoolAlreadyStarted]
        found = scrape(registry)
        assert found.pools() == {"tasks"}
        assert found.value("mp_queue_depth") == 0
        pool.stop()


def start_together(pool: Pool[int, int], together: Barrier, refusals: list[Exception]) -> None:
    together.wait(SOON)
    try:
        pool.start()
    except PoolError as error:
        refusals.append(error)


def test_unregister_removes_both_kinds_of_series(registry: CollectorRegistry, any_pool: MakePool) -> None:
    with (
        any_pool(same, name="leaves", metrics=registry, metrics_prefix="mp") as leaves,
        any_pool(same, name="stays", metrics=registry, metrics_prefix="bp"),
    ):
        leaves.unregister()
        leaves.unregister()
        found = scrape(registry)
        assert found.pools() == {"stays"}
        assert "mp_queue_depth" not in found.families
        assert "bp_queue_depth" in found.families
        assert leaves.call(1).result(SOON) == 1  # it goes on, unseen


def test_the_last_pool_leaves_nothing_behind(registry: CollectorRegistry) -> None:
    with Pool(same, metrics=registry, metrics_prefix="mp") as pool:
        pass
    pool.unregister()
    assert text(registry) == ""
    Gauge("workpool_queue_depth", "The name is free for anybody.", registry=registry)


def test_unregister_frees_the_name_of_a_running_pool(registry: CollectorRegistry) -> None:
    with Pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as first:
        first.unregister()
        with Pool(same, name="tasks", metrics=registry, metrics_prefix="mp") as second:
            second.call(1).result(SOON)
            assert second.join(SOON)
            assert scrape(registry).value("mp_processed_total") == 1


def test_unregister_without_metrics_or_before_the_start(registry: CollectorRegistry) -> None:
    Pool(same).unregister()
    Pool(same, metrics=registry, metrics_prefix="mp").unregister()
    assert text(registry) == ""
    Gauge("workpool_queue_depth", "Somebody else's.", registry=registry)
    Pool(same, metrics=registry).unregister()


def test_the_default_registry() -> None:
    pool = Pool(same, name="by_default", metrics=True)
    with pool:
        pool.call(1).result(SOON)
        assert scrape(REGISTRY).value("workpool_submitted_total", pool="by_default") == 1
    pool.unregister()
    assert "by_default" not in text(REGISTRY)


def test_without_metrics_nothing_is_exported() -> None:
    with Pool(same, name="unseen") as pool:
        pool.call(1).result(SOON)
        assert "unseen" not in text(REGISTRY)


def test_workpool_series_of_somebody_else_refuse_the_start(registry: CollectorRegistry) -> None:
    foreign = Gauge("workpool_queue_depth", "Somebody else's.", registry=registry)
    pool = Pool(same, metrics=registry)
    with pytest.raises(NameTaken, match="workpool_"):
        pool.start()
    assert pool.stats().state == "new"
    registry.unregister(foreign)
    with pool:
        assert scrape(registry).value("workpool_queue_depth", pool="same") == 0


def test_a_registry_that_was_emptied_by_others_is_filled_again(registry: CollectorRegistry) -> None:
    """As the fixtures of many a test suite do between two tests."""
    with Pool(same, name="first", metrics=registry, metrics_prefix="mp") as first:
        for collector in list(registry._collector_to_names):
            registry.unregister(collector)
        with Pool(same, name="second", metrics=registry, metrics_prefix="bp"):
            found = scrape(registry)
            assert "bp_queue_depth" in found.families
            assert "second" in found.pools()
    with Pool(same, name="first", metrics=registry, metrics_prefix="mp"):
        assert scrape(registry).value("mp_queue_depth") == 0
    first.unregister()


@pytest.mark.parametrize("wrong", ["registry", 1, object(), CollectorRegistry])
def test_what_is_no_registry(wrong: object) -> None:
    with pytest.raises(TypeError, match="CollectorRegistry"):
        Pool(same, metrics=wrong)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def test_a_name_that_would_break_the_scrape_of_all_pools(registry: CollectorRegistry) -> None:
    """As a file name that is no UTF-8 gives it."""
    with pytest.raises(ValueError, match="name"):
        Pool(same, name="tasks-\udcff", metrics=registry)
    Pool(same, name="tasks-\udcff")  # nothing is exported


def test_a_registry_that_is_dropped_is_freed() -> None:
    registry = CollectorRegistry()
    with Pool(same, metrics=registry, metrics_prefix="mp") as pool:
        pass
    gone = weakref.ref(registry)
    del registry, pool
    gc.collect()
    assert gone() is None
