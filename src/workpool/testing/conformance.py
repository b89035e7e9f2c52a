"""What every kind of worker must do, as one set of tests: `class TestMine(Conformance): make = staticmethod(...)`.

Needs pytest. `make` gets a process function in both its forms, plain and async, and the arguments of `Pool`, and gives
a pool of the kind that is tested. Everything here is seen from another thread than the workers'.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import pytest

from workpool._context import current
from workpool._fate import Hooks
from workpool.errors import ItemAbandoned, PoolAlreadyStarted, PoolNotStarted, PoolStopped, QueueFull, StopTimeout
from workpool.pool import Pool
from workpool.testing.clock import ManualClock
from workpool.testing.doubles import Leash, Recorder, drain
from workpool.testing.failing import Direct, Failing
from workpool.testing.shedding import Shedding

__all__ = ["Conformance", "Direct", "Double"]


class Double(Protocol):
    """A process function in both its forms."""

    @property
    def process(self) -> Callable[[Any], Any]: ...

    @property
    def async_process(self) -> Callable[[Any], Any]: ...


def double_or_fail(item: Any) -> Any:
    """Twice the item; what is an exception is raised."""
    if isinstance(item, BaseException):
        raise item
    return item * 2


VARIABLE: ContextVar[object] = ContextVar("VARIABLE", default="nobody's")


def look_around(_: object) -> tuple[object, str, str]:
    """The context variable, the pool and the worker; and a change of the variable, which is nobody else's."""
    seen = VARIABLE.get()
    VARIABLE.set("changed")
    return seen, current().pool, current().worker


def look_at_current(_: object) -> tuple[str, str, bool, int]:
    here = current()
    return here.pool, here.worker, here.cancelled, here.attempt


def alike(error: BaseException | None, other: BaseException) -> bool:
    """The same exception, or a copy that came from another process."""
    return error is not None and type(error) is type(other) and error.args == other.args


def submit_all(pool: Pool[Any, Any], items: Iterable[Any]) -> None:
    for item in items:
        pool.submit_wait(item)


