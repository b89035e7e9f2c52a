"""Items, records and exceptions that mean harm: each costs itself, and nothing else."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import Puppet, Stage, until
from tests.processes import functions
from workpool import NotPicklable, Pool, Processes, StopTimeout, WorkerDied
from workpool.workers.children import pids

pytestmark = pytest.mark.usefixtures("quiet", "no_thread_left")


def processes(process: Any, **options: Any) -> Pool[Any, Any]:
    return Pool(process, **{"workers": 1, "executor": Processes(batch=8), **options})


def broken_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Does what `real` does, but at one of its calls."""
    calls: list[None] = []

    def broken(*arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            raise SystemExit
        return real(*arguments)

    return broken


def run_all(pool: Pool[Any, Any], items: list[Any]) -> list[Any]:
    pool.pause()
    futures = [pool.call(item) for item in items]
    pool.resume()
    return [future.exception(30) or future.result() for future in futures]


def test_a_log_record_that_cannot_be_unpickled_here_costs_no_item() -> None:
    with processes(functions.logs_what_does_not_come_through) as pool:
        assert run_all(pool, list(range(8))) == list(range(8))
    assert (pool.stats().succeeded, pool.stats().failed, pool.stats().running) == (8, 0, 0)


def test_an_item_that_raises_at_whatever_is_done_with_it_fails_alone() -> None:
    with processes(functions.same) as pool:
        first, evil, last = run_all(pool, [1, {functions.Evil(): functions.Evil()}, 2])
        assert (first, last) == (1, 2)
        assert isinstance(evil, NotPicklable)
    assert (pool.stats().failed, pool.stats().running, pool.stats().balance()) == (1, 0, 0)


def test_an_exception_that_neither_pickles_nor_prints_fails_its_item_alone() -> None:
    with processes(functions.raise_unspeakable) as pool:
        results = run_all(pool, [1, 2, 3, 4])
        assert (results[:2], results[3]) == ([1, 2], 4)
        assert isinstance(results[2], NotPicklable)
        assert "Unspeakable" in str(results[2])


def test_something_that_fails_here_amid_a_batch_settles_each_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the child has done counts, what it had begun died with it, and the rest runs again."""
    from workpool.workers.distant import DistantSeat

    monkeypatch.setattr(DistantSeat, "_outcome", broken_at(5, DistantSeat._outcome))
    with processes(functions.same, queue_size=100) as pool:
        results = run_all(pool, list(range(60)))
    died = [number for number, result in enumerate(results) if isinstance(result, WorkerDied)]
    assert [result for number, result in enumerate(results) if number not in died] == [
        number for number in range(60) if number not in died
    ]
    assert len(died) <= 1
    stats = pool.stats()
    assert (stats.succeeded, stats.failed, stats.running) == (60 - len(died), len(died), 0)
    assert (stats.cancelled, stats.balance()) == (0, 0)


@pytest.mark.parametrize("start_method", ["forkserver", pytest.param("spawn", marks=pytest.mark.start_methods)])
@pytest.mark.skipif(not hasattr(signal, "pidfd_send_signal"), reason="this system tells no end of another's process")
def test_the_end_of_a_process_is_seen_though_something_that_it_started_lives(start_method: Any) -> None:
    with processes(functions.leave_something_running, executor=Processes(start_method=start_method)) as pool:
        assert pool.call("start").result(30) == "start"
        assert isinstance(pool.call("die").exception(10), WorkerDied)
        assert pool.call("next").result(30) == "next"


def test_a_stop_of_a_pool_whose_processes_cannot_start_says_why_and_does_not_wait() -> None:
    pool = processes(functions.same, workers=2, executor=Processes(initializer=functions.broken))
    pool.start()
    pool.submit(1)
    pool.close()
    with pytest.raises(StopTimeout, match="no database today"):
        pool.stop(None)
    assert pool.stats().balance() == 0


def test_a_process_that_is_halted_while_it_starts_is_replaced_in_time(tmp_path: Path) -> None:
    """It would hold its worker for ever: it has no item, and so no item's time."""
    gate, starts = tmp_path / "gate", tmp_path / "starts"
    os.mkfifo(gate)
    settings = Processes(
        start_timeout=1, initializer=functions.wait_for_gate_at_first, initargs=(str(gate), str(starts), 1)
    )
    with processes(functions.same, executor=settings) as pool:
        until(starts.exists)
        [halted] = pids()
        os.kill(halted, signal.SIGSTOP)
        assert pool.call(1).result(30) == 1
        assert halted not in pids()


def test_an_interrupt_in_a_wake_is_not_taken_for_a_wake() -> None:
    stage = Stage(workers=1)
    puppet = Puppet(stage.queue)
    assert puppet.comes() is None
    wakes: list[bool] = []

    def wake(_: None) -> None:
        wakes.append(True)
        if len(wakes) == 1:
            raise KeyboardInterrupt

    puppet.worker.wake = wake
    with pytest.raises(KeyboardInterrupt):
        stage.queue.offer("first", None)
    assert stage.queue.offer("second", None)
    assert len(wakes) == 2
    assert puppet.comes() == "second"


def test_threads_of_several_pools_may_start_and_stop_processes_at_once() -> None:
    failed: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(3):
                with processes(functions.same, workers=2) as pool:
                    assert pool.call(1).result(30) == 1
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert failed == []


def test_something_that_fails_here_when_the_process_is_gone_does_not_fail_what_was_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from workpool.workers.distant import DistantSeat

    monkeypatch.setattr(DistantSeat, "_why", broken_at(1, DistantSeat._why))
    with processes(functions.end_by, queue_size=100) as pool:
        results = run_all(pool, ["a", "kill", "b", "c", "d", "e"])
    assert isinstance(results.pop(1), WorkerDied)
    assert results == ["a", "b", "c", "d", "e"]
    assert (pool.stats().failed, pool.stats().running, pool.stats().balance()) == (1, 0, 0)
