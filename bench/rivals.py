"""The contenders: each runs `count` items from `producers` threads through `workers` threads, in seconds an item.

Rules: each is written the way its users write it, each waits for room where its queue is bounded, and each
is timed from the first item to the end of the last. None but ours and the one with prometheus_client counts anything.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from workpool import Pool

QUEUE_SIZE = 1000


@dataclass(frozen=True)
class Load:
    """What is asked of a contender."""

    process: Callable[[int], object]
    count: int
    workers: int
    producers: int = 1

    def produce(self, submit: Callable[[int], object]) -> None:
        """Call `submit` for each item, from as many threads as there are producers, and wait for them."""

        def run(count: int) -> None:
            for number in range(count):
                submit(number)

        threads = [threading.Thread(target=run, args=(self.count // self.producers,)) for _ in range(self.producers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def workpool(load: Load) -> float:
    return _workpool(load, metrics=False)


def workpool_with_metrics(load: Load) -> float:
    import prometheus_client

    return _workpool(load, metrics=prometheus_client.CollectorRegistry())


def _workpool(load: Load, metrics: Any) -> float:
    pool = Pool(load.process, workers=load.workers, queue_size=QUEUE_SIZE, metrics=metrics, name="bench")
    pool.start()
    begun = perf_counter()
    load.produce(pool.submit_wait)
    stats = pool.stop(timeout=None).stats
    seconds = perf_counter() - begun
    assert stats.succeeded == load.count // load.producers * load.producers
    assert stats.balance() == 0
    return seconds / load.count


def executor(load: Load) -> float:
    pool = ThreadPoolExecutor(load.workers)
    begun = perf_counter()
    load.produce(lambda number: pool.submit(load.process, number))
    pool.shutdown(wait=True)
    return (perf_counter() - begun) / load.count


def queue_loop(load: Load) -> float:
    process = load.process
    items: queue.Queue[int | None] = queue.Queue(QUEUE_SIZE)

    def work() -> None:
        while (item := items.get()) is not None:
            process(item)

    return _by_hand(load, items, work)


def queue_loop_with_prometheus(load: Load) -> float:
    """The same loop, with the calls of prometheus_client for each item that its documentation shows."""
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    submitted = prometheus_client.Counter("bench_submitted", "Items", registry=registry)
    processed = prometheus_client.Counter("bench_processed", "Items", ["status"], registry=registry)
    depth = prometheus_client.Gauge("bench_depth", "Items", registry=registry)
    duration = prometheus_client.Histogram("bench_seconds", "Run time", ["status"], registry=registry)

    class Counted(queue.Queue[int | None]):
        def put(self, item: int | None, block: bool = True, timeout: float | None = None) -> None:
            super().put(item, block, timeout)
            submitted.inc()
            depth.inc()

    items = Counted(QUEUE_SIZE)
    process = load.process

    def work() -> None:
        while (item := items.get()) is not None:
            depth.dec()
            begun = perf_counter()
            status = "success"
            try:
                process(item)
            except Exception:  # noqa: BLE001 - what users write
                status = "error"
            duration.labels(status).observe(perf_counter() - begun)
            processed.labels(status).inc()

    return _by_hand(load, items, work)


def _by_hand(load: Load, items: queue.Queue[int | None], work: Callable[[], None]) -> float:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(load.workers)]
    for thread in threads:
        thread.start()
    begun = perf_counter()
    load.produce(items.put)
    for _ in threads:
        items.put(None)
    for thread in threads:
        thread.join()
    return (perf_counter() - begun) / load.count


CONTENDERS: dict[str, Callable[[Load], float]] = {
    "workpool": workpool_with_metrics,
    "workpool, metrics off": workpool,
    "ThreadPoolExecutor": executor,
    "queue.Queue loop": queue_loop,
    "queue.Queue loop with prometheus_client": queue_loop_with_prometheus,
}
"""Of these, the first and the last need prometheus_client."""
