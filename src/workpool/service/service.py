"""`Service`: the pools of a configuration and their sources, started in order and stopped in reverse.

Rules: pool, source and whatever comes before them have one contract, `Part`. A start that fails undoes what it began. A
stop is a budget: one number of seconds for all of it, of which the pools have a share to drain side by side; what runs
then is asked to end, and given up half a second later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from workpool._core.report import DrainReport
from workpool.errors import StopTimeout
from workpool.pool import Pool
from workpool.service.config import Config, build
from workpool.service.exported import SourceMetrics
from workpool.service.lines import LineSource
from workpool.service.models import JetStreamSettings, PoolSettings
from workpool.service.statistics import Statistics
from workpool.sources.decoding import decoding

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from workpool.service.server import Server

__all__ = ["Part", "Service", "Stopped"]

SHARE: Final = 0.8
"""Of the budget that items have to finish by themselves. The rest is for telling those that do not, and for giving
back."""

LEAST: Final = 1.0
"""Seconds that this rest is at least, or half of a budget that is less than twice that."""


class Part(Protocol):
    """What a service starts and stops."""

    def start(self) -> object:
        """Return when it works; or raise, and have started nothing."""

    def stop(self, timeout: float, /) -> object:
        """End within that many seconds, or soon after. Harmless before the start, and twice."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What the stop of a service found."""

    reports: tuple[DrainReport[Any], ...]
    """Of each pool."""
    kept: Mapping[str, int]
    """How many items of which pool's source are left: lines that were added to its file of unprocessed ones, or
    messages that the broker will deliver again."""
    trouble: tuple[str, ...]
    """Sentences about what went wrong."""

    @property
    def clean(self) -> bool:
        """Nothing is left: all that was accepted has met its fate."""
        left = any(report.unprocessed or not report.clean for report in self.reports)
        return not (left or any(self.kept.values()) or self.trouble)

    def __str__(self) -> str:
        lines = [f"{report}; {_fates(report)}" for report in self.reports]
        lines += [f"pool {name!r}: {count} items of its source are left" for name, count in self.kept.items() if count]
        return "\n".join([*lines, *self.trouble])


class Source(Protocol):
    """What hands items over to a pool."""

    def start(self) -> object: ...

    def stop(self, timeout: float, /) -> object:
        """Hand nothing over any more."""

    def keep(self, until: float, /) -> int:
        """See to what is left, when the pool has stopped, until that time of the monotonic clock; how many items it
        could not see to, or added to a file. Raises OSError: they are lost."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What it does and has done, as plain values."""
        ...


