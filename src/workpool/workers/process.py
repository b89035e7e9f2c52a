"""Workers that are processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool.workers import board, child
from workpool.workers.children import Child, context_for
from workpool.workers.distant import DistantWorkers
from workpool.workers.seats import Plan
from workpool.workers.settings import Processes

__all__ = ["ProcessWorkers"]

T = TypeVar("T")


class ProcessWorkers(DistantWorkers[T]):
    """The processes of one pool, and their threads."""

    def __init__(
        self, queue: ControlledQueue[T], process: Callable[[T], object], hooks: Hooks[T], settings: Processes
    ) -> None:
        super().__init__(queue, process, hooks, settings, Plan(settings.batch, board.ITEMS, settings.max_items))
        self._context = context_for(settings.start_method)

    def _start(self, setup: child.Setup) -> Child:
        return Child(self._context, setup._replace(forked=self._context.get_start_method() == "fork"))
