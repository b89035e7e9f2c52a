"""The context variables of whoever submits, in a process function that suspends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

import pytest

from workpool import ItemAbandoned, Pool, current

VARIABLE: ContextVar[int] = ContextVar("VARIABLE", default=-1)

pytestmark = pytest.mark.usefixtures("quiet")


def test_items_that_take_turns_on_the_loop_each_keep_their_own_variables() -> None:
    async def handle(item: int) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []
        for _ in range(5):
            seen.append((VARIABLE.get(), current().worker))
            await asyncio.sleep(0)
        VARIABLE.set(VARIABLE.get() + 100)
        await asyncio.sleep(0)
        seen.append((VARIABLE.get() - 100, current().worker))
        return seen

    async def main() -> None:
        async with Pool(handle, workers=4, carry_context=True) as pool:

            async def ask(number: int) -> list[tuple[int, str]]:
                VARIABLE.set(number)
                return await pool.acall(number)

            for number, seen in enumerate(await asyncio.gather(*map(ask, range(12)))):
                assert {value for value, _ in seen} == {number}
                assert len(set(seen)) == 1
        assert VARIABLE.get() == -1

    asyncio.run(main())


def test_what_the_function_starts_or_waits_for_has_the_variables_too() -> None:
    async def look() -> int:
        await asyncio.sleep(0)
        return VARIABLE.get()

    async def handle(_: int) -> tuple[int, int, bool]:
        async with asyncio.timeout(20):
            started = await asyncio.create_task(look())
            waited = await look()
        task = asyncio.current_task()
        assert task is not None
        return started, waited, task.get_name() == current().worker

    async def main() -> None:
        async with Pool(handle, carry_context=True) as pool:
            VARIABLE.set(7)
            assert await pool.acall(0) == (7, 7, True)

    asyncio.run(main())


def test_a_timeout_within_and_the_cancellation_of_a_stop_reach_the_function() -> None:
    ended: list[str] = []

    async def handle(item: int) -> None:
        try:
            async with asyncio.timeout(0 if item == 0 else None):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(f"late {VARIABLE.get()}")
        except asyncio.CancelledError:
            ended.append(f"cancelled {VARIABLE.get()}")
            raise

    async def main() -> None:
        VARIABLE.set(1)
        pool = Pool(handle, carry_context=True)
        pool.start()
        await pool.acall(0)
        VARIABLE.set(2)
        future = pool.call(1)
        while not pool.stats().running:
            await asyncio.sleep(0)
        await pool.astop(0)
        with pytest.raises(ItemAbandoned):
            await asyncio.wrap_future(future)

    asyncio.run(main())
    assert ended == ["late 1", "cancelled 2"]


def test_a_worker_whose_loop_ends_closes_the_function_it_was_in() -> None:
    closed: list[int] = []

    async def handle(_: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(VARIABLE.get())

    async def main() -> Pool[int, None]:
        VARIABLE.set(3)
        pool = Pool(handle, carry_context=True)
        pool.start()
        pool.submit(1)
        while not pool.stats().running:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        return pool

    pool = asyncio.run(main())
    assert closed == [3]
    assert pool.stats().balance() == 0


def test_a_function_that_returns_another_awaitable_is_awaited_in_the_context_too() -> None:
    class Later:
        def __await__(self) -> Generator[Any, None, int]:
            yield from asyncio.sleep(0).__await__()
            return VARIABLE.get()

    async def main() -> None:
        later: Callable[[int], Any] = lambda _: Later()  # noqa: E731
        pool: Pool[int, Any] = Pool(later, executor="asyncio", carry_context=True)
        async with pool:
            VARIABLE.set(5)
            assert await pool.acall(0) == 5

    asyncio.run(main())
