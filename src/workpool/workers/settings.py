"""What a kind of worker can be told, as values for `Pool(executor=...)`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from workpool._arguments import check_initializer
from workpool._checked import checked_count, checked_limit
from workpool._interpreter import GIL

__all__ = ["MOST", "Interpreters", "Processes"]

MOST: Final = 256
"""How many items can be sent at once."""

SINCE: Final = (3, 14)
"""The first Python that has subinterpreters in its library."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Workers that are processes: `Pool(handle, executor=Processes(max_items=1000))`; "process" has the defaults.

    Raises TypeError or ValueError for an argument that is wrong.
    """

    start_method: Literal["forkserver", "spawn", "fork"] | None = None
    """How a process starts; None: "forkserver" where there is one, else "spawn". With "fork" it is a copy of this
    process, in which threads run: a lock that one of them holds at that moment stays locked in the copy for ever."""
    batch: int | None = None
    """How many items a process is sent at once, at most 256; None: as many as take it 1.5 ms, or 3 if nobody waits for
    a result, and as many ahead of their turn while the queue has enough for all workers. With a number, none is sent
    ahead."""
    max_items: int | None = None
    """After how many items a process is replaced by a new one; None: never."""
    start_timeout: float | None = 60.0
    """Seconds (None: no limit) in which a process is to be ready, its initializer included; else it is killed."""
    initializer: Callable[..., object] | None = None
    """Called with `initargs` in each process before its first item. If it raises, the process cannot start; three such
    in a row stop the pool."""
    initargs: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.start_method not in (None, "forkserver", "spawn", "fork"):
            raise ValueError(f"start_method must be 'forkserver', 'spawn' or 'fork', not {self.start_method!r}")
        _check_batch(self.batch)
        checked_count("max_items", self.max_items, 1)
        checked_limit("start_timeout", self.start_timeout)
        check_initializer(self.initializer, self.initargs)


@dataclass(frozen=True, slots=True)
class Interpreters:
    """Workers that are subinterpreters: `Pool(handle, executor=Interpreters(batch=1))`; "interpreter" has the defaults.

    Raises TypeError or ValueError for an argument that is wrong, and ValueError on a Python that has no such workers.
    """

    batch: int | None = None
    """How many items an interpreter is sent at once, at most 256; None: as for `Processes`."""
    initializer: Callable[..., object] | None = None
    """Called with `initargs` in each interpreter before its first item. If it raises, the interpreter cannot start;
    three such in a row stop the pool."""
    initargs: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        _check_version()
        _check_batch(self.batch)
        check_initializer(self.initializer, self.initargs)


def _check_batch(batch: int | None) -> None:
    checked_count("batch", batch, 1)
    if batch is not None and batch > MOST:
        raise ValueError(f"batch must be at most {MOST}, not {batch}")


def _check_version() -> None:
    if sys.version_info[:2] < SINCE:
        raise ValueError(
            f"executor='interpreter' needs Python {'.'.join(map(str, SINCE))} or later, and this is "
            f"{'.'.join(map(str, sys.version_info[:2]))}"
        )
    if not GIL:
        raise ValueError(
            "executor='interpreter' is for a Python with a GIL; without it, threads run side by side: use 'thread'"
        )
