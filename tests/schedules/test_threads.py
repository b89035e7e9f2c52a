"""Races between threads: many interleavings of each, explored by interleave-test, which runs one thread at a time.

After each schedule the pool has stopped, its numbers add up, each item has met exactly one fate, and every thread has
ended: one that is left asleep is a DeadlockError, which says what it waits for. A failure holds its schedule, which
`interleave_test.replay` runs again.

The explorer needs help with two things. It has no `RLock._is_owned`. And it would switch threads between any two
instructions, where an interpreter with a GIL switches after calls alone, which the path of an item relies on:
so each race is explored by both rules, with half of the schedules each: the second for the package without the GIL.
"""

from __future__ import annotations

import dis
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import workpool
from workpool import DrainReport, Pool, PoolStopped, QueueFull
from workpool._clock import Clock, park
from workpool._interpreter import GIL

monitoring: Any = getattr(sys, "monitoring", None)
if monitoring is None:
    pytest.skip("interleave-test stands on sys.monitoring, which is new in Python 3.12", allow_module_level=True)

it = pytest.importorskip("interleave_test")
scheduler = pytest.importorskip("interleave_test._scheduler")

SCHEDULES = 500
SEED = 20250101
SOURCE = str(Path(workpool.__file__).parent)
TRACED = {
    f"{SOURCE}/{name}" for name in ("_queue.py", "_control.py", "_future.py", "_fate.py", "workers/threads.py")
}  # where threads meet; the locks, queues and threads themselves are switched at, whoever uses them

CLOCK = Clock(lambda: time.monotonic(), park)  # noqa: PLW0108 - looked up each time: the explorer replaces it


@cache
def places(code: CodeType) -> tuple[frozenset[int], frozenset[int], frozenset[int]]:
    """Where a function is entered or goes round, where it goes on after a call, and where it sets a field."""
    enters, goes_on, sets = set[int](), set[int](), set[int]()
    before = ""
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if before == "RESUME" or name == "JUMP_BACKWARD":  # there is no event for RESUME itself
            enters.add(instruction.offset)
        elif before in ("CALL", "CALL_KW", "CALL_FUNCTION_EX"):
            goes_on.add(instruction.offset)
        elif name == "STORE_ATTR":
            sets.add(instruction.offset)
        before = name
    return frozenset(enters), frozenset(goes_on), frozenset(sets)


class Where:
    """A place in the code that is looked up if somebody prints it: most of the time of a schedule goes into that."""

    def __init__(self, place: Any) -> None:
        self._place = place

    def __str__(self) -> str:
        return locate(self._place) or "?"


locate = scheduler._fmt_loc


class Scheduler(scheduler.Scheduler):  # type: ignore[misc, name-defined]
    """The explorer's, which lets a thread run on from one place to the next."""

    with_gil: bool

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._last: dict[int, CodeType] = {}

    def _should_trace(self, filename: str) -> bool:
        """Without looking into the file system for each file of each schedule."""
        return filename in TRACED

    def _on_instruction(self, code: CodeType, offset: int) -> object:
        if not code.co_filename.startswith(SOURCE):
            return monitoring.DISABLE
        enters, goes_on, sets = places(code)
        traced, after_call = self._should_trace(code.co_filename), offset in goes_on
        if not (offset in enters or (traced and (after_call or (not self.with_gil and offset in sets)))):
            return monitoring.DISABLE
        ident = threading.get_ident()
        last, self._last[ident] = self._last.get(ident), code
        if not traced or (self.with_gil and after_call and last is not code):
            return None  # when a function written in Python returns, the interpreter does not look for other threads
        return super()._on_instruction(code, offset)


class Explorer:
    """Runs models, and keeps all their pools: one that is dropped takes its lock, which is the explorer's."""

    def __init__(self) -> None:
        self.pools: list[Pool[int, int]] = []

    def explore(self, model: Callable[[Explorer], None], schedules: int) -> None:
        found = it.explore(lambda: model(self), iterations=schedules, seed=SEED, strategy="pct", timeout=10)
        assert found.schedules_run == schedules


