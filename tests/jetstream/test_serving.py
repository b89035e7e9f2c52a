"""`workpool serve` with sources of kind jetstream, and the server that it brings."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from tests.jetstream.services import until
from tests.metrics.scraping import parse
from workpool.service.config import load
from workpool.service.service import Service
from workpool.sources.jetstream import JetStreamQueue, NatsServer

CONFIG = """
worker_pools:
  a:
    process: taking:take
    workers: 2
    source: {kind: jetstream, stream: orders, retry: {attempts: 2, backoff: 10ms}}
server: {port: 0}
"""

FUNCTIONS = """
def take(item: int) -> None:
    if item < 0:
        raise ValueError(item)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pools.yaml").write_text(CONFIG)
    (tmp_path / "taking.py").write_text(FUNCTIONS)
    return tmp_path


class Serving:
    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workpool", "serve", "pools.yaml", *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.log = ""
        for line in self.process.stderr:
            self.log += line
            if "pools run" in line:
                break

    def said(self, pattern: str) -> str:
        found = re.search(pattern, self.log)
        assert found, self.log
        return found[1]

    @property
    def nats(self) -> str:
        return self.said(r"the NATS server is at (\S+)")

    def source(self) -> dict[str, Any]:
        source: dict[str, Any] = json.loads(self.get("api/pools/a"))["source"]
        return source

    def get(self, path: str) -> str:
        url = self.said(r"(http://\S+)")
        with urlopen(f"{url}/{path}", timeout=20) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.log += self.process.communicate(timeout=50)[1]
        return self.process.returncode


@pytest.fixture
def serve(folder: Path) -> Iterator[Any]:
    running: list[Serving] = []

    def begin(*options: str) -> Serving:
        running.append(Serving(folder, *options))
        return running[-1]

    yield begin
    for each in running:
        each.process.kill()
        each.process.communicate()


def test_with_a_server_of_its_own(serve: Any) -> None:
    serving = serve("--with-nats")
    with JetStreamQueue[int](serving.nats, "orders") as queue:
        queue.submit_many([1, 2, -3])
        until(lambda: queue.depth() == 0)
        source = serving.source()
        counts = {name: source[name] for name in ("state", "acknowledged", "retried", "dead", "in_flight")}
        scraped = parse(serving.get("metrics"), "text")
        assert scraped.value("workpool_source_acknowledged_total", pool="a") == 2
        assert scraped.value("workpool_source_connected", pool="a") == 1
        assert scraped.value("workpool_source_dead_total", pool="a", reason="attempts") == 1
        assert counts == {"state": "pulling", "acknowledged": 2, "retried": 1, "dead": {"attempts": 1}, "in_flight": 0}
    assert serving.stop() == 0
    with pytest.raises(ConnectionError):
        JetStreamQueue[int](serving.nats, "orders", publish_timeout=0.3).start()


def test_what_is_kept_is_there_the_next_time(serve: Any, folder: Path) -> None:
    with NatsServer(str(folder / "kept")) as before, JetStreamQueue[int](before.url, "orders") as queue:
        queue.submit(7)
    serving = serve("--with-nats", "--nats-folder", "kept", "--nats-port", before.url.rpartition(":")[2])
    assert serving.nats == before.url
    until(lambda: serving.source()["acknowledged"] == 1)
    assert serving.stop() == 0


def workpool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "workpool", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50)


@pytest.mark.parametrize("options", [["--nats-folder", "x"], ["--nats-port", "4222"]])
def test_options_of_a_server_that_is_not_there(folder: Path, options: list[str]) -> None:
    done = workpool(folder, "serve", "pools.yaml", *options)
    assert done.returncode == 2
    assert "are about the server of --with-nats" in done.stderr


def test_without_a_server_it_does_not_start(folder: Path) -> None:
    (folder / "pools.yaml").write_text(CONFIG.replace("stream: orders", "stream: orders, url: 'nats://127.0.0.1:1'"))
    done = workpool(folder, "serve", "pools.yaml")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "the service cannot start: no NATS server answers at nats://127.0.0.1:1" in done.stderr


def test_a_service_is_a_library_too(server: NatsServer, name: str, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(folder)
    text = CONFIG.replace("orders", name).replace("server: {port: 0}\n", "")
    (folder / "pools.yaml").write_text(text)
    service = Service(load(str(folder / "pools.yaml"), {}, lambda _: None), CollectorRegistry(), nats=server.url)
    service.start()
    with JetStreamQueue[int](server.url, name) as queue:
        queue.submit_many(range(100))
        until(lambda: queue.depth() == 0)
    stopped = service.stop(20)
    assert (stopped.clean, service.pools["a"].stats().succeeded) == (True, 100)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{kind: jetstream}", ": stream is missing; add it"),
        ("{kind: jetstream, stream: 'a b'}", ".stream: must be a name for NATS: letters, digits, _ and - only, not"),
        ("{kind: jetstream, stream: a, consummer: b}", ".consummer: there is no such key; did you mean consumer?"),
        ("{kind: jetstream, stream: a, ack_wait: 0}", ".ack_wait: must be more than 0, not 0"),
        ("{kind: jetstream, stream: a, retry: {budget: 1}}", ".retry.budget: there is no such key; there is attempts"),
        ("{kind: jetsream, stream: a}", ".kind: kind must be one of lines, jetstream, not jetsream; did you mean"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, source: str, says: str) -> None:
    (folder / "pools.yaml").write_text(re.sub(r"source: .*", f"source: {source}", CONFIG))
    done = workpool(folder, "check", "pools.yaml")
    assert done.returncode == 2
    assert done.stdout.count("\n") == 1
    assert re.match(r"pools\.yaml:6:\d+: worker_pools\.a\.source" + re.escape(says), done.stdout), done.stdout


def test_what_is_right_is_said_too(folder: Path) -> None:
    done = workpool(folder, "check", "pools.yaml")
    assert (done.returncode, "jetstream of stream orders" in done.stdout) == (0, True)
