# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Uses that the types must refuse: each line's `ignore` is reported as unused when its error goes away.

Nothing here runs; `make lint` checks it with mypy --strict and pyright.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import assert_type

from workpool import CoDel, DrainReport, Fifo, Lanes, Pool, PoolStats
from workpool.testing import ManualClock
from workpool.testing.plugin import InlinePool


@dataclass
class Task:
    number: int


def handle(task: Task) -> None: ...


def length(text: str) -> int:
    return len(text)


def what_is_inferred(pool: Pool[Task, None], lengths: Pool[str, int]) -> None:
    assert_type(Pool(handle), Pool[Task, None])
    assert_type(Pool(length), Pool[str, int])
    assert_type(lengths.call("text").result(), int)
    assert_type(list(lengths.map(["a"])), list[int])
    assert_type(lengths.stop(), DrainReport[str])
    assert_type(lengths.stop().unprocessed, tuple[str, ...])
    assert_type(lengths.stats(), PoolStats)
    future: Future[int] = lengths.call("text")
    future.cancel()
    with Pool(handle) as entered:
        assert_type(entered, Pool[Task, None])
    pool.submit(Task(1))


def what_is_refused(pool: Pool[Task, None], lengths: Pool[str, int]) -> None:
    Pool(handle).submit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.submit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.submit_wait(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pool.call(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lengths.map([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    number: str = lengths.call("text").result()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    Pool(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(handle, workers="many")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(handle, 5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    pool.stop(drain="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number.upper()


def rank(task: Task) -> int:
    return task.number


def rank_text(text: str) -> int:
    return len(text)


def what_is_inferred_of_disciplines() -> None:
    assert_type(Pool(handle, queue=Fifo(5)), Pool[Task, None])
    assert_type(Pool(handle, queue=Lanes(rank, [5, CoDel(5)])), Pool[Task, None])
    assert_type(Lanes(rank, [5]), Lanes[Task])


def what_is_refused_of_disciplines(pool: Pool[Task, None]) -> None:
    Pool(handle, queue=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(handle, queue=Lanes(rank_text, [5]))  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Fifo(5, overflow="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Lanes(rank, [Lanes(rank, [5])])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    pool.stop()


async def fetch(number: int) -> str:
    return str(number)


async def what_is_inferred_of_an_async_function(pool: Pool[int, str]) -> None:
    assert_type(Pool(fetch), Pool[int, str])
    assert_type(Pool(fetch).call(1).result(), str)
    assert_type(await pool.acall(1), str)
    assert_type(await pool.astop(), DrainReport[int])
    assert_type([result async for result in pool.amap([1])], list[str])
    async with Pool(fetch, workers=5) as entered:
        assert_type(entered, Pool[int, str])


async def what_is_refused_of_an_async_function(pool: Pool[int, str]) -> None:
    Pool(fetch).submit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await pool.asubmit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    number: int = await pool.acall(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    pool.amap(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    number.bit_length()


def what_is_inferred_of_kinds_of_workers() -> None:
    assert_type(Pool(length, executor="thread"), Pool[str, int])
    assert_type(Pool(length, executor="inline"), Pool[str, int])
    assert_type(Pool(length, executor=None), Pool[str, int])
    assert_type(Pool(fetch, executor="asyncio"), Pool[int, str])
    assert_type(Pool(fetch, executor="asyncio", carry_context=True).call(1).result(), str)
    assert_type(Pool(length, carry_context=True), Pool[str, int])


def what_is_refused_of_kinds_of_workers(name: str) -> None:
    Pool(handle, executor="fiber")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(handle, executor=name)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(fetch, executor="tasks")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(fetch, executor=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(handle, carry_context="yes")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    Pool(fetch, carry_context=None)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def what_is_inferred_of_the_fixtures(inline_pool: InlinePool, manual_clock: ManualClock) -> None:
    assert_type(inline_pool(length), Pool[str, int])
    assert_type(inline_pool(handle, queue_size=2, clock=manual_clock.clock), Pool[Task, None])
    assert_type(inline_pool(length, carry_context=True).call("text").result(), int)


def what_is_refused_of_the_fixtures(inline_pool: InlinePool) -> None:
    inline_pool(handle).submit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    inline_pool(handle, queue_size="many")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    inline_pool(handle, executor="fiber")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    inline_pool(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
