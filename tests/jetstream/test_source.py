"""Messages as items, from their arrival to their fate. With a real server."""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from tests.jetstream.proxy import Proxy
from tests.jetstream.services import until
from workpool import Discard, Fatal, Fifo, Invalid, Pool, Retry, Transient
from workpool.sources.jetstream import BrokerError, JetStreamQueue, JetStreamSource, NatsServer, client
from workpool.sources.jetstream.broker import ask, dead_letters

SECONDS = 30.0


class Broker:
    """What the server says of a queue."""

    def __init__(self, queue: JetStreamQueue[Any]) -> None:
        self.queue = queue

    def ask(self, what: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        assert self.queue._connection is not None
        return self.queue._thread.submit(ask(self.queue._connection, what, content)).result(SECONDS)

    def consumer(self) -> dict[str, Any]:
        return self.ask(f"CONSUMER.INFO.{self.queue.name}.workpool")

    def unanswered(self) -> int:
        return int(self.consumer()["num_ack_pending"])

    def dead(self) -> list[tuple[str, str]]:
        """The dead letters, each with its reason, in their order."""
        stream, subject = dead_letters(self.queue.name)
        last = self.ask(f"STREAM.INFO.{stream}")["state"]["last_seq"]
        messages = [self.ask(f"STREAM.MSG.GET.{stream}", {"seq": number}) for number in range(1, last + 1)]
        found = [self._letter(each["message"]) for each in messages]
        assert all(each["subject"] == subject for each in found)
        return [(each["data"], each["reason"]) for each in found]

    def _letter(self, message: dict[str, Any]) -> dict[str, str]:
        headers = dict(line.split(": ", 1) for line in b64decode(message["hdrs"]).decode().splitlines() if ": " in line)
        self.headers = headers
        data = b64decode(message.get("data", "")).decode()
        return {"subject": message["subject"], "data": data, "reason": headers["Workpool-Reason"]}


@pytest.fixture
def queue(server: NatsServer, name: str) -> Iterator[JetStreamQueue[Any]]:
    with JetStreamQueue[Any](server.url, name) as queue:
        yield queue


@pytest.fixture
def broker(queue: JetStreamQueue[Any]) -> Broker:
    return Broker(queue)


class Seen:
    """A process function that notes what it was given, and does what it is told to."""

    def __init__(self, *errors: Exception) -> None:
        self.items: list[str] = []
        self.errors = list(errors)
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, item: str) -> None:
        self.items.append(item)
        self.gate.wait(SECONDS)
        if self.errors:
            raise self.errors.pop(0)


sources: list[JetStreamSource] = []


@pytest.fixture(autouse=True)
def all_sources_balance() -> Iterator[None]:
    yield
    while sources:
        stats = sources.pop().stats()
        assert stats.balance() == 0, stats


def source(pool: Pool[Any, Any], queue: JetStreamQueue[Any], **options: Any) -> JetStreamSource:
    sources.append(JetStreamSource(pool, options.pop("url", queue._url), queue.name, **options))
    return sources[-1]


AT_ONCE = Retry(attempts=3, backoff=0, budget=None)


def test_each_item_is_run_and_acknowledged(queue: JetStreamQueue[str], broker: Broker) -> None:
    seen = Seen()
    wanted = [str(number) for number in range(5000)]
    with Pool(seen, workers=3, queue_size=100) as pool, source(pool, queue) as here:
        assert queue.submit_many(wanted).accepted == 5000
        until(lambda: here.stats().acknowledged == 5000)
        assert here.stats().state == "pulling"
    assert Counter(seen.items) == Counter(wanted)
    assert queue.depth() == 0
    assert here.stats().delivered == 5000


def test_it_asks_for_no_more_than_there_is_room_for(queue: JetStreamQueue[str], broker: Broker) -> None:
    seen = Seen()
    seen.gate.clear()
    queue.submit_many(map(str, range(100)))
    with Pool(seen, workers=2, queue_size=5) as pool, source(pool, queue) as here:
        until(lambda: here.stats().in_flight == 7)
        assert (broker.unanswered(), here.stats().asked) == (7, 0)
        assert broker.consumer()["num_pending"] == 93
        seen.gate.set()
        until(lambda: queue.depth() == 0)


def test_what_others_submit_does_not_push_it_out(queue: JetStreamQueue[str]) -> None:
    seen = Seen()
    seen.gate.clear()
    with Pool(seen, workers=1, queue_size=3) as pool, source(pool, queue) as here:
        for _ in range(4):
            pool.submit_wait("other")
        queue.submit_many("ab")
        until(lambda: here.stats().in_flight == 2)
        seen.gate.set()
        until(lambda: here.stats().acknowledged == 2)
    assert Counter(seen.items) == Counter({"other": 4, "a": 1, "b": 1})


