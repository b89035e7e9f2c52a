"""`workpool serve` is told to stop in each state that it can be in, and every line is accounted for."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.metrics.scraping import Scrape, parse

SECONDS = 60.0
"""The longest that anything is waited for."""

SLACK = 5.0
"""Seconds over the grace that a busy machine may take; a service that hangs takes for ever."""

FUNCTIONS = """
import ctypes
import os
import signal
import threading

EFFECTS = os.open("effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(line):
    os.write(EFFECTS, line.encode() + b"\\n")

def stuck(line):
    note(line)
    threading.Event().wait()

def half_stuck(line):
    note(line)
    if line.endswith("7"):
        threading.Event().wait()

def wedged(line):
    note(line)
    ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock

def forks(line):
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    os.waitpid(pid, 0)
    note(line)

def slow_to_begin():
    os.write(EFFECTS, b"begins\\n")
    threading.Event().wait()
"""

CONFIG = """
worker_pools:
  a:
    process: served:{function}
    workers: 4
    queue_size: 100
    {more}
    source: {{kind: lines, path: "-"}}
server: {{port: 0, token: secret}}
shutdown: {{grace: {grace}}}
"""


class Scraper(threading.Thread):
    """Scrapes a service again and again until it is gone, and keeps what came last."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._page = ""
        self.came = threading.Event()

    def run(self) -> None:
        try:
            while True:
                with urlopen(f"{self._url}/metrics", timeout=SECONDS) as answer:
                    self._page = answer.read().decode()
                self.came.set()
        except (OSError, HTTPException):  # it has stopped
            pass

    def last(self) -> Scrape:
        self.join(SECONDS)
        assert not self.is_alive()
        return parse(self._page, "text")


class Serving:
    """One process, whose log is read as JSON, and whose lines are numbers."""

    def __init__(self, folder: Path, function: str, grace: str, more: str) -> None:
        (folder / "served.py").write_text(FUNCTIONS)
        (folder / "pools.yaml").write_text(CONFIG.format(function=function, grace=grace, more=more))
        self.folder = folder
        self.log: list[dict[str, Any]] = []
        self.scraper: Scraper | None = None
        self._rest = b""
        command = [sys.executable, "-m", "workpool", "serve", "pools.yaml", "--log-json"]
        self.process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stderr is not None
        self.stdin, self.stderr = self.process.stdin, self.process.stderr

    def until(self, is_true: Callable[[], bool]) -> None:
        """Read on in its log, and look again and again."""
        end = monotonic() + SECONDS
        while not is_true():
            assert monotonic() < end, self.log
            assert self.process.poll() is None, self.log
            if select.select([self.stderr], [], [], 0.01)[0]:
                self._take(os.read(self.stderr.fileno(), 65536))

    def has_said(self, text: str) -> bool:
        return any(text in line["message"] for line in self.log)

    @property
    def url(self) -> str:
        self.until(lambda: self.has_said("pools run"))
        begun = next(line for line in self.log if "pools run" in line["message"])
        return str(begun["message"]).rpartition("; ")[2]

    def post(self, what: str) -> None:
        request = Request(f"{self.url}/api/pools/a/{what}", b"", {"authorization": "bearer secret"})
        assert urlopen(request, timeout=SECONDS).status in {200, 202}

    def stats(self) -> dict[str, Any]:
        answer = json.load(urlopen(f"{self.url}/api/pools", timeout=SECONDS))
        stats: dict[str, Any] = answer["pools"]["a"]
        return stats

    def feed(self, count: int) -> list[str]:
        lines = [str(number) for number in range(count)]
        self.stdin.write("".join(f"{line}\n" for line in lines).encode())
        self.stdin.flush()
        return lines

    def effects(self) -> list[str]:
        path = self.folder / "effects"
        return path.read_text().split() if path.exists() else []

    def unprocessed(self) -> list[str]:
        path = self.folder / "a.unprocessed"
        return path.read_text().split() if path.exists() else []

    def terminate(self, answers: bool = True) -> tuple[int, float]:
        """The exit code, and how long it took. If it answers, it is scraped until it ends."""
        if answers:
            self.scraper = Scraper(self.url)
            self.scraper.start()
            assert self.scraper.came.wait(SECONDS)
        began = monotonic()
        self.process.send_signal(signal.SIGTERM)
        while piece := os.read(self.stderr.fileno(), 65536):
            self._take(piece)
        return self.process.wait(SECONDS), monotonic() - began

    def reported(self) -> dict[str, int]:
        """What the log says at the end of what became of all items: `{"submitted": 50, "succeeded": 50}`."""
        said = [line["message"] for line in self.log if re.search(r"; \d+ submitted", line["message"])]
        assert len(said) == 1
        return {fate: int(count) for count, fate in re.findall(r"(\d+) (\w+)", said[0].rpartition(";")[2])}

    def close(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        self.stderr.close()
        try:
            self.stdin.close()
        except BrokenPipeError:
            pass

    def _take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        self.log += [json.loads(line) for line in lines if line.startswith(b"{")]


Serve = Callable[..., Serving]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    running: list[Serving] = []

    def begin(function: str, grace: str = "20s", more: str = "") -> Serving:
        running.append(Serving(tmp_path, function, grace, more))
        return running[-1]

    yield begin
    for serving in running:
        serving.close()


def all_accounted_for(serving: Serving, fed: list[str], unsure: tuple[str, ...] = ()) -> None:
    """Each line was processed or is in the file, and once; and the log and the last scrape say the same.

    `unsure` are those that began and were given up: whether they are done, nobody knows.
    """
    done = Counter(serving.effects()) - Counter(unsure)
    assert done + Counter(serving.unprocessed()) == Counter(fed)
    assert set(unsure) <= set(serving.unprocessed())
    reported = serving.reported()
    assert reported.get("succeeded", 0) == done.total()
    assert reported.get("abandoned", 0) == len(unsure)
    assert reported["submitted"] == sum(count for fate, count in reported.items() if fate != "submitted")
    the_last_scrape_agrees(serving)


def the_last_scrape_agrees(serving: Serving) -> None:
    """It was the last before the end, not after it: it may have seen less, and each item that it saw in one place."""
    assert serving.scraper is not None
    scrape, reported = serving.scraper.last(), serving.reported()
    assert scrape.value("workpool_ledger_imbalance", pool="a") == 0
    seen = {fate: scrape.value(f"workpool_{fate}_total", pool="a") for fate in ("submitted", "abandoned", "cancelled")}
    seen["succeeded"] = scrape.value("workpool_processed_total", pool="a") - scrape.value(
        "workpool_failed_total", pool="a"
    )
    assert all(count <= reported.get(fate, 0) for fate, count in seen.items())
    queued, running = (scrape.value(f"workpool_{where}", pool="a") for where in ("queue_depth", "running"))
    assert seen["submitted"] == seen["succeeded"] + seen["abandoned"] + seen["cancelled"] + queued + running


def test_under_load(serve: Serve) -> None:
    serving = serve("note")
    fed = serving.feed(20_000)
    serving.until(lambda: len(serving.effects()) > 100)
    code, took = serving.terminate()
    assert (code, took < 20 + SLACK) == (3 if serving.unprocessed() else 0, True)
    all_accounted_for(serving, fed)


def test_paused(serve: Serve) -> None:
    serving = serve("note", grace="3s")
    assert serving.url
    serving.post("pause")
    fed = serving.feed(50)
    serving.until(lambda: serving.stats()["queue_depth"] == 50)
    code, took = serving.terminate()
    assert took < 3 + SLACK
    all_accounted_for(serving, fed)
    assert code == (3 if serving.unprocessed() else 0)


def test_draining_already(serve: Serve) -> None:
    serving = serve("note")
    fed = serving.feed(50)
    serving.until(lambda: len(serving.effects()) == 50)
    serving.post("drain")
    code, took = serving.terminate()
    assert (code, took < 20 + SLACK) == (0, True)
    all_accounted_for(serving, fed)


def test_a_wedged_thread(serve: Serve) -> None:
    serving = serve("half_stuck", grace="2s")
    fed = serving.feed(40)  # four of them hang: 7, 17, 27 and 37
    serving.until(lambda: {"7", "17", "27", "37"} <= set(serving.effects()))
    code, took = serving.terminate()
    assert (code, took < 2 + SLACK) == (3, True)
    all_accounted_for(serving, fed, ("7", "17", "27", "37"))


def test_a_wedged_worker_process(serve: Serve) -> None:
    serving = serve("stuck", grace="2s", more="executor: process")
    fed = serving.feed(20)
    serving.until(lambda: len(serving.effects()) == 4)
    code, took = serving.terminate()
    assert (code, took < 2 + SLACK) == (3, True)
    all_accounted_for(serving, fed, tuple(serving.effects()))


def test_a_source_that_waits_for_its_next_line(serve: Serve) -> None:
    serving = serve("note")
    fed = serving.feed(50)
    serving.until(lambda: len(serving.effects()) == 50)
    code, took = serving.terminate()  # its standard input is still open
    assert (code, took < 20 + SLACK) == (0, True)
    all_accounted_for(serving, fed)


def test_a_source_that_waits_for_room(serve: Serve) -> None:
    serving = serve("stuck", grace="2s")
    fed = serving.feed(300)  # as many as the queue has room for are in flight
    serving.until(lambda: len(serving.effects()) == 4 and serving.stats()["submitted"] == 100)
    code, took = serving.terminate()
    assert (code, took < 2 + SLACK) == (3, True)
    all_accounted_for(serving, fed, tuple(serving.effects()))


def test_an_open_stream_of_events_takes_no_time(serve: Serve) -> None:
    serving = serve("note", grace="600s")
    host, _, port = serving.url.removeprefix("http://").rpartition(":")
    fed = serving.feed(50)
    serving.until(lambda: len(serving.effects()) == 50)
    with socket.create_connection((host, int(port)), SECONDS) as connection:
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        code, took = serving.terminate()
        while connection.recv(65536):
            pass
    assert (code, took < 60) == (0, True)
    all_accounted_for(serving, fed)


def test_while_its_processes_start(serve: Serve) -> None:
    more = "executor: {kind: process, initializer: 'served:slow_to_begin'}"
    serving = serve("note", grace="2s", more=more)
    fed = serving.feed(50)
    serving.until(lambda: "begins" in serving.effects() and serving.stats()["queue_depth"] == 50)
    code, took = serving.terminate()
    assert (code, took < 2 + SLACK) == (3, True)
    assert set(serving.effects()) == {"begins"}
    assert serving.unprocessed() == fed
    the_last_scrape_agrees(serving)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfds, for a process beside it")
def test_c_code_that_keeps_the_interpreter(serve: Serve) -> None:
    serving = serve("wedged", grace="1s")
    assert serving.url
    serving.feed(1)
    serving.until(lambda: serving.effects() == ["0"])
    code, took = serving.terminate(answers=False)
    assert code == -signal.SIGKILL  # no Python of its own could end it
    assert 1 < took < 1 + SLACK


def test_a_signal_to_what_was_forked_is_not_one_to_the_service(serve: Serve) -> None:
    serving = serve("forks", grace="0.5s")
    assert serving.url
    serving.feed(1)
    serving.until(lambda: serving.effects() == ["0"])
    with pytest.raises(subprocess.TimeoutExpired):
        serving.process.wait(2)  # it would be killed before
    assert serving.stats()["succeeded"] == 1
    assert serving.terminate()[0] == 0
