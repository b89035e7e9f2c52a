"""What a pool leaves behind after its stop, and after a start that failed: nothing. Found by pyleak.

pyleak sees the tasks of one event loop, and threads; those that are daemons, as all of a pool are, if it is told to.
It does not see event loops, which are counted here.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from workpool import NameTaken, OnFull, Pool, PoolExecutor
from workpool.testing import Leash

pyleak = pytest.importorskip("pyleak")


def open_loops() -> set[asyncio.AbstractEventLoop]:
    """By type, not by isinstance: some objects lie about their class."""
    loops = [found for found in gc.get_objects() if issubclass(type(found), asyncio.AbstractEventLoop)]
    return {loop for loop in loops if not loop.is_closed()}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Neither a thread, daemon or not, nor an open event loop; at once, without a grace."""
    before = open_loops()
    with pyleak.no_thread_leaks("raise", name_filter=None, exclude_daemon=False, grace_period=0):
        yield
    assert open_loops() <= before


@asynccontextmanager
async def nothing_left_on_loop() -> AsyncIterator[None]:
    """Nor a task on the loop that runs."""
    async with pyleak.no_task_leaks("raise"):
        with nothing_left():
            yield


def double(item: int) -> int:
    return item * 2


async def adouble(item: int) -> int:
    await asyncio.sleep(0)
    return item * 2


KINDS = pytest.mark.parametrize("process", [double, adouble], ids=["threads", "tasks"])


def test_a_leak_of_each_kind_is_found() -> None:
    """What this file stands on. The thread is a daemon."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait, daemon=True)
    with pytest.raises(pyleak.ThreadLeakError):
        with nothing_left():
            thread.start()
    end.set()
    thread.join()

    loop: asyncio.AbstractEventLoop | None = None
    with pytest.raises(AssertionError):
        with nothing_left():
            loop = asyncio.new_event_loop()
    assert loop is not None
    loop.close()

    async def main() -> None:
        task: asyncio.Task[Any] | None = None
        with pytest.raises(pyleak.TaskLeakError):
            async with nothing_left_on_loop():
                task = asyncio.create_task(asyncio.Event().wait())
        assert task is not None
        task.cancel()

    asyncio.run(main())


@KINDS
@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_in_a_program_without_a_loop_leaves_nothing(process: Callable[[int], Any], drain: bool) -> None:
    with nothing_left():
        with Pool(process, workers=3) as pool:
            futures = [pool.call(number) for number in range(20)]
            pool.resize(5)
            pool.resize(2)
            pool.stop(20, drain)
        assert all(future.done() for future in futures)


@KINDS
def test_a_stop_on_a_running_loop_leaves_nothing(process: Callable[[int], Any]) -> None:
    async def main() -> None:
        async with nothing_left_on_loop():
            async with Pool(process, workers=3, queue_size=2) as pool:
                await asyncio.gather(*[pool.asubmit(number) for number in range(20)])
                assert [result async for result in pool.amap(range(5))] == [0, 2, 4, 6, 8]
            waiting = Pool(process, workers=1)
            waiting.start()
            await waiting.astop(20, drain=False)

    with nothing_left():
        asyncio.run(main())


@pytest.mark.usefixtures("quiet")
def test_an_item_that_ends_by_its_cancellation_leaves_no_task() -> None:
    async def main() -> None:
        leash: Leash[int] = Leash()
        async with nothing_left_on_loop():
            pool = Pool(leash.async_process, workers=2)
            pool.start()
            pool.submit(1)
            while not leash.items:
                await asyncio.sleep(0)
            report = await pool.astop(0)
            assert report.stats.failed == 1

    with nothing_left():
        asyncio.run(main())


@pytest.mark.parametrize("on_full", list(OnFull))
def test_an_executor_leaves_nothing(on_full: OnFull) -> None:
    with nothing_left():
        with PoolExecutor(max_workers=3, queue_size=50, on_full=on_full) as executor:
            assert list(executor.map(double, range(20))) == [number * 2 for number in range(20)]
        stopped = PoolExecutor(max_workers=2)
        stopped.submit(double, 1)
        stopped.stop(20)
        PoolExecutor(max_workers=2).shutdown()


@KINDS
def test_a_start_whose_metrics_name_is_taken_leaves_nothing(process: Callable[[int], Any]) -> None:
    registry = pytest.importorskip("prometheus_client").CollectorRegistry()
    with nothing_left():
        with Pool(double, name="taken", metrics=registry):
            with nothing_left():
                with pytest.raises(NameTaken):
                    Pool(process, name="taken", metrics=registry).start()

            async def main() -> None:
                async with nothing_left_on_loop():
                    with pytest.raises(NameTaken):
                        async with Pool(process, name="taken", metrics=registry):
                            pytest.fail("it has started")

            asyncio.run(main())


@contextmanager
def threads_that_start(count: int) -> Iterator[None]:
    """The system has so many more threads to give."""
    start = threading.Thread.start
    left = count

    def start_if_there_are(thread: threading.Thread) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_if_there_are)
        yield


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_start_for_which_there_are_no_threads_leaves_nothing(count: int) -> None:
    with nothing_left():
        pool = Pool(double, workers=3)
        with threads_that_start(count), pytest.raises(RuntimeError, match="can't start"):
            pool.start()
        assert pool.stop(20).clean  # those that were started before have ended by then
        assert pool.stats().state == "stopped"


def test_an_executor_for_which_there_are_no_threads_leaves_nothing() -> None:
    with nothing_left():
        with threads_that_start(0), pytest.raises(RuntimeError, match="can't start"):
            PoolExecutor(max_workers=2).submit(double, 1)


def test_an_event_loop_for_which_there_is_no_thread_leaves_nothing() -> None:
    with nothing_left():
        pool = Pool(adouble, workers=3)
        with threads_that_start(0), pytest.raises(RuntimeError, match="can't start"):
            pool.start()
        assert pool.stats().state == "stopped"


def test_an_async_with_for_which_there_are_no_threads_leaves_nothing() -> None:
    async def main() -> None:
        async with nothing_left_on_loop():
            pool = Pool(double, workers=3)
            with threads_that_start(1), pytest.raises(RuntimeError, match="can't start"):
                async with pool:
                    pytest.fail("it has started")
            await pool.astop(20)

    with nothing_left():
        asyncio.run(main())
