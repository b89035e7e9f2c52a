"""A thread for a pool in which something is to happen later: an item is to be tried again, or may start.

It comes when it is first needed, and ends with the last worker.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from workpool._clock import Steps, Wake, sit
from workpool._control import ControlledQueue

__all__ = ["Timekeeper"]

log = logging.getLogger("workpool")

REAP = 0.5
"""Seconds to wait for the thread to end, when no worker is left."""


class Timekeeper:
    """Waits for one queue, and by that keeps its time: `ControlledQueue.waiting` does whatever is due."""

    def __init__(self, queue: ControlledQueue[Any]) -> None:
        self._queue = queue
        self._is_needed = threading.Lock()
        """Taken by the first who needs it, for good."""
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, unless it was. If the system has no thread to give, only whoever waits for the pool keeps time."""
        if not self._is_needed.acquire(blocking=False):
            return
        thread = threading.Thread(target=self._run, name=f"{self._queue.name}-time", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._is_needed.release()
            log.warning("pool %r has no thread that keeps its time: %s", self._queue.name, error)
            return
        self._thread = thread

    def reap(self) -> None:
        """Wait for the thread, which ends when no worker is left."""
        if self._thread is not None and not self._queue.workers:
            self._thread.join(REAP)

    async def reap_async(self) -> None:
        """The same, for a task."""
        from asyncio import sleep  # whoever waits here has imported it; for the others it is slow

        until = time.monotonic() + REAP
        while self._is_alive() and time.monotonic() < until:  # noqa: ASYNC110 - a thread that ends tells nobody
            await sleep(0.001)

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        sit(self._queue.clock, self._keeping)

    def _keeping(self, wake: Wake) -> Steps[None]:
        yield from self._queue.waiting(lambda: not self._queue.workers, lambda: None, wake)
