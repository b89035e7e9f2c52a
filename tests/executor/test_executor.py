"""`PoolExecutor` as its users see it, where it is more than a `ThreadPoolExecutor`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dis
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.thread import BrokenThreadPool
from itertools import count
from typing import Any

import pytest

from workpool import ItemAbandoned, OnFull, Pool, PoolExecutor, PoolStopped, QueueFull, StopTimeout, current
from workpool._future import ItemFuture
from workpool.executor import Work


class Gate:
    """A function that says when it has begun, and ends when told to."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self, item: object = None) -> object:
        self.begun.release()
        assert self.let_go.wait(20)
        return item

    def has_begun(self) -> None:
        assert self.begun.acquire(timeout=20)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.let_go.set()


def full(gate: Gate, **options: Any) -> PoolExecutor:
    """One thread, which is busy, and a queue of one, which is full."""
    executor = PoolExecutor(1, queue_size=1, **options)
    executor.submit(gate, "running")
    gate.has_begun()
    executor.submit(gate, "queued")
    return executor


# -- a full queue ------------------------------------------------------------------------------


def test_a_full_queue_refuses(gate: Gate) -> None:
    with full(gate) as executor:
        with pytest.raises(QueueFull):
            executor.submit(int)
        assert executor.stats().dropped == 1
        gate.let_go.set()
    assert executor.stats().balance() == 0
    assert executor.stats().succeeded == 2


def test_a_full_queue_can_be_waited_for(gate: Gate) -> None:
    with full(gate, on_full=OnFull.WAIT) as executor:
        results: list[object] = []
        waiter = threading.Thread(target=lambda: results.append(executor.submit(pow, 2, 3).result(20)))
        waiter.start()
        gate.let_go.set()
        waiter.join(20)
        assert results == [8]
        assert executor.stats().dropped == 0


def test_who_waits_for_room_is_told_of_a_shutdown(gate: Gate) -> None:
    executor = full(gate, on_full=OnFull.WAIT)
    told = threading.Event()

    def submit() -> None:
        with pytest.raises(PoolStopped, match="cannot schedule new futures after shutdown"):
            executor.submit(int)
        told.set()

    waiter = threading.Thread(target=submit)
    waiter.start()
    executor.shutdown(wait=False)
    assert told.wait(20)
    waiter.join(20)
    gate.let_go.set()
    executor.shutdown()


def test_a_full_queue_can_have_the_caller_run_it(gate: Gate) -> None:
    with full(gate, on_full=OnFull.RUN) as executor:
        assert executor.submit(threading.get_ident).result(0) == threading.get_ident()
        failed = executor.submit(divmod, 1, 0)
        assert isinstance(failed.exception(0), ZeroDivisionError)
        assert not failed.cancel()
        with pytest.raises(SystemExit):
            executor.submit(sys.exit, 3)
        gate.let_go.set()
    assert executor.stats().submitted == 2
    assert executor.stats().balance() == 0


def test_what_the_caller_runs_cannot_cancel_itself_out_of_the_queue(gate: Gate) -> None:
    with full(gate, on_full=OnFull.RUN) as executor:
        future: Future[Any] = executor.submit(lambda: executor.stats().queue_depth)
        assert not future.cancel()
        assert executor.stats().queue_depth == 1
        gate.let_go.set()


@pytest.mark.parametrize("on_full", [OnFull.WAIT, OnFull.RUN])
def test_a_thread_of_the_executor_does_not_wait_for_room(on_full: OnFull) -> None:
    def fill(depth: int) -> int:
        futures = [executor.submit(int) for _ in range(5)]
        return sum(future.done() for future in futures)

    with PoolExecutor(1, queue_size=1, on_full=on_full) as executor:
        assert executor.submit(fill, 1).result(20) == 4
        assert executor.submit(lambda: list(executor.map(abs, [-1], buffersize=1, timeout=0)) or 1) is not None


def test_a_thread_of_the_executor_submits() -> None:
    with PoolExecutor(2) as executor:
        assert executor.submit(lambda: executor.submit(pow, 2, 5)).result(20).result(20) == 32