class Conformance(Shedding, Failing):
    """One contract. Each test makes its own pool."""

    make: Callable[..., Pool[Any, Any]]

    in_this_process = True
    """Whether the process function runs in this process, and sees and changes what is here."""

    def insist_on_this_process(self) -> None:
        if not self.in_this_process:
            pytest.skip("the process function runs in another process")

    def doubling(self, **options: Any) -> tuple[Pool[Any, Any], Recorder[Any, Any]]:
        recorder: Recorder[Any, Any] = Recorder(double_or_fail)
        options.setdefault("workers", 2)  # the default of ten takes a while to start, where they are processes
        return self.make(recorder, **options), recorder

    @pytest.fixture(autouse=True)
    def quiet(self) -> Iterator[None]:
        """Failures that a test provokes are not to fill the output."""
        logging.disable(logging.CRITICAL)
        yield
        logging.disable(logging.NOTSET)

    @pytest.fixture(autouse=True)
    def nothing_stays(self) -> Iterator[None]:
        """Every thread that a test started has ended."""
        before = set(threading.enumerate())
        yield
        for thread in set(threading.enumerate()) - before:
            thread.join(5)
        assert set(threading.enumerate()) <= before

    # -- handing over --------------------------------------------------------------------------

    def test_what_is_accepted_runs_once_and_is_counted(self) -> None:
        pool, recorder = self.doubling(workers=3, queue_size=1000)
        with pool:
            for number in range(500):
                pool.submit(number)
        assert sorted(recorder.items) == list(range(500))
        stats = pool.stats()
        assert (stats.submitted, stats.succeeded, stats.processed, stats.balance()) == (500, 500, 500, 0)
        assert stats.run_success.count == stats.queue_wait.count == 500

    def test_a_full_queue_refuses_at_once_and_the_item_does_not_run(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1, queue_size=2)
        with pool:
            pool.submit(1)
            leash.wait_begun()
            pool.submit(2)
            pool.submit(3)
            with pytest.raises(QueueFull) as full:
                pool.submit(4)
            assert full.value.retry_after > 0
            assert (pool.stats().dropped, pool.stats().queue_depth) == (1, 2)
            leash.let_go()
        assert leash.items == [1, 2, 3]

    def test_before_the_start_and_after_the_stop_it_refuses(self) -> None:
        pool, recorder = self.doubling()
        with pytest.raises(PoolNotStarted):
            pool.submit(1)
        with pool:
            with pytest.raises(PoolAlreadyStarted):
                pool.start()
        with pytest.raises(PoolStopped):
            pool.submit(1)
        with pytest.raises(PoolStopped):
            pool.start()
        assert recorder.items == []
        assert pool.stats().refused == {"full": 0, "not_started": 1, "stopped": 1}

    def test_a_process_function_may_submit_to_its_own_pool(self) -> None:
        def more(item: int) -> None:
            if item:
                pool.submit(item - 1)

        recorder: Recorder[int, None] = Recorder(more)
        pool = self.make(recorder, workers=2)
        with pool:
            pool.submit(5)
            assert drain(pool)["succeeded"] == 6
        assert sorted(recorder.items) == list(range(6))

    def test_many_threads_may_submit_at_once(self) -> None:
        pool, recorder = self.doubling(workers=4, queue_size=10)
        with pool, ThreadPoolExecutor(4) as threads:
            numbers = [range(start, 2000, 4) for start in range(4)]
            list(threads.map(partial(submit_all, pool), numbers))
        assert sorted(recorder.items) == list(range(2000))
        assert pool.stats().balance() == 0

    # -- waiting for room ----------------------------------------------------------------------

    def test_who_waits_for_room_gets_it(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1, queue_size=1)
        with pool, ThreadPoolExecutor(1) as threads:
            pool.submit(1)
            leash.wait_begun()
            pool.submit(2)
            waiting = threads.submit(pool.submit_wait, 3)
            leash.let_go()
            waiting.result(20)
        assert leash.items == [1, 2, 3]

    def test_who_waits_for_room_is_refused_when_the_time_is_up(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1, queue_size=1)
        with pool:
            pool.submit(1)
            leash.wait_begun()
            pool.submit(2)
            with pytest.raises(QueueFull):
                pool.submit_wait(3, timeout=0.01)
            leash.let_go()
        assert leash.items == [1, 2]

    def test_who_waits_for_room_is_woken_when_the_pool_closes(self) -> None:
        leash: Leash[int] = Leash()
        clock = ManualClock()
        pool = self.make(leash, workers=1, queue_size=1, clock=clock.clock)
        with pool, ThreadPoolExecutor(1) as threads:
            pool.submit(1)
            leash.wait_begun()
            pool.submit(2)
            waiting = threads.submit(pool.submit_wait, 3, 1000)
            clock.wait_for_sleepers()
            pool.close()
            leash.let_go()
            clock.advance(1)
            with pytest.raises(PoolStopped):
                waiting.result(20)
        assert leash.items == [1, 2]

    # -- results -------------------------------------------------------------------------------

    def test_a_call_has_its_result_or_its_exception(self) -> None:
        pool, _ = self.doubling(workers=2)
        with pool:
            assert pool.call(21).result(20) == 42
            error = ValueError("no")
            assert alike(pool.call(error).exception(20), error)
        assert (pool.stats().succeeded, pool.stats().failed) == (1, 1)

    def test_a_queued_call_can_be_cancelled_and_frees_its_slot(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1, queue_size=1)
        with pool:
            running = pool.call(1)
            leash.wait_begun()
            queued = pool.call(2)
            assert queued.cancel()
            assert not running.cancel()
            pool.submit(3)
            leash.let_go()
        assert leash.items == [1, 3]
        assert running.result(20) == 1
        assert (pool.stats().cancelled, pool.stats().balance()) == (1, 0)

    def test_map_gives_the_results_in_order_and_never_sheds(self) -> None:
        pool, _ = self.doubling(workers=3, queue_size=2)
        with pool:
            assert list(pool.map(range(200))) == [number * 2 for number in range(200)]
        assert pool.stats().dropped == 0

    def test_map_raises_at_the_turn_of_what_failed_and_cancels_the_rest(self) -> None:
        pool, _ = self.doubling(workers=1, queue_size=5)
        with pool:
            results = pool.map([1, ValueError("two"), 3, 4])
            assert next(results) == 2
            with pytest.raises(ValueError, match="two"):
                next(results)
        assert pool.stats().balance() == 0

    # -- context -------------------------------------------------------------------------------

    def test_with_carry_context_the_process_function_sees_what_whoever_submits_sees(self) -> None:
        self.insist_on_this_process()
        pool = self.make(Recorder(look_around), workers=3, carry_context=True, name="mine")
        with pool:
            seen: list[Future[tuple[object, str, str]]] = []
            for number in range(20):
                token = VARIABLE.set(number)
                seen.append(pool.call(number))
                VARIABLE.reset(token)
        workers = {worker for _, _, worker in (future.result(20) for future in seen)}
        assert [future.result(20)[0] for future in seen] == list(range(20))
        assert {future.result(20)[1] for future in seen} == {"mine"}
        assert workers <= {f"mine-{number}" for number in range(3)}
        assert VARIABLE.get() == "nobody's"

    def test_with_carry_context_an_item_that_an_item_submits_is_not_taken_for_its_worker(self) -> None:
        self.insist_on_this_process()

        def handle(item: int) -> tuple[object, str]:
            if item:
                VARIABLE.set(item)
                futures[item - 1] = pool.call(item - 1)
            return VARIABLE.get(), current().worker

        futures: dict[int, Future[tuple[object, str]]] = {}  # a worker may be here before this thread is
        pool = self.make(Recorder(handle), workers=2, carry_context=True)
        with pool:
            futures[2] = pool.call(2)
            assert drain(pool)["succeeded"] == 3
        assert {item: future.result(20)[0] for item, future in futures.items()} == {2: 2, 1: 1, 0: 1}

    def test_without_carry_context_it_does_not(self) -> None:
        self.insist_on_this_process()
        pool = self.make(Recorder(look_around), workers=1)
        with pool:
            token = VARIABLE.set("mine")
            seen = pool.call(1)
            VARIABLE.reset(token)
            assert seen.result(20)[0] == "nobody's"

    # -- failures ------------------------------------------------------------------------------

    @pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), CancelledError()])
    def test_what_a_process_function_raises_fails_the_item_and_costs_no_worker(self, error: BaseException) -> None:
        told: list[tuple[object, BaseException]] = []
        hooks: Hooks[Any] = Hooks(error=lambda item, raised: told.append((item, raised)))
        pool, _ = self.doubling(workers=1, hooks=hooks)
        with pool:
            pool.submit(error)
            assert pool.call(1).result(20) == 2
        assert [item for item, _ in told] == [error]
        assert alike(told[0][1], error)
        stats = pool.stats()
        assert (stats.failed, stats.succeeded, stats.run_error.count) == (1, 1, 1)

    def test_a_hook_that_raises_changes_nothing(self) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError

        pool, _ = self.doubling(workers=1, hooks=Hooks(error=broken))
        with pool:
            pool.submit(ValueError())
            assert pool.call(1).result(20) == 2

    # -- steering ------------------------------------------------------------------------------

    def test_a_pause_holds_the_workers_and_still_accepts(self) -> None:
        pool, recorder = self.doubling(workers=2)
        with pool:
            pool.pause()
            futures = [pool.call(number) for number in range(5)]
            assert not pool.join(0)
            assert recorder.items == []
            pool.resume()
            assert [future.result(20) for future in futures] == [0, 2, 4, 6, 8]

    def test_more_and_fewer_workers(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1)
        with pool:
            for number in range(6):
                pool.submit(number)
            leash.wait_begun(1)
            pool.resize(4)
            leash.wait_begun(3)
            assert pool.stats().workers_busy == 4
            pool.resize(1)
            leash.let_go()
            assert drain(pool)["succeeded"] == 6
            assert pool.stats().workers == 1

    def test_join_waits_until_nothing_is_queued_or_runs(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1)
        with pool:
            assert pool.join(20)
            pool.submit(1)
            leash.wait_begun()
            assert not pool.join(0.01)
            leash.let_go()
            assert pool.join(20)

    def test_a_process_function_knows_its_pool(self) -> None:
        pool = self.make(Direct(look_at_current), workers=1, name="mine")
        with pool:
            assert pool.call(1).result(20) == ("mine", "mine-0", False, 1)

    def test_a_process_function_may_not_wait_for_its_pool(self) -> None:
        self.insist_on_this_process()

        def wait(_: int) -> str:
            with pytest.raises(RuntimeError) as refused:
                pool.stop()
            return str(refused.value)

        pool = self.make(Recorder(wait))
        with pool:
            assert "would wait for itself" in pool.call(1).result(20)

    # -- stopping ------------------------------------------------------------------------------

    def test_a_stop_drains_and_reports_and_the_second_says_the_same(self) -> None:
        pool, recorder = self.doubling(workers=2)
        pool.start()
        pool.pause()
        for number in range(50):
            pool.submit(number)
        report = pool.stop(20)
        assert report.clean
        assert (report.drained, report.unprocessed, report.abandoned) == (50, (), ())
        assert len(recorder.items) == 50
        assert pool.stop() is report
        assert pool.stats().state == "stopped"

    def test_a_stop_without_a_drain_hands_back_what_is_queued_in_order(self) -> None:
        leash: Leash[int] = Leash()
        pool = self.make(leash, workers=1)
        pool.start()
        futures = [pool.call(number) for number in range(4)]
        leash.wait_begun()
        pool.close(drain=False)
        leash.let_go()
        report = pool.stop(20)
        assert report.unprocessed == (1, 2, 3)
        assert [future.cancelled() for future in futures] == [False, True, True, True]
        assert (pool.stats().succeeded, pool.stats().cancelled, pool.stats().balance()) == (1, 3, 0)

    def test_what_the_timeout_leaves_queued_is_handed_back(self) -> None:
        leash: Leash[int] = Leash()
        clock = ManualClock()
        pool = self.make(leash, workers=1, clock=clock.clock)
        pool.start()
        for number in range(3):
            pool.submit(number)
        leash.wait_begun()
        with ThreadPoolExecutor(1) as threads:
            stopping = threads.submit(pool.stop, 5)
            clock.wait_for_sleepers()
            clock.advance(5)
            while pool.stats().queue_depth:  # until the stop has seen the time
                pass
            leash.let_go()
            with pytest.raises(StopTimeout) as cut:
                stopping.result(20)
        assert cut.value.report.unprocessed == (1, 2)
        assert pool.stats().balance() == 0

    def test_no_future_outlives_its_pool_undone(self) -> None:
        stubborn = Stubborn()
        pool = self.make(stubborn, workers=1, stop_timeout=0)
        pool.start()
        running, queued = pool.call(1), pool.call(2)
        assert stubborn.begun.acquire(timeout=20)
        with pytest.raises(StopTimeout) as cut:
            pool.stop(0)
        assert isinstance(running.exception(20), ItemAbandoned)
        assert queued.cancelled()
        assert [abandoned.item for abandoned in cut.value.report.abandoned] == [1]
        assert cut.value.report.unprocessed == (2,)
        assert (pool.stats().abandoned, pool.stats().balance()) == (1, 0)
        stubborn.let_go.set()

    def test_the_blocks_own_exception_is_not_hidden(self) -> None:
        stubborn = Stubborn()
        pool = self.make(stubborn, workers=1, stop_timeout=0)
        with pytest.raises(ZeroDivisionError) as raised:
            fail_in_a_block(pool, stubborn)
        assert "abandoned" in raised.value.__notes__[0]
        stubborn.let_go.set()

    def test_a_stop_of_an_idle_pool_is_clean_within_no_time(self) -> None:
        pool, _ = self.doubling(workers=5)
        pool.start()
        assert pool.call(1).result(20) == 2
        assert pool.join(20)
        report = pool.stop(5)
        assert report.clean

    # -- the ledger ----------------------------------------------------------------------------

    def test_the_ledger_balances_at_every_snapshot(self) -> None:
        pool = self.make(Direct(double_or_fail), workers=4, queue_size=50)
        done = threading.Event()

        def watch() -> int:
            looks = 0
            while not done.is_set() or not looks:
                assert pool.stats().balance() == 0
                looks += 1
            return looks

        with ThreadPoolExecutor(1) as threads:
            watching = threads.submit(watch)
            with pool:
                for number in range(3000):
                    pool.submit_wait(ValueError() if number % 100 == 7 else number)
            done.set()
            assert watching.result(20) > 0
        stats = pool.stats()
        assert (stats.succeeded, stats.failed) == (2970, 30)


class Stubborn:
    """A process function that nothing ends but the test, and that holds up whatever it runs on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()

    def process(self, item: object) -> object:
        self.begun.release()
        self.let_go.wait(20)
        return item

    async def async_process(self, item: object) -> object:
        return self.process(item)


def fail_in_a_block(pool: Pool[Any, Any], stubborn: Stubborn) -> None:
    with pool:
        pool.submit(1)
        assert stubborn.begun.acquire(timeout=20)
        raise ZeroDivisionError
