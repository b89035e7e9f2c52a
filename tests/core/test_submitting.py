"""Handing items over: accept or refuse at once, wait for room, have a result."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, wait
from typing import Any

import pytest

from tests.core.kit import hurried, in_thread
from workpool import Fifo, Hooks, Pool, PoolAlreadyStarted, PoolNotStarted, PoolStopped, QueueFull, current
from workpool.testing import Leash, ManualClock


def negative(number: int) -> int:
    return -number


def test_every_accepted_item_has_run_when_the_block_is_left() -> None:
    seen: list[int] = []
    with Pool(seen.append, workers=3) as pool:
        for number in range(100):
            pool.submit(number)
    assert sorted(seen) == list(range(100))


def test_one_worker_runs_items_in_the_order_of_their_coming() -> None:
    seen: list[int] = []
    with Pool(seen.append, workers=1) as pool:
        for number in range(100):
            pool.submit(number)
    assert seen == list(range(100))


def test_a_pool_is_cold_until_it_is_started() -> None:
    before = threading.active_count()
    pool = Pool(print)
    assert threading.active_count() == before
    assert pool.stats().workers == 10
    assert pool.stats().queue_size == 1000
    with pytest.raises(PoolNotStarted, match=r"pool 'print' is not started"):
        pool.submit(1)
    assert pool.stats().refused == {"full": 0, "not_started": 1, "stopped": 0}


def test_a_second_start_is_refused_and_harms_nothing() -> None:
    with Pool(print, workers=1) as pool:
        with pytest.raises(PoolAlreadyStarted, match="is started already"):
            pool.start()
        assert pool.call(1).result(20) is None


def test_a_full_queue_refuses_at_once_and_says_for_how_long() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=2, name="narrow") as pool:
        pool.submit(0)
        leash.wait_begun()
        pool.submit(1)
        pool.submit(2)
        with pytest.raises(QueueFull, match="the queue of pool 'narrow' is full \\(2 items\\)") as caught:
            pool.submit(3)
        assert caught.value.retry_after > 0
        assert isinstance(caught.value, queue.Full)
        assert pool.stats().dropped == 1
        leash.let_go()
    assert leash.items == [0, 1, 2]


def test_retry_after_is_half_of_what_the_backlog_will_take() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=4, clock=manual.clock) as pool:
        pool.submit(0)
        leash.wait_begun()
        manual.advance(3.0)
        leash.let_go()
        assert pool.join(20)
        leash.hold()
        for number in range(5):
            pool.submit_wait(number)
            if number == 0:
                leash.wait_begun()
        with pytest.raises(QueueFull) as caught:
            pool.submit(6)
        assert caught.value.retry_after == pytest.approx(4 * 3.0 / 1 / 2)
        leash.let_go()


def test_queue_full_survives_pickling_with_its_estimate() -> None:
    full = QueueFull("p", 7, lambda: 1.5)
    copy = pickle.loads(pickle.dumps(full))
    assert (copy.pool, copy.size, copy.retry_after, str(copy)) == ("p", 7, 1.5, str(full))


def test_submit_wait_puts_the_item_in_when_there_is_room() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=1) as pool:
        pool.submit(0)
        leash.wait_begun()
        pool.submit(1)
        waiting = in_thread(lambda: pool.submit_wait(2))
        leash.let_go()
        waiting.result()
    assert leash.items == [0, 1, 2]


def test_submit_wait_gives_up_at_its_timeout_and_the_item_is_not_in() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=1, clock=manual.clock) as pool:
        pool.submit(0)
        leash.wait_begun()
        pool.submit(1)
        waiting = in_thread(lambda: pool.submit_wait(2, timeout=5))
        manual.wait_for_sleepers(1)
        manual.advance(4.9)
        manual.advance(0.2)
        with pytest.raises(QueueFull):
            waiting.result()
        assert pool.stats().dropped == 1
        leash.let_go()
    assert leash.items == [0, 1]


def test_who_waited_longest_for_room_is_served_first() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=1, clock=manual.clock) as pool:
        pool.submit(0)
        leash.wait_begun()
        pool.submit(1)
        waiting = []
        for number in range(2, 6):
            waiting.append(in_thread(lambda number=number: pool.submit_wait(number, timeout=60)))  # type: ignore[misc]
            manual.wait_for_sleepers(number - 1)
        leash.let_go()
        for future in waiting:
            future.result()
    assert leash.items == [0, 1, 2, 3, 4, 5]


def test_a_stop_wakes_who_waits_for_room_and_the_item_is_not_in() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1, queue_size=1, clock=manual.clock)
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    waiting = in_thread(lambda: pool.submit_wait(2, timeout=60))
    manual.wait_for_sleepers(1)
    pool.close()
    with pytest.raises(PoolStopped, match="is draining"):
        waiting.result()
    leash.let_go()
    pool.stop()
    assert leash.items == [0, 1]
    with pytest.raises(PoolStopped, match="is stopped"):
        pool.submit(3)


def test_call_gives_the_result_and_the_exception() -> None:
    def halve(number: int) -> float:
        return number / 2 if number else 1 / number

    with Pool(halve, workers=2) as pool:
        assert pool.call(3).result(20) == 1.5
        assert isinstance(pool.call(0).exception(20), ZeroDivisionError)
    assert pool.stats().succeeded == 1
    assert pool.stats().failed == 1


def test_the_ledger_has_counted_an_item_before_its_future_is_done() -> None:
    with Pool(negative, workers=2) as pool:
        for number in range(1, 200):
            pool.call(number).result(20)
            assert pool.stats().succeeded == number


def test_cancelling_a_queued_call_frees_its_slot_at_once_and_it_never_runs() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=2) as pool:
        pool.submit(0)
        leash.wait_begun()
        first, second = pool.call(1), pool.call(2)
        assert first.cancel()
        assert first.cancel()
        assert first.cancelled()
        assert wait([first], 20).done == {first}
        with pytest.raises(CancelledError):
            first.result(0)
        pool.submit(3)
        stats = pool.stats()
        assert (stats.queue_depth, stats.cancelled, stats.balance()) == (2, 1, 0)
        leash.let_go()
        assert second.result(20) == 2
        assert not second.cancel()
    assert leash.items == [0, 2, 3]


def test_a_running_call_cannot_be_cancelled() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1) as pool:
        future = pool.call(0)
        leash.wait_begun()
        assert not future.cancel()
        assert future.running()
        leash.let_go()
        assert future.result(20) == 0


def test_cancelling_for_ever_leaves_no_growth() -> None:
    leash: Leash[Any] = Leash()
    with Pool(leash.process, workers=1, queue_size=4) as pool:
        pool.submit(0)
        leash.wait_begun()
        kept = [pool.call(number) for number in range(3)]
        for _ in range(5000):
            assert pool.call(9).cancel()
        assert len(pool._queue._lane.waiting) <= 8
        leash.let_go()
        assert [future.result(20) for future in kept] == [0, 1, 2]
    assert pool.stats().cancelled == 5000


def test_map_gives_results_in_order_and_takes_no_more_than_the_pool_holds() -> None:
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield number

    with Pool(negative, workers=2, queue_size=5) as pool:
        results = pool.map(numbers())
        assert taken == 0
        for number, result in enumerate(results):
            assert result == -number
            assert taken <= number + 1 + 7
    assert pool.stats().dropped == 0


def test_map_raises_at_the_failed_items_turn_and_cancels_the_rest(quiet: None) -> None:
    all_given, let_go = threading.Event(), threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(50)
        all_given.set()

    def work(number: int) -> int:
        if number == 2:
            assert all_given.wait(20)
            raise ValueError("two")
        if number > 2:
            assert let_go.wait(20)
        return number

    with Pool(work, workers=1, queue_size=100) as pool:
        results = pool.map(numbers())
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            next(results)
        let_go.set()
        assert pool.join(20)
        stats = pool.stats()
        assert stats.submitted == 50
        assert stats.cancelled in (46, 47)  # the worker may have taken the next one already
        assert stats.cancelled + stats.processed == 50


def test_current_is_the_workers_and_nobody_elses() -> None:
    def look(_: int) -> tuple[str, str, int, bool]:
        here = current()
        return here.pool, here.worker, here.attempt, here.cancelled

    with Pool(look, workers=1, name="seen") as pool:
        assert pool.call(1).result(20) == ("seen", "seen-0", 1, False)
    with pytest.raises(LookupError, match="only inside a pool's process function"):
        current()


def test_a_sleep_of_the_context_takes_its_time_when_nobody_cancels() -> None:
    def doze(seconds: float) -> bool:
        return current().sleep(seconds)

    with Pool(doze, workers=1, clock=hurried(100)) as pool:
        assert pool.call(0.5).result(20) is True


def test_hooks_get_item_and_error_before_the_item_is_settled(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, BaseException]] = []
    settled: list[int] = []

    def hook(item: int, error: BaseException) -> None:
        seen.append((item, error))
        settled.append(pool.stats().failed)
        raise RuntimeError("a hook that fails changes nothing")

    def fail(item: int) -> None:
        raise KeyError(item)

    with Pool(fail, workers=1, hooks=Hooks(error=hook)) as pool:
        pool.submit(7)
        assert pool.join(20)
        assert isinstance(pool.call(8).exception(20), KeyError)
    assert [item for item, _ in seen] == [7]
    assert settled == [0]
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'fail': an item failed in worker 'fail-0'",
        "pool 'fail': the hook for errors failed",
    ]
    assert pool.stats().failed == 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"process": None}, TypeError, "process must be a function of one item, not None"),
        ({"workers": 0}, ValueError, "workers must be at least 1, not 0; leave it out .* default of 10"),
        ({"workers": -1}, ValueError, "workers must be at least 1"),
        ({"workers": True}, TypeError, "workers must be a whole number, not True"),
        ({"workers": 2.0}, TypeError, "workers must be a whole number, not 2.0"),
        ({"queue_size": 0}, ValueError, "queue_size must be at least 1, not 0; .* default of 1000"),
        ({"queue": 50}, TypeError, r"queue must be a discipline such as Fifo\(1000\), not 50; a size is queue_size="),
        ({"queue": Fifo(5), "queue_size": 5}, ValueError, "queue_size=5 and queue=.* both say how many; leave one out"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout must be 0 seconds or more"),
        ({"stop_timeout": float("nan")}, ValueError, "stop_timeout must be 0 seconds or more"),
        ({"stop_timeout": "1"}, TypeError, "stop_timeout must be a number of seconds"),
        ({"name": ""}, ValueError, "name must not be empty"),
    ],
)
def test_bad_arguments_are_one_clear_sentence(arguments: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Pool(**{"process": print, **arguments})  # type: ignore[call-overload]
