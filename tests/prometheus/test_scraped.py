"""A real Prometheus scrapes a running service: every query of the dashboard and the rules gives what the service says.

The load ends before anything is compared, so that the numbers stand still.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry

from tests.core.kit import until
from tests.metrics.test_server import free_port
from workpool.service.config import Config, load
from workpool.service.dashboard import POOL, WINDOW, dashboard
from workpool.service.queries import QUERIES, selector
from workpool.service.rules import rules
from workpool.service.service import Service

SOON = 30.0
F = "tests.prometheus.functions"
POOLS = f"""\
worker_pools:
  failing: {{process: "{F}:fail_at_times", workers: 2}}
  full: {{process: "{F}:hold", workers: 1, queue_size: 4}}
  shedding: {{process: "{F}:ignore", workers: 1, queue: {{kind: fifo, size: 100, deadline: "{F}:pass_over"}}}}
server: {{port: 0}}
"""
SCRAPING = """\
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - {{job_name: pools, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
"""
COUNTS = {"failing": 200, "full": 25, "shedding": 40}
"""Items that each pool is offered."""


class Server:
    """A Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/query?"

    def ask(self, expression: str) -> dict[str, float]:
        """The values by pool; series that have a pool in common must not come."""
        with urlopen(self._url + urlencode({"query": expression}), timeout=SOON) as answer:
            series = json.load(answer)["data"]["result"]
        found = {each["metric"].get("pool", ""): float(each["value"][1]) for each in series}
        assert len(found) == len(series), expression
        return found

    def has(self, expression: str, count: int) -> bool:
        try:
            return len(self.ask(expression)) == count
        except (URLError, ConnectionError):
            return False


@contextmanager
def scraping(prometheus: str, folder: Path, config: Config, port: int) -> Iterator[Server]:
    (folder / "workpool.rules.yml").write_text(rules(config), encoding="utf-8")
    (folder / "prometheus.yml").write_text(
        SCRAPING.format(rules=folder / "workpool.rules.yml", port=port), encoding="utf-8"
    )
    own = free_port()
    command = [
        prometheus,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Server(own)
        finally:
            process.terminate()
            process.wait(SOON)


def post(url: str, pool: str, number: int) -> int:
    """Hand an item over; the status."""
    try:
        with urlopen(Request(f"{url}/api/pools/{pool}/items", data=str(number).encode()), timeout=SOON) as answer:
            status: int = answer.status
    except HTTPError as refused:
        refused.close()
        status = refused.code
    return status


def quantile(part: float, *histograms: dict[str, Any]) -> float:
    """As Prometheus has it: somewhere in its bucket, in proportion."""
    bounds = list(histograms[0]["buckets"])
    counts = [sum(each["buckets"][bound] for each in histograms) for bound in bounds]
    wanted = part * counts[-1]
    at = next(place for place, count in enumerate(counts) if count >= wanted)
    before, start = (counts[at - 1], float(bounds[at - 1])) if at else (0, 0.0)
    inside: float = (wanted - before) / (counts[at] - before)
    return start + (float(bounds[at]) - start) * inside


class Looked:
    """A service after its load, and the Prometheus that looked on."""

    def __init__(self, server: Server, stats: dict[str, Any], config: Config, metrics: str) -> None:
        self.server = server
        self.stats = stats
        self.config = config
        self.metrics = metrics


@pytest.fixture(scope="module")
def looked(prometheus: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Looked]:
    folder = tmp_path_factory.mktemp("scraped")
    (folder / "pools.yaml").write_text(POOLS, encoding="utf-8")
    config = load(str(folder / "pools.yaml"))
    service = Service(config, CollectorRegistry())
    service.start()
    try:
        assert service.server is not None
        url = service.server.url
        with scraping(prometheus, folder, config, service.server.port) as server:
            until(lambda: server.has("count_over_time(workpool_submitted_total[5m]) >= 3", 3))  # at nothing
            for name, count in COUNTS.items():
                for number in range(count):
                    assert post(url, name, number) in (202, 429)
            for name in ("failing", "shedding"):
                assert service.pools[name].join(SOON)
            with urlopen(f"{url}/api/pools", timeout=SOON) as answer:
                stats = json.load(answer)["pools"]
            with urlopen(f"{url}/metrics", timeout=SOON) as answer:
                metrics = answer.read().decode()
            last = {name: each["submitted"] + each["dropped"] for name, each in stats.items()}
            until(
                lambda: (
                    server.ask("workpool_submitted_total + on (pool) sum by (pool) (workpool_dropped_total)") == last
                )
            )
            yield Looked(server, stats, config, metrics)
    finally:
        service.stop(1.0)


def test_counts_and_gauges_are_those_of_the_service(looked: Looked) -> None:
    series = {
        "submitted": "workpool_submitted_total",
        "processed": "workpool_processed_total",
        "failed": "workpool_failed_total",
        "dropped": 'workpool_dropped_total{reason="full"}',
        "queue_depth": "workpool_queue_depth",
        "queue_size": "workpool_queue_capacity",
        "workers": "workpool_workers",
        "workers_busy": "workpool_workers_busy",
        "running": "workpool_running",
    }
    for name, expression in series.items():
        assert looked.server.ask(expression) == {pool: each[name] for pool, each in looked.stats.items()}, expression
    assert looked.server.ask("sum without (reason) (workpool_shed_total)")["shedding"] == COUNTS["shedding"]
    assert looked.stats["full"]["dropped"] == COUNTS["full"] - 5
    assert looked.stats["failing"]["failed"] == COUNTS["failing"] // 4


def test_what_is_recorded_is_what_the_service_says(looked: Looked) -> None:
    expected = {
        "queue": {"failing": 0.0, "full": 1.0, "shedding": 0.0},
        "workers": {"failing": 0.0, "full": 1.0, "shedding": 0.0},
        "refused": {"failing": 0.0, "full": 20 / 25, "shedding": 0.0},
        "shed": {"failing": 0.0, "full": 0.0, "shedding": 1.0},
        "failed": {"failing": 0.25},  # in the others nothing came to an end
    }
    for name, values in expected.items():
        until(lambda: looked.server.ask(QUERIES[name].record) == pytest.approx(values))  # noqa: B023 - used at once
    failing = looked.stats["failing"]
    for record, histograms in {
        "run": (failing["run_success"], failing["run_error"]),
        "wait": (failing["queue_wait"],),
    }.items():
        for part in (50, 99):
            found = looked.server.ask(QUERIES[f"{record}_p{part}"].record)
            assert found["failing"] == pytest.approx(quantile(part / 100, *histograms))


def test_every_query_of_the_dashboard_has_an_answer(looked: Looked) -> None:
    board = json.loads(dashboard(looked.config))
    names = re.search(r'"(.*)"', selector(looked.config.worker_pools))
    assert names
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(expressions) >= 15
    for expression in expressions:
        asked = expression.replace(POOL, names[1]).replace(WINDOW, "5m")
        with_reasons = f"sum without (reason) ({asked})" if "reason" not in asked else asked
        assert "failing" in looked.server.ask(with_reasons), asked


def test_every_query_of_the_rules_has_an_answer(looked: Looked) -> None:
    (group,) = yaml.safe_load(rules(looked.config))["groups"]
    for rule in group["rules"]:
        if "record" in rule:
            assert "failing" in looked.server.ask(rule["expr"]), rule
    assert set(looked.server.ask('ALERTS{alertname="WorkpoolRefusing"}')) == {"full"}
    assert set(looked.server.ask('ALERTS{alertname="WorkpoolShedding"}')) == {"shedding"}
    assert set(looked.server.ask('ALERTS{alertname="WorkpoolFailing"}')) == {"failing"}
    assert set(looked.server.ask('ALERTS{alertname="WorkpoolQueueNearlyFull"}')) == {"full"}
    assert looked.server.ask('ALERTS{alertname="WorkpoolLedgerImbalance"}') == {}


def test_promtool_takes_the_metrics(looked: Looked, promtool: str) -> None:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=looked.metrics, capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("workpool_")]
    assert complaints == []
