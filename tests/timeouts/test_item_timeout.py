"""Items that take longer than the pool's `item_timeout`."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import until
from tests.processes import functions
from workpool import Fifo, Hooks, ItemTimeout, Lanes, Pool, Processes, Rate, Retry, StopTimeout, current
from workpool._clock import Clock, park
from workpool._control import ControlledQueue
from workpool._worker import Worker
from workpool.testing import Leash, ManualClock, drain
from workpool.workers.child import DUMP
from workpool.workers.children import Child, pids

pytestmark = pytest.mark.usefixtures("quiet", "no_thread_left")


def late(clock: ManualClock, seconds: float) -> None:
    """Let so much time pass once somebody waits for it."""
    clock.wait_for_sleepers()
    clock.advance(seconds)


# -- threads -----------------------------------------------------------------------------------


def test_a_thread_sees_that_its_item_is_over_time_and_the_item_has_failed() -> None:
    begun = threading.Event()
    seen: list[bool] = []

    def handle(_: int) -> str:
        begun.set()
        seen.append(current().sleep(100))
        seen.append(current().cancelled)
        return "late"

    clock = ManualClock()
    pool: Pool[int, str] = Pool(handle, workers=1, item_timeout=5, clock=clock.clock)
    with pool:
        future = pool.call(1)
        assert begun.wait(20)
        clock.wait_for_sleepers(2)
        clock.advance(5)
        with pytest.raises(ItemTimeout, match="more than 5 s"):
            future.result(20)
        assert seen == [False, True]
        assert pool.stats().workers_stuck == 0
    assert (pool.stats().failed, pool.stats().balance()) == (1, 0)


def test_the_next_item_of_the_thread_is_not_told_to_end() -> None:
    clock = ManualClock()
    gate = threading.Event()
    begun = threading.Event()

    def handle(item: int) -> bool:
        begun.set()
        if item == 1:
            gate.wait(20)
        return current().cancelled

    pool: Pool[int, bool] = Pool(handle, workers=1, item_timeout=5, clock=clock.clock)
    with pool:
        first, second = pool.call(1), pool.call(2)
        assert begun.wait(20)
        late(clock, 5)
        clock.wait_for_sleepers()
        gate.set()
        assert isinstance(first.exception(20), ItemTimeout)
        assert second.result(20) is False


def test_what_it_raises_when_it_was_told_is_the_cause() -> None:
    error = OSError("broken off")
    begun = threading.Event()

    def handle(_: int) -> None:
        begun.set()
        current().sleep(100)
        raise error

    clock = ManualClock()
    pool: Pool[int, None] = Pool(handle, workers=1, item_timeout=5, clock=clock.clock)
    with pool:
        future = pool.call(1)
        assert begun.wait(20)
        clock.wait_for_sleepers(2)
        clock.advance(5)
        raised = future.exception(20)
        assert isinstance(raised, ItemTimeout)
        assert raised.__cause__ is error


@pytest.mark.parametrize("with_future", [True, False])
def test_a_thread_that_does_not_end_is_given_up_and_replaced(with_future: bool) -> None:
    stuck: list[tuple[int, float, str]] = []
    failed: list[tuple[int, str]] = []
    hooks: Hooks[int] = Hooks(
        error=lambda item, error: failed.append((item, type(error).__name__)),
        stuck=lambda *what: stuck.append(what),
    )
    leash: Leash[int] = Leash()
    clock = ManualClock()
    pool = Pool(leash.process, workers=1, item_timeout=5, hooks=hooks, clock=clock.clock)
    with pool:
        future = pool.call(1) if with_future else None
        if future is None:
            pool.submit(1)
        leash.wait_begun()
        pool.submit(2)
        late(clock, 5)
        late(clock, 0.5)
        leash.wait_begun()  # the second, in another thread
        stats = pool.stats()
        assert (stats.workers, stats.workers_busy, stats.workers_stuck) == (1, 1, 1)
        assert (stats.failed, stats.running, stats.balance()) == (1, 1, 0)
        if future is not None:
            assert isinstance(future.exception(20), ItemTimeout)
        leash.let_go()
        assert drain(pool) == {"succeeded": 1, "failed": 1, "shed": 0, "cancelled": 0, "abandoned": 0}
        until(lambda: pool.stats().workers_stuck == 0)
    [(item, seconds, stack)] = stuck
    assert (item, seconds) == (1, 5.5)
    assert "in process" in stack
    assert failed == ([] if with_future else [(1, "ItemTimeout")])
    assert pool.stats().run_error.count == 1


FOLLOWS: dict[str, dict[str, Any]] = {
    "fifo": {},
    "lanes": {"queue": Lanes(lambda item: 0, [10, 10])},
    "key": {"key": lambda item: item},
    "rate": {"rate": Rate(1000, burst=100)},
    "retry": {"retry": Retry(attempts=1)},
}
"""Ways in which a worker comes to its next item."""


def fill(pool: Pool[str, None], before: str) -> None:
    """Two items, and one that gets stuck after them."""
    for item in ("first", "second"):
        if before == "with a future":
            pool.call(item)
        else:
            pool.submit(item)
    pool.submit("stuck")


@pytest.mark.parametrize("before", ["succeeded", "failed", "with a future"])
@pytest.mark.parametrize("options", FOLLOWS.values(), ids=FOLLOWS)
def test_a_thread_is_given_up_over_an_item_that_it_took_as_it_ended_another(
    options: dict[str, Any], before: str
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def handle(item: str) -> None:
        if item == "stuck":
            begun.set()
            gate.wait(20)
        elif before == "failed":
            raise ValueError(item)

    clock = ManualClock()
    pool = Pool(handle, workers=1, item_timeout=5, clock=clock.clock, **options)
    with pool:
        pool.pause()
        fill(pool, before)
        pool.resume()
        assert begun.wait(20)
        late(clock, 5)
        late(clock, 0.5)
        until(lambda: pool.stats().workers_stuck == 1)
        gate.set()
        until(lambda: pool.stats().workers_stuck == 0)
    stats = pool.stats()
    assert (stats.failed, stats.succeeded) == ((3, 0) if before == "failed" else (1, 2))
    assert stats.balance() == 0


def test_an_item_that_has_ended_in_time_is_not_given_up_before_it_is_counted() -> None:
    """Its worker may be suspended, or wait for the lock, for as long as that takes."""
    given_up: list[bool] = []

    def now() -> float:
        if "ran" in ran and not given_up:
            entry = worker.entry
            assert entry is not None
            queue.mark_late(worker, entry, worker.began)
            given_up.append(queue.give_up(worker, entry, 6.0))
        return 0.0

    ran: list[str] = []
    worker: Worker[str] = Worker("worker", lambda _: None)
    queue: ControlledQueue[str] = ControlledQueue("queue", Fifo(1), 1, Clock(now, park), None)
    queue.start()
    assert queue.enlist(worker)
    assert queue.arrive(worker, 0)
    assert queue.offer("ran", None)
    assert next(queue.takes(worker, ran.append)) is None
    assert (given_up, queue.ledger.succeeded, queue.ledger.failed) == ([False], 1, 0)


def test_no_more_threads_are_given_up_than_the_pool_has_workers() -> None:
    leash: Leash[int] = Leash()
    clock = ManualClock()
    pool = Pool(leash.process, workers=1, item_timeout=5, clock=clock.clock)
    with pool:
        pool.submit(1)
        leash.wait_begun()
        pool.submit(2)
        late(clock, 5)
        late(clock, 0.5)
        leash.wait_begun()
        for _ in range(5):
            late(clock, 5)
        clock.wait_for_sleepers()
        assert (pool.stats().workers_stuck, pool.stats().running) == (1, 1)
        leash.let_go()
    assert (pool.stats().failed, pool.stats().balance()) == (2, 0)


def test_a_stop_while_an_item_is_over_time_ends() -> None:
    leash: Leash[int] = Leash()
    clock = ManualClock()
    pool = Pool(leash.process, workers=1, item_timeout=5, clock=clock.clock)
    pool.start()
    pool.submit(1)
    leash.wait_begun()
    late(clock, 5)
    pool.close()
    leash.let_go()
    report = pool.stop(20)
    assert report.clean
    assert report.stats.failed == 1


def test_a_stop_without_a_limit_does_not_wait_for_what_is_stuck() -> None:
    leash: Leash[int] = Leash()
    pool = Pool(leash.process, workers=1, item_timeout=0.02)
    pool.start()
    stuck = pool.call(1)
    leash.wait_begun()
    queued = pool.call(2)
    with pytest.raises(StopTimeout) as stopped:
        pool.stop(None)
    assert isinstance(stuck.exception(20), ItemTimeout)
    assert queued.cancelled()
    assert stopped.value.report.unprocessed == (2,)
    assert (pool.stats().failed, pool.stats().cancelled, pool.stats().balance()) == (1, 1, 0)
    leash.let_go()


# -- tasks -------------------------------------------------------------------------------------


def test_a_task_is_cancelled_and_its_worker_goes_on() -> None:
    seen: list[str] = []

    async def handle(item: int) -> int:
        if item == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise
        await asyncio.sleep(0)
        return item

    async def main() -> None:
        async with Pool(handle, workers=1, item_timeout=0.02) as pool:
            with pytest.raises(ItemTimeout):
                await pool.acall(1)
            assert [await pool.acall(number) for number in (2, 3)] == [2, 3]
            with pytest.raises(ItemTimeout):
                await pool.acall(1)
        assert seen == ["cancelled"] * 2
        assert (pool.stats().failed, pool.stats().succeeded, pool.stats().balance()) == (2, 2, 0)

    asyncio.run(main())


@pytest.mark.parametrize("before", ["succeeded", "failed", "with a future"])
@pytest.mark.parametrize("options", FOLLOWS.values(), ids=FOLLOWS)
def test_a_task_is_cancelled_over_an_item_that_it_took_as_it_ended_another(
    options: dict[str, Any], before: str
) -> None:
    async def handle(item: str) -> None:
        if item == "stuck":
            begun.set()
            await asyncio.Event().wait()
        elif before == "failed":
            raise ValueError(item)

    async def main() -> None:
        pool = Pool(handle, workers=1, item_timeout=5, clock=clock.clock, **options)
        async with pool:
            fill(pool, before)
            await begun.wait()
            await asyncio.to_thread(late, clock, 5)
            assert await pool.ajoin()
        stats = pool.stats()
        assert (stats.failed, stats.succeeded) == ((3, 0) if before == "failed" else (1, 2))
        assert stats.balance() == 0

    clock, begun = ManualClock(), asyncio.Event()
    asyncio.run(main())


def test_a_task_that_swallows_its_cancellation_is_given_up() -> None:
    clock = ManualClock()
    stacks: list[str] = []

    async def handle(item: int) -> int:
        while item == 1 and not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                begun.set()
        return item

    async def main() -> None:
        hooks: Hooks[int] = Hooks(stuck=lambda item, seconds, stack: stacks.append(stack))
        async with Pool(handle, workers=1, item_timeout=5, clock=clock.clock, hooks=hooks) as pool:
            first = pool.call(1)
            while not pool.stats().running:
                await asyncio.sleep(0)
            await asyncio.to_thread(late, clock, 5)
            await begun.wait()
            await asyncio.to_thread(late, clock, 0.5)
            with pytest.raises(ItemTimeout):
                await asyncio.wrap_future(first)
            assert await pool.acall(2) == 2
            assert pool.stats().workers_stuck == 1
            gate.set()
            while pool.stats().workers_stuck:
                await asyncio.sleep(0)
        assert "handle" in stacks[0]
        assert (pool.stats().failed, pool.stats().balance()) == (1, 0)

    gate, begun = asyncio.Event(), asyncio.Event()
    asyncio.run(main())


# -- processes ---------------------------------------------------------------------------------


def test_a_process_is_killed_and_replaced_and_nobody_else_notices(tmp_path: Path) -> None:
    stuck: list[tuple[str, str]] = []
    hooks: Hooks[Any] = Hooks(stuck=lambda item, seconds, stack: stuck.append((item, stack)))
    path = str(tmp_path / "begun")
    pool: Pool[Any, Any] = Pool(
        functions.touch_and_hang_or_not, workers=2, executor=Processes(batch=5), item_timeout=0.3, hooks=hooks
    )
    with pool:
        pool.pause()
        items = ["a", path, "b", "c"]
        futures = [pool.call(item) for item in items]
        pool.resume()
        hung = futures.pop(1)
        with pytest.raises(ItemTimeout, match=r"more than 0\.3 s"):
            hung.result(30)
        assert [future.result(30) for future in futures] == ["a", "b", "c"]
        until(lambda: len(pids()) == 2)
    [(item, stack)] = stuck
    assert item == path
    assert "touch_and_hang" in stack
    assert (pool.stats().failed, pool.stats().succeeded, pool.stats().balance()) == (1, 3, 0)


def test_an_item_is_not_late_while_its_process_starts(tmp_path: Path) -> None:
    """Which it does anew after each item here, as slowly as it is let."""
    gate, starts = tmp_path / "gate", tmp_path / "starts"
    os.mkfifo(gate)
    clock = ManualClock()
    settings = Processes(
        max_items=1, initializer=functions.wait_for_gate_at_first, initargs=(str(gate), str(starts), 2)
    )
    pool: Pool[Any, Any] = Pool(functions.same, workers=1, executor=settings, item_timeout=5, clock=clock.clock)
    with pool:
        first, second = pool.call(1), pool.call(2)
        gate.write_bytes(b"")
        assert first.result(30) == 1
        until(lambda: pool.stats().running == 1)
        late(clock, 6)
        clock.wait_for_sleepers()
        gate.write_bytes(b"")
        assert second.result(30) == 2


def test_an_item_that_ends_as_it_is_to_be_killed_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "ran"
    os.mkfifo(gate)
    real = Child.tell

    def tell_and_end(self: Child, word: bytes, *rest: None) -> None:
        if word == DUMP:
            gate.write_bytes(b"")
            until(lambda: self.board.done == 1)
        real(self, word, *rest)

    monkeypatch.setattr(Child, "tell", tell_and_end)
    pool: Pool[Any, Any] = Pool(functions.note_at_the_gate, workers=1, executor="process", item_timeout=0.1)
    with pool:
        ran = pool.call((str(gate), str(path)))
        assert isinstance(ran.exception(30), ItemTimeout)
    assert path.read_text() == "ran\n"
    assert (pool.stats().failed, pool.stats().balance()) == (1, 0)


def tell(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def test_items_end_once_each_while_processes_are_halted_at_random(tmp_path: Path) -> None:
    count = 5_000
    path = tmp_path / "ran"
    over = threading.Event()

    def halt_now_and_then() -> None:
        turn = 0
        while not over.wait(0.05):
            children = pids()
            turn += 1
            if children:
                tell(children[turn % len(children)], signal.SIGSTOP)

    pool: Pool[Any, Any] = Pool(functions.note, workers=4, executor=Processes(start_timeout=2), item_timeout=0.1)
    halter = threading.Thread(target=halt_now_and_then)
    with pool:
        pool.call((str(path), -1)).result(30)
        halter.start()
        try:
            for number in range(count):
                pool.submit_wait((str(path), number))
            assert pool.join(40)
        finally:
            over.set()
            halter.join(20)
        for pid in pids():
            tell(pid, signal.SIGCONT)
    stats = pool.stats()
    assert (stats.succeeded + stats.failed, stats.balance()) == (count + 1, 0)
    ran = [int(line) for line in path.read_text().split()]
    assert len(ran) == len(set(ran))
    assert count + 1 - len(ran) <= stats.failed


# -- inline, and arguments ---------------------------------------------------------------------


def test_inline_an_item_that_took_too_long_has_failed() -> None:
    clock = ManualClock()
    with Pool(clock.advance, executor="inline", item_timeout=5, clock=clock.clock) as pool:
        assert pool.call(4.9).exception() is None
        assert isinstance(pool.call(5).exception(), ItemTimeout)


@pytest.mark.parametrize(("timeout", "error"), [(0, ValueError), (-1, ValueError), ("5", TypeError)])
def test_a_timeout_is_a_number_of_seconds_above_0(timeout: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="item_timeout must be"):
        Pool(abs, item_timeout=timeout)
