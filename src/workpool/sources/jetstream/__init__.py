"""The queue at a broker, NATS JetStream: where one machine is not enough, or an item must survive a crash. `[nats]`."""

from workpool.sources.jetstream.broker import BrokerError
from workpool.sources.jetstream.counts import SourceStats
from workpool.sources.jetstream.embedded import NatsServer
from workpool.sources.jetstream.queue import JetStreamQueue, Published, PublishTimeout
from workpool.sources.jetstream.source import JetStreamSource

__all__ = [
    "BrokerError",
    "JetStreamQueue",
    "JetStreamSource",
    "NatsServer",
    "PublishTimeout",
    "Published",
    "SourceStats",
]
