"""Services as processes, which can be killed, and what they have done."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from workpool.sources.jetstream import JetStreamQueue

__all__ = ["Fleet", "Producer", "until"]

FUNCTIONS = """
import os
import time

EFFECTS = os.open("effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def note(item: int) -> None:
    time.sleep({seconds})
    os.write(EFFECTS, b"%d\\n" % item)
"""

CONFIG = """
worker_pools:
  a:
    process: served:note
    workers: 10
    queue_size: 100
    source: {{kind: jetstream, url: "{url}", stream: {stream}, ack_wait: {ack_wait}}}
shutdown: {{grace: 20s}}
"""


def until(reached: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again: for what tells nobody when it comes."""
    end = monotonic() + seconds
    pause = threading.Event()
    while not reached():
        assert monotonic() < end
        pause.wait(0.02)


class Fleet:
    """Services that share one stream, in one folder."""

    def __init__(self, folder: Path, *, stream: str, url: str, ack_wait: float = 1, seconds: float = 0.002) -> None:
        self._folder = folder
        (folder / "served.py").write_text(FUNCTIONS.format(seconds=seconds))
        (folder / "pools.yaml").write_text(CONFIG.format(url=url, stream=stream, ack_wait=ack_wait))
        self._effects = folder / "effects"
        self._effects.touch()
        self.running: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def start(self, count: int = 1) -> None:
        for _ in range(count):
            self._started += 1
            command = [sys.executable, "-m", "workpool", "serve", "pools.yaml"]
            with (self._folder / "log").open("ab") as log:
                self.running.append(subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL, stderr=log))

    def kill(self) -> None:
        """The one that has run for longest."""
        victim = self.running.pop(0)
        victim.kill()
        victim.wait(60)

    def terminate(self) -> int:
        """The same, with SIGTERM, when all run; its exit code."""
        until(lambda: self.log().count("pools run") == self._started)
        victim = self.running.pop(0)
        victim.send_signal(signal.SIGTERM)
        return victim.wait(60)

    def effects(self) -> Counter[int]:
        return Counter(map(int, self._effects.read_bytes().split()))

    def count(self) -> int:
        return self._effects.read_bytes().count(b"\n")

    def log(self) -> str:
        return (self._folder / "log").read_text()

    def close(self) -> None:
        while self.running:
            self.kill()


class Producer:
    """Submits the numbers up to `count`, each until it is accepted, and not too many ahead of the services."""

    def __init__(self, queue: JetStreamQueue[int], count: int) -> None:
        self._queue = queue
        self._count = count
        self._ends = threading.Event()
        self.errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ends.set()
            self._thread.join()
        assert self.errors == []

    def done(self) -> bool:
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for begin in range(0, self._count, 500):
                self._submit(list(range(begin, min(begin + 500, self._count))))
        except BaseException as error:
            self.errors.append(error)

    def _submit(self, items: list[int]) -> None:
        while items and not self._ends.is_set():
            try:
                published = self._queue.submit_many(items)
            except (ConnectionError, TimeoutError, RuntimeError):
                self._ends.wait(0.1)
                continue
            items = [*published.refused, *published.unknown]
            if items:
                self._ends.wait(0.05)