def test_items_are_what_the_function_says(server: NatsServer, name: str) -> None:
    seen: list[int] = []

    def take(item: int) -> None:
        seen.append(item)

    with JetStreamQueue[object](server.url, name) as queue, Pool(take) as pool, source(pool, queue) as here:
        queue.submit(7)
        until(lambda: here.stats().acknowledged == 1)
        queue.submit("seven")
        until(lambda: here.stats().dead == {"undecodable": 1})
        letters = Broker(queue)
        assert letters.dead() == [("seven", "undecodable")]
        assert letters.headers["Workpool-Error"].startswith("not int in JSON")
        assert (letters.headers["Workpool-Stream"], letters.headers["Workpool-Deliveries"]) == (name, "1")
    assert seen == [7]


def test_what_fails_is_delivered_again(queue: JetStreamQueue[str]) -> None:
    seen = Seen(OSError("first"), Transient("second"))
    with Pool(seen) as pool, source(pool, queue, retry=AT_ONCE) as here:
        queue.submit("item")
        until(lambda: here.stats().acknowledged == 1)
        assert (here.stats().retried, here.stats().redelivered) == (2, 2)
    assert (seen.items, queue.depth()) == (["item"] * 3, 0)


def test_it_is_delivered_again_after_the_backoff(queue: JetStreamQueue[str]) -> None:
    seen = Seen(OSError())
    with Pool(seen) as pool, source(pool, queue, retry=Retry(backoff=0.5, jitter="none")) as here:
        queue.submit("item")
        until(lambda: here.stats().retried == 1)
        began = monotonic()
        until(lambda: here.stats().acknowledged == 1)
        assert monotonic() - began > 0.4


@pytest.mark.parametrize(
    ("error", "reason", "times"),
    [(OSError("no"), "attempts", 3), (Invalid("no"), "invalid", 1), (KeyError("no"), "not_retried", 1)],
)
def test_what_fails_for_good_is_a_dead_letter_once(
    queue: JetStreamQueue[str], broker: Broker, error: Exception, reason: str, times: int
) -> None:
    seen = Seen(*[error] * times)
    with Pool(seen) as pool, source(pool, queue, retry=Retry(attempts=3, on=OSError, backoff=0, budget=None)) as here:
        queue.submit("poison")
        until(lambda: here.stats().dead == {reason: 1})
        queue.submit("fine")
        until(lambda: here.stats().acknowledged == 1)
        until(lambda: queue.depth() == 0)
    assert seen.items == ["poison"] * times + ["fine"]
    assert broker.dead() == [("poison", reason)]
    assert "no" in broker.headers["Workpool-Error"]


def test_a_pool_tries_again_itself_first(queue: JetStreamQueue[str]) -> None:
    seen = Seen(OSError(), OSError())
    with Pool(seen, retry=Retry(attempts=3, backoff=0)) as pool, source(pool, queue) as here:
        queue.submit("item")
        until(lambda: here.stats().acknowledged == 1)
        assert here.stats().redelivered == 0


def test_what_is_discarded_is_acknowledged(queue: JetStreamQueue[str]) -> None:
    with Pool(Seen(Discard("old"))) as pool, source(pool, queue) as here:
        queue.submit("item")
        until(lambda: here.stats().acknowledged == 1)
        assert queue.depth() == 0


def test_what_is_shed_is_delivered_again_and_dead_in_the_end(queue: JetStreamQueue[str], broker: Broker) -> None:
    pool = Pool(Seen(), queue=Fifo(10, deadline=lambda _: -1.0))
    with pool, source(pool, queue, retry=AT_ONCE) as here:
        queue.submit("late")
        until(lambda: here.stats().dead == {"shed: deadline": 1})
        assert here.stats().retried == 2
    assert broker.dead() == [("late", "shed: deadline")]


def of_no_use(_: int) -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize("backoff", [of_no_use, lambda _: float("nan")])
def test_a_backoff_that_is_wrong_holds_up_no_other_answer(queue: JetStreamQueue[str], backoff: Any) -> None:
    late = Pool(Seen(), queue=Fifo(10, deadline=lambda item: -1.0 if item == "late" else None))
    with late as pool, source(pool, queue, retry=Retry(attempts=2, backoff=backoff)) as here:
        queue.submit_many(["late", "fine"])
        until(lambda: here.stats().acknowledged == 1 and sum(here.stats().dead.values()) == 1)


