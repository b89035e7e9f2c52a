"""What an item costs in another process, beside what the standard library has for that."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import Any, Final

from bench.table import Table, micro
from workpool import Pool, Processes

ROUNDS = 3
WORKERS = 2
METHOD: Final = "forkserver"


def nothing(_: int) -> None:
    return None


def spin(seconds: float) -> None:
    """Compute for so long."""
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass


def started(item: tuple[float, float]) -> tuple[float, float]:
    """How long the item ran, and when it began."""
    began = perf_counter()
    spin(item[0])
    return item[0], began


def processes(process: Callable[[Any], Any], workers: int = WORKERS, queue_size: int = 1000) -> Pool[Any, Any]:
    return Pool(process, workers=workers, queue_size=queue_size, executor=Processes(start_method=METHOD))


def executor() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(METHOD))


def many(table: Table) -> None:
    """A no-op each."""
    ours, theirs, chunks = [], [], []
    for _ in range(ROUNDS):
        with processes(nothing) as pool:
            pool.call(0).result()
            ours.append(_seconds(partial(_run_all, pool, range(100_000))) / 100_000)
        with executor() as other:
            other.submit(nothing, 0).result()
            theirs.append(
                _seconds(lambda: [f.result() for f in [other.submit(nothing, n) for n in range(5_000)]]) / 5_000
            )
        with multiprocessing.get_context(METHOD).Pool(WORKERS) as chunked:
            chunked.map(nothing, range(WORKERS))
            chunks.append(
                _seconds(lambda: list(chunked.imap_unordered(nothing, range(100_000), chunksize=64))) / 100_000
            )
    mine, rival, chunk = median(ours), median(theirs), median(chunks)
    what = "processes, no-op: ProcessPoolExecutor / workpool"
    table.at_least(what, f"{micro(rival)} / {micro(mine)}", rival / mine, 30)
    what = "processes, no-op: workpool / multiprocessing.Pool.imap_unordered(chunksize=64)"
    table.at_most(what, f"{micro(mine)} / {micro(chunk)}", mine / chunk, 3)


def one_by_one(table: Table) -> None:
    """There and back, one item at a time."""
    ours, theirs = [], []
    for _ in range(ROUNDS):
        with processes(nothing, workers=1, queue_size=1) as pool:
            pool.call(0).result()
            ours.append(_seconds(lambda: [pool.call(n).result() for n in range(2_000)]) / 2_000)
        with executor() as other:
            other.submit(nothing, 0).result()
            theirs.append(_seconds(lambda: [other.submit(nothing, n).result() for n in range(2_000)]) / 2_000)
    mine, rival = median(ours), median(theirs)
    what = "processes, one item at a time: ProcessPoolExecutor / workpool"
    table.at_least(what, f"{micro(rival)} / {micro(mine)}", rival / mine, 3)


def computing(table: Table) -> None:
    """Two workers on two cores, beside one core that computes half of the items, with nothing around them."""
    for seconds, count in ((0.0001, 10_000), (0.001, 2_000)):
        bare, took = [], []
        for _ in range(ROUNDS):  # the bare work before each: whatever the machine does meets it too
            bare.append(_seconds(partial(_spin_often, seconds, count // WORKERS)))
            took.append(_computed(seconds, count))
        ideal = median(bare)
        what = f"processes, {seconds * 1e6:.0f} µs of computing, 2 workers: workpool / the ideal"
        table.at_most(what, f"{median(took):.2f} s / {ideal:.2f} s", median(took) / ideal, 1.1)


def _spin_often(seconds: float, count: int) -> None:
    for _ in range(count):
        spin(seconds)


def _computed(seconds: float, count: int) -> float:
    with processes(spin) as pool:
        list(pool.map([0.0] * 100))
        return _seconds(partial(_run_all, pool, [seconds] * count))


def mixed(table: Table) -> None:
    """1 item in 100 takes 100 ms: the others are not to wait for it while a worker is free."""
    with processes(started, workers=4, queue_size=10_000) as pool:
        pool.call((0.0, 0.0)).result()
        calls = []
        for number in range(2_000):
            calls.append((pool.call((0.1 if number % 100 == 50 else 0.00001, 0.0)), perf_counter()))
            sleep(0.0015)
        waits = [began - at for call, at in calls for seconds, began in [call.result()] if seconds < 0.1]
    late = quantiles(waits, n=1000)[989]
    what = "processes, 1 % of 100 ms among 10 µs, 4 workers: p99 wait of the quick ones, over 5 ms"
    table.at_most(what, f"{late * 1e3:.2f} ms", late / 0.005, 1)


def same(item: bytes) -> bytes:
    return item


def echo(pipe: Connection) -> None:
    """Send back what comes, until the other side closes."""
    try:
        while True:
            pipe.send_bytes(pipe.recv_bytes())
    except EOFError:
        return


def large(table: Table) -> None:
    """10 MB there and back, beside the same bytes through a pipe."""
    data = b"x" * 10_000_000
    ours, theirs = [], []
    for _ in range(ROUNDS):
        with processes(same, workers=1) as pool:
            pool.call(data).result()
            ours.append(_seconds(lambda: [pool.call(data).result() for _ in range(10)]) / 10)
        theirs.append(_through_a_pipe(data))
    mine, pipe = median(ours), median(theirs)
    what = "processes, 10 MB of bytes there and back: workpool / multiprocessing.Pipe"
    table.at_most(what, f"{mine * 1e3:.1f} ms / {pipe * 1e3:.1f} ms", mine / pipe, 1.5)


def _through_a_pipe(data: bytes) -> float:
    context = multiprocessing.get_context(METHOD)
    near, far = context.Pipe()
    other = context.Process(target=echo, args=(far,))
    other.start()
    far.close()
    with near:
        near.send_bytes(data)
        near.recv_bytes()
        seconds = _seconds(partial(_ten_times, near, data)) / 10
    other.join()
    return seconds


def _ten_times(pipe: Connection, data: bytes) -> None:
    for _ in range(10):
        pipe.send_bytes(data)
        pipe.recv_bytes()


def first(table: Table) -> None:
    """From the construction to the first result, with a fork server that runs."""
    ours, theirs = [], []
    for _ in range(7):
        ours.append(_first_of_ours())
        theirs.append(_first_of_theirs())
    mine, other = median(ours), median(theirs)
    what = "processes, the first result: workpool / ProcessPoolExecutor"
    table.at_most(what, f"{mine * 1e3:.0f} ms / {other * 1e3:.0f} ms", mine / other, 1.5)


def _first_of_ours() -> float:
    began = perf_counter()
    with processes(nothing) as pool:
        pool.call(0).result()
        return perf_counter() - began


def _first_of_theirs() -> float:
    began = perf_counter()
    with executor() as other:
        other.submit(nothing, 0).result()
        return perf_counter() - began


def _run_all(pool: Pool[Any, Any], items: Iterable[Any]) -> None:
    for item in items:
        pool.submit_wait(item)
    pool.join()


def _seconds(run: Callable[[], object]) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


def processes_section(table: Table) -> None:
    for section in (first, many, one_by_one, computing, mixed, large):
        section(table)
