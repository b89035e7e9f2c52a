"""What a pool holds: idle workers, a long queue, and what is left after a million items."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from time import perf_counter

from bench.table import Table
from workpool import Pool


def _noop(_: object) -> None:
    return None


def idle_workers(table: Table) -> None:
    begun = perf_counter()
    pool = Pool(_noop, workers=1000)
    pool.start()
    pool.stop()
    seconds = perf_counter() - begun
    table.at_most("1,000 idle workers: start and stop, in seconds", f"{seconds:.2f} s", seconds, 1.0)


def a_long_queue(table: Table) -> None:
    count = 1_000_000
    items = list(range(count))
    pool: Pool[int, None] = Pool(_noop, workers=1, queue_size=count)
    pool.pause()
    pool.start()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for item in items:
        pool.submit(item)
    each = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    pool.stop(drain=False)
    table.at_most("1,000,000 small items queued: bytes an item, over 120", f"{each:.0f} bytes", each / 120, 1.0)


def a_million_items(table: Table) -> None:
    with Pool(_noop, workers=4) as pool:
        for number in range(20_000):
            pool.submit_wait(number)
        pool.join()
        gc.collect()
        before = sys.getallocatedblocks()
        for number in range(1_000_000):
            pool.submit_wait(number)
        pool.join()
        gc.collect()
        grown = sys.getallocatedblocks() - before
    table.at_most("1,000,000 items through a pool: blocks left, in thousands", f"{grown} blocks", grown / 1000, 1.0)