def test_what_is_to_come_never_is_put_off_as_far_as_can_be(queue: JetStreamQueue[str], broker: Broker) -> None:
    with Pool(Seen(OSError())) as pool, source(pool, queue, retry=Retry(backoff=float("inf"), jitter="none")) as here:
        queue.submit_many(["item", "another"])
        until(lambda: (here.stats().retried, here.stats().acknowledged) == (1, 1))
    assert queue.depth() == 1


def test_what_stops_its_pool_is_no_dead_letter(queue: JetStreamQueue[str], broker: Broker) -> None:
    """Nothing is wrong with it."""
    pool = Pool(Seen(Fatal("no database")))
    pool.start()
    with source(pool, queue) as here:
        queue.submit("item")
        until(lambda: here.stats().retried == 1)
    assert (here.stats().dead, queue.depth(), broker.dead()) == ({}, 1, [])


def test_a_message_that_hangs_in_being_read_does_not_hold_up_the_stop(queue: JetStreamQueue[str]) -> None:
    gate, reads = threading.Event(), threading.Event()

    def decode(data: bytes) -> str:
        reads.set()
        gate.wait(SECONDS)
        return data.decode()

    with Pool(Seen()) as pool:
        here = source(pool, queue, decode=decode)
        here.start()
        queue.submit("item")
        assert reads.wait(SECONDS)
        began = monotonic()
        here.stop(0.2)
        assert here.keep(monotonic()) == 1
        assert monotonic() - began < SECONDS / 2
        gate.set()
        until(lambda: not any(each.name.startswith("workpool-source") for each in threading.enumerate()))


def test_slow_work_is_delivered_once(queue: JetStreamQueue[str]) -> None:
    """Five times as long as the broker waits for an acknowledgement."""
    seen = Seen()
    seen.gate.clear()
    with Pool(seen, workers=1, queue_size=5) as pool, source(pool, queue, ack_wait=1.0) as here:
        queue.submit_many(["runs", "waits"])
        until(lambda: here.stats().in_flight == 2)
        assert not threading.Event().wait(5.0)
        assert here.stats().delivered == 2
        seen.gate.set()
        until(lambda: here.stats().acknowledged == 2)
        assert here.stats().redelivered == 0
    assert seen.items == ["runs", "waits"]


def test_a_stop_gives_back_what_has_not_begun_and_finishes_what_has(
    server: NatsServer, queue: JetStreamQueue[str], broker: Broker
) -> None:
    seen, others = Seen(), Seen()
    seen.gate.clear()
    queue.submit_many("abcdef")
    with Pool(seen, workers=2, queue_size=10) as pool:
        here = source(pool, queue)
        here.start()
        until(lambda: len(seen.items) == 2 and here.stats().in_flight == 6)
        here.stop(SECONDS)
        until(lambda: here.stats().given_back == 4)
        with Pool(others) as other_pool, source(other_pool, queue) as there:
            until(lambda: there.stats().acknowledged == 4)  # at once: nobody waits for the end of `ack_wait`
            assert broker.unanswered() == 2
            seen.gate.set()
            assert here.keep(monotonic() + SECONDS) == 0
            until(lambda: queue.depth() == 0)
    assert sorted(seen.items + others.items) == list("abcdef")
    assert here.stats().acknowledged == 2
    assert pool.stats().cancelled == 4


def test_what_is_abandoned_stays_with_the_broker(queue: JetStreamQueue[str], broker: Broker) -> None:
    seen = Seen()
    seen.gate.clear()
    pool = Pool(seen, workers=1, stop_timeout=0)
    pool.start()
    here = source(pool, queue)
    here.start()
    queue.submit("stuck")
    until(lambda: seen.items == ["stuck"])
    here.stop(1)
    with pytest.raises(TimeoutError):
        pool.stop(0, drain=False)
    here.keep(monotonic() + SECONDS)
    assert here.stats().left == 1
    assert (broker.unanswered(), queue.depth()) == (1, 1)
    seen.gate.set()


def test_a_pool_that_stops_gives_back_and_is_asked_no_more(queue: JetStreamQueue[str], broker: Broker) -> None:
    pool = Pool(Seen())
    with source(pool, queue) as here:
        with pool:
            pass
        queue.submit("item")
        until(lambda: here.stats().given_back > 0)
        until(lambda: here.stats().state == "the pool has stopped")
        queue.submit("another")
        with Pool(Seen()) as other, source(other, queue) as there:
            until(lambda: there.stats().acknowledged == 2)
    assert here.stats().delivered == 1
    assert queue.depth() == 0


