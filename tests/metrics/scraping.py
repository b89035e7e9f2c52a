"""What the tests of the metrics share: a scrape as a value, and a process function that waits to be let go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import wraps
from threading import Semaphore
from typing import Any, Literal, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from workpool import Pool

__all__ = ["SOON", "Gate", "Kind", "MakePool", "Scrape", "openmetrics", "parse", "scrape", "text"]

SOON = 20.0
"""Seconds that a test waits for what has to happen, before it fails."""


class Gate:
    """A process function whose items run until the gate opens; those named in `bad` fail then."""

    def __init__(self, bad: Iterable[int] = ()) -> None:
        self._bad = set(bad)
        self._entered = Semaphore(0)
        self._opened: Future[None] = Future()

    def __call__(self, item: int) -> int:
        self._entered.release()
        self._opened.result(SOON)
        return self._end(item)

    async def wait(self, item: int) -> int:
        """The same as a task, as deaf to a stop as the thread is."""
        self._entered.release()
        opened = asyncio.wrap_future(self._opened)
        while not opened.done():
            try:
                await asyncio.shield(opened)
            except asyncio.CancelledError:
                continue
        return self._end(item)

    def _end(self, item: int) -> int:
        if item in self._bad:
            raise ValueError(f"item {item} is bad")
        return item

    def await_running(self, items: int) -> None:
        """Return when so many more items have begun to run."""
        for _ in range(items):
            assert self._entered.acquire(timeout=SOON), "no worker took the item"

    def open(self) -> None:
        self._opened.set_result(None)


MakePool: TypeAlias = Callable[..., Pool[int, Any]]
"""Called as `Pool` is, with a plain function or a `Gate`."""


@dataclass(frozen=True)
class Kind:
    """A kind of worker."""

    name: Literal["thread", "asyncio", "inline"]

    def pool(self, process: Callable[[int], Any], **options: Any) -> Pool[int, Any]:
        if self.name != "asyncio":
            return Pool(process, executor=self.name, **options)
        return Pool(process.wait if isinstance(process, Gate) else _as_async(process), **options)


def _as_async(process: Callable[[int], Any]) -> Callable[[int], Any]:
    @wraps(process)
    async def process_async(item: int) -> Any:
        return process(item)

    return process_async


@dataclass(frozen=True)
class Scrape:
    """What one scrape brought."""

    families: dict[str, Metric]

    def value(self, sample: str, **labels: str) -> float:
        """The value of the one sample of this name and with just these labels."""
        (found,) = [
            each.value
            for family in self.families.values()
            for each in family.samples
            if each.name == sample and each.labels == labels
        ]
        return found

    def names(self) -> set[str]:
        """Of the samples."""
        return {sample.name for family in self.families.values() for sample in family.samples}

    def pools(self) -> set[str]:
        """The values of the label `pool`."""
        return {sample.labels.get("pool", "") for family in self.families.values() for sample in family.samples} - {""}

    def buckets(self, histogram: str, **labels: str) -> list[tuple[str, float]]:
        """Upper bound and cumulative count, in the order of the scrape."""
        return [
            (sample.labels["le"], sample.value)
            for sample in self.families[histogram].samples
            if sample.name == f"{histogram}_bucket"
            and {name: value for name, value in sample.labels.items() if name != "le"} == labels
        ]


def openmetrics(registry: CollectorRegistry) -> str:
    exposed: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    return exposed.decode()


def text(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def scrape(registry: CollectorRegistry, form: str = "openmetrics") -> Scrape:
    """Scrape as a server would, and read what comes as `form`: openmetrics or text."""
    return parse(openmetrics(registry) if form == "openmetrics" else text(registry), form)


def parse(page: str, form: str = "openmetrics") -> Scrape:
    """Read a page by the parsers of prometheus_client, which raise ValueError for what is not as it should be."""
    families = parse_openmetrics(page) if form == "openmetrics" else parse_text(page)  # type: ignore[no-untyped-call]
    return Scrape({family.name: family for family in families})
