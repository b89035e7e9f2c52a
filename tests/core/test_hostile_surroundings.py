"""What belongs to others misbehaves: handlers of the log, hooks, items, callbacks, forks, exceptions out of nowhere."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.kit import hurried
from workpool import Hooks, Pool, StopTimeout
from workpool._clock import SYSTEM, Clock, Parker, park
from workpool.testing import Leash


class Watched:
    """A clock that says when a worker has parked."""

    def __init__(self) -> None:
        self._parked = threading.Semaphore(0)

    @property
    def clock(self) -> Clock:
        return Clock(SYSTEM.now, self._park)

    def _park(self, parker: Parker, timeout: float | None) -> bool:
        if timeout is None:
            self._parked.release()
        return park(parker, timeout)

    def has_parked(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._parked.acquire(timeout=20)


class Broken(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise SystemExit("broken handler")


@pytest.fixture
def broken_log() -> Iterator[None]:
    log = logging.getLogger("workpool")
    handler = Broken()
    log.addHandler(handler)
    log.propagate = False
    yield
    log.propagate = True
    log.removeHandler(handler)


def fail(item: int) -> None:
    raise ValueError(item)


def test_a_log_handler_that_raises_does_not_end_a_worker(broken_log: None) -> None:
    hooked: list[int] = []
    pool: Pool[int, None] = Pool(fail, workers=2, hooks=Hooks(error=lambda item, _: hooked.append(item)))
    with pool:
        for number in range(10):
            pool.submit(number)
        assert pool.join(20)
        assert len(pool._queue.workers) == 2
    assert sorted(hooked) == list(range(10))
    assert pool.stats().failed == 10


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_hook_that_raises_does_not_end_a_worker(raised: type[BaseException], quiet: None) -> None:
    def hook(_: int, error: BaseException) -> None:
        raise raised

    with Pool(fail, workers=1, hooks=Hooks(error=hook)) as pool:
        for number in range(5):
            pool.submit(number)
        assert pool.join(20)
    assert pool.stats().failed == 5


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException])
def test_whatever_a_process_function_raises_is_its_futures(raised: type[BaseException]) -> None:
    def process(error: BaseException | None) -> None:
        if error is not None:
            raise error

    error = raised()
    with Pool(process, workers=1) as pool:
        assert pool.call(error).exception(20) is error
        assert pool.call(None).result(20) is None
    assert (pool.stats().failed, pool.stats().succeeded) == (1, 1)
    del error


def test_a_callback_and_a_hook_may_submit(quiet: None) -> None:
    seen: list[int] = []

    def process(number: int) -> None:
        seen.append(number)
        if number == 2:
            raise ValueError

    pool: Pool[int, None] = Pool(process, workers=1, hooks=Hooks(error=lambda *_: pool.submit(3)))
    with pool:
        pool.pause()
        pool.call(1).add_done_callback(lambda _: pool.submit(2))
        pool.resume()
        assert pool.join(20)
    assert seen == [1, 2, 3]


class Unspeakable:
    def __repr__(self) -> str:
        raise ValueError("no repr")


def test_an_item_that_cannot_be_shown_does_not_keep_a_stop_from_reporting() -> None:
    leash: Leash[Any] = Leash()
    pool: Pool[object, object] = Pool(leash.process, workers=1, clock=hurried(50))
    pool.start()
    item = Unspeakable()
    pool.submit(item)
    leash.wait_begun()
    with pytest.raises(StopTimeout, match="<Unspeakable, whose repr raised ValueError>") as caught:
        pool.stop(0)
    assert caught.value.report.abandoned[0].item is item
    leash.let_go()


def test_a_pool_that_is_dropped_is_closed_also_where_warnings_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    unraisable: list[type[BaseException] | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))
    seen: list[int] = []
    pool = Pool(seen.append, workers=2, name="dropped_with_errors")
    pool.start()
    pool.submit(1)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("dropped_with_errors")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool
        gc.collect()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert seen == [1]
    assert unraisable == [ResourceWarning]


class Boom(BaseException):
    """What somebody throws into a worker."""


def throw_into(thread: int) -> None:
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Boom)) == 1


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="there is no such call")
@pytest.mark.parametrize("way", ["submit", "call"])
def test_an_exception_that_is_thrown_into_an_idle_worker_costs_no_item(way: str, quiet: None) -> None:
    watched = Watched()
    seen: list[int] = []
    pool = Pool(seen.append, workers=1, clock=watched.clock)
    with pool:
        (worker,) = pool._queue.workers
        for number in range(20):
            watched.has_parked()
            assert worker.ident is not None
            throw_into(worker.ident)
            if way == "submit":
                pool.submit(number)
                assert pool.join(20)
            else:
                assert pool.call(number).result(20) is None
    assert seen == list(range(20))
    assert (pool.stats().succeeded, pool.stats().balance()) == (20, 0)


@pytest.mark.parametrize("way", ["submit", "call"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("slot", ["try_acquire", "acquire", "release"])
def test_an_exception_between_two_items_leaves_every_item_with_one_fate(
    slot: str, before: bool, way: str, quiet: None
) -> None:
    def boom() -> None:
        raise Boom

    class Lies:
        """Lies to the worker, at its n-th call, once it is told to."""

        def __init__(self, real: Callable[..., object], at: int) -> None:
            self.real, self.at, self.armed = real, at, False

        def __call__(self, *args: object) -> object:
            if threading.current_thread() is threading.main_thread() or not self.armed:
                return self.real(*args)
            self.at -= 1
            if before and self.at == 0:
                raise Boom
            result = self.real(*args)
            if not before and self.at == 0:
                raise Boom
            return result

    for at in range(1, 15):
        watched = Watched()
        pool: Pool[int, int] = Pool(abs, workers=1, clock=watched.clock)
        lies = Lies(getattr(pool._queue, slot), at)
        setattr(pool._queue, slot, lies)
        with pool:
            watched.has_parked()
            lies.armed = True
            pool.pause()
            futures = []
            for number in range(5):
                if way == "call":
                    futures.append(pool.call(number))
                else:
                    pool.submit(number)
            pool.resume()
            assert pool.join(20)
            lies.armed = False
            stats = pool.stats()
            assert (stats.processed, stats.running, stats.balance()) == (5, 0, 0)
            assert stats.failed <= 1
            assert all(future.done() for future in futures)
            assert pool.call(-7).result(20) == 7
            assert len(pool._queue.workers) == 1
        assert pool.stats().balance() == 0


COLD_FORK = """
import os, sys, threading
from workpool import Pool
pool = Pool(abs, workers=2)
held, forked = threading.Event(), threading.Event()
def hold():
    pool._queue.acquire()
    held.set()
    forked.wait()
    pool._queue.release()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    with pool:
        print(pool.call(-3).result(10), flush=True)
    os._exit(0)
