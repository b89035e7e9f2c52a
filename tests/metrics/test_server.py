"""A real Prometheus scrapes a running pool, and answers for it. Skipped where there is none."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Semaphore
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from tests.metrics.scraping import SOON, Gate
from workpool import Pool, QueueFull

PROMETHEUS = shutil.which("prometheus")
README = Path(__file__).parents[2] / "README.md"
SCRAPES = 300
"""How often a test lets Prometheus come before it gives up."""

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None, reason="no `prometheus` on the PATH; Debian has it in the package `prometheus`"
)

CONFIG = """
global: {{scrape_interval: 100ms}}
scrape_configs:
  - {{job_name: pools, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""


class Knock:
    """A collector without series that tells when a scrape begins."""

    def __init__(self) -> None:
        self.scrapes = Semaphore(0)

    def describe(self) -> Iterator[Any]:
        return iter(())

    def collect(self) -> Iterator[Any]:
        self.scrapes.release()
        return iter(())


class Server:
    """A Prometheus that scrapes one registry."""

    def __init__(self, port: int, knock: Knock, process: subprocess.Popen[bytes]) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"
        self._knock = knock
        self._process = process

    def query(self, expression: str) -> dict[str, Any]:
        with urlopen(self._url + urlencode({"query": expression}), timeout=SOON) as answer:
            result: dict[str, Any] = json.load(answer)
        return result

    def _values(self, expression: str) -> list[float]:
        """Of each series; nothing while the server has not come up."""
        try:
            answer = self.query(expression)
        except (URLError, ConnectionError):
            return []
        return [float(series["value"][1]) for series in answer["data"]["result"]]

    def await_value(self, expression: str, value: float) -> None:
        """Ask after each scrape, since what it brought is stored before the next one begins."""
        values: list[float] = []
        while self._knock.scrapes.acquire(blocking=False):
            pass
        for _ in range(SCRAPES):
            assert self._knock.scrapes.acquire(timeout=SOON), "it does not scrape"
            assert self._process.poll() is None, "it has ended"
            values = self._values(expression)
            if values == [value]:
                return
        pytest.fail(f"{expression} is {values} after {SCRAPES} scrapes, not {value}")


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture(scope="module")
def server(registry: CollectorRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests: it takes 5 seconds before it scrapes for the first time."""
    assert PROMETHEUS is not None
    tmp_path = tmp_path_factory.mktemp("prometheus")
    knock = Knock()
    registry.register(knock)
    exporter, thread = start_http_server(0, "127.0.0.1", registry)
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(port=exporter.server_port))
    port = free_port()
    command = [
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Server(port, knock, process)
        finally:
            process.terminate()
            process.wait(SOON)
            exporter.shutdown()
            exporter.server_close()
            thread.join(SOON)


def free_port() -> int:
    """One that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_what_prometheus_stores_is_what_the_pool_says(registry: CollectorRegistry, server: Server) -> None:
    gate = Gate()
    with Pool(gate, workers=2, queue_size=4, name="tasks", metrics=registry, metrics_prefix="mp") as pool:
        for item in range(2):
            pool.submit(item)
        gate.await_running(2)
        for item in range(4):
            pool.submit(item)
        with pytest.raises(QueueFull):
            pool.submit(7)
        server.await_value("workpool_queue_depth", 4)
        for expression, value in {
            "workpool_workers_busy / workpool_workers": 1,
            'workpool_dropped_total{reason="full"}': 1,
            "workpool_submitted_total": 6,
            "mp_utilization": 1,
            'up{job="pools"}': 1,
        }.items():
            server.await_value(expression, value)
        gate.open()
        assert pool.join(SOON)
        server.await_value("mp_processed_total", 6)
        server.await_value('workpool_run_seconds_bucket{status="success",le="+Inf"}', 6)
        server.await_value("workpool_queue_wait_seconds_count", 6)
        server.await_value("workpool_queue_depth", 0)
    server.await_value("workpool_workers_busy", 0)


def expressions() -> list[str]:
    blocks = re.findall(r"^```promql\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"#.*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_prometheus_understands_every_expression_of_the_readme(registry: CollectorRegistry, server: Server) -> None:
    with Pool(int, name="tasks", metrics=registry):
        server.await_value("workpool_queue_depth", 0)
        assert expressions()
        for expression in expressions():
            assert server.query(expression)["status"] == "success", expression