def test_a_pool_that_is_not_started_yet_has_them_wait(queue: JetStreamQueue[str]) -> None:
    seen = Seen()
    pool = Pool(seen)
    with source(pool, queue) as here:
        queue.submit("item")
        until(lambda: here.stats().in_flight == 1)
        with pool:
            until(lambda: here.stats().acknowledged == 1)


def test_what_its_last_service_did_not_survive_is_not_run_for_ever(queue: JetStreamQueue[str], broker: Broker) -> None:
    """Delivered three times, and never answered: by services that were killed."""
    seen = Seen()
    seen.gate.clear()
    queue.submit("killer")
    for _ in range(3):
        pool = Pool(seen, workers=1)
        pool.start()
        here = source(pool, queue, max_deliver=3, ack_wait=0.3)
        count = len(seen.items)
        here.start()
        until(lambda count=count: len(seen.items) > count)  # type: ignore[misc]
        assert here._connection is not None
        here._thread.submit(here._connection.close()).result(SECONDS)  # as good as dead: it says nothing any more
    with Pool(Seen()) as pool, source(pool, queue, max_deliver=3) as there:
        until(lambda: there.stats().dead == {"deliveries": 1})
    assert broker.dead() == [("killer", "deliveries")]
    seen.gate.set()


def test_a_consumer_that_is_deleted_is_made_again(queue: JetStreamQueue[str], broker: Broker) -> None:
    seen = Seen()
    with Pool(seen) as pool, source(pool, queue) as here:
        queue.submit("one")
        until(lambda: here.stats().acknowledged == 1)
        broker.ask(f"CONSUMER.DELETE.{queue.name}.workpool")
        queue.submit("two")
        until(lambda: here.stats().acknowledged == 2)
        assert here.stats().state == "pulling"
    assert seen.items == ["one", "two"]


