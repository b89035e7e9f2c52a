"""What a rule costs an item: a discipline of the queue, retries, an order by keys, a rate."""

from __future__ import annotations

import gc
import sys
from statistics import median
from time import perf_counter
from typing import Any, Final

from bench.table import Table, micro
from workpool import AdaptiveLifo, CoDel, Fifo, Lanes, Pool, QueueFull, Rate, Retry

__all__ = ["rules_section"]

ROUNDS: Final = 7
ITEMS: Final = 200_000
WORKERS: Final = 10


def nothing(_: int) -> None:
    return None


def odd(number: int) -> int:
    return number & 1


RULES: Final[dict[str, dict[str, Any]]] = {
    "Fifo(1000)": {"queue": Fifo(1000)},
    "Fifo(1000, max_wait=1)": {"queue": Fifo(1000, max_wait=1)},
    "Lanes of 500 and 500": {"queue": Lanes(odd, [500, 500])},
    "AdaptiveLifo(1000)": {"queue": AdaptiveLifo(1000)},
    "CoDel(1000)": {"queue": CoDel(1000, target=1.0)},
    "retry=, no failures": {"retry": Retry()},
    "key=, 1,000 keys": {"key": lambda number: number % 1000},
    "key=, each its own": {"key": lambda number: number},
    "rate=, never reached": {"rate": Rate(1e8, burst=1_000_000)},
}
BOUNDS: Final = {
    "Fifo(1000, max_wait=1)": 1.1,
    "Lanes of 500 and 500": 1.5,
    "retry=, no failures": 1.1,
    "key=, 1,000 keys": 2.0,
}


def rules_section(table: Table) -> None:
    """A no-op each, through each rule in turn."""
    took: dict[str, list[float]] = {name: [] for name in RULES}
    for _ in range(ROUNDS):
        for name, options in RULES.items():
            took[name].append(_an_item(options))
    plain = median(took["Fifo(1000)"])
    for name in list(RULES)[1:]:
        seconds = median(took[name])
        what, figures = f"no-op, 10 workers: {name} / Fifo(1000)", f"{micro(seconds)} / {micro(plain)}"
        if name in BOUNDS:
            table.at_most(what, figures, seconds / plain, BOUNDS[name])
        else:
            table.note(what, f"{figures}: {seconds / plain:.2f}×")
    refused = median(_a_refusal() for _ in range(ROUNDS))
    table.at_most("a refusal of a full queue, caught, over 1 µs", micro(refused), refused / 1e-6, 1)
    _a_million_keys(table)


def _an_item(options: dict[str, Any]) -> float:
    with Pool(nothing, workers=WORKERS, **options) as pool:
        began = perf_counter()
        for number in range(ITEMS):
            pool.submit_wait(number)
        pool.join()
        return (perf_counter() - began) / ITEMS


def _a_refusal() -> float:
    with Pool(nothing, workers=1, queue_size=1) as pool:
        pool.pause()
        pool.submit(0)
        began = perf_counter()
        for number in range(ITEMS):
            try:
                pool.submit(number)
            except QueueFull:
                pass
        took = (perf_counter() - began) / ITEMS
        pool.resume()
    return took


def _a_million_keys(table: Table) -> None:
    """Each comes once: what is left of them."""
    with Pool(nothing, workers=4, key=lambda number: number) as pool:
        for number in range(20_000):
            pool.submit_wait(number)
        pool.join()
        gc.collect()
        before = sys.getallocatedblocks()
        for number in range(20_000, 1_020_000):
            pool.submit_wait(number)
        pool.join()
        gc.collect()
        grown = sys.getallocatedblocks() - before
    what = "1,000,000 keys, each once: blocks left, over 50,000"
    table.at_most(what, f"{grown} blocks", grown / 50_000, 1.0)
