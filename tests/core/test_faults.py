"""Each fault of the original Go package, as a promise that it is not here."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.core.kit import hurried, in_thread, until
from workpool import NameTaken, Pool, PoolStopped, StopTimeout, current
from workpool.testing import Leash, ManualClock


def negative(number: int) -> int:
    return -number


def test_a_panic_in_a_process_function_does_not_end_the_program(quiet: None) -> None:
    def panic(error: BaseException | None) -> None:
        if error is not None:
            raise error

    with Pool(panic, workers=1) as pool:
        for error in (ValueError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()):
            pool.submit(error)
        assert pool.call(None).result(20) is None
    assert (pool.stats().failed, pool.stats().succeeded) == (5, 1)


def test_with_metrics_on_a_stop_succeeds() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    with Pool(negative, metrics=prometheus_client.CollectorRegistry(), metrics_prefix="faults") as pool:
        pool.submit(1)
    assert pool.stop().clean


def test_after_a_stop_that_timed_out_submit_and_a_second_stop_are_harmless() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1, clock=hurried(50))
    pool.start()
    pool.submit(1)
    leash.wait_begun()
    with pytest.raises(StopTimeout) as caught:
        pool.stop(timeout=0)
    with pytest.raises(PoolStopped):
        pool.submit(2)
    assert pool.stop() is caught.value.report
    leash.let_go()


def test_submit_does_not_block_while_somebody_stops() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1)
    pool.start()
    pool.submit(1)
    leash.wait_begun()
    stopping = in_thread(lambda: pool.stop(timeout=None))
    until(lambda: pool.stats().state == "draining")
    with pytest.raises(PoolStopped):
        pool.submit(2)
    leash.let_go()
    assert stopping.result().clean


def test_what_was_a_cancelled_context_hands_back_counts_and_refuses() -> None:
    def work(_: int) -> bool:
        begun.set()
        return current().sleep(3600)

    begun = threading.Event()
    pool = Pool(work, workers=1)
    pool.start()
    running = pool.call(0)
    assert begun.wait(20)
    pool.submit(1)
    pool.submit(2)
    report = pool.stop(timeout=0, drain=False)
    assert report.clean
    assert report.unprocessed == (1, 2)
    assert running.result(0) is False
    assert (report.stats.cancelled, report.stats.balance()) == (2, 0)
    with pytest.raises(PoolStopped):
        pool.submit(3)


def test_submit_in_a_process_function_does_not_deadlock_a_stopping_pool() -> None:
    def work(number: int) -> str:
        begun.set()
        assert closed.wait(20)
        for submit in (pool.submit, pool.submit_wait):
            with pytest.raises(PoolStopped):
                submit(number + 1)
        return "refused"

    begun, closed = threading.Event(), threading.Event()
    pool = Pool(work, workers=1, queue_size=1)
    pool.start()
    future = pool.call(1)
    assert begun.wait(20)
    pool.close()
    closed.set()
    assert future.result(20) == "refused"
    assert pool.stop().clean


def test_utilization_is_how_full_the_queue_is_and_busy_workers_are_their_own_number() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=4, queue_size=10) as pool:
        pool.submit(1)
        leash.wait_begun()
        stats = pool.stats()
        assert (stats.utilization, stats.workers_busy, stats.workers) == (0.0, 1, 4)
        leash.let_go()


def test_gauges_are_read_at_scrape_time_and_do_not_outlive_a_stop() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()

    def depth() -> Any:
        return registry.get_sample_value("workpool_queue_depth", {"pool": "scraped"})

    with Pool(negative, workers=1, name="scraped", metrics=registry, clock=ManualClock().clock) as pool:
        pool.pause()
        assert depth() == 0
        pool.submit(1)
        assert depth() == 1
        pool.submit(2)
        assert depth() == 2
        pool.resume()
    assert depth() == 0


def test_a_second_pool_with_the_same_prefix_is_an_error() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()
    second = Pool(negative, name="second", metrics=registry, metrics_prefix="same")
    with Pool(negative, name="first", metrics=registry, metrics_prefix="same"), pytest.raises(NameTaken, match="same"):
        second.start()
    with second:
        assert second.call(-1).result(20) == 1


def test_stats_never_show_more_processed_than_submitted() -> None:
    wrong: list[object] = []

    def watch() -> None:
        while not over.is_set():
            stats = pool.stats()
            if stats.processed > stats.submitted or stats.balance():
                wrong.append(stats)

    over = threading.Event()
    with Pool(negative, workers=4, queue_size=100) as pool:
        watching = in_thread(watch)
        for number in range(20_000):
            pool.submit_wait(number)
        over.set()
        watching.result()
    assert wrong == []
