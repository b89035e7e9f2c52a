"""Prometheus: one collector for each registry, which reads every pool's snapshot when it is scraped.

Rules: prometheus_client is imported when the first pool with metrics is constructed, and nothing here
runs for an item. There is one `PoolCollector` a registry, because two would repeat `# HELP` lines, which
OpenMetrics parsers refuse. Each `metrics_prefix` is a collector of its own, so that the registry itself
finds clashes. A pool that has stopped gives its name and prefix up to the next that wants them.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from workpool._core.ledger import BOUNDS, Histogram, PoolStats
from workpool.errors import NameTaken

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["PREFIX", "Export", "PoolCollector", "PrefixCollector", "serve"]

Source = Callable[[], PoolStats]

GO_BOUNDS: Final = BOUNDS[:9]
"""The buckets of the Go package's histogram: .001 to 1 s."""

PREFIX: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
"""No colon: those are for recording rules, and prometheus_client writes OpenMetrics with them that no parser takes."""

_lock = threading.RLock()
"""Guards `_collectors`, `_by_prefix` and the pools of each collector. Taken before a registry's lock and a
queue's, never after; a scrape does not hold it while it asks the pools."""
_collectors: weakref.WeakKeyDictionary[CollectorRegistry, PoolCollector] = weakref.WeakKeyDictionary()


def _in_forked_child() -> None:
    """A thread of the parent may have held the lock; here it does not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


class Export:
    """One pool's place in one registry: taken at start, given up by `unregister`, or to the next when stopped."""

    def __init__(self, registry: object, prefix: object, name: str, source: Source) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ImportError("metrics need prometheus-client: pip install 'workpool[prometheus]'") from error
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"name {name!r} cannot be a label: it is no text that could be exported") from None
        if prefix is not None and not isinstance(prefix, str):
            raise TypeError(f"metrics_prefix must be a string, not {prefix!r}")
        if prefix is not None and not PREFIX.fullmatch(prefix):
            raise ValueError(
                f"metrics_prefix {prefix!r} can begin no metric name: letters, digits and _ only, and no digit first"
            )
        if registry is not None and not isinstance(registry, prometheus_client.CollectorRegistry):
            raise TypeError(f"metrics must be True, False or a prometheus_client.CollectorRegistry, not {registry!r}")
        self._registry = prometheus_client.REGISTRY if registry is None else registry
        self._name = name
        self._source = source
        self._prefixed = None if prefix is None else PrefixCollector(prefix, source)

    def register(self) -> None:
        """Take the name and the prefix. Raises `NameTaken`, and then has taken neither."""
        with _lock:
            collector = _collector(self._registry)
            try:
                collector.insist_free(self._name, self._source)
                if self._prefixed is not None:
                    self._prefixed.claim(self._registry)
            except NameTaken:
                self.unregister()  # a collector that has come for nobody goes again
                raise
            collector.put(self._name, self._source)

    def unregister(self) -> None:
        """Give both up, if they are still this pool's."""
        with _lock:
            if self._prefixed is not None:
                self._prefixed.remove(self._registry)
            collector = _collectors.get(self._registry)
            if collector is not None and collector.remove(self._name, self._source):
                del _collectors[self._registry]
                _unregister(self._registry, collector)


def _collector(registry: CollectorRegistry) -> PoolCollector:
    """The registry's, which gets one when its first pool comes."""
    known = _collectors.get(registry)
    collector = PoolCollector() if known is None else known
    try:
        registry.register(collector)
    except ValueError as error:
        if known is None:
            raise NameTaken(f"this registry has workpool_* metrics from elsewhere: {error}") from error
        # It is registered, as it should be. If nothing was raised, somebody had emptied the registry, as fixtures do.
    _collectors[registry] = collector
    return collector


def _unregister(registry: CollectorRegistry, collector: PoolCollector | PrefixCollector) -> None:
    with suppress(KeyError):  # somebody was faster
        registry.unregister(collector)


