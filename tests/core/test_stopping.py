"""Stopping: drain, hand back, cancel, abandon; named, bounded, repeatable."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

from tests.core.kit import hurried, in_thread, together
from workpool import ItemAbandoned, Pool, PoolStopped, StopTimeout, current
from workpool.testing import Leash, ManualClock


def test_a_stop_drains_and_reports_it() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=2, name="drained")
    pool.start()
    for number in range(10):
        pool.submit(number)
    leash.wait_begun(2)
    pool.close()  # what ends from here on is drained
    leash.let_go()
    report = pool.stop()
    assert report is pool.stop()
    assert (report.pool, report.drained, report.unprocessed, report.abandoned) == ("drained", 10, (), ())
    assert report.clean
    assert pool.stats().state == "stopped"


def test_a_stop_without_drain_hands_the_queued_items_back_in_order() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1)
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    future = pool.call(2)
    taken_back = pool.call(3)
    pool.submit(4)
    taken_back.cancel()
    stopping = in_thread(lambda: pool.stop(drain=False))
    with pytest.raises(CancelledError):
        future.result(20)
    assert future.cancelled()
    leash.let_go()
    report = stopping.result()
    assert report.unprocessed == (1, 2, 4)
    assert report.clean
    assert report.stats.cancelled == 4
    assert report.stats.balance() == 0


def test_the_timeout_cuts_the_drain_short_and_names_what_is_left() -> None:
    manual = ManualClock()

    def work(number: int) -> bool:
        begun.release()
        return current().sleep(60)

    begun = threading.Semaphore(0)
    pool = Pool(work, workers=1, clock=manual.clock)
    pool.start()
    running = pool.call(0)
    assert begun.acquire(timeout=20)
    pool.submit(1)
    queued = pool.call(2)
    stopping = in_thread(lambda: pool.stop(timeout=10))
    manual.wait_for_sleepers(2)
    manual.advance(10)
    with pytest.raises(StopTimeout, match="0 abandoned") as caught:
        stopping.result()
    report = caught.value.report
    assert isinstance(caught.value, TimeoutError)
    assert report.unprocessed == (1, 2)
    assert report.cut_short
    assert report.drain_seconds == 10
    assert running.result(20) is False
    assert queued.cancelled()


def test_what_does_not_end_is_abandoned_with_its_stack_and_its_late_end_changes_nothing() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=2, clock=hurried(50), name="stuck")
    pool.start()
    future = pool.call("held")
    pool.submit("held too")
    leash.wait_begun(2)
    with pytest.raises(StopTimeout, match="2 abandoned") as caught:
        pool.stop(timeout=1)
    report = caught.value.report
    assert {lost.item for lost in report.abandoned} == {"held", "held too"}
    assert all("self._gate.result(PATIENCE)" in lost.stack for lost in report.abandoned)
    assert all(lost.seconds >= 1.5 for lost in report.abandoned)
    assert 0.5 <= report.grace_seconds < 20
    with pytest.raises(ItemAbandoned, match="gave up on it"):
        future.result(0)
    assert report.stats.abandoned == 2
    leash.let_go()
    for thread in threading.enumerate():
        if thread.name.startswith("stuck"):
            thread.join(20)
    after = pool.stats()
    assert (after.abandoned, after.succeeded, after.running, after.balance()) == (2, 0, 0, 0)
    assert pool.stop() is report


def test_the_timeout_is_for_items_so_that_an_idle_pool_stops_clean_at_once() -> None:
    for _ in range(50):
        pool = Pool(print, workers=5)
        pool.start()
        assert pool.stop(timeout=0).clean


def test_a_pool_that_was_never_started_stops_clean() -> None:
    pool = Pool(print)
    report = pool.stop()
    assert report.clean
    assert pool.stats().state == "stopped"
    with pytest.raises(PoolStopped, match="make a new one"):
        pool.start()


def test_a_second_stop_brings_the_deadline_nearer_and_never_further() -> None:
    manual = ManualClock()
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1, clock=manual.clock)
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    first = in_thread(lambda: pool.stop(timeout=None))
    second = in_thread(lambda: pool.stop(timeout=5))
    third = in_thread(lambda: pool.stop(timeout=500))
    manual.wait_for_sleepers(3)
    manual.advance(5)
    manual.wait_for_sleepers(3)
    manual.advance(0.5)
    reports = []
    for stop in (first, second, third):
        with pytest.raises(StopTimeout) as caught:
            stop.result()
        reports.append(caught.value.report)
    assert reports[0] is reports[1] is reports[2]
    assert reports[0].unprocessed == (1,)
    leash.let_go()


def test_a_second_stop_turns_draining_off() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=1)
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    first = in_thread(lambda: pool.stop(timeout=None))
    pool.close(drain=False)
    leash.let_go()
    assert first.result().unprocessed == (1,)


def test_close_does_not_wait_and_the_last_worker_ends_the_pool() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=2)
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    pool.close()
    assert pool.stats().state == "draining"
    leash.let_go()
    assert pool.stop().drained == 2


def test_a_stop_lifts_a_pause() -> None:
    seen: list[int] = []
    pool = Pool(seen.append, workers=2)
    pool.start()
    pool.pause()
    pool.submit(1)
    assert seen == []
    pool.stop()
    assert seen == [1]


def test_stop_and_join_in_a_worker_are_refused_and_close_is_not() -> None:
    def work(_: int) -> tuple[str, str]:
        texts = []
        for wait in (pool.stop, pool.join):
            with pytest.raises(RuntimeError) as caught:
                wait()
            texts.append(str(caught.value))
        pool.close()
        return texts[0], texts[1]

    pool = Pool(work, workers=1, name="own")
    pool.start()
    stop, join = pool.call(1).result(20)
    assert stop == "stop() in a worker of pool 'own' would wait for itself; use close() there"
    assert join == "join() in a worker of pool 'own' would wait for itself; use a future of call() there"
    assert pool.stop().clean


def test_leaving_a_block_that_failed_does_not_hide_its_exception(caplog: pytest.LogCaptureFixture) -> None:
    leash: Leash[Any] = Leash()
    with (
        pytest.raises(KeyError) as caught,
        Pool(leash.process, workers=1, clock=hurried(50), stop_timeout=1, name="held") as pool,
    ):
        pool.submit(1)
        leash.wait_begun()
        raise KeyError("body")
    assert "1 abandoned" in caught.value.__notes__[0]
    assert "1 abandoned" in caplog.text
    leash.let_go()


def test_leaving_a_block_raises_stop_timeout_on_its_own() -> None:
    leash: Leash[Any] = Leash()
    with (
        pytest.raises(StopTimeout),
        Pool(leash.process, workers=1, clock=hurried(50), stop_timeout=0) as pool,
    ):
        pool.submit(1)
        leash.wait_begun()
    leash.let_go()


def test_a_failed_start_leaves_no_thread_and_a_stopped_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def fail_at_the_third(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fail_at_the_third)
    pool = Pool(print, workers=5)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        pool.start()
    for thread in started:
        thread.join(20)
    assert pool.stats().state == "stopped"
    assert pool.stop().clean


def test_a_dropped_pool_drains_warns_and_lets_its_threads_end() -> None:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=2, name="dropped")
    pool.start()
    pool.submit(0)
    leash.wait_begun()
    pool.submit(1)
    gone = weakref.ref(pool)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("dropped")]
    with pytest.warns(ResourceWarning, match="pool 'dropped' was dropped without a stop"):
        del pool
        gc.collect()
    assert gone() is None
    leash.let_go()
    for thread in threads:
        thread.join(20)
    assert leash.items == [0, 1]


def test_ten_stops_while_ten_submit(quiet: None) -> None:
    for _ in range(30):
        pool: Pool[int, str] = Pool(str, workers=4, queue_size=50)
        pool.start()
        accepted: list[int] = []

        def submit(pool: Pool[int, str] = pool, accepted: list[int] = accepted) -> None:
            try:
                while True:
                    pool.submit_wait(1, timeout=5)
                    accepted.append(1)
            except PoolStopped:
                pass

        reports: list[object] = []

        def stop(pool: Pool[int, str] = pool, reports: list[object] = reports) -> None:
            reports.append(pool.stop())

        together(*[submit] * 10, *[stop] * 10)
        stats = pool.stats()
        assert stats.succeeded == len(accepted) == stats.submitted
        assert len(set(map(id, reports))) == 1


EXIT = """
import logging, threading, sys
from workpool import Pool, current
logging.basicConfig(format="%(message)s", stream=sys.stdout)
begun = threading.Event()
def work(item):
    begun.set()
    {body}
