"""What an operator asks Prometheus of pools: each question once, for recording rules and for a dashboard.

Rules: each is about the pools that a selector picks, over a window, and keeps the labels of where they run; what a
series has of its own (reason, status) is summed. A share of nothing has no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["QUERIES", "Query", "selector"]


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and the name of the series that a recording rule makes of the answer."""

    record: str
    about: str
    expression: str
    """With `OF` for the selector, and `WINDOW`."""

    def of(self, selector: str, window: str) -> str:
        return self.expression.replace("OF", selector).replace("WINDOW", window)


def selector(pools: Iterable[str]) -> str:
    """The label that picks these."""
    names = "|".join(map(re.escape, pools))
    quoted = names.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'pool=~"{quoted}"'


def _share(part: str, whole: str) -> str:
    return f"{part} / ({whole} > 0)"


def _quantile(quantile: float, family: str) -> str:
    return f"histogram_quantile({quantile}, sum without (status) (rate({family}_bucket{{OF}}[WINDOW])))"


_PROCESSED: Final = "rate(workpool_processed_total{OF}[WINDOW])"
_SUBMITTED: Final = "rate(workpool_submitted_total{OF}[WINDOW])"
_REFUSED: Final = "sum without (reason) (rate(workpool_dropped_total{OF}[WINDOW]))"
_SHED: Final = "sum without (reason) (rate(workpool_shed_total{OF}[WINDOW]))"
_OFFERED: Final = f"({_SUBMITTED} + {_REFUSED})"

QUERIES: Final = {
    "queue": Query(
        "pool:workpool_queue:ratio",
        "How full the queue is.",
        "workpool_queue_depth{OF} / workpool_queue_capacity{OF}",
    ),
    "workers": Query(
        "pool:workpool_workers:ratio",
        "The share of the workers that run an item.",
        "workpool_workers_busy{OF} / workpool_workers{OF}",
    ),
    "offered": Query("pool:workpool_offered:rate", "Items that were accepted or refused, a second.", _OFFERED),
    "processed": Query("pool:workpool_processed:rate", "Items that ran to an end, a second.", _PROCESSED),
    "refused": Query(
        "pool:workpool_refused:ratio", "The share of the items offered that was refused.", _share(_REFUSED, _OFFERED)
    ),
    "shed": Query(
        "pool:workpool_shed:ratio",
        "The share of the items accepted that was dropped before it ran.",
        _share(_SHED, _SUBMITTED),
    ),
    "failed": Query(
        "pool:workpool_failed:ratio",
        "The share of the items that ran which failed.",
        _share("rate(workpool_failed_total{OF}[WINDOW])", _PROCESSED),
    ),
    "run_p50": Query("pool:workpool_run_seconds:p50", "The median run time.", _quantile(0.5, "workpool_run_seconds")),
    "run_p99": Query(
        "pool:workpool_run_seconds:p99", "1 item in 100 runs longer.", _quantile(0.99, "workpool_run_seconds")
    ),
    "wait_p50": Query(
        "pool:workpool_queue_wait_seconds:p50",
        "The median wait in the queue.",
        _quantile(0.5, "workpool_queue_wait_seconds"),
    ),
    "wait_p99": Query(
        "pool:workpool_queue_wait_seconds:p99",
        "1 item in 100 waits longer.",
        _quantile(0.99, "workpool_queue_wait_seconds"),
    ),
}
