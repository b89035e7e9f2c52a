"""A typed, bounded, observable worker pool: shed, don't fall over; drain, don't lose; see everything; one contract."""

from workpool._context import Context, current
from workpool._core.discipline import AdaptiveLifo, CoDel, Discipline, Fifo, Lanes
from workpool._core.keys import ByKey
from workpool._core.ledger import Histogram, PoolStats
from workpool._core.outcome import Exponential, Retry
from workpool._core.rate import Rate
from workpool._core.report import Abandoned, DrainReport
from workpool._fate import Hooks
from workpool.errors import (
    Discard,
    Fatal,
    Invalid,
    ItemAbandoned,
    ItemTimeout,
    NameTaken,
    NotPicklable,
    PoolAlreadyStarted,
    PoolDeadlock,
    PoolError,
    PoolNotStarted,
    PoolStopped,
    QueueFull,
    Shed,
    Snooze,
    StopTimeout,
    Transient,
    WorkerDied,
)
from workpool.executor import OnFull, PoolExecutor
from workpool.pool import Pool
from workpool.workers.settings import Interpreters, Processes

__all__ = [
    "Abandoned",
    "AdaptiveLifo",
    "ByKey",
    "CoDel",
    "Context",
    "Discard",
    "Discipline",
    "DrainReport",
    "Exponential",
    "Fatal",
    "Fifo",
    "Histogram",
    "Hooks",
    "Interpreters",
    "Invalid",
    "ItemAbandoned",
    "ItemTimeout",
    "Lanes",
    "NameTaken",
    "NotPicklable",
    "OnFull",
    "Pool",
    "PoolAlreadyStarted",
    "PoolDeadlock",
    "PoolError",
    "PoolExecutor",
    "PoolNotStarted",
    "PoolStats",
    "PoolStopped",
    "Processes",
    "QueueFull",
    "Rate",
    "Retry",
    "Shed",
    "Snooze",
    "StopTimeout",
    "Transient",
    "WorkerDied",
    "current",
]
