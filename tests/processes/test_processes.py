"""What is special about workers that are processes; what they have in common with others is in tests/conformance."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.core.kit import until
from tests.processes import functions
from workpool import Fifo, Hooks, NotPicklable, Pool, PoolStopped, Processes, Shed, StopTimeout, WorkerDied
from workpool.testing import ManualClock
from workpool.workers.children import pids
from workpool.workers.crossing import LARGE

pytestmark = pytest.mark.usefixtures("quiet", "no_thread_left", "nothing_left")


@pytest.fixture
def nothing_left() -> Any:
    """No process, zombie or shared memory stays."""
    before = set(Path("/dev/shm").iterdir())
    yield
    assert pids() == []
    assert set(Path("/dev/shm").iterdir()) <= before


def processes(process: Any, workers: int = 2, **options: Any) -> Pool[Any, Any]:
    options.setdefault("executor", "process")
    return Pool(process, workers=workers, **options)


# -- death -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "words"),
    [("kill", "was killed by SIGKILL"), ("exit", "ended with exit code 3"), ("segfault", "was killed by SIGSEGV")],
)
@pytest.mark.parametrize("batch", [None, 10])
def test_an_item_that_kills_its_process_fails_and_no_other_does(way: str, words: str, batch: int | None) -> None:
    pool = processes(functions.end_by, executor=Processes(batch=batch))
    with pool:
        pool.pause()
        items = ["a", "b", way, "c", "d"]
        futures = [pool.call(item) for item in items]
        pool.resume()
        died = futures.pop(2)
        with pytest.raises(WorkerDied, match=words):
            died.result(30)
        assert [future.result(30) for future in futures] == ["a", "b", "c", "d"]
        assert pool.stats().workers == 2
    stats = pool.stats()
    assert (stats.succeeded, stats.failed, stats.balance()) == (4, 1, 0)
    assert stats.run_error.count == 1
    assert stats.queue_wait.count == 5


def test_a_process_that_is_killed_while_it_is_idle_is_replaced_before_an_item_comes() -> None:
    with processes(functions.pid, workers=1) as pool:
        first = pool.call(0).result(30)
        os.kill(first, signal.SIGKILL)
        until(lambda: {*pids()} not in (set(), {first}))
        second = pool.call(0).result(30)
        assert second != first
    assert pool.stats().failed == 0


def kill(pid: int | None) -> None:
    try:
        os.kill(pid or 0, signal.SIGKILL)
    except ProcessLookupError:  # it has ended, and its end was noticed, just now
        return


def test_items_end_once_each_while_processes_are_killed_at_random(tmp_path: Path) -> None:
    count = 100_000
    path = tmp_path / "ran"
    over = threading.Event()
    signed_in = tmp_path / "signed_in"
    signed_in.mkdir()

    def kill_now_and_then() -> None:
        """Mostly those that have started: a pool whose workers are all killed while they start may stop."""
        chance = random.Random(5)
        while not over.wait(0.05):
            children = pids()
            started = [pid for pid in children if (signed_in / str(pid)).exists()]
            if started:
                kill(chance.choice(started if chance.random() < 0.8 else children))

    settings = Processes(initializer=functions.sign_in, initargs=(str(signed_in),))
    pool = processes(functions.note, workers=4, executor=settings)
    killer = threading.Thread(target=kill_now_and_then)
    with pool:
        killer.start()
        try:
            for number in range(count):
                pool.submit_wait((str(path), number))
            assert pool.join(40)
        finally:
            over.set()
            killer.join(20)
        until(lambda: len(pids()) == 4)
    stats = pool.stats()
    assert (stats.succeeded + stats.failed, stats.cancelled, stats.balance()) == (count, 0, 0)
    ran = Counter(map(int, path.read_text().split()))
    assert max(ran.values()) == 1
    assert len(ran) >= stats.succeeded
    assert count - len(ran) <= stats.failed


def test_what_waits_behind_a_slow_item_is_taken_back_for_whoever_is_idle(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with processes(functions.wait_for_gate, executor=Processes(batch=100)) as pool:
        pool.pause()
        slow = pool.call(str(gate))
        quick = [pool.call(None) for _ in range(99)]
        pool.resume()
        assert [future.result(30) for future in quick] == [None] * 99
        assert not slow.done()
        until(slow.running)
        gate.write_bytes(b"")
        assert slow.result(30) == str(gate)


def test_what_was_sent_ahead_of_its_turn_is_taken_back_too(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with processes(functions.wait_for_gate) as pool:
        assert list(pool.map([None] * 2000)) == [None] * 2000
        pool.pause()
        quick = [pool.call(None) for _ in range(400)]
        slow = pool.call(str(gate))
        quick += [pool.call(None) for _ in range(400)]
        pool.resume()
        assert [future.result(30) for future in quick] == [None] * 800
        assert not slow.done()
        gate.write_bytes(b"")
        assert slow.result(30) == str(gate)
    assert (pool.stats().succeeded, pool.stats().balance()) == (2801, 0)


def test_the_results_of_many_batches_are_each_their_items() -> None:
    sizes = [number * number % 1999 for number in range(5_000)]
    with processes(functions.big) as pool:
        assert [len(result) for result in pool.map(sizes)] == sizes


# -- what cannot cross --------------------------------------------------------------------------


def test_what_does_not_pickle_fails_its_item_and_says_what_is_wrong() -> None:
    with processes(functions.results, workers=1) as pool:
        item, result, error = (pool.call(what) for what in (functions.Holder(), "locked", "picky"))
        for future, what in ((item, "item"), (result, "result")):
            said = str(future.exception(30))
            assert isinstance(future.exception(), NotPicklable)
            assert f"the {what}, of type Holder, cannot be sent" in said
            assert "its attribute 'inner' > element 0 > its attribute 'lock' (of type lock)" in said
        picky = error.exception(30)
        assert isinstance(picky, NotPicklable)
        assert "Picky: 1 2; it does not come through pickle" in str(picky)
        assert pool.call("a").result(30) == "a"
    assert pool.stats().failed == 3


def test_a_result_that_nobody_wants_need_not_pickle() -> None:
    with processes(functions.results, workers=1) as pool:
        pool.submit("locked")
    assert (pool.stats().succeeded, pool.stats().failed) == (1, 0)


@pytest.mark.parametrize("what", [lambda item: item, Pool(abs).submit])
def test_a_function_that_cannot_reach_a_process_is_refused_with_the_way_out(what: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be sent to a worker's process.*top level of a module"):
        processes(what)


def test_context_variables_cannot_be_carried_there() -> None:
    with pytest.raises(ValueError, match="do not cross"):
        processes(functions.same, carry_context=True)


def test_an_exception_comes_back_with_the_traceback_of_there() -> None:
    with processes(functions.results, workers=1) as pool:
        error = pool.call(["no", "string"]).exception(30)
        assert error is None
    with processes(int, workers=1) as pool:
        error = pool.call("x").exception(30)
        assert isinstance(error, ValueError)
        assert "Traceback (most recent call last)" in str(error.__cause__)


def test_items_do_not_share_what_they_refer_to() -> None:
    shared: list[int] = []
    with processes(partial(list.append, [1]), workers=1, executor=Processes(batch=5)) as pool:
        pool.pause()
        futures = [pool.call(shared) for _ in range(5)]
        pool.resume()
        assert [future.result(30) for future in futures] == [None] * 5
    assert shared == []


def test_large_items_and_results_go_over_whole_and_in_order() -> None:
    sizes = [0, 1, 10_000, 70_000, 1_000_000, 3, 5_000_000, 60_000, 10_000]
    with processes(functions.big) as pool:
        assert [len(result) for result in pool.map(sizes)] == sizes
    with processes(len) as pool:
        assert list(pool.map([b"x" * size for size in sizes])) == sizes


@pytest.mark.parametrize("batch", [1, 3, None])
def test_bytes_come_back_as_what_they_are_however_many_there_are_of_them(batch: int | None) -> None:
    sizes = [LARGE - 1, LARGE, LARGE + 1, 0, 1_000_000, LARGE]
    items: list[bytes | bytearray] = [*map(os.urandom, sizes), functions.Named(b"n" * LARGE), bytearray(LARGE)]
    with processes(functions.same, executor=Processes(batch=batch)) as pool:
        for there, back in zip(items, pool.map(items), strict=True):
            assert back == there
            assert type(back) is type(there)
        with pytest.raises(ValueError) as caught:
            pool.call(functions.Refusing(items[1])).result(30)
    assert caught.value.args == (items[1],)


# -- hygiene -----------------------------------------------------------------------------------


def test_what_a_process_prints_does_not_get_into_the_protocol(capfd: pytest.CaptureFixture[str]) -> None:
    with processes(functions.results, workers=1) as pool:
        assert [pool.call(item).result(30) for item in ("noisy", "a", "noisy", "b")] == ["noisy", "a", "noisy", "b"]


def test_what_a_process_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.NOTSET)
    with caplog.at_level(logging.WARNING), processes(functions.logs, workers=1) as pool:
        assert pool.call("hello").result(30) == "hello"
        pid = pool.call("again").result(30) and pids()[0]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"] * 2
    assert caplog.records[0].getMessage() == f"hello in {pid}"
    assert caplog.records[0].name == "far.away"
    assert "ValueError: hello" in caplog.text


def test_whatever_is_logged_hides_neither_that_a_process_is_ready_nor_that_an_item_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """More than is seen to at once, and all of it in one piece."""
    logging.disable(logging.NOTSET)
    settings = Processes(initializer=functions.log_often, initargs=(350,), start_timeout=20)
    with Pool(functions.log_often, workers=1, executor=settings) as pool:
        assert pool.call(250).result(20) == 250
        assert list(pool.map([1] * 300)) == [1] * 300
    assert [record.message for record in caplog.records if record.name == "often"][:350] == [*map(str, range(350))]


def test_what_waits_too_long_for_a_process_is_shed_also_of_what_is_taken_ahead() -> None:
    shed: list[tuple[int, str]] = []
    manual = ManualClock()
    hooks: Hooks[int] = Hooks(shed=lambda item, why: shed.append((item, why)))
    rule = Fifo(5000, max_wait=1.0)
    with Pool(functions.same, workers=1, executor="process", queue=rule, hooks=hooks, clock=manual.clock) as pool:
        assert list(pool.map(range(1000))) == list(range(1000))  # so quick that many are taken at once
        pool.pause()
        late = [pool.call(number) for number in range(1000, 2000)]
        until(lambda: len(pool._queue._held) == 1)  # else the worker may have read the clock just before
        manual.advance(2)
        in_time = [pool.call(number) for number in range(2000, 3000)]
        pool.resume()
        assert [call.result(20) for call in in_time] == list(range(2000, 3000))
        assert all(isinstance(call.exception(20), Shed) for call in late)
        assert pool.join(20)
        assert sorted(shed) == [(number, "max_wait") for number in range(1000, 2000)]
        assert (pool.stats().shed["max_wait"], pool.stats().balance()) == (1000, 0)


def test_a_process_is_replaced_after_so_many_items() -> None:
    with processes(functions.pid, workers=1, executor=Processes(max_items=3)) as pool:
        pids = [pool.call(number).result(30) for number in range(9)]
    assert [len(set(pids[start : start + 3])) for start in (0, 3, 6)] == [1, 1, 1]
    assert len(set(pids)) == 3


def test_the_initializer_runs_in_each_process_before_its_first_item() -> None:
    settings = Processes(initializer=functions.set_variable, initargs=("WORKPOOL_TEST", "yes"))
    with processes(functions.variable, executor=settings) as pool:
        assert {pool.call("WORKPOOL_TEST").result(30) for _ in range(10)} == {"yes"}
    assert "WORKPOOL_TEST" not in os.environ


@pytest.mark.parametrize("start_method", ["forkserver", pytest.param("spawn", marks=pytest.mark.start_methods)])
def test_processes_that_cannot_start_stop_the_pool_with_the_reason(
    start_method: Literal["forkserver", "spawn"],
) -> None:
    pool = processes(functions.same, executor=Processes(start_method=start_method, initializer=functions.broken))
    pool.start()
    futures = [pool.call(number) for number in range(3)]
    until(lambda: pool.stats().state == "stopped")
    with pytest.raises(PoolStopped, match=r"cannot start.*(?s:.*)no database today"):
        pool.submit(4)
    with pytest.raises(StopTimeout, match="no database today") as stopped:
        pool.stop()
    assert stopped.value.report.unprocessed == (0, 1, 2)
    assert all(future.cancelled() for future in futures)
    assert pool.stats().balance() == 0


# -- stopping ----------------------------------------------------------------------------------


def test_at_the_timeout_of_a_stop_current_says_cancelled_there(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    pool = processes(functions.until_cancelled, workers=1)
    pool.start()
    future = pool.call(str(path))
    until(path.exists)
    pool.stop(0)
    assert future.result(30) == "ended early"


def test_an_item_that_does_not_end_is_killed_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    pool = processes(functions.touch_and_hang, workers=1)
    pool.start()
    pool.submit(str(path))
    until(path.exists)
    [pid] = pids()
    with pytest.raises(StopTimeout) as cut:
        pool.stop(0)
    assert [abandoned.item for abandoned in cut.value.report.abandoned] == [str(path)]
    assert pid is not None
    assert not is_alive(pid)


SCRIPT = """
import os, signal, sys
from tests.processes import functions
from workpool import Pool
from workpool.workers.children import pids

