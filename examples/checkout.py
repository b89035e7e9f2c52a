"""A service that is asked for twice as much as it can do, first with the default queue, then with lanes.

    python -m examples.checkout                              # a table, after half a minute
    python -m examples.checkout --plot docs/service.svg      # and its latencies, drawn

Orders come in over HTTP, three in ten of them critical; each takes 50 ms in a backend that five may use at once, so 100
a second can be done. Whoever asks waits for 400 ms, and has no use for an answer after that. They ask 200 times a
second, whatever becomes of it, as many users do who do not know of each other.

The default queue takes a thousand orders, and answers each of them in turn, seconds later. The lanes take critical
orders first, shed what has waited for a third of what its caller waits for, and refuse the others at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any

from workpool import CoDel, Discipline, Fifo, Lanes, Pool, QueueFull, Shed

if TYPE_CHECKING:
    from fastapi import FastAPI

WORKERS = 5
BACKEND = 0.05
"""Seconds that an order takes, in the mean."""
PATIENCE = 0.4
"""Seconds that whoever asks waits."""
CAPACITY = WORKERS / BACKEND
CRITICAL = 0.3


@dataclass(frozen=True)
class Order:
    critical: bool


def lane(order: Order) -> int:
    return 0 if order.critical else 1


QUEUES: dict[str, Discipline[Order]] = {
    "default": Fifo(1000),
    "lanes": Lanes(lane, [50, CoDel(50)], max_wait=PATIENCE / 3),
}


# -- the service ---------------------------------------------------------------------------------------------


async def fulfil(_: Order) -> None:
    """The process function: the backend takes its time."""
    await asyncio.sleep(random.expovariate(1 / BACKEND))


def application(queue: Discipline[Order]) -> FastAPI:
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse

    pool: Pool[Order, None] = Pool(fulfil, workers=WORKERS, queue=queue, stop_timeout=1)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        pool.start()
        yield
        pool.close(drain=False)  # nobody waits for those any more

    async def order(order: dict[str, bool]) -> Any:
        try:
            await pool.acall(Order(order["critical"]))
        except (QueueFull, Shed):
            return JSONResponse({"detail": "too many orders"}, 503)
        return {"done": True}

    app = FastAPI(lifespan=lifespan)
    app.post("/orders")(order)
    return app


def serve(queue: str, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(application(QUEUES[queue]), log_level="error", access_log=False)
    uvicorn.Server(config).run([listener])


# -- who asks ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    critical: bool
    at: float
    """When it was asked, in seconds from the beginning."""
    seconds: float
    """How long the answer took."""
    done: bool
    """False: it was refused, or shed."""

    @property
    def in_time(self) -> bool:
        return self.done and self.seconds <= PATIENCE


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Crowd:
    """Many who ask, over as many connections as it takes."""

    port: int
    idle: list[Connection] = field(default_factory=list[Connection])
    answers: list[Answer] = field(default_factory=list[Answer])

    async def ask(self, critical: bool, at: float) -> None:
        began = perf_counter()
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({"critical": critical})
        writer.write(
            f"POST /orders HTTP/1.1\r\nHost: checkout\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split()[0])
        await reader.readexactly(length)
        self.idle.append((reader, writer))
        self.answers.append(Answer(critical, at, perf_counter() - began, head.split()[1] == "200"))

    async def ask_all(self, rate: float, seconds: float) -> None:
        """So many times a second, at random; and then wait for all the answers."""
        dice = random.Random(1)
        began = perf_counter()
        at = 0.0
        async with asyncio.TaskGroup() as group:
            while (at := at + dice.expovariate(rate)) < seconds:
                await asyncio.sleep(began + at - perf_counter())
                group.create_task(self.ask(dice.random() < CRITICAL, at))
        for _, writer in self.idle:
            writer.close()


def ask_a_service(queue: str, seconds: float) -> list[Answer]:
    """Start one with that queue, in a process of its own, and ask twice as much of it as it can do."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as listener:
        service = multiprocessing.get_context("spawn").Process(target=serve, args=(queue, listener))
        service.start()
        crowd = Crowd(listener.getsockname()[1])
        try:
            asyncio.run(_after_the_first(crowd, seconds))
        finally:
            service.terminate()
            service.join()
    return crowd.answers


async def _after_the_first(crowd: Crowd, seconds: float) -> None:
    await crowd.ask(critical=True, at=0)  # answered when the service is there
    crowd.answers.clear()
    await crowd.ask_all(2 * CAPACITY, seconds)


# -- what became of it ---------------------------------------------------------------------------------------


def row(queue: str, kind: str, answers: list[Answer]) -> str:
    done = [answer.seconds for answer in answers if answer.done]
    cuts = quantiles(done, n=100) if len(done) > 1 else [0.0] * 99
    return (
        f"| {queue} | {kind} | {len(answers)} | {sum(answer.in_time for answer in answers) / len(answers):.0%} "
        f"| {1 - len(done) / len(answers):.0%} | {cuts[49] * 1e3:.0f} ms | {cuts[98] * 1e3:.0f} ms |"
    )


def table(found: dict[str, list[Answer]]) -> str:
    lines = ["| queue | orders | asked | done in time | refused | p50 | p99 |", "|---|---|--:|--:|--:|--:|--:|"]
    for queue, answers in found.items():
        lines.append(row(queue, "critical", [answer for answer in answers if answer.critical]))
        lines.append(row(queue, "others", [answer for answer in answers if not answer.critical]))
    return "\n".join(lines)


def plot(found: dict[str, list[Answer]], path: Path) -> None:
    """The latency of every order that was done, over the time at which it was asked for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(found), sharey=True)
    for panel, (queue, answers) in zip(panels, found.items(), strict=True):
        for critical, label, color in ((False, "others", "#9aa5b1"), (True, "critical", "#c0392b")):
            done = [answer for answer in answers if answer.done and answer.critical is critical]
            panel.plot(
                [answer.at for answer in done],
                [max(answer.seconds, 1e-3) for answer in done],
                ".", color=color, markersize=2.5, label=label, rasterized=True,
            )  # fmt: skip
        panel.axhline(PATIENCE, color="#2c3e50", linewidth=1, linestyle="--", label="of no use after")
        useful = sum(answer.in_time for answer in answers) / len(answers)
        panel.set_title(f"{queue}: {useful:.0%} of all orders done in time")
        panel.set_xlabel("asked after (s)")
        panel.set_yscale("log")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("latency (s)")
    panels[0].legend(markerscale=4, loc="lower right")
    metadata = {"Creator": None, "Date": None} if path.suffix == ".svg" else {}  # the same drawing, the same file
    figure.savefig(path, dpi=110, metadata=metadata)  # pyright: ignore[reportUnknownMemberType]  # its arguments are anything


def main() -> None:
    parser = argparse.ArgumentParser(description="A service at twice its capacity, with two queues.")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long to ask, of each (default 8)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the latencies, as .png or .svg")
    options = parser.parse_args()
    ask = partial(ask_a_service, seconds=options.seconds)
    found = {queue: ask(queue) for queue in QUEUES}
    print(f"{2 * CAPACITY:.0f} orders a second of a service that can do {CAPACITY:.0f}; useful within {PATIENCE} s\n")
    print(table(found))
    if options.plot is not None:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
