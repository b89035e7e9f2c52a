"""Nothing is lost, whatever ends in the middle; and what is done twice is counted, and explained.

`make chaos` runs these with 100,000 items; the suite with as many as say the same in seconds.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jetstream.cluster import Cluster
from tests.jetstream.proxy import Proxy
from tests.jetstream.services import Fleet, Producer, until
from workpool.sources.jetstream import BrokerError, JetStreamQueue, NatsServer

LONG = "CHAOS" in os.environ
ITEMS = 100_000 if LONG else 4_000
EVERY = 3.0 if LONG else 1.0
"""Seconds between two kills."""

IN_HAND = 110
"""Messages that one service has at most: its queue and its workers."""

pytestmark = pytest.mark.timeout(400 if LONG else 120)


@pytest.fixture
def fleet_of(tmp_path: Path) -> Iterator[Any]:
    fleets: list[Fleet] = []

    def make(**options: Any) -> Fleet:
        fleets.append(Fleet(tmp_path, **options))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


def queue_at(url: str, name: str, **options: Any) -> JetStreamQueue[int]:
    # Two minutes of ids, so that what is submitted again after a failure is the same item.
    return JetStreamQueue[int](url, name, size=2_000, id=str, **options)


def all_done(fleet: Fleet, queue: JetStreamQueue[int]) -> int:
    """Each item was run; how many runs there were beyond that."""
    until(lambda: depth(queue) == 0, 120)
    effects = fleet.effects()
    assert set(effects) == set(range(ITEMS))
    twice = effects.total() - ITEMS
    sys.stdout.write(f"\n{ITEMS} items, {twice} runs beyond that\n")
    return twice


def run_on(fleet: Fleet, producer: Producer, items: float) -> None:
    """Let so many more be done, or all."""
    before = fleet.count()
    until(lambda: producer.done() or fleet.count() > before + items, 120)


def depth(queue: JetStreamQueue[int]) -> int | None:
    """None while nobody answers, as after the end of a leader."""
    try:
        return queue.depth()
    except (BrokerError, OSError):
        return None


def test_services_that_are_killed(server: NatsServer, name: str, fleet_of: Any) -> None:
    """What a service had in hand when it was killed may have been run, or half run: the broker delivers it again."""
    with queue_at(server.url, name) as queue:
        fleet = fleet_of(stream=name, url=server.url)
        fleet.start(2)
        producer, kills = Producer(queue, ITEMS), 0
        with producer.running():
            until(lambda: fleet.count() > 100)
            while not producer.done():
                fleet.kill()
                fleet.start()
                kills += 1
                run_on(fleet, producer, ITEMS * EVERY / 20)
        twice = all_done(fleet, queue)
        assert kills > 1
        assert twice <= kills * IN_HAND


def test_a_service_that_is_stopped_in_order_does_nothing_twice(server: NatsServer, name: str, fleet_of: Any) -> None:
    with queue_at(server.url, name) as queue:
        fleet = fleet_of(stream=name, url=server.url, ack_wait=30)
        fleet.start(2)
        with Producer(queue, ITEMS).running():
            for stops in range(1, 4):
                until(lambda wanted=stops * ITEMS / 5: fleet.count() > wanted)  # type: ignore[misc]
                assert fleet.terminate() == 0
                fleet.start()
            until(lambda: fleet.count() >= ITEMS, 120)
        assert all_done(fleet, queue) == 0


def test_a_server_that_is_killed(name: str, tmp_path: Path, fleet_of: Any) -> None:
    """Acknowledgements that were on their way are lost: to a service that still knows, its message is no new one."""
    with NatsServer(str(tmp_path / "store")) as server, queue_at(server.url, name) as queue:
        fleet = fleet_of(stream=name, url=server.url)
        fleet.start(2)
        producer, kills = Producer(queue, ITEMS), 0
        with producer.running():
            while not producer.done() and kills < 8:
                run_on(fleet, producer, ITEMS * EVERY / 20)
                server.kill()
                server.start()
                kills += 1
            until(producer.done, 120)
        twice = all_done(fleet, queue)
        assert kills > 1
        assert twice <= kills * 2 * IN_HAND


def test_a_leader_that_is_killed(name: str, tmp_path: Path, fleet_of: Any) -> None:
    with (
        Cluster(tmp_path / "cluster", 3) as cluster,
        queue_at(cluster.url, name, replicas=3, publish_timeout=10) as queue,
    ):
        fleet = fleet_of(stream=name, url=cluster.url)
        fleet.start(2)
        producer, kills = Producer(queue, ITEMS), 0
        with producer.running():
            while not producer.done() and kills < 3:
                run_on(fleet, producer, ITEMS / 5)
                cluster.restart(cluster.leader_of(queue))
                kills += 1
            until(producer.done, 120)
        twice = all_done(fleet, queue)
        assert kills > 1
        assert twice <= kills * 2 * IN_HAND


def test_a_connection_that_is_cut_for_longer_than_the_broker_waits(
    server: NatsServer, name: str, fleet_of: Any
) -> None:
    """What a service has in hand then is delivered to another: both run it."""
    with queue_at(server.url, name) as queue, Proxy(server.url) as proxy:
        fleet = fleet_of(stream=name, url=proxy.url)
        fleet.start(2)
        producer, cuts = Producer(queue, ITEMS), 0
        with producer.running():
            while not producer.done():
                run_on(fleet, producer, ITEMS / 5)
                proxy.cut(accepts=False)
                until_over(2.0)
                proxy.cut(accepts=True)
                cuts += 1
        twice = all_done(fleet, queue)
        assert cuts > 1
        assert twice <= cuts * 2 * IN_HAND


def until_over(seconds: float) -> None:
    """Let the broker's own time pass, which nothing here can move."""
    threading.Event().wait(seconds)
