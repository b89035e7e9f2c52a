"""Ctrl-C and signal handlers at random points of the pool's own code: nothing hangs, nothing is lost."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Iterator
from time import perf_counter

import pytest

from tests.core.kit import in_thread
from workpool import Pool, PoolStopped, QueueFull

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here"),
    # An interrupt that hits a finalizer of the interpreter's own is swallowed there, and said so.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(60, method="thread"),  # the other method has the timer that is needed here
]

TIMES = 1000


@pytest.fixture
def on_timer() -> Iterator[Callable[[Callable[[], None]], None]]:
    before = signal.getsignal(signal.SIGALRM)

    def use(handler: Callable[[], None]) -> None:
        def disarm_and_handle(*_: object) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # it may be set anew already
            handler()

        signal.signal(signal.SIGALRM, disarm_and_handle)

    yield use
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def negative(number: int) -> int:
    return -number


def soon() -> None:
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.0008))


def hammer(action: Callable[[], object]) -> None:
    """Until the handler raises out of it. The timer is set again and again, because an interrupt that hits
    a finalizer is swallowed by the interpreter."""
    while True:
        soon()
        for _ in range(500):
            action()


def interrupt() -> None:
    raise KeyboardInterrupt


def use(pool: Pool[int, int], number: int) -> None:
    """A bit of everything that a main thread does."""
    try:
        pool.submit(number)
        pool.submit_wait(number)
        pool.call(number).cancel()
        pool.stats()
    except QueueFull:
        pass


def test_keyboard_interrupt_at_random_points_leaves_the_pool_whole(
    on_timer: Callable[[Callable[[], None]], None],
) -> None:
    on_timer(interrupt)
    pool = Pool(negative, workers=2, queue_size=50)
    pool.start()
    hits = 0
    while hits < TIMES:
        try:
            hammer(lambda: use(pool, 1))
        except KeyboardInterrupt:
            hits += 1
            assert in_thread(pool.stats).result().balance() == 0  # another thread gets the lock
    assert pool.join(20)
    assert pool.call(-5).result(20) == 5
    report = pool.stop(20)
    assert report.clean
    assert report.stats.balance() == 0
    assert report.stats.succeeded + report.stats.cancelled == report.stats.submitted


def test_keyboard_interrupt_during_stop_and_a_second_stop_finishes_it(
    on_timer: Callable[[Callable[[], None]], None],
) -> None:
    on_timer(interrupt)
    hits = 0
    for _ in range(300):
        pool = Pool(negative, workers=2, queue_size=50)
        try:
            pool.start()
            for number in range(20):
                pool.submit(number)
            soon()
            pool.stop()
            hammer(pool.stats)
        except KeyboardInterrupt:
            hits += 1
        report = pool.stop(20)
        assert report.clean
        assert report.stats.balance() == 0
        assert report.stats.succeeded == report.stats.submitted
    assert hits == 300


def test_a_handler_may_submit_and_look_at_any_point(on_timer: Callable[[Callable[[], None]], None]) -> None:
    calls = 0
    wrong: list[int] = []
    pool = Pool(negative, workers=2, queue_size=50)

    def handle() -> None:
        nonlocal calls
        calls += 1
        wrong.extend([pool.stats().balance()] * (pool.stats().balance() != 0))
        try:
            pool.submit(2)
            pool.call(3).cancel()
        except QueueFull:
            pass
        wrong.extend([pool.stats().queue_depth] * (pool.stats().queue_depth > 51))

    on_timer(handle)
    with pool:
        while calls < TIMES:
            before = calls
            soon()
            while calls == before:
                use(pool, 1)
        assert pool.join(20)
    assert wrong == []
    assert pool.stats().balance() == 0


def test_a_handler_may_close_at_any_point(on_timer: Callable[[Callable[[], None]], None]) -> None:
    for turn in range(TIMES):
        pool = Pool(negative, workers=2, queue_size=50)
        on_timer(lambda pool=pool, turn=turn: pool.close(drain=turn % 2 == 0))  # type: ignore[misc]
        pool.start()
        with pytest.raises(PoolStopped):
            hammer(lambda pool=pool: use(pool, 1))  # type: ignore[misc]
        report = pool.stop(20)
        assert report.clean
        assert report.stats.balance() == 0


def test_a_handler_may_stop_while_a_stop_waits(on_timer: Callable[[Callable[[], None]], None]) -> None:
    let_go = threading.Event()

    def work(_: int) -> bool:
        return let_go.wait(20)

    pool = Pool(work, workers=1)
    pool.start()
    pool.submit(1)

    def handle() -> None:
        let_go.set()
        reports.append(pool.stop(20))

    reports: list[object] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: handle())
    try:
        timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1))
        timer.start()
        assert pool.stop(20) is reports[0]
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_handler_that_takes_longer_than_a_wait_does_not_make_it_endless(
    on_timer: Callable[[Callable[[], None]], None],
) -> None:
    until = 0.0

    def outlast() -> None:
        while perf_counter() < until:
            pass

    on_timer(outlast)
    may_end = threading.Event()
    with Pool(may_end.wait, workers=1) as pool:
        pool.submit(20.0)
        until = perf_counter() + 0.1
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert not pool.join(0.05)
        may_end.set()
