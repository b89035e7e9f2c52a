"""What a service sees of a pool that the pool itself tells nobody: its workers, and whether it is paused.

Rules: it only reads. It takes no lock: a worker may end its item while one looks, which then is shown once more.
"""

from __future__ import annotations

import reprlib
from typing import Any, Final

from workpool._control import ControlledQueue
from workpool._stopping import stack_of
from workpool._worker import Worker, attempt_of
from workpool.pool import Pool

__all__ = ["is_paused", "workers_of"]

SHOWN: Final = 200
"""Characters of an item, of which there may be a megabyte."""

STACKS: Final = 10
"""Stacks at most in one look: each has all threads of the process looked at."""

_repr: Final = reprlib.Repr()
"""Stops early: not all of a long list is gone through to be cut."""
_repr.maxstring = _repr.maxother = SHOWN
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = 20


def is_paused(pool: Pool[Any, Any]) -> bool:
    return _queue(pool)._paused  # pyright: ignore[reportPrivateUsage]


def _queue(pool: Pool[Any, Any]) -> ControlledQueue[Any]:
    return pool._queue  # pyright: ignore[reportPrivateUsage]


def workers_of(pool: Pool[Any, Any], stuck_after: float) -> list[dict[str, Any]]:
    """Each worker as plain values; those that look stuck first, of them who has been so for longest.

    One looks stuck if it was given up, its item is over time, or has been running for more than `stuck_after` seconds.
    """
    queue = _queue(pool)
    now = queue.clock.now()
    seen = [_seen(worker, now, stuck_after, given_up=False) for worker in list(queue.workers)]
    seen += [_seen(worker, now, stuck_after, given_up=True) for worker in list(queue.stuck)]
    seen.sort(key=lambda each: -each[1]["seconds"] if each[1]["stuck"] else 0.0)
    for worker, about in [each for each in seen if each[1]["stuck"]][:STACKS]:
        about["stack"] = stack_of(worker)
    return [about for _, about in seen]


def _seen(worker: Worker[Any], now: float, stuck_after: float, *, given_up: bool) -> tuple[Worker[Any], dict[str, Any]]:
    entry = worker.entry
    seconds = 0.0 if entry is None else max(0.0, now - worker.began)
    late = entry is not None and (worker.late is entry or seconds > stuck_after)
    return worker, {
        "worker": worker.name,
        "item": None if entry is None else shown(entry[0]),
        "attempt": None if entry is None else attempt_of(entry),
        "seconds": seconds,
        "given_up": given_up,
        "stuck": given_up or late,
        "stack": "",
    }


def shown(item: object) -> str:
    """The `repr`, cut; it is not ours, and may raise."""
    try:
        text = _repr.repr(item)
    except Exception as error:
        return f"<{type(item).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