forked.set()
thread.join()
os.waitpid(child, 0)
with pool:
    print(pool.call(-2).result(10))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_cold_pool_whose_lock_was_held_at_the_fork_starts_in_the_child_and_in_the_parent() -> None:
    command = [sys.executable, "-W", "ignore", "-c", COLD_FORK]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout == "3\n2\n"


class Thing:
    """Something that can be seen to be gone."""


class Seen(Exception):
    """The same; a builtin exception cannot be."""


@pytest.mark.parametrize("kind", ["item", "item of a call", "result", "error"])
def test_an_idle_worker_holds_nothing_of_its_last_item(kind: str, quiet: None) -> None:
    gone: list[weakref.ref[object]] = []

    def process(item: object) -> object:
        if kind == "error":
            error = Seen()
            gone.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        made = Thing()
        gone.append(weakref.ref(made if kind == "result" else item))
        return made

    watched = Watched()
    with Pool(process, workers=1, clock=watched.clock) as pool:
        watched.has_parked()
        pool.pause()
        for number in range(2):  # the worker takes the first when it is woken, and the second as it ends the first
            if kind == "item":
                pool.submit(Thing())
            else:
                told: weakref.ref[object] = weakref.ref(pool.call(Thing()))
                gone.append(told)
            if not number:
                watched.has_parked()  # it was woken, and waits for the end of the pause
        pool.resume()
        watched.has_parked()
        gc.collect()
        assert len(gone) == (2 if kind == "item" else 4)
        assert [ref() for ref in gone] == [None] * len(gone)


def test_a_hundred_thousand_items_leave_no_growth(quiet: None) -> None:
    def process(number: int) -> list[int]:
        if number % 3 == 0:
            raise ValueError(number)
        return [number]

    def rounds(count: int) -> None:
        for start in range(0, count, 200):
            for number in range(start, start + 100):
                pool.submit_wait(number)
            futures = [pool.call(number) for number in range(start, start + 100)]
            for future in futures[::10]:
                future.cancel()
            assert pool.join(20)

    with Pool(process, workers=2, queue_size=300) as pool:
        rounds(2000)
        gc.collect()
        before = len(gc.get_objects())
        rounds(100_000)
        gc.collect()
        assert len(gc.get_objects()) - before < 200  # one object for 500 items would be seen
        assert not pool._queue._lane.waiters
        assert not pool._queue._sleepers
    assert pool.stats().submitted == 102_000
