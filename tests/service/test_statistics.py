"""The line of statistics for each pool, and the warning of items that cannot end in time."""

from __future__ import annotations

import logging

import pytest

from workpool import Pool
from workpool.service.statistics import FEW, Statistics
from workpool.testing.clock import ManualClock


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def nothing(_: int) -> None:
    """Done at once."""


@pytest.fixture(autouse=True)
def info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "workpool")


def test_a_line_says_what_happened_since_the_last_and_what_is_now(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(nothing, workers=2, queue_size=3, name="orders") as pool, Pool(nothing, name="idle") as idle:
        statistics = Statistics({"orders": pool, "idle": idle}, 3600.0, 10.0)
        statistics.start()
        pool.submit(1)
        pool.join()
        statistics.look()
        pool.submit(2)
        pool.submit(3)
        pool.join()
        statistics.look()
        statistics.look()
        statistics.stop(1.0)
    one, two = caplog.records
    assert one.getMessage() == "1 accepted, 1 processed, 0 failed, 0 refused, 0 shed; 0/3 queued, 0/2 busy"
    assert two.getMessage() == "2 accepted, 2 processed, 0 failed, 0 refused, 0 shed; 0/3 queued, 0/2 busy"
    assert vars(two)["pool"] == "orders"
    assert vars(two)["stats"]["submitted"] == 3


def test_it_is_said_by_itself_each_interval(caplog: pytest.LogCaptureFixture) -> None:
    with Pool(nothing, name="orders") as pool:
        statistics = Statistics({"orders": pool}, 0.001, 10.0)
        statistics.start()
        pool.submit(1)
        while not caplog.records:
            statistics._stopping.wait(0.001)
        statistics.stop(1.0)
        assert not statistics._thread.is_alive()


def test_items_that_run_for_longer_than_a_stop_leaves_them_are_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()

    def slow(seconds: float) -> None:
        clock.advance(seconds)

    with Pool(slow, workers=1, name="orders", clock=clock.clock) as pool:
        statistics = Statistics({"orders": pool}, 3600.0, 10.0)
        statistics.start()
        for _ in range(FEW - 1):
            pool.submit_wait(60.0)
        pool.join()
        statistics.look()
        assert not any("runs for more" in line for line in lines(caplog))  # too few
        pool.submit(60.0)
        pool.join()
        statistics.look()
        statistics.look()
        statistics.stop(1.0)
    (warning,) = (line for line in lines(caplog) if "runs for more" in line)
    assert "pool 'orders'" in warning
    assert "for more than 60 s, and a stop leaves it 10 s" in warning


def test_a_stop_before_the_start_is_harmless_and_so_is_a_second() -> None:
    statistics = Statistics({}, 1.0, 1.0)
    statistics.stop(1.0)
    statistics.stop(1.0)