pool = Pool(work, workers=1, name="forgotten", stop_timeout={timeout})
pool.start()
pool.submit(1)
pool.submit(2)
begun.wait()
"""


def run(script: str) -> str:
    return subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=30).stdout


def test_a_pool_that_nobody_stopped_drains_at_exit() -> None:
    assert run(EXIT.format(body="print(item, flush=True)", timeout=30)) == "1\n2\n"


def test_what_exit_lost_is_logged() -> None:
    out = run(EXIT.format(body="threading.Event().wait()", timeout=0))
    assert "pool 'forgotten' stopped" in out
    assert "1 unprocessed, 1 abandoned" in out
    assert "nobody had stopped it when the interpreter ended" in out


def test_a_dropped_pool_drains_at_exit_too() -> None:
    assert run(EXIT.format(body="print(item, flush=True)", timeout=30) + "del pool\n") == "1\n2\n"


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from workpool import Pool, PoolStopped
pool = Pool(abs, workers=2, name="parents"); pool.start(); pool.call(1).result()
fresh = Pool(abs, workers=1, name="fresh")
pool._queue.acquire()          # as if another thread were in the section
child = os.fork()
if child == 0:
    try:
        pool.submit(1)
    except PoolStopped as error:
        print(error)
    print(pool.stats().state, pool.stats().submitted, pool.stop().clean)
    with fresh:
        print(fresh.call(-3).result(10))
    sys.stdout.flush()
    os._exit(0)
pool._queue.release()
os.waitpid(child, 0)
print(pool.call(-2).result(), pool.stats().state)
pool.stop()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_after_a_fork_the_childs_pool_is_stopped_and_the_parents_runs_on() -> None:
    assert run(FORK).splitlines() == [
        "pool 'parents' belongs to the parent process; make a new one in this process",
        "stopped 0 True",
        "3",
        "2 running",
    ]


FORKED_CALL = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from workpool import Pool
gate = threading.Event()
pool = Pool(lambda _: gate.wait(), workers=1); pool.start()
running, queued = pool.call(1), pool.call(2)
child = os.fork()
if child == 0:
    stats = (queued.cancel() and queued.cancelled() and pool).stats()
    print(stats.balance(), stats.queue_depth, stats.cancelled)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
gate.set()
print(queued.result(10))
pool.stop()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
def test_a_call_that_is_cancelled_in_a_forked_child_is_none_of_the_childs_counts() -> None:
    assert run(FORKED_CALL).splitlines() == ["0 0 0", "True"]


FORKED_SUBMIT = """
import os, sys, warnings
from time import perf_counter
warnings.simplefilter("ignore")
from workpool import Pool, PoolStopped
from workpool._clock import Clock, park
armed, child = [], None
def now():                     # a handler that comes while somebody hands an item over
    global child
    if armed:
        armed.clear()
        child = os.fork()
    return perf_counter()
pool = Pool(abs, workers=1, clock=Clock(now, park)); pool.start(); pool.call(1).result(); pool.join()
pool.pause()
armed.append(True)
try:
    pool.{submit}(2)
    what = "accepted"
except PoolStopped:
    what = "refused"
if child:
    os.waitpid(child, 0)       # so that two who print do not mix
print(what, pool.stats().submitted, pool.stats().queue_depth)
sys.stdout.flush()
if not child:
    os._exit(0)
pool.stop()
"""


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="there is no fork here")
@pytest.mark.parametrize("submit", ["submit", "submit_wait"])
def test_a_child_that_is_forked_amid_a_submit_is_refused(submit: str) -> None:
    assert run(FORKED_SUBMIT.format(submit=submit)).splitlines() == ["refused 0 0", "accepted 2 1"]
