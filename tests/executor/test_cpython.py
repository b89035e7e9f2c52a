"""The standard library's own tests of `ThreadPoolExecutor`, with a `PoolExecutor` in its place.

They come with the interpreter, if its `test` package was installed, and are skipped where it was not.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import sys
import unittest
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from workpool import PoolExecutor

PACKAGE = "test.test_concurrent_futures"
MODULES = ("test_as_completed", "test_init", "test_shutdown", "test_thread_pool", "test_wait")

LEFT_OUT = {
    "test_cancel_futures": "expects an item to have begun within 50 calls of submit, which here take 0.1 ms",
    "test_context_manager_shutdown": "joins the threads of the private attribute _threads",
    "test_del_shutdown": "joins the threads of the private attribute _threads",
    "test_hang_global_shutdown_lock": "is about a private lock of the standard library's module",
    "test_idle_thread_reuse": "counts the threads in _threads, and expects one at a time: a pool starts all at once",
    "test_saturation": "counts the threads in the private attribute _threads",
    "test_shutdown_no_wait": "joins the threads of the private attribute _threads",
    "test_submit_after_interpreter_shutdown": "looks for the name RuntimeError in a traceback that says PoolStopped",
    "test_thread_names_assigned": "reads the names of the threads in the private attribute _threads",
    "test_thread_names_default": "expects the name ThreadPoolExecutor-N in the private attribute _threads",
    "test_threads_terminate": "counts the threads in _threads, and expects one at a time: a pool starts all at once",
}
if sys.version_info < (3, 12):
    LEFT_OUT["test_cancel_futures_wait_false"] = "expects the item to have begun, as later versions do no more"


def modules() -> list[ModuleType]:
    """Where the tests are: one module on 3.11, a package since. Empty if they are not installed."""
    try:
        whole = importlib.import_module(PACKAGE)
        if not hasattr(whole, "__path__"):
            return [whole]
        return [importlib.import_module(f"{PACKAGE}.{name}") for name in MODULES]
    except ImportError:
        return []


def cases() -> Iterator[Any]:
    for module in modules():
        for name, theirs in sorted(vars(module).items()):
            if isinstance(theirs, type) and name.startswith("ThreadPool") and issubclass(theirs, unittest.TestCase):
                ours = type(name, (theirs,), {"executor_type": PoolExecutor, "__module__": module.__name__})
                for method in unittest.defaultTestLoader.getTestCaseNames(ours):
                    yield pytest.param(ours, method, id=f"{name}.{method}")


CASES = list(cases())


@pytest.fixture(autouse=True)
def in_its_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever asks the standard library for a `ThreadPoolExecutor` gets ours, in a child process too."""
    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", PoolExecutor)
    for module in modules():
        run = getattr(module, "assert_python_ok", None)
        if run is not None:
            monkeypatch.setattr(module, "assert_python_ok", lambda *args, run=run: run(*map(ours, args), **PATH))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # some drop an executor without a shutdown, on purpose
        yield


PATH = {"PYTHONPATH": os.pathsep.join(sys.path)}


def ours(code: str) -> str:
    """A program for a child process, that makes an executor of ours."""
    return code.replace(
        "from concurrent.futures import ThreadPoolExecutor", "from workpool import PoolExecutor as ThreadPoolExecutor"
    ).replace("from concurrent.futures import PoolExecutor", "from workpool import PoolExecutor")


@pytest.mark.skipif(not CASES, reason=f"{PACKAGE} is not installed with this Python")
@pytest.mark.parametrize(("case", "method"), CASES or [pytest.param(unittest.TestCase, "run", id="none")])
def test_theirs(case: type[unittest.TestCase], method: str) -> None:
    if method in LEFT_OUT:
        pytest.skip(LEFT_OUT[method])
    result = unittest.TestResult()
    case(method).run(result)
    for _, why in result.skipped:
        pytest.skip(why)
    assert not [trace for _, trace in (*result.failures, *result.errors)]
    assert result.testsRun == 1


@pytest.mark.skipif(not CASES, reason=f"{PACKAGE} is not installed with this Python")
def test_what_is_left_out_is_there() -> None:
    assert {case.values[1] for case in CASES} >= LEFT_OUT.keys()
