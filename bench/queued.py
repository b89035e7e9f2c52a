"""`python -m bench.queued NAME URL ITEMS`: a task queue that people use works off so many items that do nothing.

Prints the seconds from the start of the first to the end of the last. Each in a process of its own, with its server.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

ITEM: Final = "x" * 256

HANDS: Final = 100
"""Items that each may have at a time."""


class Watch:
    """Called for each item; says when all were."""

    def __init__(self, items: int) -> None:
        self._left = items
        self._began = 0.0
        self.seconds = 0.0
        self.done = asyncio.Event()

    def __call__(self) -> None:
        self._began = self._began or time.perf_counter()
        self._left -= 1
        if not self._left:
            self.seconds = time.perf_counter() - self._began
            self.done.set()


async def fetch(url: str, items: int, watch: Watch) -> None:
    """nats-py by its own means: 100 messages at a time."""
    import nats

    client = await nats.connect(url)
    stream = client.jetstream()
    subscription = await consumer_of(stream)
    while not watch.done.is_set():
        for message in await subscription.fetch(100, timeout=30):
            watch()
            await message.ack()
    await client.close()


async def consumer_of(stream: Any) -> Any:
    config = import_module("nats.js.api").ConsumerConfig(max_ack_pending=20_000)
    return await stream.pull_subscribe("orders", "theirs", stream="orders", config=config)


async def standing(url: str, items: int, watch: Watch) -> None:
    """A request of one's own for all of them on nats-py's core client, without a pool: as much as it can take."""
    import nats

    client = await nats.connect(url)
    await consumer_of(client.jetstream())

    async def receive(message: Any) -> None:
        watch()
        await client.publish(message.reply, b"+ACK")

    inbox = client.new_inbox()
    await client.subscribe(inbox, cb=receive, pending_msgs_limit=0, pending_bytes_limit=0)
    request = json.dumps({"batch": items, "expires": 30 * 10**9}).encode()
    await client.publish("$JS.API.CONSUMER.MSG.NEXT.orders.theirs", request, inbox)
    await watch.done.wait()
    await client.flush()
    await client.close()


async def arq(url: str, items: int, watch: Watch) -> None:
    connections, workers = module("arq.connections"), module("arq.worker")

    async def nothing(_: Any, item: str) -> None:
        watch()

    settings = connections.RedisSettings.from_dsn(url)
    redis = await connections.create_pool(settings)
    for _ in range(items):
        await redis.enqueue_job("nothing", ITEM)
    worker = workers.Worker(
        [workers.func(nothing, name="nothing", keep_result=0)],
        redis_settings=settings,
        burst=True,
        max_jobs=HANDS,
        handle_signals=False,
        poll_delay=0.01,
    )
    await worker.main()


async def taskiq(url: str, items: int, watch: Watch) -> None:
    run_receiver_task = module("taskiq.api").run_receiver_task
    broker = module("taskiq_nats").PullBasedJetStreamBroker(
        servers=[url], queue="taskiq", durable="taskiq", pull_consume_batch=HANDS
    )

    async def nothing(item: str) -> None:
        watch()

    task = broker.task(nothing)
    await broker.startup()
    for _ in range(items):
        await task.kiq(ITEM)
    receiver = asyncio.ensure_future(run_receiver_task(broker, max_async_tasks=HANDS))
    await watch.done.wait()
    receiver.cancel()
    await broker.shutdown()


async def streaq(url: str, items: int, watch: Watch) -> None:
    worker = module("streaq").Worker(redis_url=url, concurrency=HANDS, handle_signals=False)

    async def nothing(item: str) -> None:
        watch()

    task = worker.task(ttl=0)(nothing)
    async with worker:
        await worker.enqueue_many([task.enqueue(ITEM) for _ in range(items)])
    running = asyncio.ensure_future(worker.run_async())
    await watch.done.wait()
    running.cancel()


def module(name: str) -> Any:
    """One that the checkers do not have: only `make bench` installs it."""
    return import_module(name)


QUEUES: Final[dict[str, Callable[[str, int, Watch], Any]]] = {
    "fetch": fetch,
    "standing": standing,
    "arq": arq,
    "taskiq": taskiq,
    "streaq": streaq,
}


async def main(name: str, url: str, items: int) -> None:
    watch = Watch(items)
    await QUEUES[name](url, items, watch)
    print(json.dumps(watch.seconds))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