# -- futures -----------------------------------------------------------------------------------


def test_a_queued_future_is_cancelled_and_its_slot_is_free(gate: Gate) -> None:
    with PoolExecutor(1, queue_size=1) as executor:
        executor.submit(gate)
        gate.has_begun()
        future = executor.submit(pow, 2, 3)
        assert not future.done()
        assert not future.running()
        assert future.cancel()
        assert future.done()
        assert future.cancelled()
        with pytest.raises(CancelledError):
            future.result(0)
        assert executor.submit(abs, -1) is not None
        gate.let_go.set()
    assert executor.stats().cancelled == 1
    assert executor.stats().balance() == 0


def test_a_future_tells_whoever_asks_before_or_after(gate: Gate) -> None:
    with PoolExecutor(1) as executor:
        before = executor.submit(gate, 1)
        told: list[object] = []
        before.add_done_callback(lambda future: told.append(future.result()))
        gate.has_begun()
        assert before.running()
        gate.let_go.set()
        assert before.result(20) == 1
        after = executor.submit(pow, 3, 2)
    after.add_done_callback(lambda future: told.append(future.result()))
    assert told == [1, 9]
    assert after.result(0) == 9
    assert after.exception(0) is None
    assert not after.running()
    assert "finished" in repr(after)


def test_a_future_is_a_future_with_nothing_more() -> None:
    with PoolExecutor(1) as executor:
        future = executor.submit(int)
        assert not hasattr(future, "exception_info")
        assert future.result(20) == 0
        assert vars(future).keys() >= vars(Future()).keys()


def test_waiting_and_finishing_at_the_same_time() -> None:
    """Each future is asked for while it is just being done; one that is missed hangs."""
    with PoolExecutor(2, queue_size=20_000) as executor:
        for _ in range(50):
            futures = [executor.submit(abs, -number) for number in range(100)]
            assert not concurrent.futures.wait(futures, 20).not_done
            again = [executor.submit(abs, -number) for number in range(100)]
            assert len(list(concurrent.futures.as_completed(again, 20))) == 100
    assert executor.stats().balance() == 0


def test_nobody_comes_between_the_look_and_the_store() -> None:
    """A future that is done by a store must not be asked in between: no call and no branch, where a tracer could be."""
    code = list(dis.get_instructions(ItemFuture.set_result))
    look = next(at for at, step in enumerate(code) if step.argval == "_asked")
    store = next(at for at, step in enumerate(code) if at > look and step.opname == "STORE_ATTR")
    assert code[store].argval == "_state"
    assert not {step.opname for step in code[look:store] if "CALL" in step.opname or "JUMP" in step.opname}


def test_a_future_that_was_given_up_is_not_told_that_its_item_runs(caplog: pytest.LogCaptureFixture) -> None:
    """A stop may give an item up while its worker is about to say that it runs."""
    home: Any = Pool(abs)._queue
    future: ItemFuture[int] = ItemFuture(home)
    future.tell_running()
    assert future.running()
    future.set_exception(ItemAbandoned())
    future.tell_running()
    assert isinstance(future.exception(), ItemAbandoned)
    assert not caplog.records


def test_on_an_event_loop() -> None:
    async def main(executor: PoolExecutor) -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, abs, -number) for number in range(100)))

    with PoolExecutor(3) as executor:
        assert asyncio.run(main(executor)) == list(range(100))


def test_current_works_in_what_runs() -> None:
    with PoolExecutor(1, name="mine") as executor:
        assert executor.submit(lambda: current().pool).result(20) == "mine"
        assert executor.name == "mine"
        assert "mine" in repr(executor)


# -- initializer and names ---------------------------------------------------------------------


