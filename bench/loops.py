"""What an item costs on an event loop, beside what people write by hand there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from statistics import median, quantiles
from threading import Event
from time import perf_counter
from typing import Any

from bench.table import Table, micro
from workpool import Pool, PoolExecutor

ROUNDS = 5
QUEUE_SIZE = 1000

Contender = Callable[[int, int], Coroutine[Any, Any, float]]
"""Runs so many items through so many workers; seconds an item."""


async def noop(_: int) -> None:
    return None


async def workpool(count: int, workers: int) -> float:
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    pool = Pool(noop, workers=workers, queue_size=QUEUE_SIZE, metrics=registry)
    pool.start()
    begun = perf_counter()
    for number in range(count):
        await pool.asubmit(number)
    stats = (await pool.astop(None)).stats
    seconds = perf_counter() - begun
    assert stats.succeeded == count
    assert stats.balance() == 0
    return seconds / count


async def queue_loop(count: int, workers: int) -> float:
    queue: asyncio.Queue[int | None] = asyncio.Queue(QUEUE_SIZE)

    async def work() -> None:
        while (item := await queue.get()) is not None:
            await noop(item)

    return await _by_hand(count, workers, queue.put, work)


async def queue_loop_with_prometheus(count: int, workers: int) -> float:
    """The same loop, with the calls of prometheus_client for each item that its documentation shows."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    submitted = prometheus_client.Counter("bench_submitted", "Items", registry=registry)
    processed = prometheus_client.Counter("bench_processed", "Items", ["status"], registry=registry)
    depth = prometheus_client.Gauge("bench_depth", "Items", registry=registry)
    duration = prometheus_client.Histogram("bench_seconds", "Run time", ["status"], registry=registry)
    queue: asyncio.Queue[int | None] = asyncio.Queue(QUEUE_SIZE)

    async def put(item: int | None) -> None:
        await queue.put(item)
        submitted.inc()
        depth.inc()

    async def work() -> None:
        while (item := await queue.get()) is not None:
            depth.dec()
            begun = perf_counter()
            status = "success"
            try:
                await noop(item)
            except Exception:  # noqa: BLE001 - what users write
                status = "error"
            duration.labels(status).observe(perf_counter() - begun)
            processed.labels(status).inc()

    return await _by_hand(count, workers, put, work)


async def _by_hand(
    count: int,
    workers: int,
    put: Callable[[int | None], Awaitable[None]],
    work: Callable[[], Coroutine[Any, Any, None]],
) -> float:
    tasks = [asyncio.create_task(work()) for _ in range(workers)]
    begun = perf_counter()
    for number in range(count):
        await put(number)
    for _ in tasks:
        await put(None)
    await asyncio.gather(*tasks)
    return (perf_counter() - begun) / count


async def task_for_each(count: int, workers: int) -> float:
    """A task for each item, under a semaphore."""
    room = asyncio.Semaphore(workers)

    async def run(item: int) -> None:
        try:
            await noop(item)
        finally:
            room.release()

    begun = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await room.acquire()
            group.create_task(run(number))
    return (perf_counter() - begun) / count


CONTENDERS: dict[str, tuple[Contender, int]] = {
    "workpool": (workpool, 50_000),
    "asyncio.Queue loop": (queue_loop, 50_000),
    "asyncio.Queue loop with prometheus_client": (queue_loop_with_prometheus, 10_000),
    "a task for each item": (task_for_each, 10_000),
}


def on_a_loop(table: Table) -> None:
    for workers in (1, 10, 50):
        taken: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(ROUNDS):
            for name, (contender, count) in CONTENDERS.items():
                taken[name].append(asyncio.run(contender(count, workers)))
        cost = {name: median(times) for name, times in taken.items()}
        mine, what = cost["workpool"], f"asyncio, no-op, {workers} workers"
        loop = cost["asyncio.Queue loop"]
        table.at_most(f"{what}: workpool / asyncio.Queue loop", f"{micro(mine)} / {micro(loop)}", mine / loop, 1.25)
        counted = cost["asyncio.Queue loop with prometheus_client"]
        figures = f"{micro(counted)} / {micro(mine)}"
        table.at_least(f"{what}: the loop with prometheus_client / workpool", figures, counted / mine, 5)
        each = cost["a task for each item"]
        table.at_least(f"{what}: a task for each item / workpool", f"{micro(each)} / {micro(mine)}", each / mine, 4)


def beside_a_flood(table: Table) -> None:
    """How late another task's `sleep(0.001)` is while a million items run."""
    for workers in (1, 50):
        late = asyncio.run(_flood(1_000_000, workers))
        worst = quantiles(late, n=1000)[998]
        what = f"asyncio, a million no-ops, {workers} workers: p99.9 of how late a sleep(0.001) is, over 10 ms"
        table.at_most(what, f"{worst * 1000:.2f} ms of {len(late)} sleeps", worst / 0.010, 1.0)


