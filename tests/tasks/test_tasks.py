"""Workers on the event loop that runs: what only a task can see."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from workpool import ItemAbandoned, Pool, PoolStopped, QueueFull, StopTimeout, current
from workpool.testing import Leash, ManualClock
from workpool.workers.tasks import SHARE, OwnLoop


async def double(item: int) -> int:
    return item * 2


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0)


def test_the_pool_runs_on_the_loop_and_leaves_nothing_on_it() -> None:
    threads: set[int] = set()

    async def note(_: int) -> None:
        threads.add(threading.get_ident())

    async def main() -> None:
        before, alive = asyncio.all_tasks(), threading.enumerate()
        async with Pool(note, workers=5) as pool:
            for number in range(20):
                pool.submit(number)
            assert await pool.ajoin(20)
            assert threading.enumerate() == alive
        assert asyncio.all_tasks() == before
        assert pool.stats().succeeded == 20

    asyncio.run(main())
    assert threads == {threading.get_ident()}


def test_asubmit_waits_for_room_and_is_refused_when_the_time_is_up() -> None:
    async def main() -> None:
        leash: Leash[int] = Leash()
        clock = ManualClock()
        async with Pool(leash.async_process, workers=1, queue_size=1, clock=clock.clock) as pool:
            await pool.asubmit(1)
            await until(lambda: leash.items == [1])
            await pool.asubmit(2)
            late = asyncio.create_task(pool.asubmit(3, timeout=5))
            waiting = asyncio.create_task(pool.asubmit(4))
            await until(lambda: len(pool._queue._lane.waiters) == 2)
            clock.advance(5)
            with pytest.raises(QueueFull):
                await late
            assert not waiting.done()
            leash.let_go()
            await waiting
        assert leash.items == [1, 2, 4]

    asyncio.run(main())


def test_a_thread_and_another_loop_may_submit_and_wait() -> None:
    async def main() -> None:
        async with Pool(double, workers=2, queue_size=2) as pool:

            async def elsewhere() -> list[int]:
                await pool.asubmit(1)
                return [result async for result in pool.amap(range(20))]

            def in_thread() -> int:
                pool.submit_wait(3)
                return sum(pool.map([4, 5]))

            both = asyncio.to_thread(asyncio.run, elsewhere()), asyncio.to_thread(in_thread)
            results, total = await asyncio.gather(*both)
            assert (results, total) == ([number * 2 for number in range(20)], 18)

    asyncio.run(main())


def test_amap_takes_from_either_kind_of_iterable_and_raises_at_the_turn_of_what_failed() -> None:
    async def fail_at_5(item: int) -> int:
        if item == 5:
            raise ValueError(item)
        return item

    async def numbers() -> AsyncIterator[int]:
        for number in range(10):
            yield number

    async def main() -> None:
        async with Pool(fail_at_5, workers=2, queue_size=3) as pool:
            assert [result async for result in pool.amap(range(5))] == [0, 1, 2, 3, 4]
            got: list[int] = []
            with pytest.raises(ValueError, match="5"):
                async for result in pool.amap(numbers()):
                    got.append(result)  # noqa: PERF401 - a comprehension would lose what came before the error
            assert got == [0, 1, 2, 3, 4]
        assert pool.stats().balance() == 0

    asyncio.run(main())


@pytest.mark.parametrize("form", ["stop", "join", "submit_wait", "map", "with", "result", "exception"])
def test_what_would_hold_up_the_loop_of_the_workers_is_refused_with_advice(form: str) -> None:
    forms: dict[str, Callable[[Pool[int, int]], object]] = {
        "stop": lambda pool: pool.stop(),
        "join": lambda pool: pool.join(),
        "submit_wait": lambda pool: pool.submit_wait(1),
        "map": lambda pool: list(pool.map([1])),
        "with": lambda pool: pool.__enter__(),
        "result": lambda pool: pool.call(1).result(),
        "exception": lambda pool: pool.call(1).exception(5),
    }

    async def main() -> None:
        async with Pool(double) as pool:
            with pytest.raises(RuntimeError, match=r"hold up the event loop that the workers .* run on; use"):
                forms[form](pool)
            assert pool.stats().submitted == (form in ("result", "exception"))

    asyncio.run(main())


def test_a_with_block_in_an_event_loop_is_refused_before_it_starts() -> None:
    async def main() -> None:
        pool = Pool(double)
        with pytest.raises(RuntimeError, match="use `async with`"):
            pool.__enter__()
        assert pool.stats().state == "new"

    asyncio.run(main())


def test_the_result_of_a_call_that_is_done_can_be_had_in_the_loop_of_the_workers() -> None:
    async def main() -> None:
        async with Pool(double) as pool:
            future = pool.call(1)
            with pytest.raises(TimeoutError):
                future.result(0)
            await pool.ajoin()
            assert future.result() == 2
            assert future.exception() is None

    asyncio.run(main())


def test_a_plain_function_runs_on_threads_and_the_loop_goes_on() -> None:
    leash: Leash[int] = Leash()

    async def main() -> None:
        before = set(threading.enumerate())
        async with Pool(leash.process, workers=1, queue_size=1) as pool:
            first = asyncio.create_task(pool.acall(1))
            await until(lambda: leash.items == [1])
            await pool.asubmit(2)
            waiting = asyncio.create_task(pool.asubmit(3))
            await until(lambda: len(pool._queue._lane.waiters) == 1)
            leash.let_go()
            assert await first == 1
            await waiting
        assert leash.items == [1, 2, 3]
        assert set(threading.enumerate()) == before

    asyncio.run(main())


# -- stopping ----------------------------------------------------------------------------------


def test_at_the_timeout_the_task_is_cancelled_and_who_swallows_that_is_abandoned(quiet: None) -> None:
    cancelled: list[int] = []
    end = asyncio.Event()

    async def stay(item: int) -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                assert current().cancelled
                cancelled.append(item)
                if item == 1:
                    raise

    async def main() -> None:
        clock = ManualClock()
        pool = Pool(stay, workers=2, clock=clock.clock)
        pool.start()
        obeys, swallows, queued = pool.call(1), pool.call(2), pool.call(3)
        await until(lambda: pool.stats().running == 2)
        stopping = asyncio.create_task(pool.astop(5))
        await until(lambda: len(clock._sleepers) == 1)
        clock.advance(5)
        await until(lambda: cancelled == [1, 2])
        await until(lambda: len(clock._sleepers) == 1)
        clock.advance(0.5)
        with pytest.raises(StopTimeout) as cut:
            await stopping
        report = cut.value.report
        assert report.unprocessed == (3,)
        (lost,) = report.abandoned
        assert lost.item == 2
        assert "await end.wait()" in lost.stack
        assert isinstance(obeys.exception(), ItemAbandoned)
        assert isinstance(swallows.exception(), ItemAbandoned)
        assert queued.cancelled()
        stats = pool.stats()
        assert (stats.failed, stats.abandoned, stats.cancelled, stats.balance()) == (1, 1, 1, 0)
        end.set()
        await until(lambda: len(asyncio.all_tasks()) == 1)
        assert pool.stats() == stats

    asyncio.run(main())


def test_a_program_that_ends_without_a_stop_cancels_the_workers_and_no_future_is_left(quiet: None) -> None:
    leash: Leash[int] = Leash()

    async def main() -> Pool[int, int]:
        pool = Pool(leash.async_process, workers=1)
        pool.start()
        futures.extend(pool.call(number) for number in range(3))
        await until(lambda: leash.items == [0])
        return pool

    futures: list[Any] = []
    pool = asyncio.run(main())
    assert [future.done() for future in futures] == [True] * 3
    stats = pool.stats()
    assert (stats.state, stats.failed, stats.cancelled, stats.balance()) == ("stopped", 1, 2, 0)
    with pytest.raises(PoolStopped):
        pool.submit(1)


def test_a_program_that_ends_before_the_workers_have_begun_leaves_no_running_pool(quiet: None) -> None:
    async def main() -> Pool[int, int]:
        pool = Pool(double, workers=3)
        pool.start()
        pool.submit(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return pool

    pool = asyncio.run(main())
    stats = pool.stats()
    assert (stats.state, stats.cancelled, stats.balance()) == ("stopped", 1, 0)
    assert pool.stop().unprocessed == (1,)


def test_a_keyboard_interrupt_in_a_process_function_goes_through_the_loop_when_it_is_settled(quiet: None) -> None:
    async def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    pools: list[Pool[int, None]] = []

    async def main() -> None:
        pools.append(Pool(interrupt, workers=2))
        pools[0].start()
        pools[0].submit(1)
        pools[0].submit(2)
        await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    stats = pools[0].stats()
    assert (stats.state, stats.failed, stats.cancelled, stats.balance()) == ("stopped", 1, 1, 0)


def test_an_astop_that_ran_out_of_time_leaves_no_loop_of_the_pools_own(quiet: None) -> None:
    leash: Leash[int] = Leash()
    before = set(threading.enumerate())
    pool = Pool(leash.async_process, workers=1)
    pool.start()
    pool.submit(1)
    leash.wait_begun()
    pool.submit(2)

    async def stop() -> None:
        with pytest.raises(StopTimeout):
            await pool.astop(0)
        assert set(threading.enumerate()) == before

    asyncio.run(stop())


@pytest.mark.parametrize("busy", [False, True])
def test_a_loop_that_was_closed_over_a_running_pool_is_noticed(busy: bool, quiet: None) -> None:
    leash: Leash[int] = Leash()

    async def main() -> Pool[int, int]:
        pool = Pool(leash.async_process, workers=1)
        pool.start()
        if busy:
            pool.submit(1)
            await until(lambda: leash.items == [1])
        return pool

    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(main())
    loop.close()
    with pytest.raises(PoolStopped, match="closed"):
        pool.submit(2)
    assert pool.stats().balance() == 0
    try:
        report = pool.stop()
    except StopTimeout as cut:
        report = cut.report
    assert len(report.abandoned) == busy
    del pool
    gc.collect()  # the tasks too: what they still want to do finds a stopped pool


def test_a_start_that_fails_leaves_no_task(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        loop = asyncio.get_running_loop()
        create, made = loop.create_task, []

        def fail_at_third(serving: Coroutine[Any, Any, None], **options: Any) -> asyncio.Task[None]:
            made.append(serving)
            if len(made) == 3:
                serving.close()
                raise MemoryError
            return create(serving, **options)

        monkeypatch.setattr(loop, "create_task", fail_at_third)
        pool = Pool(double, workers=5)
        with pytest.raises(MemoryError):
            pool.start()
        await until(lambda: asyncio.all_tasks() == before)
        assert pool.stats().state == "stopped"

    asyncio.run(main())


def test_a_pool_that_is_dropped_drains_and_its_own_loop_ends(quiet: None) -> None:
    ran: list[int] = []

    async def note(item: int) -> None:
        ran.append(item)

    before = set(threading.enumerate())
    pool = Pool(note, workers=2, name="dropped")
    pool.start()
    for number in range(10):
        pool.submit(number)
    (loop,) = set(threading.enumerate()) - before
    with pytest.warns(ResourceWarning, match="dropped"):
        del pool
        gc.collect()
    loop.join(20)
    assert not loop.is_alive()
    assert ran == list(range(10))


# -- whose time it is --------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 50])
def test_workers_that_never_suspend_share_a_millisecond_of_each_pass_of_the_loop(workers: int) -> None:
    """Every reading of the clock takes a tenth of it."""
    time = 0.0

    def now() -> float:
        nonlocal time
        time += SHARE / 10
        return time

    async def main() -> list[int]:
        done = 0
        by_pass: list[int] = []

        async def count(_: int) -> None:
            nonlocal done
            done += 1

        clock = ManualClock().clock
        pool = Pool(count, workers=workers, queue_size=1000, clock=type(clock)(now, clock.park, clock.later))
        async with pool:
            await asyncio.sleep(0)
            for number in range(1000):
                pool.submit(number)
            while done < 1000:
                before = done
                await asyncio.sleep(0)
                by_pass.append(done - before)
        return by_pass

    by_pass = asyncio.run(main())
    assert max(by_pass) <= 12 + workers // 10
    assert sum(by_pass) == 1000


# -- a cancellation at every step --------------------------------------------------------------


class Steps:
    """Awaits something, and throws CancelledError into it where it suspends for the `at`-th time."""

    def __init__(self, awaited: Coroutine[Any, Any, Any], at: int) -> None:
        self.suspended = 0
        self._awaited = awaited
        self._at = at

    def __await__(self) -> Any:
        inner = self._awaited.__await__()
        try:
            waited = inner.send(None)
            while True:
                self.suspended += 1
                if self.suspended == self._at:
                    waited = inner.throw(asyncio.CancelledError())
                    continue
                try:
                    sent = yield waited
                except BaseException as error:
                    waited = inner.throw(error)
                else:
                    waited = inner.send(sent)
        except StopIteration as end:
            return end.value


async def collect(results: AsyncIterator[int]) -> list[int]:
    return [result async for result in results]


OPERATIONS: dict[str, Callable[[Pool[int, int]], Coroutine[Any, Any, Any]]] = {
    "asubmit": lambda pool: pool.asubmit(99),
    "acall": lambda pool: pool.acall(99),
    "amap": lambda pool: collect(pool.amap(range(90, 100))),
    "astop": lambda pool: pool.astop(20),
    "ajoin": lambda pool: pool.ajoin(20),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cancellation_at_any_await_leaves_the_pool_whole(operation: str, quiet: None) -> None:
    async def run(at: int) -> bool:
        leash: Leash[int] = Leash()
        pool = Pool(leash.async_process, workers=1, queue_size=2)
        pool.start()
        pool.submit(1)
        await until(lambda: leash.items == [1])
        pool.submit(2)
        if operation != "acall":
            pool.submit(3)
        steps = Steps(OPERATIONS[operation](pool), at)

        async def operate() -> None:
            await steps

        task = asyncio.create_task(operate())
        await asyncio.sleep(0)
        leash.let_go()
        try:
            await task
        except asyncio.CancelledError:
            cancelled = True
        else:
            cancelled = False
        assert pool.stats().balance() == 0
        assert not pool._queue._lane.waiters
        report = await pool.astop(20)
        assert report.abandoned == ()
        stats = pool.stats()
        assert stats.balance() == 0
        assert stats.succeeded == len(leash.items)
        if operation == "asubmit":
            assert (99 in leash.items) is not cancelled
        return steps.suspended >= at

    at = 1
    while asyncio.run(run(at)):
        at += 1
    assert at > 1


def test_a_loop_is_asked_to_end_once_whoever_else_asks_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second time would break off its cleaning up, with a traceback on stderr."""
    own = OwnLoop("loop")
    loop = own.start_and_wait()
    stops: list[object] = []
    call_soon = loop.call_soon_threadsafe

    def another_asks() -> float:
        monkeypatch.undo()
        other = threading.Thread(target=own.ask_to_end)
        other.start()
        other.join(20)
        return time.monotonic()

    loop.call_soon_threadsafe = stops.append  # type: ignore[method-assign, assignment]
    monkeypatch.setattr("workpool.workers.tasks.time.monotonic", another_asks)
    own.ask_to_end()
    assert len(stops) == 1
    call_soon(loop.stop)
    own.end()
    assert not own.is_alive()