class Service:
    """The pools of a configuration, and their sources. It starts once.

    Args:
        config: what `workpool.service.config.load` gives.
        registry: for the pools' metrics; None: the default.
        nats: where the NATS server of sources is that do not say.
        before: what is started before the pools, and stopped after them. If the configuration has a `server`, that is
            the last of these.
    """

    def __init__(
        self,
        config: Config,
        registry: CollectorRegistry | None = None,
        before: Iterable[Part] = (),
        nats: str = "nats://127.0.0.1:4222",
    ) -> None:
        self.pools = build(config, registry)
        self._pools = _Pools(self.pools.values())
        self._sources: dict[str, Source] = {
            name: _source(self.pools[name], settings, nats)
            for name, settings in config.worker_pools.items()
            if settings.source is not None
        }
        self._unready = "it has not been started"
        """Why nothing is to be sent to it now; "" if it is."""
        self.server = self._serving(config, registry) if "server" in config.model_fields_set else None
        """What answers over HTTP, if the configuration has it."""
        servers = () if self.server is None else (self.server,)
        budget = _to_drain(config.shutdown.grace)
        statistics = Statistics(self.pools, config.metrics.worker_pools.update_interval, budget)
        exports = self._exports(registry)
        self._parts: Sequence[Part] = (*before, *servers, statistics, *exports, self._pools, *self._sources.values())
        self._lock = threading.Lock()
        self._begun = False
        self._stopped: Stopped | None = None

    def start(self) -> None:
        """Start everything, in order. Raises what a part raises, and then has stopped those before it; RuntimeError if
        it was started or stopped before."""
        with self._lock:
            if self._begun or self._stopped is not None:
                raise RuntimeError("the service was started or stopped before, and starts only once")
            self._begun = True
            self._start()
            self._unready = ""

    def _start(self) -> None:
        started: list[Part] = []
        try:
            for part in self._parts:
                part.start()
                started.append(part)
        except BaseException:
            for part in reversed(started):
                part.stop(0.0)
            raise

    def stop(self, timeout: float) -> Stopped:
        """Stop everything within `timeout` seconds, in reverse, and add what is left of sources to their files.

        A second stop waits with the first, and has the same result. One that comes while it starts waits for that.
        """
        self._unready = "it stops"
        with self._lock:
            self._unready = "it stops"  # a start may just have ended
            if self._stopped is None:
                self._stopped = self._stop(monotonic() + timeout, timeout)
        return self._stopped

    def abort(self) -> None:
        """Have a stop that is under way give up on what has not begun, and on what runs as soon as it was told."""
        self._pools.abort()

    def _exports(self, registry: CollectorRegistry | None) -> tuple[Part, ...]:
        """What exports what the sources do, if there are any."""
        if not self._sources:
            return ()
        import prometheus_client

        states = {name: source.state for name, source in self._sources.items()}
        return (SourceMetrics(states, prometheus_client.REGISTRY if registry is None else registry),)

    def _serving(self, config: Config, registry: CollectorRegistry | None) -> Server:
        import prometheus_client  # slow, as the server is, and not needed without one

        from workpool.service.application import Application
        from workpool.service.server import Server

        application = Application(
            self.pools,
            token=config.server.token,
            sources={name: source.state for name, source in self._sources.items()},
            readiness=lambda: self._unready,
            registry=prometheus_client.REGISTRY if registry is None else registry,
            interval=config.metrics.worker_pools.update_interval,
            stuck_after=config.server.stuck_after,
        )
        return Server(application, config.server.host, config.server.port, config.server.names)

    def _stop(self, until: float, timeout: float) -> Stopped:
        drained = until - timeout + _to_drain(timeout)
        for source in self._sources.values():
            source.stop(max(0.0, drained - monotonic()))
        self._pools.stop(max(0.0, drained - monotonic()))
        kept: dict[str, int] = {}
        trouble: list[str] = []
        for name, source in self._sources.items():
            try:
                kept[name] = source.keep(until)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                trouble.append(f"pool {name!r}: {where}{error.strerror or error}; what its source has left is lost")
        for part in reversed(self._parts[: self._parts.index(self._pools)]):
            part.stop(max(0.0, until - monotonic()))
        return Stopped(tuple(self._pools.reports), kept, tuple(trouble))


def _to_drain(budget: float) -> float:
    """How much of it items have to end by themselves."""
    return budget - max((1 - SHARE) * budget, min(LEAST, budget / 2))


class _Pools:
    """All pools as one part: they drain side by side."""

    def __init__(self, pools: Iterable[Pool[Any, Any]]) -> None:
        self.reports: list[DrainReport[Any]] = []
        self._all = list(pools)

    def start(self) -> None:
        for at, pool in enumerate(self._all):
            try:
                pool.start()
            except BaseException:
                _each(self._all[:at], 0.0, drain=False)
                raise

    def stop(self, timeout: float) -> None:
        self.reports = _each(self._all, timeout, drain=True)

    def abort(self) -> None:
        _each(self._all, 0.0, drain=False)


def _each(pools: Sequence[Pool[Any, Any]], timeout: float, drain: bool) -> list[DrainReport[Any]]:
    """Stop pools at the same time: each may need the whole of it."""
    reports: dict[int, DrainReport[Any]] = {}

    def stop(at: int, pool: Pool[Any, Any]) -> None:
        try:
            reports[at] = pool.stop(timeout, drain)
        except StopTimeout as cut:
            reports[at] = cut.report

    for pool in pools:
        pool.close(drain)
    threads = [threading.Thread(target=stop, args=each, name="workpool-stop", daemon=True) for each in enumerate(pools)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [reports[at] for at in sorted(reports)]


def _source(pool: Pool[Any, Any], settings: PoolSettings, nats: str) -> Source:
    source = settings.source
    assert source is not None
    if isinstance(source, JetStreamSettings):
        return source.source(pool, settings, nats)
    error = settings.hooks.error if settings.hooks else None
    return LineSource(
        pool,
        source.path,
        decoding(settings.process.value, settings.process.name),
        unprocessed=source.unprocessed or f"{pool.name}.unprocessed",
        failed=None if error is None else error.value,
    )


def _fates(report: DrainReport[Any]) -> str:
    """What became of all that the pool ever accepted."""
    stats = report.stats
    fates = {
        "submitted": stats.submitted,
        "succeeded": stats.succeeded,
        "failed": stats.failed,
        "discarded": stats.discarded,
        "shed": sum(stats.shed.values()),
        "cancelled": stats.cancelled,
        "abandoned": stats.abandoned,
    }
    return ", ".join(f"{count} {fate}" for fate, count in fates.items() if count or fate == "submitted")
