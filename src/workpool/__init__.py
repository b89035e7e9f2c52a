"""A typed, bounded, observable worker pool: shed, don't fall over; drain, don't lose; see everything; one contract."""

from workpool._context import Context, current
from workpool._core.ledger import Histogram, PoolStats
from workpool._core.report import Abandoned, DrainReport
from workpool._fate import Hooks
from workpool.errors import (
    ItemAbandoned,
    ItemTimeout,
    NameTaken,
    NotPicklable,
    PoolAlreadyStarted,
    PoolError,
    PoolNotStarted,
    PoolStopped,
    QueueFull,
    StopTimeout,
    WorkerDied,
)
from workpool.executor import OnFull, PoolExecutor
from workpool.pool import Pool
from workpool.workers.settings import Interpreters, Processes

__all__ = [
    "Abandoned",
    "Context",
    "DrainReport",
    "Histogram",
    "Hooks",
    "Interpreters",
    "ItemAbandoned",
    "ItemTimeout",
    "NameTaken",
    "NotPicklable",
    "OnFull",
    "Pool",
    "PoolAlreadyStarted",
    "PoolError",
    "PoolExecutor",
    "PoolNotStarted",
    "PoolStats",
    "PoolStopped",
    "Processes",
    "QueueFull",
    "StopTimeout",
    "WorkerDied",
    "current",
]
