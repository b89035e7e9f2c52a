"""Every kind of worker passes the one contract."""

from __future__ import annotations

from typing import Any

from workpool import Pool
from workpool.testing.conformance import Conformance, Double


class TestThreads(Conformance):
    @staticmethod
    def make(double: Double, **options: Any) -> Pool[Any, Any]:
        return Pool(double.process, **options)


class TestTasks(Conformance):
    @staticmethod
    def make(double: Double, **options: Any) -> Pool[Any, Any]:
        return Pool(double.async_process, **options)
