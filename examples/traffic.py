"""A service and its traffic: `workpool serve` on messages and batches, more of them than it can always take.

    python -m examples.traffic --seconds 20

The service is a process of its own. Messages come in bursts through its standard input, where they wait for room; 1 in
100 is malformed. Batches are posted over HTTP, where they are refused when there is no room. At the end the service is
stopped with SIGTERM, finishes what it has accepted, and both sides' counts are laid beside each other.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any, Final

from examples.batches import make_jobs
from examples.messages import bursts

SERVICE: Final = Path(__file__).with_name("service.yaml")
START: Final = 60.0
"""Seconds that the service has to say its address."""

BETWEEN_BURSTS: Final = 0.1
BETWEEN_BATCHES: Final = 0.12
"""Seconds after which as many batches as one run of the example has are posted: more than five processes take."""

SAYS: Final = 5.0
"""Seconds between two lines of what the service says of itself."""

LOOKS: Final = 10
"""So often in a row nothing must have happened until all that was sent is known to have been read."""


class Service:
    """`workpool serve`, on a free port, with a pipe to its standard input and a file for its log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workpool", "serve", str(SERVICE)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "WORKPOOL__SERVER__PORT": "0"},
        )
        self._ports: SimpleQueue[int] = SimpleQueue()
        self._last_words: list[str] = []
        self._reader = Thread(target=self._read_log)
        self._reader.start()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("w", encoding="utf-8") as file:
            for line in self._process.stderr:
                file.write(line)
                self._last_words.append(line)
                if found := re.search(r"http://\S+:(\d+)", line):
                    self._ports.put(int(found[1]))

    def await_port(self) -> int:
        """Where it serves. Raises SystemExit if it does not."""
        until = monotonic() + START
        while self._process.poll() is None and monotonic() < until:
            try:
                return self._ports.get(timeout=0.1)
            except Empty:
                pass
        self._process.kill()
        self._reader.join()
        raise SystemExit("".join(["the service did not start:\n", *self._last_words]))

    def write(self, lines: list[str]) -> bool:
        """Waits while the pipe is full; False if the service reads no more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("".join(f"{line}\n" for line in lines))
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def end_input(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def stop(self) -> tuple[int, str]:
        """Its exit code, and what it says from then on."""
        self._last_words.clear()
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait()
        self._reader.join()
        return code, "".join(self._last_words)


class Client:
    """One connection to the service."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def pools(self) -> dict[str, Any]:
        self._connection.request("GET", "/api/pools")
        found: dict[str, Any] = json.load(self._connection.getresponse())["pools"]
        self._connection.close()  # it is opened anew: the server closes one that is idle for some seconds
        return found

    def post(self, batch: object) -> int:
        """Hand one over; the status."""
        self._connection.request("POST", "/api/pools/batch_processor/items", json.dumps(batch))
        response = self._connection.getresponse()
        response.read()
        return response.status


def send_messages(service: Service, done: Event) -> int:
    """In bursts until it is done, then all that was sent is read; how many lines those were."""
    sent = seed = 0
    while not done.is_set():
        seed += 1
        for burst in bursts(seed):
            if done.wait(BETWEEN_BURSTS) or not service.write(burst):
                break
            sent += len(burst)
    service.end_input()
    return sent


def post_batches(port: int, done: Event) -> Counter[int]:
    """More than the service can take, until it is done; how many were answered with which status."""
    client = Client(port)
    answers: Counter[int] = Counter()
    seed = 0
    while not done.wait(BETWEEN_BATCHES):
        seed += 1
        for job in make_jobs(seed):
            answers[client.post(asdict(job))] += 1
    return answers


def watch(client: Client, done: Event) -> None:
    while not done.wait(SAYS):
        for name, stats in client.pools().items():
            print(
                f"{name:17} {stats['submitted']:6} accepted {stats['succeeded']:6} succeeded {stats['failed']:3} failed"
                f" {stats['dropped']:5} refused {stats['queue_depth']:4}/{stats['queue_size']} queued",
                flush=True,
            )


def accepted_of(client: Client, name: str) -> int:
    """How many items the pool has accepted, when no more come, and all are done."""
    pause = Event()
    quiet = before = 0
    while quiet < LOOKS:
        pause.wait(0.05)
        stats = client.pools()[name]
        is_idle = stats["submitted"] == before and not (stats["queue_depth"] or stats["running"])
        quiet = quiet + 1 if is_idle else 0
        before = stats["submitted"]
    return before


def drive(service: Service, seconds: float) -> int:
    """Traffic for so long, then a stop; the service's exit code."""
    port = service.await_port()
    print(f"the page: http://127.0.0.1:{port}/ for {seconds:g} s; Ctrl-C ends it sooner", flush=True)
    print(f"the log:  {service.log}\n", flush=True)
    quiet, over = Event(), Event()
    sent: list[int] = []
    answers: Counter[int] = Counter()
    generators = [
        Thread(target=lambda: sent.append(send_messages(service, quiet))),
        Thread(target=lambda: answers.update(post_batches(port, over))),
        Thread(target=lambda: watch(Client(port), over)),
    ]
    for each in generators:
        each.start()
    try:
        quiet.wait(seconds)
    except KeyboardInterrupt:
        pass
    quiet.set()
    generators[0].join()
    messages = accepted_of(Client(port), "message_processor")  # what is in the pipe would be left else, in a file
    over.set()
    for each in generators:
        each.join()
    print("\nSIGTERM. The service says:", flush=True)
    code, says = service.stop()
    print(textwrap.indent(says, "  "))
    print(f"sent   {sent[0]:6} messages = {messages} accepted + {sent[0] - messages} malformed")
    print(f"posted {answers.total():6} batches  = {answers[202]} accepted + {answers[429]} refused")
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description="A service and its traffic.")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long (default 20)")
    parser.add_argument("--log", type=Path, default=Path("build/service.log"), help="default build/service.log")
    arguments = parser.parse_args()
    code = drive(Service(arguments.log), arguments.seconds)
    print(f"exit code {code}: {'nothing' if code == 0 else 'something'} is left")
    return code


if __name__ == "__main__":
    sys.exit(main())
