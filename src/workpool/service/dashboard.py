"""A dashboard for Grafana about the pools of a configuration: is it keeping up, what is lost, how long does it take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from workpool.service.config import Config
from workpool.service.queries import QUERIES

__all__ = ["POOL", "WINDOW", "dashboard"]

POOL: Final = "$pool"
WINDOW: Final = "$__rate_interval"
"""Grafana's variables, which it puts into each query."""

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
OF: Final = f'pool=~"{POOL}"'
COLUMNS: Final = 24
"""Of Grafana's grid."""

ACROSS: Final = 3
HEIGHT: Final = 8


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    about: str
    unit: str
    """Grafana's name of it."""
    queries: tuple[tuple[str, str], ...]
    """Each with what its series are called."""


def _asked(name: str, legend: str = "{{pool}}") -> tuple[str, str]:
    return QUERIES[name].of(OF, WINDOW), legend


def _of(family: str, legend: str = "{{pool}}") -> tuple[str, str]:
    return f"{family}{{{OF}}}", legend


def _rate(family: str, legend: str) -> tuple[str, str]:
    return f"rate({family}{{{OF}}}[{WINDOW}])", legend


def _panel(name: str, title: str, unit: str) -> Panel:
    return Panel(title, QUERIES[name].about, unit, (_asked(name),))


def _spread(what: str, title: str) -> Panel:
    both = (_asked(f"{what}_p50", "{{pool}}: median"), _asked(f"{what}_p99", "{{pool}}: 99 %"))
    return Panel(title, "The median, and what 1 item in 100 exceeds.", "s", both)


ROWS: Final = {
    "Is it keeping up?": (
        Panel(
            "Offered and processed",
            "Items a second. What is offered and not processed waits, is refused or is dropped.",
            "ops",
            (_asked("offered", "{{pool}}: offered"), _asked("processed", "{{pool}}: processed")),
        ),
        _panel("queue", "Queue", "percentunit"),
        _panel("workers", "Workers busy", "percentunit"),
    ),
    "What is lost?": (
        Panel(
            "Refused, by reason",
            "Items a second that were not accepted; the submitter still has them.",
            "ops",
            (_rate("workpool_dropped_total", "{{pool}}: {{reason}}"),),
        ),
        Panel(
            "Shed, by reason",
            "Items a second that were accepted, and dropped before they ran.",
            "ops",
            (_rate("workpool_shed_total", "{{pool}}: {{reason}}"),),
        ),
        _panel("failed", "Failing", "percentunit"),
        Panel(
            "Dead, by reason",
            "Items a second that failed for good, by why they are tried no more.",
            "ops",
            (_rate("workpool_dead_total", "{{pool}}: {{reason}}"),),
        ),
        Panel(
            "Tried again",
            "Attempts a second that led to another; and items that wait for theirs.",
            "short",
            (_rate("workpool_retries_total", "{{pool}}: retries/s"), _of("workpool_waiting", "{{pool}}: waiting")),
        ),
        Panel(
            "Given back and given up",
            "Items that were taken back before they ran, and that still ran when their pool had stopped.",
            "short",
            (
                _of("workpool_cancelled_total", "{{pool}}: cancelled"),
                _of("workpool_abandoned_total", "{{pool}}: abandoned"),
            ),
        ),
    ),
    "How long does it take?": (
        _spread("wait", "Wait in the queue"),
        _spread("run", "Run time"),
        Panel(
            "Longest running now",
            "For how long the item that has run longest has been running.",
            "s",
            (_of("workpool_oldest_running_seconds"),),
        ),
    ),
    "Is anything wrong?": (
        Panel(
            "Workers stuck",
            "Workers that were given up over an item that took too long, and still run it.",
            "short",
            (_of("workpool_workers_stuck"),),
        ),
        Panel(
            "Keys held",
            "Keys whose items wait because one of theirs failed for good.",
            "short",
            (_of("workpool_keys_held"),),
        ),
        Panel(
            "Ledger",
            "Accepted items less those that are somewhere. Anything but 0 is a bug in workpool.",
            "short",
            (_of("workpool_ledger_imbalance"),),
        ),
    ),
}


def dashboard(config: Config) -> str:
    """The dashboard, as JSON to be imported: it asks for the data source then."""
    pools = [name for name, pool in config.worker_pools.items() if pool.metrics]
    content = {
        "title": "workpool",
        "uid": "workpool",
        "tags": ["workpool"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_data_source(), _pools(pools)]},
        "panels": list(_panels()),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}}


def _pools(names: list[str]) -> dict[str, Any]:
    """Those of the configuration, all of them at first."""
    options = [{"text": name, "value": name, "selected": False} for name in names]
    return {
        "name": "pool",
        "label": "Pool",
        "type": "custom",
        "query": ",".join(name.replace(",", "\\,") for name in names),
        "options": options,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number = y = 0
    for row, panels in ROWS.items():
        number += 1
        at = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row, "collapsed": False, "gridPos": at, "panels": []}
        y += 1
        width = COLUMNS // ACROSS
        for place, panel in enumerate(panels):
            number += 1
            at = {"x": place % ACROSS * width, "y": y + place // ACROSS * HEIGHT, "w": width, "h": HEIGHT}
            yield _graph(number, panel, at)
        y += -(-len(panels) // ACROSS) * HEIGHT


def _graph(number: int, panel: Panel, at: dict[str, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": at,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "tooltip": {"mode": "multi", "sort": "desc"},
            "legend": {"displayMode": "list", "placement": "bottom"},
        },
    }