async def _flood(count: int, workers: int) -> list[float]:
    late: list[float] = []
    done = asyncio.Event()

    async def beat() -> None:
        while not done.is_set():
            begun = perf_counter()
            await asyncio.sleep(0.001)
            late.append(perf_counter() - begun - 0.001)

    async with Pool(noop, workers=workers, queue_size=QUEUE_SIZE) as pool:
        beating = asyncio.create_task(beat())
        for number in range(count):
            await pool.asubmit(number)
        await pool.ajoin()
        done.set()
        await beating
    return late


def many_that_wait(table: Table) -> None:
    """10,000 workers that each wait 100 ms, beside 10,000 bare tasks that do."""
    workers, count = 10_000, 50_000

    async def wait(_: int) -> None:
        await asyncio.sleep(0.1)

    async def bare() -> float:
        begun = perf_counter()

        async def repeat() -> None:
            for _ in range(count // workers):
                await wait(0)

        await asyncio.gather(*(repeat() for _ in range(workers)))
        return perf_counter() - begun

    async def pooled() -> float:
        async with Pool(wait, workers=workers, queue_size=workers) as pool:
            begun = perf_counter()
            for number in range(count):
                await pool.asubmit(number)
            await pool.ajoin()
            return perf_counter() - begun

    theirs, ours = [], []
    for _ in range(3):
        theirs.append(asyncio.run(bare()))
        ours.append(asyncio.run(pooled()))
    mine, other = median(ours), median(theirs)
    what = "asyncio, 10,000 workers that wait 100 ms: workpool / bare tasks"
    table.at_most(what, f"{mine:.2f} s / {other:.2f} s", mine / other, 1.15)


def calls(table: Table) -> None:
    """`call`, with its future, beside `submit`: on threads, from submit to the end."""

    def nothing(_: int) -> None:
        return None

    async def later(_: int) -> None:
        return None

    on_threads: Pool[int, None] = Pool(nothing, workers=1, queue_size=20_000, name="threads")
    on_a_loop: Pool[int, None] = Pool(later, workers=1, queue_size=20_000, name="asyncio")
    for pool in (on_threads, on_a_loop):
        with pool:
            submit = median(_one_by_one(pool, pool.submit) for _ in range(ROUNDS))
            call = median(_one_by_one(pool, pool.call) for _ in range(ROUNDS))
        table.note(f"{pool.name}: call / submit, to the end", f"{micro(call)} / {micro(submit)}: {call / submit:.1f}×")


def carried(table: Table) -> None:
    """The submitter's context variables, carried to the process function; on an event loop, beside a task for each."""

    def nothing(_: int) -> None:
        return None

    async def later(_: int) -> None:
        return None

    async def in_a_task(_: int) -> None:
        await asyncio.create_task(later(0), context=copy_context())

    kinds: dict[str, Callable[[int], Any]] = {"threads": nothing, "asyncio": later, "asyncio, a task": in_a_task}
    plain: dict[str, float] = {}
    for carry in (False, True):
        for kind, process in kinds.items():
            with Pool(process, workers=1, queue_size=20_000, carry_context=carry) as pool:
                plain[f"{kind} {carry}"] = median(_one_by_one(pool, pool.submit) for _ in range(ROUNDS))
    for kind in ("threads", "asyncio"):
        on, off = plain[f"{kind} True"], plain[f"{kind} False"]
        table.note(f"{kind}: carry_context on / off", f"{micro(on)} / {micro(off)}: {on / off:.2f}×")
    by_hand, off = plain["asyncio, a task False"], plain["asyncio False"]
    what = "asyncio: a task with a context for each item / carry_context off"
    table.note(what, f"{micro(by_hand)} / {micro(off)}: {by_hand / off:.2f}×")


def executors(table: Table) -> None:
    """`submit` with its future, while the one thread is busy."""

    def nothing() -> None:
        return None

    def cost(executor: Executor) -> float:
        gate = Event()
        with executor:
            executor.submit(gate.wait)
            begun = perf_counter()
            for _ in range(10_000):
                executor.submit(nothing)
            seconds = perf_counter() - begun
            gate.set()
        return seconds / 10_000

    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(cost(PoolExecutor(1, queue_size=20_000)))
        theirs.append(cost(ThreadPoolExecutor(1)))
    mine, other = median(ours), median(theirs)
    what = "submit with its future: ThreadPoolExecutor / PoolExecutor"
    table.at_least(what, f"{micro(other)} / {micro(mine)}", other / mine, 1.5)


def _one_by_one(pool: Pool[int, None], hand_over: Callable[[int], object]) -> float:
    begun = perf_counter()
    for number in range(20_000):
        hand_over(number)
    pool.join()
    return (perf_counter() - begun) / 20_000
