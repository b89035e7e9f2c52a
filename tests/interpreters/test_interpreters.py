"""What is special about workers that are subinterpreters; what all kinds have in common is in tests/conformance."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.core.kit import until
from tests.interpreters.functions import counted
from tests.processes import functions
from workpool import Interpreters, ItemTimeout, NotPicklable, Pool, PoolStopped, StopTimeout
from workpool._interpreter import GIL

HERE = sys.version_info >= (3, 14) and GIL

there = pytest.mark.skipif(not HERE, reason="subinterpreters come with Python 3.14")


def count() -> int:
    return len(import_module("concurrent.interpreters").list_all()) if HERE else 1


@pytest.fixture(autouse=True)
def nothing_left(quiet: None, no_thread_left: None) -> Iterator[None]:
    before = count()
    yield
    until(lambda: count() == before)


def interpreters(process: Any, workers: int = 2, **options: Any) -> Pool[Any, Any]:
    options.setdefault("executor", "interpreter")
    return Pool(process, workers=workers, **options)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.skipif(HERE, reason="this Python has subinterpreters")
def test_a_python_without_them_says_what_it_takes() -> None:
    said = r"executor='interpreter' (needs Python 3\.14 or later, and this is 3\.\d+|is for a Python with a GIL)"
    with pytest.raises(ValueError, match=said):
        interpreters(abs)
    with pytest.raises(ValueError, match=said):
        Interpreters()


def test_context_variables_cannot_be_carried_there() -> None:
    with pytest.raises(ValueError, match=r"workers of this interpreter: .* do not cross"):
        interpreters(functions.same, carry_context=True)


@there
def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="batch must be at most 256, not 300"):
        Interpreters(batch=300)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        Interpreters(initializer=3)  # type: ignore[arg-type]


@there
def test_a_function_that_cannot_reach_an_interpreter_is_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"cannot be sent to a worker's interpreter.*top level of a module"):
        interpreters(lambda item: item)


# -- crossing ----------------------------------------------------------------------------------


@there
def test_an_exception_comes_back_with_the_traceback_of_there() -> None:
    with interpreters(functions.results, workers=1) as pool:
        picky = pool.call("picky").exception(30)
        assert isinstance(picky, NotPicklable)
        assert "raise Picky(1, 2)" in str(picky.__cause__)
        assert pool.call("a").result(30) == "a"
        pool.submit("locked")
    assert (pool.stats().failed, pool.stats().succeeded) == (1, 2)


@there
def test_large_items_and_results_go_over_whole_and_in_order() -> None:
    sizes = [0, 1, 70_000, 1_000_000, 3, 5_000_000, 60_000]
    with interpreters(functions.big) as pool:
        assert [len(result) for result in pool.map(sizes)] == sizes


@there
def test_workers_share_the_process_and_no_variable() -> None:
    settings = Interpreters(initializer=functions.set_variable, initargs=("WORKPOOL_TEST", "yes"))
    with interpreters(functions.pid) as pool:
        assert pool.call(0).result(30) == functions.pid(0)
    with interpreters(functions.variable, executor=settings) as pool:
        assert {pool.call("WORKPOOL_TEST").result(30) for _ in range(10)} == {"yes"}


@there
def test_what_an_interpreter_logs_is_logged_here(caplog: pytest.LogCaptureFixture) -> None:
    logging.disable(logging.NOTSET)
    with caplog.at_level(logging.WARNING), interpreters(functions.logs, workers=1) as pool:
        assert pool.call("hello").result(30) == "hello"
    assert [(record.name, record.levelname) for record in caplog.records] == [
        ("far.away", "WARNING"),
        ("far.away", "ERROR"),
    ]


@there
def test_what_waits_behind_a_slow_item_is_taken_back_for_whoever_is_idle(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with interpreters(functions.wait_for_gate, executor=Interpreters(batch=100)) as pool:
        pool.pause()
        slow = pool.call(str(gate))
        quick = [pool.call(None) for _ in range(99)]
        pool.resume()
        assert [future.result(30) for future in quick] == [None] * 99
        assert not slow.done()
        gate.write_bytes(b"")
        assert slow.result(30) == str(gate)


# -- starting and stopping -----------------------------------------------------------------------


@there
def test_interpreters_that_cannot_start_stop_the_pool_with_the_reason() -> None:
    pool = interpreters(functions.same, executor=Interpreters(initializer=functions.broken))
    pool.start()
    until(lambda: pool.stats().state == "stopped")
    with pytest.raises(PoolStopped, match=r"cannot start.*(?s:.*)no database today"):
        pool.submit(1)


@there
def test_at_the_timeout_of_a_stop_current_says_cancelled_there(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    pool = interpreters(functions.until_cancelled, workers=1)
    pool.start()
    future = pool.call(str(path))
    until(path.exists)
    pool.stop(0)
    assert future.result(30) == "ended early"


@there
def test_an_item_that_does_not_end_is_abandoned_and_leaves_nothing_once_it_ends(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    pool = interpreters(functions.wait_for_gate, workers=1)
    pool.start()
    pool.submit(str(gate))
    until(lambda: pool.stats().running == 1)
    with pytest.raises(StopTimeout) as cut:
        pool.stop(0)
    assert [abandoned.item for abandoned in cut.value.report.abandoned] == [str(gate)]
    gate.write_bytes(b"")


@there
def test_an_item_that_takes_too_long_fails_and_the_next_is_not_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    with interpreters(functions.until_cancelled, workers=1, item_timeout=0.5) as pool:
        assert isinstance(pool.call(str(path)).exception(30), ItemTimeout)
        assert isinstance(pool.call(str(path)).exception(30), ItemTimeout)
    assert pool.stats().balance() == 0


@there
def test_thread_local_variables_stay_from_one_batch_to_the_next() -> None:
    with interpreters(counted, workers=1, executor=Interpreters(batch=1)) as pool:
        assert [pool.call(0).result(30) for _ in range(3)] == [1, 2, 3]


SCRIPT = """
from workpool import Pool, current