def test_the_initializer_runs_once_in_each_thread() -> None:
    here = threading.local()
    calls: list[int] = []
    meet = threading.Barrier(3)

    def prepare(value: int) -> None:
        calls.append(value)
        here.value = value

    def use() -> int:
        meet.wait(20)
        return int(here.value)

    with PoolExecutor(3, "named", prepare, (7,)) as executor:
        for _ in range(2):
            assert [executor.submit(use) for _ in range(3)][-1].result(20) == 7
        name = executor.submit(lambda: threading.current_thread().name).result(20)
    assert calls == [7, 7, 7]
    assert name in {"named_0", "named_1", "named_2"}
    assert executor.name == "named"


def test_an_initializer_that_fails_breaks_the_executor(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    def prepare() -> None:
        gate()
        raise LookupError("no database")

    executor = PoolExecutor(1, initializer=prepare)
    pending = [executor.submit(pow, 2, number) for number in range(5)]
    gate.has_begun()
    gate.let_go.set()
    for future in pending:
        assert isinstance(future.exception(20), BrokenThreadPool)
        assert "LookupError('no database')" in str(future.exception(0))
    with pytest.raises(BrokenThreadPool, match="no database"):
        executor.submit(int)
    executor.shutdown()
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    assert executor.stats().failed == 5
    assert executor.stats().balance() == 0


# -- map ---------------------------------------------------------------------------------------


def test_map_waits_for_room_and_keeps_the_order() -> None:
    with PoolExecutor(2, queue_size=2) as executor:
        assert list(executor.map(pow, range(200), [2] * 200, chunksize=7)) == [number**2 for number in range(200)]


def test_map_runs_in_the_caller_what_finds_no_room(gate: Gate) -> None:
    with full(gate, on_full=OnFull.RUN) as executor:
        mine = list(executor.map(lambda _: threading.get_ident(), range(5)))
        assert set(mine) == {threading.get_ident()}
        gate.let_go.set()


def test_map_gives_up_in_time(gate: Gate) -> None:
    with full(gate) as executor:
        with pytest.raises(TimeoutError, match="no room"):
            executor.map(abs, [1], timeout=0)
        gate.let_go.set()
    gate.let_go.clear()
    with PoolExecutor(1) as executor:
        results = executor.map(gate, range(3), timeout=0)
        with pytest.raises(TimeoutError):
            next(results)
        gate.let_go.set()
    assert executor.stats().cancelled >= 2


@pytest.mark.parametrize("size", [1, 3])
def test_map_with_a_buffer_takes_only_what_it_needs(size: int) -> None:
    numbers = count()
    with PoolExecutor(2) as executor:
        results = executor.map(abs, numbers, buffersize=size)
        assert [next(results) for _ in range(10)] == list(range(10))
        assert next(numbers) == 10 + size
        assert executor.stats().submitted == 10 + size
        del results


def test_an_exception_ends_map_and_cancels_the_rest(gate: Gate) -> None:
    def run(number: int) -> object:
        return gate() if number else 1 / number

    with PoolExecutor(1) as executor:
        results = executor.map(run, range(5))
        with pytest.raises(ZeroDivisionError):
            next(results)
        gate.let_go.set()
    assert executor.stats().cancelled >= 3


def test_an_iterable_that_fails_cancels_what_was_submitted(gate: Gate) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError

    with PoolExecutor(1) as executor:
        executor.submit(gate)
        gate.has_begun()
        with pytest.raises(LookupError):
            executor.map(abs, items())
        gate.let_go.set()
    assert executor.stats().cancelled == 3


# -- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [True, False])
def test_after_a_shutdown_nothing_is_accepted(used: bool) -> None:
    executor = PoolExecutor(1)
    if used:
        executor.submit(int)
    executor.shutdown()
    executor.shutdown()
    for refused in (lambda: executor.submit(int), lambda: executor.map(abs, [1])):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown: pool 'PoolExecutor-"):
            refused()


@pytest.mark.parametrize("wait", [True, False])
def test_a_shutdown_can_cancel_what_is_queued(gate: Gate, wait: bool) -> None:
    executor = PoolExecutor(1)
    running = executor.submit(gate, "done")
    gate.has_begun()
    queued = [executor.submit(int) for _ in range(3)]
    if wait:
        queued[0].add_done_callback(lambda _: gate.let_go.set())
    executor.shutdown(wait, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    gate.let_go.set()
    executor.shutdown()
    assert running.result(0) == "done"
    assert executor.stats().balance() == 0


def test_a_stop_reports(gate: Gate) -> None:
    executor = PoolExecutor(1)
    running = executor.submit(gate, 1)
    gate.has_begun()
    queued = executor.submit(pow, 2, 3)
    with pytest.raises(StopTimeout) as caught:
        executor.stop(timeout=0)
    report = caught.value.report
    assert report.unprocessed == (Work(pow, (2, 3), {}),)
    assert report.abandoned[0].item == Work(gate, (1,), {})
    assert queued.cancelled()
    assert isinstance(running.exception(0), ItemAbandoned)
    assert report.stats.balance() == 0
    assert executor.stop() is report
    executor.shutdown()


def test_a_stop_that_drains_is_clean() -> None:
    executor = PoolExecutor(2)
    futures = [executor.submit(abs, -number) for number in range(100)]
    report = executor.stop()
    assert report.clean
    assert all(future.done() for future in futures)
    assert PoolExecutor().stop().clean


@pytest.mark.parametrize("stop", [PoolExecutor.shutdown, PoolExecutor.stop])
def test_a_thread_of_the_executor_does_not_wait_for_itself(stop: Callable[[PoolExecutor], object]) -> None:
    with PoolExecutor(1) as executor:
        error = executor.submit(stop, executor).exception(20)
        assert isinstance(error, RuntimeError)
        assert "use shutdown(wait=False) there" in str(error)
        executor.submit(executor.shutdown, wait=False).result(20)


def test_an_executor_that_is_dropped_drains(gate: Gate) -> None:
    executor = PoolExecutor(1)
    future = executor.submit(gate, 5)
    with pytest.warns(ResourceWarning, match="dropped without a stop"):
        del executor
    gate.let_go.set()
    assert future.result(20) == 5


AT_EXIT = """
import atexit
executors = []
@atexit.register
def last():
    for executor in executors:
        try:
            executor.submit(int)
        except RuntimeError as error:
            print(str(error)[:42])
from workpool import PoolExecutor
executors += [PoolExecutor(1), PoolExecutor(1)]
executors[0].submit(print, "ran\\n", end="")
executors.append(PoolExecutor(1))
executors[2].submit(print, "ran\\n", end="")
executors[2].shutdown(wait=False)
"""


def test_at_exit_what_was_accepted_runs_and_nothing_more_is() -> None:
    child = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=40)
    assert child.stderr == ""
    assert child.stdout.split("\n") == ["ran"] * 2 + ["cannot schedule new futures after shutdown"] * 3 + [""]


# -- wrong arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0, not 0"),
        ({"max_workers": "4"}, TypeError, "max_workers must be an integer, or None, not '4'"),
        ({"thread_name_prefix": 3}, TypeError, "thread_name_prefix must be a string, not 3"),
        ({"initializer": 3}, TypeError, "initializer must be a callable, or None, not 3"),
        ({"initargs": 3}, TypeError, "initargs must be a tuple, not 3"),
        ({"queue_size": 0}, ValueError, "queue_size must be at least 1, not 0"),
        ({"on_full": "wait"}, TypeError, "on_full must be one of OnFull.RAISE, OnFull.WAIT, OnFull.RUN, not 'wait'"),
        ({"on_full": OnFull.RUN, "initializer": int}, ValueError, "the initializer has not prepared"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout must be 0 seconds or more"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        PoolExecutor(**options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"chunksize": 0}, ValueError, "chunksize must be at least 1, not 0"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0, not 0"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be an integer or None, not 1.5"),
        ({"timeout": "1"}, TypeError, "timeout must be a number of seconds, or None, not '1'"),
    ],
)
def test_wrong_arguments_of_map(options: dict[str, Any], error: type[Exception], text: str) -> None:
    executor = PoolExecutor()
    with pytest.raises(error) as caught:
        executor.map(abs, [1], **options)
    assert str(caught.value) == text
