"""What a pool says of a wrong argument: one sentence, with what would be right.

The functions take anything: a type checker would call the checks needless.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workpool._checked import checked_count
from workpool._core.discipline import DEFAULT_SIZE, AdaptiveLifo, Discipline, Fifo, Lanes, OneLane
from workpool._core.outcome import Retry
from workpool._core.rate import Rate
from workpool._fate import Hooks

__all__ = [
    "check_failures",
    "check_hooks",
    "check_initializer",
    "check_order",
    "check_process",
    "check_rate",
    "checked_discipline",
    "checked_name",
]


def check_process(process: object) -> None:
    """Raises TypeError if `process` cannot be called."""
    if not callable(process):
        raise TypeError(f"process must be a function of one item, not {process!r}")


def check_hooks(hooks: object) -> None:
    """Raises TypeError for what is neither `Hooks` nor None."""
    if hooks is not None and not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be Hooks(...), not {hooks!r}")


def check_failures(retry: object, classify: object) -> None:
    """Raises TypeError for what is neither `Retry` nor None, or no function."""
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be Retry(...), or None, not {retry!r}")
    if classify is not None and not callable(classify):
        raise TypeError(f"classify must be a function of one exception, or None, not {classify!r}")


def check_order(discipline: Discipline[Any]) -> None:
    """Raises ValueError for a queue that takes the newest first: items of one key would not run in their order."""
    lanes = discipline.lanes if isinstance(discipline, Lanes) else [discipline]
    if any(isinstance(lane, AdaptiveLifo) for lane in lanes):
        raise ValueError("key= keeps items in their order, and AdaptiveLifo takes the newest first; use Fifo or CoDel")


def check_rate(rate: object) -> None:
    """Raises TypeError for what is neither `Rate` nor None."""
    if rate is not None and not isinstance(rate, Rate):
        raise TypeError(f"rate must be Rate(limit, per=seconds), or None, not {rate!r}")


def check_initializer(initializer: object, initargs: object) -> None:
    """Raises TypeError for what cannot be called with those."""
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be a callable, or None, not {initializer!r}")
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a tuple, not {initargs!r}")


def checked_discipline(queue: object, queue_size: object) -> Discipline[Any]:
    """The rule of a queue, or `Fifo` of that size. Raises TypeError or ValueError, also if both are given."""
    if queue is None:
        return Fifo(checked_count("queue_size", queue_size, DEFAULT_SIZE))
    if not isinstance(queue, OneLane | Lanes):
        raise TypeError(f"queue must be a discipline such as Fifo(1000), not {queue!r}; a size is queue_size=")
    if queue_size is not None:
        raise ValueError(f"queue_size={queue_size!r} and queue={queue!r} both say how many; leave one out")
    return queue  # pyright: ignore[reportUnknownVariableType]  # of whatever it is


def checked_name(name: object, process: object) -> str:
    """The name; None: that of the function. Raises TypeError, and ValueError for an empty one."""
    if name is None:
        own = getattr(process, "__name__", type(process).__name__)
        return own if own.isidentifier() else "pool"
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    if not name:
        raise ValueError("name must not be empty; leave it out (or None) for the function's name")
    return name
