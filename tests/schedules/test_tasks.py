"""Races on an event loop: many orders of its tasks for each, explored by detangle, with time that it makes up.

After each schedule the pool has stopped, its numbers add up, each item has met exactly one fate, and no task is left.
What a test draws (`detangle.choice`, `flip`) is part of the schedule. A failure comes with a token that replays it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from workpool import DrainReport, Pool, PoolStopped, QueueFull, StopTimeout
from workpool._clock import Clock, park

detangle = pytest.importorskip("detangle")

SCHEDULES = 500
SEED = 20250101


def explore(model: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `model` under so many orders; nearly all of them differ."""
    found = detangle.explore(model, runs=SCHEDULES, seed=SEED, strategy="auto", database=False, check_leaks=True)
    assert found.distinct_schedules > 0.8 * found.runs


class Scene:
    """A pool on the loop of the schedule, and what became of each item, as those see it who handed it over."""

    def __init__(self, workers: int = 2, queue_size: int = 2) -> None:
        loop = asyncio.get_running_loop()
        self.ran: list[int] = []
        self.ended: list[int] = []
        self.refused: list[int] = []
        self.taken_back: set[int] = set()
        self.perhaps: list[int] = []
        """Whoever waited for the result gave up: the item ran, or was taken back."""
        self.futures: dict[int, Future[int]] = {}
        self.pool = Pool(self._process, workers=workers, queue_size=queue_size, clock=Clock(loop.time, park))
        self.pool.start()

    async def _process(self, item: int) -> int:
        self.ran.append(item)
        assert self.pool.stats().balance() == 0
        for _ in range(item % 3):
            await asyncio.sleep(item % 2)
        self.ended.append(item)
        return item

    def submit(self, item: int) -> None:
        try:
            self.pool.submit(item)
        except (QueueFull, PoolStopped):
            self.refused.append(item)

    def call(self, item: int) -> None:
        try:
            self.futures[item] = self.pool.call(item)
        except (QueueFull, PoolStopped):
            self.refused.append(item)

    async def asubmit(self, item: int, timeout: float | None = None) -> None:
        await self._waits(self.pool.asubmit(item, timeout), item, self.refused)

    async def acall(self, item: int) -> None:
        await self._waits(self.pool.acall(item), item, self.perhaps)

    async def _waits(self, handing_over: Awaitable[object], item: int, if_cancelled: list[int]) -> None:
        try:
            await handing_over
        except (QueueFull, PoolStopped):
            self.refused.append(item)
        except asyncio.CancelledError:
            if_cancelled.append(item)

    def cancel(self, item: int) -> None:
        if item in self.futures and self.futures[item].cancel():
            self.taken_back.add(item)

    async def stop(self, timeout: float | None, drain: bool) -> DrainReport[int]:
        try:
            return await self.pool.astop(timeout, drain)
        except StopTimeout as late:
            return late.report

    def check(self, report: DrainReport[int], items: int, clean: bool) -> None:
        """The pool has stopped, and `items` numbers from 0 have met one fate each."""
        stats = self.pool.stats()
        assert (stats.state, stats.balance(), stats.running, stats.queue_depth) == ("stopped", 0, 0, 0)
        assert report.stats.submitted == stats.submitted
        assert report.clean or not clean
        unprocessed = list(report.unprocessed)
        withdrawn = [item for item in self.taken_back if item not in unprocessed]
        withdrawn += [item for item in self.perhaps if item not in (*self.ran, *unprocessed)]
        assert sorted(self.ran + unprocessed + self.refused + withdrawn) == list(range(items))
        assert stats.submitted == len(self.ran) + len(unprocessed) + len(withdrawn)
        assert stats.cancelled == len(unprocessed) + len(withdrawn)
        assert stats.dropped + stats.refused["stopped"] <= len(self.refused)
        assert (stats.succeeded, stats.failed + stats.abandoned) == (
            len(self.ended),
            len(self.ran) - len(self.ended),
        )
        for item, future in self.futures.items():
            assert future.done()
            assert future.cancelled() == (item in unprocessed + withdrawn)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others


async def pause(most: int) -> None:
    for _ in range(detangle.randint(0, most)):
        await asyncio.sleep(0)


def test_submit_against_stop() -> None:
    async def model() -> None:
        scene = Scene()
        timeout = detangle.choice([None, 0.0, 1.0, 30.0])

        async def submits(first: int) -> None:
            scene.submit(first)
            await scene.asubmit(first + 1, detangle.choice([None, 1.0]))
            scene.call(first + 2)

        async def waits(item: int) -> None:
            await scene.asubmit(item)

        async def stops(drain: bool) -> DrainReport[int]:
            await pause(4)
            return await scene.stop(timeout, drain)

        stopping = asyncio.gather(stops(detangle.flip()), stops(True))
        await asyncio.gather(submits(0), submits(3), submits(6), waits(9), waits(10))
        report, again = await stopping
        assert report == again
        scene.check(report, 11, clean=timeout in (None, 30.0))

    explore(model)


def test_cancel_against_run() -> None:
    async def model() -> None:
        scene = Scene(workers=detangle.randint(1, 2), queue_size=4)

        async def cancels(*items: int) -> None:
            for item in items:
                await pause(2)
                scene.cancel(item)

        async def gives_up(form: Callable[[int], Coroutine[Any, Any, None]], item: int) -> None:
            task = asyncio.create_task(form(item))
            detangle.inject_cancellation(task)
            await pause(4)
            if detangle.flip():
                task.cancel()
            await asyncio.wait([task])
            if task.cancelled():  # before its first step: nothing was handed over
                scene.refused.append(item)

        for item in range(3):
            scene.call(item)
        await asyncio.gather(
            cancels(1, 0, 2),
            cancels(2, 1),
            gives_up(scene.acall, 3),
            gives_up(scene.acall, 4),
            gives_up(scene.asubmit, 5),
            gives_up(scene.asubmit, 6),
            scene.asubmit(7),
        )
        scene.check(await scene.stop(None, detangle.flip()), 8, clean=True)

    explore(model)


def test_resize_against_stop() -> None:
    async def model() -> None:
        scene = Scene(workers=detangle.randint(1, 3), queue_size=6)

        async def resizes(*workers: int) -> None:
            for count in workers:
                await pause(2)
                try:
                    scene.pool.resize(count)
                except PoolStopped:
                    return

        async def stops() -> DrainReport[int]:
            await pause(6)
            return await scene.stop(None, detangle.flip())

        for item in range(4):
            scene.submit(item)
        stopping = asyncio.create_task(stops())
        await asyncio.gather(resizes(3, 1, 2), resizes(1, 4), scene.asubmit(4), scene.asubmit(5))
        report = await stopping
        scene.check(report, 6, clean=True)

    explore(model)
