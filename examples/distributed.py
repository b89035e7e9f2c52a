"""One NATS server, one producer and two services, one of which is killed in the middle: nothing is lost.

    python -m examples.distributed --orders 10000

All of them are here: the server is a process, as are the services (`workpool serve examples/distributed.yaml`); the
producer submits until each order is accepted. In the end each was shipped, and those are counted that were shipped
twice: the killed service had them in hand, and did not live to say that they were done.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Final

from examples.orders import Order
from workpool import QueueFull
from workpool.sources.jetstream import JetStreamQueue, NatsServer

CONFIG: Final = Path(__file__).with_name("distributed.yaml")
SIZE: Final = 2_000
"""Orders that may be in the queue: the producer is ahead of the services, and is refused."""

TOGETHER: Final = 500
"""Orders that are submitted at once."""

END: Final = 120.0
"""Seconds in which all of it has to end."""

RUNS: Final = b" pools run: "
"""What a service logs when it has started. Before that a SIGTERM ends it on the spot, as it does any program."""


class Services:
    """Processes that ship orders, and the ledger in which they write that down."""

    def __init__(self, folder: Path, url: str) -> None:
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._log = folder / "services.log"
        self._started = 0
        settings = {"WORKPOOL__WORKER_POOLS__ORDERS__SOURCE__URL": url, "ORDERS_LEDGER": str(self._ledger)}
        self._environment = {**os.environ, **settings}
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        command = [sys.executable, "-m", "workpool", "serve", str(CONFIG)]
        with self._log.open("ab") as log:
            self.running.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=self._environment))
        self._started += 1

    def all_run(self) -> bool:
        """Whether each that was started has said so."""
        return self._log.read_bytes().count(RUNS) == self._started

    def kill(self) -> int:
        """The first; its process."""
        victim = self.running.pop(0)
        victim.kill()
        victim.wait()
        return victim.pid

    def one_ended(self) -> bool:
        """Whether one of those that are to run does not."""
        return any(process.poll() is not None for process in self.running)

    def stop(self) -> list[int]:
        """All, in order; their exit codes."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(END) for process in self.running]
        self.running.clear()
        return codes

    def close(self) -> None:
        """Kill what still runs, if it came to no `stop`."""
        while self.running:
            self.kill()

    def shipped(self) -> Counter[int]:
        return Counter(map(int, self._ledger.read_bytes().split()))

    def count(self) -> int:
        return self._ledger.read_bytes().count(b"\n")

    def last_words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-2000:]


def produce(queue: JetStreamQueue[Order], orders: Sequence[Order], refusals: Counter[str]) -> None:
    """Submit all: together, and what is refused one by one, when there may be room again."""
    pause = Event()
    for at in range(0, len(orders), TOGETHER):
        left = list(orders[at : at + TOGETHER])
        while left:
            published = queue.submit_many(left)
            left = [*published.refused, *published.unknown]
            refusals["refused"] += len(published.refused)
            if left:
                try:
                    queue.submit(left[0])
                except QueueFull as full:
                    pause.wait(full.retry_after / 10)
                else:
                    del left[0]


def until(services: Services, holds: Callable[[], bool]) -> None:
    """Wait until that holds."""
    end, pause = monotonic() + END, Event()
    while not holds():
        if services.one_ended() or monotonic() > end:
            why = "a service has ended" if services.one_ended() else "it takes too long"
            raise SystemExit(f"{why}; the services said last:\n{services.last_words()}")
        pause.wait(0.05)


def run(folder: Path, number: int) -> int:
    with (
        NatsServer(str(folder / "nats")) as server,
        JetStreamQueue[Order](server.url, "orders", SIZE, id=lambda order: str(order.number)) as queue,
        closing(Services(folder, server.url)) as services,
    ):
        print(f"the NATS server: {server.url}; the queue `orders` has room for {SIZE:,}", flush=True)
        services.start()
        services.start()
        until(services, services.all_run)
        print(f"two services, {number:,} orders", flush=True)
        refusals: Counter[str] = Counter()
        orders = [Order(each, f"item {each % 7}") for each in range(number)]
        producer = Thread(target=produce, args=(queue, orders, refusals), daemon=True)
        producer.start()
        until(services, lambda: services.count() >= number // 3)
        print(f"killed a service (process {services.kill()}) when {services.count():,} were shipped", flush=True)
        services.start()
        print("started another", flush=True)
        producer.join()
        until(services, lambda: queue.depth() == 0)
        until(services, services.all_run)  # the new one may not, if the other was quick with all orders
        codes = services.stop()
        return tell(services.shipped(), number, refusals["refused"], codes)


def tell(shipped: Counter[int], number: int, refused: int, codes: list[int]) -> int:
    """The counts; the exit code."""
    missing = set(range(number)) - set(shipped)
    twice = sum(count - 1 for count in shipped.values())
    print(f"accepted {number:,} orders (and refused {refused:,} of them before, while the queue was full)")
    print(f"shipped  {len(shipped):,} of them, {twice} of these once more: the killed service had them in hand")
    print(f"missing  {len(missing)}; the services ended with {codes}")
    return 1 if missing or any(codes) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Orders through NATS JetStream, while a service is killed.")
    parser.add_argument("--orders", type=int, default=10_000)
    number = parser.parse_args().orders
    if number < 1_000:
        parser.error("--orders must be at least 1000, else nothing is left to do when the service is killed")
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), number)


if __name__ == "__main__":
    sys.exit(main())