if __name__ == "__main__":
    pool = Pool(functions.{function}, workers={workers}, executor="process")
    pool.start()
    while len(pids()) < {workers}:
        pass
    {body}
"""


@contextmanager
def script(directory: Path, function: str, body: str, workers: int = 2) -> Iterator[subprocess.Popen[str]]:
    path = directory / "script.py"
    path.write_text(SCRIPT.format(function=function, body=body, workers=workers))
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])},
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_pool_that_nobody_stops_ends_with_the_interpreter(tmp_path: Path) -> None:
    with script(tmp_path, "pid", "print('end', flush=True)") as running:
        out, err = running.communicate(timeout=40)
    assert (running.returncode, out, err) == (0, "end\n", "")


def is_alive(pid: int) -> bool:
    """Runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_the_processes_end_when_the_parent_is_killed(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    body = f"""pool.submit({str(begun)!r})
    print(*pids(), flush=True)
    sys.stdin.read()"""
    with script(tmp_path, "touch_and_hang", body) as running:
        assert running.stdout is not None
        until(begun.exists)
        pids = [int(word) for word in running.stdout.readline().split()]
        assert len(pids) == 2
        running.kill()
        until(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_the_whole_group_is_the_parents_to_answer(tmp_path: Path, number: signal.Signals) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"""
    pool.call(None).result(30)
    seen = []
    signal.signal({int(number)}, lambda *_: seen.append("signal"))
    future = pool.call({str(gate)!r})
    print("ready", flush=True)
    while not seen:
        pass
    print("signal", flush=True)
    sys.stdin.readline()
    print(future.result(30) is not None, pool.stop().clean, pool.stats().failed, flush=True)"""
    with script(tmp_path, "wait_for_gate", body, workers=1) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        os.killpg(running.pid, number)
        assert running.stdout.readline() == "signal\n"
        gate.write_bytes(b"")
        running.stdin.write("\n")
        running.stdin.flush()
        assert running.stdout.readline() == "True True 0\n"
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (0, "", "")


def test_a_main_module_without_its_guard_ends_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "unguarded.py"
    path.write_text(
        "from workpool import Pool\n"
        "with Pool(abs, workers=1, executor='process') as pool:\n"
        "    pool.call(-1).result(30)\n"
    )
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert "__main__" in done.stderr