class PoolCollector:
    """All pools of one registry, as `workpool_*` series with a `pool` label."""

    def __init__(self) -> None:
        self._pools: dict[str, Source] = {}

    def insist_free(self, name: str, source: Source) -> None:
        """Raises `NameTaken` while another pool of that name has not stopped."""
        held = self._pools.get(name)
        if held is not None and held != source and held().state != "stopped":
            raise NameTaken(
                f"a running pool named {name!r} is on this metrics registry already; "
                "give this one another name, or a registry of its own"
            )

    def put(self, name: str, source: Source) -> None:
        self._pools[name] = source

    def remove(self, name: str, source: Source) -> bool:
        """Export it no more, if `name` is still its own. True if that leaves nobody."""
        if self._pools.get(name) == source:
            del self._pools[name]
        return not self._pools

    def describe(self) -> Iterable[Metric]:
        """The families without samples, so that the registry knows their names."""
        return _families([])

    def collect(self) -> Iterable[Metric]:
        with _lock:
            sources = list(self._pools.values())
        return _families([source() for source in sources])


def _families(pools: list[PoolStats]) -> Iterator[Metric]:
    yield from _gauges(pools)
    yield from _counters(pools)
    yield from _durations(pools)


def _gauges(pools: list[PoolStats]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    gauges: list[tuple[str, str, Callable[[PoolStats], float]]] = [
        ("workpool_queue_depth", "Items that wait for a worker.", lambda pool: pool.queue_depth),
        ("workpool_queue_capacity", "Items that may wait for a worker.", lambda pool: pool.queue_size),
        ("workpool_workers", "Workers that the pool is to have.", lambda pool: pool.workers),
        ("workpool_workers_busy", "Workers that are running an item.", lambda pool: pool.workers_busy),
        (
            "workpool_workers_stuck",
            "Workers that were given up over an item that took too long, and still run it.",
            lambda pool: pool.workers_stuck,
        ),
        (
            "workpool_keys_held",
            "Keys that are held because an item of theirs failed for good.",
            lambda pool: pool.keys_held,
        ),
        ("workpool_running", "Items that are running.", lambda pool: pool.running),
        ("workpool_waiting", "Items that wait for their next attempt.", lambda pool: pool.waiting),
        (
            "workpool_oldest_running_seconds",
            "For how long the longest-running item has been running; 0 if none runs.",
            lambda pool: pool.oldest_running,
        ),
        (
            "workpool_ledger_imbalance",
            "Accepted items less those that are somewhere; anything but 0 is a bug in workpool.",
            lambda pool: pool.balance(),
        ),
    ]
    for name, text, value in gauges:
        family: GaugeMetricFamily = GaugeMetricFamily(name, text, labels=["pool"])
        for pool in pools:
            family.add_metric([pool.pool], value(pool))
        yield family


def _counters(pools: list[PoolStats]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    plain: list[tuple[str, str, Callable[[PoolStats], float]]] = [
        ("workpool_submitted", "Items that were accepted.", lambda pool: pool.submitted),
        ("workpool_processed", "Items that ran to an end, failures included.", lambda pool: pool.processed),
        ("workpool_failed", "Items whose process function raised.", lambda pool: pool.failed),
        ("workpool_retries", "Attempts that failed, and led to another.", lambda pool: pool.retries),
        ("workpool_snoozes", "Runs after which an item asked for more time.", lambda pool: pool.snoozes),
        ("workpool_discarded", "Items that were discarded while they ran.", lambda pool: pool.discarded),
        ("workpool_cancelled", "Accepted items that were taken back before they ran.", lambda pool: pool.cancelled),
        ("workpool_abandoned", "Items that still ran when their pool had stopped.", lambda pool: pool.abandoned),
    ]
    for name, text, value in plain:
        family: CounterMetricFamily = CounterMetricFamily(name, text, labels=["pool"])
        for pool in pools:
            family.add_metric([pool.pool], value(pool))
        yield family
    by_reason: list[tuple[str, str, Callable[[PoolStats], Iterable[tuple[str, int]]]]] = [
        ("workpool_dropped", "Items that were refused at submit, by reason.", lambda pool: pool.refused.items()),
        (
            "workpool_shed",
            "Accepted items that were dropped before they ran, by reason.",
            lambda pool: pool.shed.items(),
        ),
        ("workpool_dead", "Items that failed, by why they are tried no more.", lambda pool: pool.dead.items()),
    ]
    for name, text, counts in by_reason:
        family = CounterMetricFamily(name, text, labels=["pool", "reason"])
        for pool in pools:
            for reason, count in counts(pool):
                family.add_metric([pool.pool, reason], count)
        yield family


def _durations(pools: list[PoolStats]) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    run = HistogramMetricFamily("workpool_run_seconds", "Run time of items, by status.", labels=["pool", "status"])
    wait = HistogramMetricFamily("workpool_queue_wait_seconds", "Time that items waited in the queue.", labels=["pool"])
    for pool in pools:
        run.add_metric([pool.pool, "success"], *_buckets(pool.run_success, BOUNDS))
        run.add_metric([pool.pool, "error"], *_buckets(pool.run_error, BOUNDS))
        wait.add_metric([pool.pool], *_buckets(pool.queue_wait, BOUNDS))
    yield run
    yield wait


def _buckets(histogram: Histogram, bounds: tuple[float, ...]) -> tuple[list[tuple[str, float]], float]:
    """What prometheus_client wants: cumulative counts by upper bound, ending in +Inf, and the sum."""
    cumulative = histogram.cumulative()
    labels = [str(bound) for bound in bounds]
    return [*zip(labels, cumulative, strict=False), ("+Inf", cumulative[-1])], histogram.sum


class PrefixCollector:
    """One pool, as exactly the seven series that the Go package exports under a prefix."""

    def __init__(self, prefix: str, source: Source) -> None:
        self._prefix = prefix
        self._source = source
        self._registered = False

    def claim(self, registry: CollectorRegistry) -> None:
        """Register. Raises `NameTaken` unless what stands in the way is the prefix of a stopped pool."""
        if self._registered:
            return
        held = _prefixes(registry).get(self._prefix)
        if held is not None and held._source().state == "stopped":
            held.remove(registry)
        try:
            registry.register(self)
        except ValueError as error:
            raise NameTaken(
                f"metrics_prefix {self._prefix!r} is taken on this registry by a running pool or another collector; "
                "choose another"
            ) from error
        self._registered = True
        _prefixes(registry)[self._prefix] = self

    def remove(self, registry: CollectorRegistry) -> None:
        if self._registered:
            self._registered = False
            del _prefixes(registry)[self._prefix]
            _unregister(registry, self)

    def describe(self) -> Iterable[Metric]:
        return self._families([])

    def collect(self) -> Iterable[Metric]:
        return self._families([self._source()])

    def _families(self, pools: list[PoolStats]) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def named(kind: Any, name: str, text: str, value: Callable[[PoolStats], float]) -> Metric:
            family = kind(f"{self._prefix}_{name}", text, labels=[])
            for pool in pools:
                family.add_metric([], value(pool))
            result: Metric = family
            return result

        yield named(GaugeMetricFamily, "queue_depth", "Items in the queue.", lambda pool: pool.queue_depth)
        yield named(GaugeMetricFamily, "utilization", "How full the queue is, 0 to 1.", lambda pool: pool.utilization)
        yield named(CounterMetricFamily, "submitted", "Items that were accepted.", lambda pool: pool.submitted)
        yield named(CounterMetricFamily, "processed", "Items processed, with failures.", lambda pool: pool.processed)
        yield named(CounterMetricFamily, "failed", "Items that failed.", lambda pool: pool.failed)
        yield named(CounterMetricFamily, "dropped", "Items refused for a full queue.", lambda pool: pool.dropped)
        duration = HistogramMetricFamily(
            f"{self._prefix}_processing_duration_seconds", "Run time of items, by status.", labels=["status"]
        )
        for pool in pools:
            duration.add_metric(["success"], *_buckets(pool.run_success, GO_BOUNDS))
            duration.add_metric(["error"], *_buckets(pool.run_error, GO_BOUNDS))
        yield duration


_by_prefix: weakref.WeakKeyDictionary[CollectorRegistry, dict[str, PrefixCollector]] = weakref.WeakKeyDictionary()


def _prefixes(registry: CollectorRegistry) -> dict[str, PrefixCollector]:
    return _by_prefix.setdefault(registry, {})


def serve(port: int, address: str = "127.0.0.1") -> tuple[CollectorRegistry, int, Callable[[], None]]:
    """Serve a registry of its own over HTTP, in a thread: the registry, the port, and what ends it.

    Port 0 takes a free one. Raises OSError if the port cannot be had, ImportError without prometheus_client.
    """
    import prometheus_client

    registry = prometheus_client.CollectorRegistry()
    server, thread = prometheus_client.start_http_server(port, address, registry)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return registry, server.server_port, end
