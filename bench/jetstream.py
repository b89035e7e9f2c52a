"""The queue at a broker: from a stream through a pool to the acknowledgement, beside nats-py's own way and task queues.

Items of 256 bytes with which nothing is done, file storage, on the loopback address. Each rival is a process of its
own, with its server. One that is not installed (`make bench` does) is left out, as are those on Redis where none is.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.queued import ITEM
from bench.table import Table
from workpool import Pool, QueueFull
from workpool.sources.jetstream import JetStreamQueue, JetStreamSource, NatsServer

ITEMS: Final = 60_000
FETCHED: Final = 10_000
QUEUED: Final = 2_000
ROUNDS: Final = 5
REFUSALS: Final = 1_000
PACE: Final = 0.001
"""Seconds between two items whose way is timed."""


def jetstream_section(table: Table) -> None:
    with NatsServer() as server:
        ours = max(worked_off(server.url) for _ in range(ROUNDS))
        table.at_least(
            "JetStream, from source to acknowledgement, no-op: over 40,000/s", f"{ours:.0f}/s", ours / 40_000, 1
        )
        fetched = max(rival("fetch", server.url, FETCHED, 50) for _ in range(ROUNDS))
        table.at_least("JetStream: workpool / fetch(100)", f"{ours:.0f}/s / {fetched:.0f}/s", ours / fetched, 2)
        alone = max(rival("standing", server.url, ITEMS, 50) for _ in range(ROUNDS))
        table.at_least(
            "JetStream: workpool / a standing pull that acknowledges, without a pool",
            f"{ours:.0f}/s / {alone:.0f}/s",
            ours / alone,
            0.5,
        )
        against_queues(table, ours, server.url)
        sent = max(published(server.url) for _ in range(ROUNDS))
        table.at_least("JetStream, published pipelined: over 25,000/s", f"{sent:.0f}/s", sent / 25_000, 1)
        late = way(server.url)
        table.at_most(
            "JetStream, 1,000/s: p50 from submit to the function, over 1 ms", f"{late * 1e3:.2f} ms", late / 1e-3, 1
        )
        slow = refused(server.url)
        table.at_most("JetStream, queue full: p99 of a refusal, over 2 ms", f"{slow * 1e3:.2f} ms", slow / 2e-3, 1)


def worked_off(url: str) -> float:
    """Items a second, from the start of a source to the last acknowledgement."""
    with JetStreamQueue[str](url, "bench", size=ITEMS) as queue, Pool(nothing, workers=1, queue_size=10_000) as pool:
        assert queue.submit_many([ITEM] * ITEMS).accepted == ITEMS
        with JetStreamSource(pool, url, "bench", max_ack_pending=20_000) as source:
            began = time.perf_counter()
            while source.stats().acknowledged < ITEMS:
                time.sleep(0.01)
            return ITEMS / (time.perf_counter() - began)


def nothing(item: str) -> None:
    return None


def published(url: str) -> float:
    with JetStreamQueue[str](url, "published", size=10 * ITEMS) as queue:
        items = [ITEM] * ITEMS
        began = time.perf_counter()
        assert queue.submit_many(items).accepted == ITEMS
        return ITEMS / (time.perf_counter() - began)


def way(url: str) -> float:
    """The median of the seconds from `submit` to the function's begin, at a steady pace."""
    ways: list[float] = []

    def arrive(sent: float) -> None:
        ways.append(time.perf_counter() - sent)

    with JetStreamQueue[float](url, "way") as queue, Pool(arrive, workers=2) as pool, JetStreamSource(pool, url, "way"):
        at = time.perf_counter()
        for _ in range(3_000):
            at += PACE
            time.sleep(max(0.0, at - time.perf_counter()))
            queue.submit(time.perf_counter())
        while queue.depth():
            time.sleep(0.01)
    return sorted(ways)[len(ways) // 2]


def refused(url: str) -> float:
    """The 99th percentile of the seconds of a refusal."""
    took: list[float] = []
    with JetStreamQueue[str](url, "full", size=1) as queue:
        queue.submit(ITEM)
        for _ in range(REFUSALS):
            began = time.perf_counter()
            try:
                queue.submit(ITEM)
            except QueueFull:
                took.append(time.perf_counter() - began)
        assert queue.depth() == 1
    assert len(took) == REFUSALS
    return sorted(took)[int(0.99 * REFUSALS)]


def against_queues(table: Table, ours: float, nats: str) -> None:
    with redis() as url:
        for name, where in (("arq", url), ("taskiq", nats), ("streaq", url)):
            if where is None or importlib.util.find_spec(name) is None:
                table.note(f"JetStream: workpool / {name}", "not measured: it, or its server, is not installed")
                continue
            theirs = max(rival(name, where, QUEUED, 50) for _ in range(ROUNDS))
            table.at_least(f"JetStream: workpool / {name}", f"{ours:.0f}/s / {theirs:.0f}/s", ours / theirs, 5)


def rival(name: str, url: str, items: int, timeout: float) -> float:
    """Items a second."""
    if name in {"fetch", "standing"}:
        with JetStreamQueue[str](url, "orders") as queue:
            queue.submit_many([ITEM] * items)
    command = [sys.executable, "-m", "bench.queued", name, url, str(items)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    return items / float(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def redis() -> Iterator[str | None]:
    """A server of one's own, where Debian's is installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "--port", str(port), "--dir", folder, "--save", "", "--bind", "127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            await_port(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def await_port(port: int) -> None:
    pause = threading.Event()
    for _ in range(1000):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            pause.wait(0.01)
    raise OSError("Redis did not start")
