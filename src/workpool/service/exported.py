"""What sources do, for Prometheus: read when it is scraped, as the pools' own series are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

__all__ = ["COUNTERS", "GAUGES", "SourceMetrics"]

States = Mapping[str, Callable[[], Mapping[str, Any]]]

GAUGES: Final = {
    "connected": "1 if the source has its connection, 0 if it tries to have it again.",
    "pulling": "1 if the source may be sent messages, 0 if something is wrong or it stops.",
    "in_flight": "Items of the source whose fate is not known.",
    "asked": "Messages for which there is room and which may be sent.",
}

COUNTERS: Final = {
    "unreadable": "Lines that were not what the function takes.",
    "delivered": "Messages that have come.",
    "redelivered": "Messages that have come and had been delivered before, to whomever.",
    "repeated": "Messages that have come and were here already, or done: they were not run again.",
    "acknowledged": "Messages that are done.",
    "retried": "Messages that were handed back after a failure.",
    "given_back": "Messages that were handed back before they began.",
    "left": "Messages that were not answered, because they still ran at the end.",
    "reconnects": "Times that a connection was made again.",
}


class SourceMetrics:
    """On a registry from `start` to `stop`: `workpool_source_*`, with the label `pool`."""

    def __init__(self, states: States, registry: CollectorRegistry) -> None:
        self._states = states
        self._registry = registry
        self._is_registered = False

    def start(self) -> None:
        self._registry.register(self)
        self._is_registered = True

    def stop(self, _: float) -> None:
        if self._is_registered:
            self._is_registered = False
            self._registry.unregister(self)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        states = {pool: _with_pulling(state()) for pool, state in self._states.items()}
        for families, kind in ((GAUGES, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
            for name, about in families.items():
                family = kind(f"workpool_source_{name}", about, labels=["pool"])
                for pool, state in states.items():
                    if name in state:
                        family.add_metric([pool], float(state[name]))
                if family.samples:
                    yield family
        dead = CounterMetricFamily("workpool_source_dead", "Dead letters.", labels=["pool", "reason"])
        for pool, state in states.items():
            for reason, count in state.get("dead", {}).items():
                dead.add_metric([pool, reason], count)
        if dead.samples:
            yield dead


def _with_pulling(state: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**state, "pulling": state["state"] == "pulling"} if "connected" in state else state
