"""Waiting as a task does: in an event loop, without holding it up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from workpool._clock import Clock, Steps, Wake

__all__ = ["Bell", "await_steps"]

R = TypeVar("R")


class Bell:
    """Where one task waits: `ring` wakes it, from any thread, and harmlessly more than once."""

    __slots__ = ("_clock", "_loop", "_rung", "_sleeper")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self, _: None = None) -> None:
        """Wake the task, or let it not fall asleep. Of a loop that is closed there is nobody to wake."""
        self._rung = True
        try:
            # Also in the loop's own thread: this may be a signal handler, and then only this wakes the selector.
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            return

    def _wake(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Until it rings, or has rung, or the time is up. May end without a reason: look again."""
        if not self._rung:
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
    bell = Bell(clock)
    steps = start(bell.ring)
    try:
        while True:
            await bell.wait(next(steps))
    except StopIteration as end:
        result: R = end.value
        return result
    finally:
        steps.close()
