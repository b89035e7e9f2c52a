"""A service over HTTP: what it takes, how it refuses, and whether it answers a health check whatever its workers do.

The service is a process of its own, as in production; the load is `wrk`'s, over 8 connections.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Final

from bench.table import Table

SECONDS: Final = 6
CHECKS: Final = 300
BETWEEN_CHECKS: Final = 0.02

POST: Final = """wrk.method = "POST"
wrk.body = "1"
wrk.headers["Content-Type"] = "application/json"
"""


def nothing(_: int) -> None:
    return None


def hang(_: int) -> None:
    time.sleep(3600)


def compute(_: int) -> None:
    """Without an end."""
    while True:
        sum(range(1000))


def http_section(table: Table) -> None:
    if shutil.which("wrk") is None:
        table.note("HTTP", "not measured: there is no wrk here (a package of Debian's)")
        return
    with served("nothing", "workers: 2") as port, scraped(port):
        taken, _ = load(port)
    table.at_least(
        "HTTP, 8 connections, beside a scrape a second: items taken, over 2,000/s", f"{taken:.0f}/s", taken / 2000, 1
    )
    with served("hang", "workers: 1, queue_size: 10") as port:
        fill(port, 20)
        _, late = load(port)
    table.at_most("HTTP, queue full: p99 of a refusal, over 5 ms", f"{late * 1000:.1f} ms", late / 0.005, 1)
    with served("compute", "workers: 2, executor: process") as port:
        fill(port, 2)
        late = checked(port)
    table.at_most("HTTP, 2 processes that compute: p99 of /livez, over 50 ms", f"{late * 1000:.1f} ms", late / 0.05, 1)
    with served("compute", "workers: 10") as port:
        fill(port, 10)
        late = checked(port)
    table.at_most("HTTP, 10 threads that compute: p99 of /livez, over 250 ms", f"{late * 1000:.1f} ms", late / 0.25, 1)


@contextmanager
def served(function: str, settings: str) -> Iterator[int]:
    """A service with one pool, `it`; its port."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pools.yaml"
        file.write_text(
            f"worker_pools:\n  it: {{process: 'bench.http:{function}', {settings}}}\n"
            "server: {port: 0}\nshutdown: {grace: 1s}\n",
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "workpool", "serve", str(file)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        try:
            port = next(int(found[1]) for line in process.stderr if (found := re.search(r"http://\S+:(\d+)", line)))
            Thread(target=process.stderr.read, daemon=True).start()
            yield port
        finally:
            process.kill()
            process.wait()


@contextmanager
def scraped(port: int) -> Iterator[None]:
    """Once a second."""
    ended = Event()

    def scrape() -> None:
        while not ended.wait(1.0):
            ask(port, "GET", "/metrics")

    thread = Thread(target=scrape)
    thread.start()
    yield
    ended.set()
    thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> int:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        return response.status


def fill(port: int, items: int) -> None:
    for _ in range(items):
        ask(port, "POST", "/api/pools/it/items", b"1")


def load(port: int) -> tuple[float, float]:
    """Items posted as fast as they are answered: how many a second were taken, and the p99 of an answer's time."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(POST, encoding="utf-8")
        url = f"http://127.0.0.1:{port}/api/pools/it/items"
        command = ["wrk", "-t1", "-c8", f"-d{SECONDS}s", "--latency", "-s", str(script), url]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    answered = re.search(r"(\d+) requests in ([\d.]+)s", said)
    late = re.search(r"99% +([\d.]+)(us|ms|s)", said)
    assert answered, said
    assert late, said
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    taken = int(answered[1]) - (int(refused[1]) if refused else 0)
    return taken / float(answered[2]), float(late[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[late[2]]


def checked(port: int) -> float:
    """The 99th percentile of a health check's time, each over a connection of its own."""
    took: list[float] = []
    for _ in range(CHECKS):
        before = time.perf_counter()
        ask(port, "GET", "/livez")
        took.append(time.perf_counter() - before)
        time.sleep(BETWEEN_CHECKS)
    return sorted(took)[CHECKS * 99 // 100]
