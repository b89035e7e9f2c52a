"""What a kind of worker can be told, as values for `Pool(executor=...)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from workpool._arguments import check_initializer, checked_count

__all__ = ["MOST", "Processes"]

MOST: Final = 256
"""How many items can be sent at once."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Workers that are processes: `Pool(handle, executor=Processes(max_items=1000))`; "process" has the defaults.

    Raises TypeError or ValueError for an argument that is wrong.
    """

    start_method: Literal["forkserver", "spawn", "fork"] | None = None
    """How a process starts; None: "forkserver" where there is one, else "spawn". With "fork" it is a copy of this
    process, in which threads run: a lock that one of them holds at that moment stays locked in the copy for ever."""
    batch: int | None = None
    """How many items a process is sent at once, at most 256; None: as many as take it about a millisecond."""
    max_items: int | None = None
    """After how many items a process is replaced by a new one; None: never."""
    initializer: Callable[..., object] | None = None
    """Called with `initargs` in each process before its first item. If it raises, the process cannot start; three such
    in a row stop the pool."""
    initargs: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.start_method not in (None, "forkserver", "spawn", "fork"):
            raise ValueError(f"start_method must be 'forkserver', 'spawn' or 'fork', not {self.start_method!r}")
        checked_count("batch", self.batch, 1)
        if self.batch is not None and self.batch > MOST:
            raise ValueError(f"batch must be at most {MOST}, not {self.batch}")
        checked_count("max_items", self.max_items, 1)
        check_initializer(self.initializer, self.initargs)