def test_a_stream_that_is_deleted_is_said_and_waited_for(
    server: NatsServer, queue: JetStreamQueue[str], broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    with caplog.at_level(logging.WARNING), Pool(seen) as pool, source(pool, queue) as here:
        queue.submit("one")
        until(lambda: here.stats().acknowledged == 1)
        broker.ask(f"STREAM.DELETE.{queue.name}")
        until(lambda: here.stats().state == f"there is no stream '{queue.name}'")
        assert f"there is no stream '{queue.name}'" in caplog.text
        with JetStreamQueue[str](server.url, queue.name) as again:
            again.submit("two")
            until(lambda: here.stats().acknowledged == 2)
        assert here.stats().state == "pulling"
    assert seen.items == ["one", "two"]


def test_a_stream_that_is_not_there_yet_is_waited_for(server: NatsServer, name: str) -> None:
    with Pool(Seen()) as pool, JetStreamSource(pool, server.url, name) as here:
        assert here.stats().state == f"there is no stream '{name}'"
        with JetStreamQueue[str](server.url, name) as queue:
            queue.submit("item")
            until(lambda: here.stats().acknowledged == 1)


def test_a_connection_that_is_cut_is_made_again(server: NatsServer, queue: JetStreamQueue[str]) -> None:
    seen = Seen()
    with Proxy(server.url) as proxy, Pool(seen) as pool:
        with source(pool, queue, url=proxy.url) as here:
            queue.submit("one")
            until(lambda: here.stats().acknowledged == 1)
            proxy.cut()
            until(lambda: here.stats().reconnects == 1)
            queue.submit("two")
            until(lambda: here.stats().acknowledged == 2)
            assert here.stats().connected
    assert seen.items == ["one", "two"]


def test_a_client_that_has_given_up_is_replaced(
    server: NatsServer, queue: JetStreamQueue[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py does when the server tells it of an error, which may pass."""
    monkeypatch.setattr(client, "RENEW", 0.5)
    seen = Seen()
    with Proxy(server.url) as proxy, Pool(seen) as pool, source(pool, queue, url=proxy.url) as here:
        queue.submit("one")
        until(lambda: here.stats().acknowledged == 1)
        proxy.say(b"-ERR 'Slow Consumer'\r\n")
        until(lambda: here.stats().reconnects == 1)
        queue.submit("two")
        until(lambda: here.stats().acknowledged == 2)
        assert here.stats().connected
    assert seen.items == ["one", "two"]


def test_what_is_delivered_again_while_it_runs_is_not_run_again(server: NatsServer, queue: JetStreamQueue[str]) -> None:
    """The connection is away for longer than the broker waits for an acknowledgement."""
    seen = Seen()
    seen.gate.clear()
    with Proxy(server.url) as proxy, Pool(seen) as pool:
        with source(pool, queue, url=proxy.url, ack_wait=0.5) as here:
            queue.submit("item")
            until(lambda: seen.items == ["item"])
            proxy.cut(accepts=False)
            assert not threading.Event().wait(1)
            proxy.cut(accepts=True)
            until(lambda: here.stats().repeated > 0)
            seen.gate.set()
            until(lambda: queue.depth() == 0)
            assert here.stats().acknowledged == 1
    assert seen.items == ["item"]


def test_an_acknowledgement_that_was_lost_is_repeated(server: NatsServer, queue: JetStreamQueue[str]) -> None:
    seen = Seen()
    seen.gate.clear()
    with Proxy(server.url) as proxy, Pool(seen) as pool:
        with source(pool, queue, url=proxy.url, ack_wait=0.5) as here:
            queue.submit("item")
            until(lambda: seen.items == ["item"])
            proxy.hold()
            seen.gate.set()
            until(lambda: here.stats().acknowledged == 1)  # it is sent, and does not arrive
            proxy.cut()
            proxy.release()
            until(lambda: queue.depth() == 0)
    assert seen.items == ["item"]


def test_a_consumer_that_is_there_keeps_its_settings(queue: JetStreamQueue[str], broker: Broker) -> None:
    with Pool(Seen()) as pool:
        with source(pool, queue, ack_wait=7, max_ack_pending=11):
            pass
        with source(pool, queue, ack_wait=8) as here:
            assert here._ack_wait == 7
    config = broker.consumer()["config"]
    assert (config["ack_wait"], config["max_ack_pending"], config["max_deliver"]) == (7 * 10**9, 11, -1)


def test_what_cannot_be_pulled_from_is_refused_at_the_start(
    server: NatsServer, queue: JetStreamQueue[str], broker: Broker
) -> None:
    config = {"durable_name": "workpool", "ack_policy": "explicit", "deliver_subject": "somewhere"}
    broker.ask(f"CONSUMER.DURABLE.CREATE.{queue.name}.workpool", {"stream_name": queue.name, "config": config})
    with Pool(Seen()) as pool:
        with pytest.raises(BrokerError, match="is not one to pull from"):
            source(pool, queue).start()
        with pytest.raises(ConnectionError, match="no NATS server answers"):
            JetStreamSource(pool, "nats://127.0.0.1:1", "nothing", timeout=0.5).start()


def test_it_starts_once(queue: JetStreamQueue[str]) -> None:
    with Pool(Seen()) as pool:
        here = source(pool, queue)
        here.stop(1)
        assert here.keep(0) == 0
        with pytest.raises(RuntimeError, match="starts only once"):
            here.start()


def test_dead_letters_go_to_a_subject_of_ones_own(queue: JetStreamQueue[str], broker: Broker, name: str) -> None:
    broker.ask(f"STREAM.CREATE.{name}-mine", {"name": f"{name}-mine", "subjects": [f"{name}.mine"]})
    with Pool(Seen(Invalid())) as pool, source(pool, queue, dead_letter=f"{name}.mine") as here:
        queue.submit("item")
        until(lambda: here.stats().dead == {"invalid": 1})
    assert broker.ask(f"STREAM.INFO.{name}-mine")["state"]["messages"] == 1


def test_what_cannot_be_buried_is_not_lost(queue: JetStreamQueue[str], name: str) -> None:
    """Nothing takes the dead letter: it is delivered again, until something does."""
    with Pool(Seen(Invalid())) as pool, source(pool, queue, dead_letter=f"{name}.nowhere", timeout=0.3) as here:
        queue.submit("item")
        until(lambda: here.stats().in_flight == 1)
        until(lambda: here.stats().in_flight == 0)
        assert here.stats().dead == {}
    assert queue.depth() == 1


def test_tasks_run_them_too(queue: JetStreamQueue[int]) -> None:
    seen: list[int] = []

    async def take(item: int) -> None:
        seen.append(item)

    with Pool(take, workers=50) as pool, source(pool, queue) as here:
        queue.submit_many(range(1000))
        until(lambda: here.stats().acknowledged == 1000)
    assert sorted(seen) == list(range(1000))


def test_its_statistics_are_plain_values(queue: JetStreamQueue[str]) -> None:
    with Pool(Seen()) as pool, source(pool, queue) as here:
        assert json.loads(json.dumps(here.stats().as_dict()))["connected"] is True
