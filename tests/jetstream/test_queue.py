"""The bounded queue at the broker, as producers see it. With a real server."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from tests.jetstream.proxy import Proxy
from workpool import PoolError, QueueFull
from workpool.sources.jetstream import BrokerError, JetStreamQueue, NatsServer, Published, PublishTimeout


@pytest.fixture
def queue(server: NatsServer, name: str) -> Iterator[JetStreamQueue[str]]:
    with JetStreamQueue[str](server.url, name, size=3) as queue:
        yield queue


def test_what_is_accepted_is_there(queue: JetStreamQueue[str]) -> None:
    queue.submit("one")
    queue.submit("two")
    assert queue.depth() == 2


def test_a_full_queue_refuses_at_once(queue: JetStreamQueue[str]) -> None:
    for _ in range(3):
        queue.submit("item")
    with pytest.raises(QueueFull) as caught:
        queue.submit("one too many")
    assert (caught.value.pool, caught.value.size) == (queue.name, 3)
    assert caught.value.retry_after > 0
    assert queue.depth() == 3


def test_many_at_once_are_each_accepted_or_handed_back(queue: JetStreamQueue[str]) -> None:
    assert queue.submit_many("abcde") == Published(accepted=3, refused=("d", "e"), unknown=())
    assert queue.submit_many([]) == Published(accepted=0, refused=(), unknown=())
    assert queue.depth() == 3


def test_an_item_that_json_cannot_say_is_seen_before_any_is_submitted(server: NatsServer, name: str) -> None:
    with JetStreamQueue[object](server.url, name) as queue:
        with pytest.raises(TypeError, match="cannot be said in JSON"):
            queue.submit_many([1, object()])
        assert queue.depth() == 0


def test_more_than_may_be_under_way(server: NatsServer, name: str) -> None:
    with JetStreamQueue[int](server.url, name) as queue:
        assert queue.submit_many(range(10_000)) == Published(10_000, (), ())
        assert queue.depth() == 10_000


def test_tasks_submit_too(server: NatsServer, name: str) -> None:
    async def main() -> None:
        async with JetStreamQueue[int](server.url, name, size=4) as queue:
            await asyncio.gather(*(queue.asubmit(number) for number in range(3)))
            assert await queue.asubmit_many([1, 2]) == Published(1, (2,), ())
            with pytest.raises(QueueFull):
                await queue.asubmit(0)

    asyncio.run(main())


def test_of_two_with_one_id_it_keeps_the_first(server: NatsServer, name: str) -> None:
    with JetStreamQueue[str](server.url, name, id=lambda item: item[0]) as queue:
        queue.submit("a1")
        queue.submit("a2")
        assert queue.submit_many(["a3", "b1"]).accepted == 2
        assert queue.depth() == 2


def test_several_producers_have_one_queue(server: NatsServer, name: str) -> None:
    with JetStreamQueue[int](server.url, name, size=5) as one, JetStreamQueue[int](server.url, name, size=5) as other:
        one.submit_many([1, 2, 3])
        assert other.submit_many([4, 5, 6]).refused == (6,)


def test_another_queue_of_that_name_is_not_taken_for_this(server: NatsServer, name: str) -> None:
    with JetStreamQueue[int](server.url, name, size=5):
        pass
    with pytest.raises(BrokerError, match=f"stream '{name}' that is another queue: max_msgs is 5, not 6; take another"):
        JetStreamQueue[int](server.url, name, size=6).start()


def test_no_server() -> None:
    with pytest.raises(ConnectionError, match=r"no NATS server answers at nats://127\.0\.0\.1:1 within 0\.5 s"):
        JetStreamQueue[int]("nats://127.0.0.1:1", "x", publish_timeout=0.5).start()


def test_a_server_that_does_not_answer_leaves_it_open(server: NatsServer, name: str) -> None:
    with Proxy(server.url) as proxy, JetStreamQueue[str](proxy.url, name, publish_timeout=0.3) as queue:
        queue.submit("heard")
        proxy.hold()
        with pytest.raises(PublishTimeout, match=r"did not say within 0\.3 s whether queue"):
            queue.submit("unheard")
        assert queue.submit_many(["x", "y"]) == Published(0, (), ("x", "y"))


def test_a_queue_that_is_closed_meanwhile_leaves_it_open(server: NatsServer, name: str) -> None:
    with Proxy(server.url) as proxy:
        queue = JetStreamQueue[str](proxy.url, name, publish_timeout=1)
        queue.start()
        proxy.hold()
        with ThreadPoolExecutor(1) as other:
            waits = other.submit(queue.submit, "item")
            queue._thread.submit(_until_pending(queue)).result(20)
            queue.close()
            with pytest.raises(PublishTimeout):
                waits.result(20)


def test_a_task_is_told_so_too_and_can_be_cancelled(server: NatsServer, name: str) -> None:
    async def main(url: str, hold: Callable[[], object]) -> None:
        queue = JetStreamQueue[str](url, name, publish_timeout=1)
        await queue.__aenter__()
        hold()
        waits, is_cancelled = (asyncio.ensure_future(queue.asubmit(item)) for item in "ab")
        await asyncio.wrap_future(queue._thread.submit(_until_pending(queue)))
        is_cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await is_cancelled
        await queue.__aexit__()
        with pytest.raises(PublishTimeout):
            await waits

    with Proxy(server.url) as proxy:
        asyncio.run(main(proxy.url, proxy.hold))


async def _until_pending(queue: JetStreamQueue[str]) -> None:
    assert queue._publisher is not None
    while not queue._publisher._pending:
        await asyncio.sleep(0)


def test_what_was_under_way_when_the_connection_broke_is_published_again_once(server: NatsServer, name: str) -> None:
    with (
        Proxy(server.url) as proxy,
        JetStreamQueue[str](proxy.url, name, id=str, publish_timeout=20) as queue,
    ):
        proxy.hold()
        under_way = queue._thread.submit(queue._submit(queue._letter("item")))
        proxy.cut()
        proxy.release()
        under_way.result(20)
        queue.submit("item")
        assert queue.depth() == 1


def test_a_stream_that_is_gone_is_said(server: NatsServer, name: str) -> None:
    with JetStreamQueue[str](server.url, name, publish_timeout=0.5) as queue:
        queue._thread.submit(_delete(queue)).result()
        with pytest.raises(BrokerError, match=f"no stream takes what is published to '{name}'"):
            queue.submit("item")


async def _delete(queue: JetStreamQueue[str]) -> None:
    assert queue._connection is not None
    await queue._connection.request(f"$JS.API.STREAM.DELETE.{queue.name}", b"", 5)


@dataclass
class Order:
    number: int
    day: date


def test_what_an_item_is_in_the_stream(server: NatsServer, name: str) -> None:
    with JetStreamQueue[object](server.url, name) as queue:
        encoded = [queue._letter(item).data for item in ("text", b"\xff", 7, Order(1, date(2026, 1, 2)), [None])]
        assert encoded == [b"text", b"\xff", b"7", b'{"number":1,"day":"2026-01-02"}', b"[null]"]
        with pytest.raises(TypeError, match="cannot be said in JSON"):
            queue.submit(object())
        with pytest.raises(ValueError, match="more than the server takes at once"):
            queue.submit("x" * 2_000_000)


def test_it_is_used_between_start_and_close(server: NatsServer, name: str) -> None:
    queue = JetStreamQueue[str](server.url, name)
    queue.close()
    with pytest.raises(RuntimeError, match="not started"):
        queue.submit("early")
    with queue:
        with pytest.raises(RuntimeError, match="started already"):
            queue.start()
    queue.close()
    with pytest.raises(RuntimeError, match="not started"):
        queue.submit_many(["late"])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"name": "a b"}, ValueError),
        ({"name": 7}, TypeError),
        ({"size": 0}, ValueError),
        ({"publish_timeout": 0}, ValueError),
        ({"replicas": 0}, ValueError),
    ],
)
def test_wrong_arguments(wrong: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        JetStreamQueue[str](**{"url": "nats://x", "name": "x", **wrong})  # type: ignore[arg-type]


def test_its_errors_are_of_this_package_and_survive_pickling() -> None:
    assert issubclass(PublishTimeout, PoolError)
    assert issubclass(PublishTimeout, TimeoutError)
    error = pickle.loads(pickle.dumps(BrokerError("no", 7)))
    assert (str(error), error.code) == ("no", 7)


def test_a_queue_survives_its_server(name: str, tmp_path: Path) -> None:
    server = NatsServer(str(tmp_path))
    with server, JetStreamQueue[str](server.url, name, publish_timeout=20) as queue:
        queue.submit("before")
        server.kill()
        server.start()
        queue.submit("after")
        assert queue.depth() == 2
