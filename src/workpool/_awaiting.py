"""Waiting as a task does: in an event loop, without holding it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import TypeVar

from workpool._clock import Clock, Steps, Wake

__all__ = ["Bell", "await_steps"]

R = TypeVar("R")


class Bell:
    """Where one task waits: `ring` wakes it, from any thread, and harmlessly more than once."""

    __slots__ = ("_clock", "_ident", "_loop", "_on_closed", "_rung", "_sleeper")

    def __init__(
        self, clock: Clock, loop: asyncio.AbstractEventLoop, on_closed: Callable[[], object] = lambda: None
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._on_closed = on_closed
        self._ident = 0
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self, _: None = None) -> None:
        """Wake the task, or let it not fall asleep. Of a loop that is closed there is nobody to wake: `on_closed`."""
        self._rung = True
        try:
            if self._ident == get_ident() and asyncio.current_task(self._loop) is not None:
                self._wake()
            else:  # another thread; or a signal handler while the loop sleeps in its selector, which this wakes
                self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            self._on_closed()

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Until it rings, or has rung, or the time is up. May end without a reason: look again."""
        if not self._rung:
            self._ident = get_ident()
            self._sleeper = self._loop.create_future()
            undo = None if seconds is None else self._clock.later(self._loop, seconds, self.ring)
            try:
                await self._sleeper
            finally:
                self._sleeper = None
                if undo is not None:
                    undo()
        self._rung = False


async def await_steps(clock: Clock, start: Callable[[Wake], Steps[R]]) -> R:
    """Run what waits in this task. `start` gets what wakes it. A cancellation goes into the wait, and no further."""
    bell = Bell(clock, asyncio.get_running_loop())
    steps = start(bell.ring)
    try:
        while True:
            await bell.wait(next(steps))
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
