"""A pool whose items run in the thread of whoever submits them, before `submit` returns."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool import Hooks, Pool, PoolStopped, QueueFull, StopTimeout, current
from workpool.testing import ManualClock, Recorder, drain

pytestmark = pytest.mark.usefixtures("quiet")


def inline(process: Callable[[Any], Any], **options: Any) -> Pool[Any, Any]:
    return Pool(process, executor="inline", **options)


def test_an_item_has_run_when_submit_returns_in_the_same_thread() -> None:
    ran: list[tuple[int, int]] = []
    before = threading.active_count()
    with inline(lambda item: ran.append((item, threading.get_ident()))) as pool:
        for number in range(5):
            pool.submit(number)
            assert ran[-1] == (number, threading.get_ident())
            assert threading.active_count() == before
        assert drain(pool) == {"succeeded": 5, "failed": 0, "shed": 0, "cancelled": 0, "abandoned": 0}
    assert pool.stats().balance() == 0


def test_every_way_to_hand_an_item_over_and_to_have_its_result() -> None:
    recorder: Recorder[int, int] = Recorder(lambda item: item * 2)
    with inline(recorder.process) as pool:
        pool.submit_wait(1)
        future = pool.call(2)
        assert future.done()
        assert future.result() == 4
        assert list(pool.map(range(3, 3000))) == [number * 2 for number in range(3, 3000)]
    assert recorder.items == list(range(1, 3000))


def test_tasks_may_use_it_too() -> None:
    async def main() -> None:
        async with inline(lambda item: item * 2) as pool:
            await pool.asubmit(1)
            assert await pool.acall(2) == 4
            assert [result async for result in pool.amap([3, 4])] == [6, 8]
            assert await pool.ajoin(0)
        assert pool.stats().succeeded == 4

    asyncio.run(main())


def test_what_it_raises_fails_the_item_and_is_not_the_submitters() -> None:
    told: list[object] = []

    def fail(item: object) -> None:
        raise ValueError(item)

    with inline(fail, hooks=Hooks(error=lambda item, error: told.append((item, str(error))))) as pool:
        pool.submit(1)
        assert isinstance(pool.call(2).exception(), ValueError)
    assert told == [(1, "1")]
    assert pool.stats().failed == 2


def test_a_keyboard_interrupt_is_for_whoever_submits_too_and_the_pool_goes_on() -> None:
    def interrupted(item: int) -> None:
        if item == 1:
            raise KeyboardInterrupt

    with inline(interrupted) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(1)
        assert (pool.stats().failed, pool.stats().running) == (1, 0)
        pool.submit(2)
    assert (pool.stats().succeeded, pool.stats().balance()) == (1, 0)


def test_while_it_is_paused_items_queue_up_and_run_in_their_order_at_the_resume() -> None:
    recorder: Recorder[int, None] = Recorder(lambda _: None)
    with inline(recorder.process, workers=3, queue_size=2) as pool:
        pool.pause()
        pool.submit(1)
        pool.submit(2)
        with pytest.raises(QueueFull):
            pool.submit(3)
        assert recorder.items == []
        pool.resume()
        assert recorder.items == [1, 2]


def test_a_stop_runs_what_is_queued_or_hands_it_back() -> None:
    for drains in (True, False):
        recorder: Recorder[int, None] = Recorder(lambda _: None)
        pool = inline(recorder.process)
        pool.start()
        pool.pause()
        pool.submit(1)
        pool.submit(2)
        report = pool.stop(5, drain=drains)
        assert report.clean
        assert recorder.items + list(report.unprocessed) == [1, 2]
        assert len(recorder.items) == (2 if drains else 0)
        with pytest.raises(PoolStopped):
            pool.submit(3)


@pytest.mark.parametrize(("workers", "order"), [(1, ["a", "a1", "a2", "a11"]), (10, ["a", "a1", "a11", "a2"])])
def test_an_item_that_an_item_submits_runs_at_once_while_there_is_an_idle_worker(
    workers: int, order: list[str]
) -> None:
    children = {"a": ["a1", "a2"], "a1": ["a11"]}
    began: list[str] = []

    def handle(item: str) -> None:
        began.append(item)
        for child in children.get(item, ()):
            pool.submit(child)

    with inline(handle, workers=workers) as pool:
        pool.submit("a")
    assert began == order


@pytest.mark.parametrize(
    "wait", [lambda pool: pool.stop(), lambda pool: pool.join(), lambda pool: pool.call(0).result()]
)
def test_an_item_that_waits_for_itself_is_refused(wait: Callable[[Pool[Any, Any]], object]) -> None:
    def handle(item: int) -> None:
        if item:
            wait(pool)

    with inline(handle, workers=1) as pool:
        assert isinstance(pool.call(1).exception(), RuntimeError)


def test_an_item_may_wait_for_an_item_of_a_free_worker() -> None:
    def sum_to(item: int) -> int:
        return item + pool.call(item - 1).result() if item else 0

    with inline(sum_to, workers=5) as pool:
        assert pool.call(4).result() == 10


def test_two_pools_that_call_each_other_do_not_deadlock() -> None:
    def ask(item: int) -> bool:
        try:
            first.stop(0)
        except RuntimeError:
            return True
        return False

    second = inline(ask)
    first = inline(lambda item: second.call(item).result())
    with first, second:
        assert first.call(1).result()


def test_current_is_the_workers_while_it_runs_and_nobodys_after() -> None:
    with inline(lambda _: (current().pool, current().worker), name="mine", workers=1) as pool:
        assert pool.call(1).result() == ("mine", "mine-0")
        with pytest.raises(LookupError):
            current()


def test_items_of_several_threads_run_in_each_of_them() -> None:
    barrier = threading.Barrier(3)
    idents: list[int] = []

    def meet(_: int) -> int:
        barrier.wait(20)
        return threading.get_ident()

    with inline(meet, workers=3) as pool:
        threads = [
            threading.Thread(target=lambda: idents.append(pool.call(1).result() - threading.get_ident())) for _ in "abc"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert idents == [0, 0, 0]


def test_an_item_that_runs_in_another_thread_past_the_timeout_is_abandoned() -> None:
    begun, end = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        begun.set()
        end.wait(20)

    clock = ManualClock()
    pool = inline(hang, clock=clock.clock)
    pool.start()
    runner = threading.Thread(target=pool.submit, args=(1,))
    runner.start()
    assert begun.wait(20)
    with pytest.raises(StopTimeout) as cut:
        pool_stop_with(clock, pool)
    assert [abandoned.item for abandoned in cut.value.report.abandoned] == [1]
    end.set()
    runner.join(20)
    assert (pool.stats().abandoned, pool.stats().balance()) == (1, 0)


def pool_stop_with(clock: ManualClock, pool: Pool[Any, Any]) -> None:
    """Stop, with another thread that lets the time pass."""

    def pass_time() -> None:
        for _ in range(2):
            clock.wait_for_sleepers()
            clock.advance(1)

    timer = threading.Thread(target=pass_time)
    timer.start()
    try:
        pool.stop(1)
    finally:
        timer.join(20)


@pytest.mark.parametrize("size", [3, 1])
def test_more_and_fewer_workers(size: int) -> None:
    with inline(lambda item: item, workers=2) as pool:
        pool.resize(size)
        assert pool.stats().workers == size
        assert pool.call(1).result() == 1
    assert pool.stats().state == "stopped"


def test_an_async_function_is_refused_with_the_way_out() -> None:
    async def handle(item: int) -> None: ...

    with pytest.raises(TypeError, match="leave executor out, or say 'asyncio'"):
        inline(handle)


@given(
    st.lists(st.sampled_from(["submit", "fail", "call", "cancel", "nest", "pause", "resume", "grow", "shrink"])),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_the_ledger_balances_after_every_step_and_the_same_steps_have_the_same_end(
    steps: list[str], workers: int, size: int
) -> None:
    assert play(steps, workers, size) == play(steps, workers, size)


def play(steps: list[str], workers: int, size: int) -> tuple[list[object], Counter[str]]:
    ran: list[object] = []
    fates: Counter[str] = Counter()

    def handle(item: tuple[str, int]) -> None:
        ran.append(item)
        if item[0] == "fail":
            raise ValueError
        if item[0] == "nest":
            submit(("submit", -item[1]))

    def submit(item: tuple[str, int]) -> None:
        try:
            future = pool.call(item)
        except QueueFull:
            fates["refused"] += 1
            return
        if item[0] == "cancel":
            fates["cancelled"] += future.cancel()

    pool = inline(handle, workers=workers, queue_size=size)
    with pool:
        for number, step in enumerate(steps):
            if step in ("pause", "resume"):
                getattr(pool, step)()
            elif step in ("grow", "shrink"):
                pool.resize(workers + 1 if step == "grow" else 1)
            else:
                submit((step, number))
            assert pool.stats().balance() == 0
    stats = pool.stats()
    assert stats.submitted == len(ran) + fates["cancelled"]
    assert (stats.cancelled, stats.dropped) == (fates["cancelled"], fates["refused"])
    return ran, fates