class Item:
    def __init__(self, number):
        self.number = number

def double(item):
    return Item(item.number * 2)

def main():
    {body}

{guard}
    main()
"""


def run(directory: Path, body: str, guard: str = 'if __name__ == "__main__":') -> subprocess.CompletedProcess[str]:
    path = directory / "script.py"
    path.write_text(SCRIPT.format(body=body, guard=guard))
    here = os.pathsep.join([str(Path.cwd()), *sys.path])
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=50, env={**os.environ, "PYTHONPATH": here}
    )


@there
def test_functions_and_classes_of_the_main_module_work(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """with Pool(double, workers=1, executor="interpreter") as pool:
        result = pool.call(Item(21)).result(30)
        print(isinstance(result, Item), result.number)""",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True 42\n", "")


@there
def test_a_main_module_without_its_guard_says_so(tmp_path: Path) -> None:
    body = 'with Pool(double, workers=1, executor="interpreter") as pool: pool.call(Item(1)).result(30)'
    done = run(tmp_path, body, guard="if True:")
    assert done.returncode == 1
    assert "if __name__ == '__main__':" in done.stderr


@there
def test_a_pool_that_nobody_stops_ends_with_the_interpreter(tmp_path: Path) -> None:
    body = """pool = Pool(double, workers=2, executor="interpreter")
    pool.start()
    print(pool.call(Item(1)).result(30).number)"""
    done = run(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


@there
def test_an_item_that_never_ends_does_not_keep_the_interpreter_alive(tmp_path: Path) -> None:
    body = f"""from tests.processes import functions
    pool = Pool(functions.touch_and_hang, workers=1, executor="interpreter", stop_timeout=0)
    pool.start()
    pool.submit({str(tmp_path / "begun")!r})
    import pathlib
    while not pathlib.Path({str(tmp_path / "begun")!r}).exists():
        pass"""
    done = run(tmp_path, body)
    assert done.returncode == 0
    assert "1 abandoned" in done.stderr
