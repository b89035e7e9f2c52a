"""Pause, resume, resize, join, and what stats say meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.core.kit import in_thread
from workpool import Pool, PoolStats, PoolStopped
from workpool.testing import Leash, ManualClock


def negative(number: int) -> int:
    return -number


def test_a_paused_pool_accepts_and_runs_nothing_until_it_is_resumed() -> None:
    seen: list[int] = []
    with Pool(seen.append, workers=2, queue_size=5) as pool:
        pool.pause()
        for number in range(5):
            pool.submit(number)
        assert not pool.join(0)
        assert (pool.stats().queue_depth, seen) == (5, [])
        pool.resume()
        assert pool.join(20)
        assert sorted(seen) == [0, 1, 2, 3, 4]


def test_what_runs_goes_on_through_a_pause() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1) as pool:
        future = pool.call(1)
        leash.wait_begun()
        pool.pause()
        leash.let_go()
        assert future.result(20) == 1
        pool.submit(2)
        assert not pool.join(0)
        pool.resume()


def test_pause_and_resume_at_any_time_lose_no_item() -> None:
    seen: list[int] = []
    with Pool(seen.append, workers=3, queue_size=10) as pool:
        for number in range(3000):
            if number % 7 == 0:
                pool.pause()
            if number % 7 == 3:
                pool.resume()
            if number % 7 in (3, 4, 5, 6):
                pool.submit_wait(number, timeout=20)
        pool.resume()
    assert len(seen) == len(set(seen)) == pool.stats().succeeded


def test_a_pool_may_be_paused_before_it_starts_and_not_after_its_end() -> None:
    seen: list[int] = []
    pool = Pool(seen.append, workers=1)
    pool.pause()
    with pool:
        pool.submit(1)
        assert not pool.join(0)
        pool.resume()
    with pytest.raises(PoolStopped):
        pool.pause()
    pool.resume()


def test_a_pool_grows_at_once() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1) as pool:
        for number in range(3):
            pool.submit(number)
        leash.wait_begun(1)
        pool.resize(3)
        leash.wait_begun(2)
        assert (pool.stats().workers, pool.stats().workers_busy) == (3, 3)
        leash.let_go()


def test_a_pool_shrinks_after_the_items_in_hand_and_keeps_its_counts() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=4, name="shrinking") as pool:
        for number in range(4):
            pool.submit(number)
        leash.wait_begun(4)
        pool.resize(1)
        assert pool.stats().workers_busy == 4
        leash.let_go()
        assert pool.join(20)
        for _ in range(20):
            pool.call(1).result(20)
        stats = pool.stats()
        assert (stats.workers, stats.run_success.count, stats.queue_wait.count) == (1, 24, 24)
        pool.resize(2)
        assert sum(thread.name.startswith("shrinking") for thread in threading.enumerate()) == 2


def test_idle_workers_leave_when_the_pool_shrinks_and_items_still_run() -> None:
    with Pool(negative, workers=8) as pool:
        for size in (1, 8, 2, 5, 1, 3):
            pool.resize(size)
            assert [future.result(20) for future in [pool.call(-n) for n in range(20)]] == list(range(20))


def test_resize_is_refused_below_one_and_after_the_end() -> None:
    pool = Pool(print)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        pool.resize(0)
    pool.stop()
    with pytest.raises(PoolStopped):
        pool.resize(2)


def test_join_returns_false_at_its_timeout_and_true_when_idle() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, clock=manual.clock) as pool:
        assert pool.join()
        pool.submit(1)
        pool.submit(2)
        leash.wait_begun()
        joining = in_thread(lambda: pool.join(5))
        manual.wait_for_sleepers(1)
        manual.advance(5)
        assert joining.result() is False
        joining = in_thread(pool.join)
        leash.let_go()
        assert joining.result() is True
        assert pool.stats().succeeded == 2


def test_join_covers_the_callbacks_of_futures() -> None:
    told = threading.Event()
    let_go = threading.Event()

    def callback(_: object) -> None:
        told.set()
        let_go.wait(20)

    with Pool(negative, workers=1) as pool:
        pool.pause()
        pool.call(1).add_done_callback(callback)
        pool.resume()
        assert told.wait(20)
        assert not pool.join(0)
        let_go.set()
        assert pool.join(20)


def test_join_returns_when_the_last_queued_call_is_cancelled() -> None:
    with Pool(negative, workers=1) as pool:
        pool.pause()
        future = pool.call(1)
        joining = in_thread(pool.join)
        assert future.cancel()
        assert joining.result() is True


def test_stats_are_a_frozen_snapshot_with_the_go_names_first(quiet: None) -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()

    def work(item: object) -> object:
        if item == "bad":
            raise ValueError
        return leash.process(item)

    with Pool(work, workers=2, queue_size=4, name="seen", clock=manual.clock) as pool:
        pool.submit("bad")
        assert pool.join()
        pool.submit("a")
        leash.wait_begun()
        manual.advance(0.3)
        pool.submit("b")
        leash.wait_begun()
        pool.submit("c")
        manual.advance(0.3)
        stats = pool.stats()
        assert list(stats.as_dict())[:7] == [
            "workers", "queue_size", "queue_depth", "submitted", "processed", "failed", "dropped",
        ]  # fmt: skip
        assert (stats.submitted, stats.processed, stats.failed, stats.succeeded) == (4, 1, 1, 0)
        assert (stats.running, stats.workers_busy, stats.queue_depth) == (2, 2, 1)
        assert stats.oldest_running == pytest.approx(0.6)
        assert stats.utilization == 0.25
        assert stats.offered == 4
        assert (stats.state, stats.pool, stats.balance()) == ("running", "seen", 0)
        with pytest.raises(AttributeError):
            stats.workers = 3  # type: ignore[misc]
        assert repr(pool) == "<Pool 'seen' running: 2/2 workers busy, 1/4 queued>"
        leash.let_go()
    final = pool.stats()
    assert final.oldest_running == 0
    assert final.run_error.count == 1
    assert final.run_success.count == 3
    assert final.run_success.sum == pytest.approx(0.6 + 0.3)
    assert final.queue_wait.sum == pytest.approx(0.3)
    assert final.as_dict()["run_success"]["buckets"]["+Inf"] == 3


def test_the_law_can_fail() -> None:
    lost = PoolStats(
        workers=1, queue_size=1, queue_depth=1, submitted=5, processed=2, failed=1, dropped=0, succeeded=1, running=1
    )
    assert lost.balance() == 1
