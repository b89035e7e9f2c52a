"""What an item costs: nothing to do, a little to compute, something to wait for, at a steady pace."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from time import perf_counter

from bench.rivals import CONTENDERS, QUEUE_SIZE, Load
from bench.table import Table, micro
from workpool import Pool

ROUNDS = 5
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def noop(_: int) -> None:
    return None


def compute(loops: int) -> Callable[[int], None]:
    def work(_: int) -> None:
        left = loops
        while left:
            left -= 1

    return work


def calibrated(seconds: float) -> tuple[Callable[[int], None], float]:
    """A process function that computes for about so many seconds, and what it takes in fact."""
    loops = 100
    while (taken := _bare(compute(loops))) < seconds:
        loops = int(loops * max(1.05, min(4.0, seconds / taken)))
    work = compute(loops)
    return work, median(_bare(work) for _ in range(ROUNDS))


def _bare(work: Callable[[int], None]) -> float:
    count = 300
    begun = perf_counter()
    for number in range(count):
        work(number)
    return (perf_counter() - begun) / count


def medians(names: list[str], load: Load, slow: int = 7) -> dict[str, float]:
    """Seconds an item of each contender, interleaved, so that whatever the machine does meets all of them.

    The slow ones get fewer items.
    """
    counts = {name: load.count if name.startswith("workpool") else load.count // slow for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            fewer = Load(load.process, counts[name], load.workers, load.producers)
            taken[name].append(CONTENDERS[name](fewer))
    return {name: median(times) for name, times in taken.items()}


def nothing_to_do(table: Table, names: list[str]) -> None:
    by_workers: dict[int, float] = {}
    ours = names[0]
    newer = sys.version_info >= (3, 12)
    queue_bound = 0.9 if newer else 0.6
    for producers in (1, 4):
        for workers in (1, 10, 50):
            load = Load(noop, 100_000, workers, producers)
            cost = medians(names, load)
            what = f"no-op, {workers} workers, {producers} producers"
            mine = cost[ours]
            pool = cost["ThreadPoolExecutor"]
            loop = cost["queue.Queue loop"]
            least = (4.0 if workers == 50 else 1.0) if FREE_THREADED else 8.0
            figures = f"{micro(pool)} / {micro(mine)}"
            if newer and not FREE_THREADED:
                table.note(f"{what}: ThreadPoolExecutor / workpool", f"{figures}: **{pool / mine:.1f}×**")
            else:
                table.at_least(f"{what}: ThreadPoolExecutor / workpool", figures, pool / mine, least)
            figures = f"{micro(mine)} / {micro(loop)}"
            if FREE_THREADED:
                table.note(f"{what}: workpool / queue.Queue loop", f"{figures}: **{mine / loop:.2f}×**")
            else:
                table.at_most(f"{what}: workpool / queue.Queue loop", figures, mine / loop, queue_bound)
            if (counted := cost.get("queue.Queue loop with prometheus_client")) is not None:
                figures = f"{micro(counted)} / {micro(mine)}"
                table.at_least(f"{what}: the loop with prometheus_client / workpool", figures, counted / mine, 8)
            if producers == 1:
                by_workers[workers] = mine
    figures = f"{micro(by_workers[50])} / {micro(by_workers[1])}"
    table.at_most("no-op: 50 workers / 1 worker", figures, by_workers[50] / by_workers[1], 1.5)


def metrics_on_and_off(table: Table) -> None:
    cost = medians(["workpool", "workpool, metrics off"], Load(noop, 100_000, 10))
    on, off = cost["workpool"], cost["workpool, metrics off"]
    table.at_most("no-op, 10 workers: metrics on / off", f"{micro(on)} / {micro(off)}", on / off, 1.25)


def a_little_to_compute(table: Table, ours: str) -> None:
    work, _ = calibrated(10e-6)
    names = [ours, "ThreadPoolExecutor", "queue.Queue loop"]
    bares: list[float] = []
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:  # the bare work before each: whatever the machine does meets it too
            bares.append(_bare(work))
            taken[name].append(CONTENDERS[name](Load(work, 20_000, 50)))
    bare = median(bares)
    cost = {name: median(times) for name, times in taken.items()}
    what = "10 µs of computing, 50 workers"
    if FREE_THREADED:
        table.note(f"{what}: workpool / the bare work", f"{micro(cost[ours])} / {micro(bare)}")
    else:
        table.at_most(
            f"{what}: workpool / the bare work", f"{micro(cost[ours])} / {micro(bare)}", cost[ours] / bare, 1.35
        )
    for name in names[1:]:
        table.note(f"{what}: {name} / the bare work", f"{micro(cost[name])} / {micro(bare)}: {cost[name] / bare:.2f}×")


def something_to_wait_for(table: Table, ours: str) -> None:
    def wait(_: int) -> None:
        time.sleep(0.001)

    slept = median(_bare(wait) for _ in range(ROUNDS))
    cost = medians([ours], Load(wait, 20_000, 50))[ours]
    table.at_most(
        "1 ms of sleep, 50 workers: workpool / the measured sleep ÷ 50",
        f"{micro(cost)} / {micro(slept / 50)}",
        cost / (slept / 50),
        1.15,
    )


def at_a_steady_pace(table: Table) -> None:
    """From submit to start, at 5,000 items a second; the two take turns."""
    waits: dict[str, list[float]] = {"workpool": [], "ThreadPoolExecutor": []}
    for _ in range(ROUNDS):
        waits["workpool"].append(_p99(_paced_pool))
        waits["ThreadPoolExecutor"].append(_p99(_paced_executor))
    ours, theirs = median(waits["workpool"]), median(waits["ThreadPoolExecutor"])
    table.at_most(
        "5,000 items/s, 10 workers: p99 from submit to start, workpool / ThreadPoolExecutor",
        f"{micro(ours)} / {micro(theirs)}",
        ours / theirs,
        1.0,
    )


def _p99(paced: Callable[[Callable[[float], None]], Callable[[float], object]]) -> float:
    waits: list[float] = []

    def start(submitted: float) -> None:
        waits.append(perf_counter() - submitted)

    submit = paced(start)
    due = perf_counter()
    for _ in range(5000):
        due += 1 / 5000
        while (left := due - perf_counter()) > 0:
            time.sleep(left)
        submit(perf_counter())
    _paced_end()
    return quantiles(waits, n=100)[98]


_ends: list[Callable[[], object]] = []


def _paced_pool(start: Callable[[float], None]) -> Callable[[float], object]:
    pool = Pool(start, workers=10, queue_size=QUEUE_SIZE)
    pool.start()
    _ends.append(pool.stop)
    return pool.submit


def _paced_executor(start: Callable[[float], None]) -> Callable[[float], object]:
    pool = ThreadPoolExecutor(10)
    _ends.append(pool.shutdown)
    return lambda submitted: pool.submit(start, submitted)


def _paced_end() -> None:
    _ends.pop()()


def two_cores(table: Table) -> None:
    """Without a GIL, two workers compute on two cores."""
    if not FREE_THREADED:
        return
    work, _ = calibrated(100e-6)
    one = median(CONTENDERS["workpool, metrics off"](Load(work, 5000, 1)) for _ in range(ROUNDS))
    two = median(CONTENDERS["workpool, metrics off"](Load(work, 5000, 2)) for _ in range(ROUNDS))
    table.at_least(
        "100 µs of computing: 1 worker / 2 workers, without a GIL", f"{micro(one)} / {micro(two)}", one / two, 1.7
    )
