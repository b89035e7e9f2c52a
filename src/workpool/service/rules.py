"""Rules for Prometheus about the pools of a configuration: what is recorded, and what somebody is to be told of.

Rules: an alert is for whoever can do something about it, and says what. Each number here says what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from workpool.service.config import Config
from workpool.service.queries import QUERIES, selector

__all__ = ["ALERTS", "Alert", "rules"]

WINDOW: Final = "5m"
"""Twenty of Prometheus' usual 15 s: a rate over it has enough to go by after a scrape or two were missed."""

NEARLY_FULL: Final = 0.8
"""Of the queue's slots. Above it a burst of a fifth of them is refused."""

REFUSED: Final = 0.01
SHED: Final = 0.01
"""Of what is offered, or accepted: less is what a bounded queue is for."""

FAILED: Final = 0.05
"""Of what runs: 1 in 20. One bad item in a quiet minute is no reason to wake anybody."""

STUCK: Final = 60.0
"""Seconds that an item may run which has no `item_timeout`; with one, twice that."""

ALERTS: Final = (
    "WorkpoolQueueNearlyFull",
    "WorkpoolRefusing",
    "WorkpoolShedding",
    "WorkpoolFailing",
    "WorkpoolWorkersBusy",
    "WorkpoolWorkerStuck",
    "WorkpoolNoProgress",
    "WorkpoolLedgerImbalance",
    "WorkpoolAbsent",
)
"""The names of all."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody is to be told."""

    name: str
    expression: str
    lasting: str
    """For how long it has to be so."""
    severity: str
    summary: str
    description: str
    own: tuple[tuple[str, str], ...] = ()
    """Labels that tell it from others of its name."""

    def as_rule(self) -> dict[str, Any]:
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            "labels": {"severity": self.severity, **dict(self.own)},
            "annotations": {"summary": self.summary, "description": self.description},
        }


def rules(config: Config) -> str:
    """A file of rules, in YAML, for the pools of a configuration that export metrics."""
    pools = [name for name, pool in config.worker_pools.items() if pool.metrics]
    groups = [{"name": "workpool", "rules": [*_records(pools), *_alerts(config, pools)]}] if pools else []
    text: str = yaml.safe_dump({"groups": groups}, sort_keys=False, width=1000, allow_unicode=True)
    return text


def _records(pools: list[str]) -> Iterator[dict[str, Any]]:
    of = selector(pools)
    for query in QUERIES.values():
        yield {"record": query.record, "expr": query.of(of, WINDOW)}


def _alerts(config: Config, pools: list[str]) -> Iterator[dict[str, Any]]:
    """In one group with what is recorded, and after that: they go by it."""
    of = selector(pools)
    for alert in (*_load(of), *_stuck(config, pools), *_broken(of, pools)):
        yield alert.as_rule()


def _recorded(name: str, of: str) -> str:
    return f"{QUERIES[name].record}{{{of}}}"


def _load(of: str) -> Iterator[Alert]:
    """There is more to do than is done."""
    yield Alert(
        "WorkpoolQueueNearlyFull",
        f"{_recorded('queue', of)} > {NEARLY_FULL}",
        "2m",
        "warning",
        "The queue of pool {{ $labels.pool }} is {{ $value | humanizePercentage }} full.",
        "Items will be refused soon. Add workers if items wait for something, machines if they compute; or have fewer "
        "items come.",
    )
    yield Alert(
        "WorkpoolRefusing",
        f"{_recorded('refused', of)} > {REFUSED}",
        "2m",
        "warning",
        "Pool {{ $labels.pool }} refuses {{ $value | humanizePercentage }} of what it is offered.",
        "Whoever submits gets QueueFull, or 429. More comes than can be done: see the queue, and how busy the workers "
        "are.",
    )
    yield Alert(
        "WorkpoolShedding",
        f"{_recorded('shed', of)} > {SHED}",
        "2m",
        "warning",
        "Pool {{ $labels.pool }} drops {{ $value | humanizePercentage }} of what it has accepted.",
        "The label `reason` of workpool_shed_total says by which rule of the queue. Items waited too long for their "
        "results to be of use.",
    )
    yield Alert(
        "WorkpoolFailing",
        f"{_recorded('failed', of)} > {FAILED}",
        "2m",
        "critical",
        "In pool {{ $labels.pool }}, {{ $value | humanizePercentage }} of the items fail.",
        "The log has the exceptions; the label `reason` of workpool_dead_total says why items are tried no more.",
    )
    yield Alert(
        "WorkpoolWorkersBusy",
        f"{_recorded('workers', of)} >= 1 and {_recorded('queue', of)} > 0",
        "15m",
        "warning",
        "All workers of pool {{ $labels.pool }} have been busy for a quarter of an hour, and items wait.",
        "It has no room for a burst. Add workers, or find out why items run longer than they did.",
    )


def _stuck(config: Config, pools: list[str]) -> Iterator[Alert]:
    """One rule for each time after which an item counts as stuck."""
    limits: dict[float, list[str]] = {}
    for name in pools:
        timeout = config.worker_pools[name].item_timeout
        limits.setdefault(STUCK if timeout is None else 2 * timeout, []).append(name)
    for seconds, names in sorted(limits.items()):
        of = selector(names)
        yield Alert(
            "WorkpoolWorkerStuck",
            f"workpool_workers_stuck{{{of}}} > 0 or workpool_oldest_running_seconds{{{of}}} > {seconds:g}",
            "1m",
            "warning",
            "A worker of pool {{ $labels.pool }} is stuck.",
            f"An item has run for more than {seconds:g} s, or a worker was given up over one that took longer than its "
            "item_timeout. The page of the pool shows which, and its stack.",
            (("limit", f"{seconds:g} s"),),
        )


def _broken(of: str, pools: list[str]) -> Iterator[Alert]:
    """Something is wrong with the pool, or its service."""
    yield Alert(
        "WorkpoolNoProgress",
        f"workpool_queue_depth{{{of}}} > 0 and {_recorded('processed', of)} == 0",
        "5m",
        "critical",
        "Items wait in pool {{ $labels.pool }}, and none gets done.",
        "All workers are stuck, or somebody has paused the pool and forgotten it: see its page.",
    )
    yield Alert(
        "WorkpoolLedgerImbalance",
        f"workpool_ledger_imbalance{{{of}}} != 0",
        "1m",
        "critical",
        "The ledger of pool {{ $labels.pool }} is out of balance by {{ $value }} items.",
        "A bug in workpool: please report it, with the output of /api/pools.",
    )
    for name in pools:
        yield Alert(
            "WorkpoolAbsent",
            f"absent(workpool_workers{{{selector([name])}}})",
            "5m",
            "critical",
            f"Nothing is heard of pool {name}.",
            "No service that Prometheus scrapes has it: it is down, cannot be reached, or runs another configuration.",
            (("pool", name),),
        )
