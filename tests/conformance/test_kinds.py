"""Every kind of worker passes the one contract."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.far import Far
from workpool import Pool, Processes
from workpool._interpreter import GIL
from workpool.testing.conformance import Conformance, Direct, Double
from workpool.workers.children import pids


class TestThreads(Conformance):
    @staticmethod
    def make(double: Double, **options: Any) -> Pool[Any, Any]:
        return Pool(double.process, **options)


class TestTasks(Conformance):
    @staticmethod
    def make(double: Double, **options: Any) -> Pool[Any, Any]:
        return Pool(double.async_process, **options)


OTHERWISE = [pytest.param(method, marks=pytest.mark.start_methods) for method in ("spawn", "fork")]


@pytest.mark.parametrize("start_method", ["forkserver", *OTHERWISE])
@pytest.mark.filterwarnings("ignore:start_method='fork'")
class TestProcesses(Conformance):
    in_this_process = False

    @pytest.fixture(autouse=True)
    def far_doubles(self, start_method: str, nothing_stays: None) -> Iterator[None]:
        """The doubles stay here, and are called from the workers' processes."""
        fars: list[Far] = []

        def make(double: Double, **options: Any) -> Pool[Any, Any]:
            settings = Processes(start_method=start_method)  # type: ignore[arg-type]
            if isinstance(double, Direct):
                return Pool(double.process, executor=settings, **options)
            fars.append(Far(double.process))
            return Pool(fars[-1].call, executor=settings, **options)

        self.make = make
        yield
        for far in fars:
            far.close()
        assert pids() == []


@pytest.mark.skipif(sys.version_info < (3, 14) or not GIL, reason="subinterpreters come with Python 3.14")
class TestInterpreters(Conformance):
    in_this_process = False

    @pytest.fixture(autouse=True)
    def far_doubles(self, nothing_stays: None) -> Iterator[None]:
        """The doubles stay here, and are called from the workers' interpreters."""
        fars: list[Far] = []

        def make(double: Double, **options: Any) -> Pool[Any, Any]:
            if isinstance(double, Direct):
                return Pool(double.process, executor="interpreter", **options)
            fars.append(Far(double.process))
            return Pool(fars[-1].call, executor="interpreter", **options)

        self.make = make
        yield
        for far in fars:
            far.close()