@pytest.fixture(params=["with the GIL", "without the GIL"])
def explorer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Explorer]:
    with_gil = request.param == "with the GIL"
    if with_gil and not GIL:
        pytest.skip("this interpreter runs without the GIL")
    monkeypatch.setattr(Scheduler, "with_gil", with_gil, raising=False)
    monkeypatch.setattr(scheduler, "Scheduler", Scheduler)
    monkeypatch.setattr(scheduler, "_fmt_loc", Where)
    monkeypatch.setattr(
        it.RLock, "_is_owned", lambda lock: lock._owner is it._scheduler.current_scheduler().me(), raising=False
    )
    monkeypatch.setattr("workpool._state.PAUSES", ())
    monkeypatch.setattr("workpool._state.TRIES", 0)
    if with_gil:
        monkeypatch.setattr("workpool._queue._traced", lambda: False)
    else:
        monkeypatch.setattr("workpool._queue.GIL", False)
        monkeypatch.setattr("workpool._submitting.GIL", False)
        monkeypatch.setattr("workpool._future.GIL", False)
    monitoring.restart_events()
    found = Explorer()
    gc.disable()  # a finalizer amid a schedule would be stopped at its switch points, under the explorer's own lock
    yield found
    for pool in found.pools:
        pool._queue._reset()
    found.pools.clear()
    gc.enable()
    gc.collect()


class Scene:
    """A pool, and what became of each item, as those see it who handed it over."""

    def __init__(self, explorer: Explorer, workers: int = 1, queue_size: int = 1) -> None:
        self.ran: list[int] = []
        self.refused: list[int] = []
        self.taken_back: set[int] = set()
        self.futures: dict[int, Future[int]] = {}
        with it.no_interleave():
            self.pool = Pool(self._process, workers=workers, queue_size=queue_size, clock=CLOCK)
        explorer.pools.append(self.pool)
        self.pool.start()

    def _process(self, item: int) -> int:
        self.ran.append(item)
        return item

    def submit(self, *items: int) -> None:
        for item in items:
            self._hand_over(self.pool.submit, item)

    def submit_wait(self, *items: int) -> None:
        for item in items:
            self._hand_over(self.pool.submit_wait, item)

    def call(self, *items: int) -> None:
        for item in items:
            future = self._hand_over(self.pool.call, item)
            if future is not None:
                self.futures[item] = future

    def _hand_over(self, form: Callable[[int], Any], item: int) -> Any:
        try:
            return form(item)
        except (QueueFull, PoolStopped):
            self.refused.append(item)

    def cancel(self, *items: int) -> None:
        for item in items:
            if self.futures[item].cancel():
                self.taken_back.add(item)

    def resize(self, *workers: int) -> None:
        try:
            for count in workers:
                self.pool.resize(count)
        except PoolStopped:
            pass

    def check(self, report: DrainReport[int], items: int) -> None:
        """The pool has stopped, and `items` numbers from 0 have met one fate each."""
        with it.no_interleave():
            self._check(report, items)

    def _check(self, report: DrainReport[int], items: int) -> None:
        stats = self.pool.stats()
        assert (stats.state, stats.balance(), stats.running, stats.queue_depth) == ("stopped", 0, 0, 0)
        assert report.clean
        unprocessed = list(report.unprocessed)
        withdrawn = [item for item in self.taken_back if item not in unprocessed]
        assert sorted(self.ran + unprocessed + self.refused + withdrawn) == list(range(items))
        assert (stats.succeeded, stats.cancelled) == (len(self.ran), len(unprocessed) + len(withdrawn))
        assert stats.submitted == stats.succeeded + stats.cancelled
        for item, future in self.futures.items():
            assert future.done()
            assert future.cancelled() == (item in unprocessed + withdrawn)


drain = pytest.mark.parametrize("drain", [True, False], ids=["drain", "no drain"])


@drain
def test_submit_against_stop(explorer: Explorer, drain: bool) -> None:
    def model(explorer: Explorer) -> None:
        scene = Scene(explorer)
        others = [it.spawn(scene.submit, 0, 1), it.spawn(scene.submit_wait, 2, 3)]
        report = scene.pool.stop(None, drain)
        for other in others:
            other.join()
        scene.check(report, 4)

    explorer.explore(model, SCHEDULES // 4)


@drain
def test_cancel_against_run(explorer: Explorer, drain: bool) -> None:
    def model(explorer: Explorer) -> None:
        scene = Scene(explorer, queue_size=3)
        scene.call(0, 1)
        others = [it.spawn(scene.cancel, 0, 1), it.spawn(scene.submit_wait, 2)]
        scene.cancel(1)
        if drain:  # nobody but the submits wakes a worker until then
            assert scene.pool.join()
        report = scene.pool.stop(None, drain)
        for other in others:
            other.join()
        scene.check(report, 3)

    explorer.explore(model, SCHEDULES // 4)


@drain
def test_resize_against_stop(explorer: Explorer, drain: bool) -> None:
    def model(explorer: Explorer) -> None:
        scene = Scene(explorer, workers=2, queue_size=2)
        scene.submit(0, 1)
        other = it.spawn(scene.resize, 1, 3)
        report = scene.pool.stop(None, drain)
        other.join()
        scene.check(report, 2)

    explorer.explore(model, SCHEDULES // 4)
