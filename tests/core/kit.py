"""What the tests of the core share: a hurried clock, threads with a result, and three ways to
force bad luck: a function that lies, a worker that comes when told to, an event after each call."""

from __future__ import annotations

import dis
import gc
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any, Final, Generic, TypeVar, cast

import pytest

import workpool
from workpool._clock import Clock, Parker, park, sit
from workpool._control import ControlledQueue
from workpool._core.discipline import Discipline, Fifo
from workpool._future import ItemFuture
from workpool._state import Waiter
from workpool._worker import NONE, Worker

R = TypeVar("R")
S = TypeVar("S")


def hurried(factor: float) -> Clock:
    """Real time, `factor` times as fast: a grace of half a second is over in half a second by `factor`."""
    return Clock(
        lambda: perf_counter() * factor,
        lambda parker, seconds: park(parker, None if seconds is None else seconds / factor),
    )


class Task(Generic[R]):
    """A function that runs in a thread, and what it returned or raised."""

    def __init__(self, function: Callable[[], R]) -> None:
        self._function = function
        self._outcome: queue.SimpleQueue[tuple[R | None, BaseException | None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self._outcome.put((self._function(), None))
        except BaseException as error:
            self._outcome.put((None, error))

    def result(self) -> R:
        value, error = self._outcome.get(timeout=20)
        if error is not None:
            raise error
        return cast(R, value)


def in_thread(function: Callable[[], R]) -> Task[R]:
    return Task(function)


def examples(count: int) -> int:
    """So many, or a share of that, if somebody else tries all (the environment's EXAMPLES, from 0 to 1)."""
    return max(1, round(count * float(os.environ.get("EXAMPLES", "1"))))


def until(reached: Callable[[], bool]) -> None:
    """Look again and again, for 20 seconds: for what tells nobody when it comes."""
    over = threading.Event()
    timer = threading.Timer(20, over.set)
    timer.start()
    try:
        while not reached():
            assert not over.is_set()
    finally:
        timer.cancel()
        timer.join()


def together(*functions: Callable[[], object]) -> None:
    """Run all at the same time, and have any exception raised here."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> object:
        barrier.wait(20)
        return function()

    for task in [Task(partial(run, function)) for function in functions]:
        task.result()


class Liar:
    """Does what `real` does, and at the `at`-th call something unlucky too: after that, or before.

    Only in the thread that made it.
    """

    def __init__(
        self,
        real: Callable[..., Any],
        event: Callable[[], object],
        *,
        at: int = 1,
        before: bool = False,
    ) -> None:
        self.calls = 0
        self._real = real
        self._event = event
        self._at = at
        self._before = before
        self._thread = threading.get_ident()

    def __call__(self, *args: Any) -> Any:
        if self._thread != threading.get_ident():
            return self._real(*args)
        self.calls += 1
        unlucky = self.calls == self._at
        if unlucky and self._before:
            self._event()
        result = self._real(*args)
        if unlucky and not self._before:
            self._event()
        return result


class Puppet:
    """A worker without a thread, which comes to the queue when told to."""

    def __init__(self, queue: ControlledQueue[Any], name: str = "puppet") -> None:
        self.wakes = 0
        self.worker: Worker[Any] = Worker(name, self._wake)
        assert queue.enlist(self.worker)
        assert queue.arrive(self.worker, 0)
        self._takes = queue.takes(self.worker)
        self.is_coming = False

    def _wake(self, _: None) -> None:
        self.wakes += 1

    def comes(self, fate: int = NONE) -> object:
        """Settle the item in hand, and take the next: that, or None."""
        self.wakes = 0
        self.worker.fate = fate
        self.is_coming = True
        entry = next(self._takes, None)
        self.is_coming = False
        return None if entry is None else entry[0]


def come_who_are_woken(*puppets: Puppet) -> list[object]:
    """Let everybody come whom the queue has woken, as long as it wakes anybody; what they took."""
    taken: list[object] = []
    while woken := [puppet for puppet in puppets if puppet.wakes]:
        taken += [item for item in [woken[0].comes()] if item is not None]
    return taken


class Stage:
    """A started queue without threads, what waits for room in it, and a clock that lies to who parks."""

    def __init__(self, size: int = 1, workers: int = 1, rule: Discipline[Any] | None = None) -> None:
        self.now = 0.0
        self.while_parked: Callable[[], object] = lambda: pytest.fail("nobody was to park")
        clock = Clock(lambda: self.now, self._park)
        self.queue: ControlledQueue[Any] = ControlledQueue("stage", rule or Fifo(size), workers, clock, None)
        self.queue.start()

    def _park(self, _: Parker, timeout: float | None) -> bool:
        event, self.while_parked = self.while_parked, lambda: pytest.fail("parked again")
        event()
        return False

    def call(self, item: object) -> ItemFuture[Any]:
        future: ItemFuture[Any] = ItemFuture(self.queue)
        assert self.queue.offer(item, future)
        return future

    def waits(self) -> tuple[Waiter, list[None]]:
        """Somebody else who waits for room, and the wakes that it got."""
        woken: list[None] = []
        waiter = Waiter(self.queue._lane, woken.append)
        assert not self.queue.enter(("other", 0.0, None, None), waiter)
        return waiter, woken

    def put_wait(self, item: object, future: None, timeout: float | None) -> None:
        sit(self.queue.clock, partial(self.queue.entering, item, future, timeout))

    def joins(self, until: float) -> bool:
        return sit(self.queue.clock, partial(self.queue.waiting, lambda: self.queue.idle, lambda: until))

    def queued(self) -> list[object]:
        return [
            item
            for lane in self.queue.lanes
            for item, _, future, _ in lane.waiting
            if future is None or future.place.value != "withdrawn"
        ]

    def balanced(self) -> bool:
        return self.queue.stats().balance() == 0

    def room(self) -> int:
        """How many items go in, into all lanes; they stay there."""
        count = 0
        for item in ("filler", "filling"):
            while self.queue.offer(item, None):
                count += 1
        return count


SOURCE = str(Path(workpool.__file__).parent)

BREAKS: Final = frozenset({"CALL", "CALL_KW", "CALL_FUNCTION_EX", "JUMP_BACKWARD"})


class Break:
    """By `sys.settrace`: has `event` happen where the interpreter may let others in, at the place of that number.

    Such a place is when a function of the package has been entered, has called something that is not written in Python
    (a type, too), or goes back in a loop. Not when what it has called returns, if that is written in Python.
    """

    def __init__(self, number: int, event: Callable[[], object]) -> None:
        self._number = number
        self._event = event
        self._at: set[int] = set()
        """Frames whose last instruction leads to such a place."""
        self.seen = 0

    def look(self, frame: FrameType, kind: str, _: object) -> Any:
        if kind == "call":
            self._at.discard(id(frame.f_back))
            if not frame.f_code.co_filename.startswith(SOURCE):
                return None
            frame.f_trace = self.look  # before the next line, for 3.13 and later
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self._found()
        elif kind == "opcode":
            if id(frame) in self._at:
                self._at.discard(id(frame))
                self._found()
            if dis.opname[frame.f_code.co_code[frame.f_lasti]] in BREAKS:
                self._at.add(id(frame))
        else:
            self._at.discard(id(frame))
        return self.look

    def _found(self) -> None:
        self.seen += 1
        if self.seen == self._number:
            sys.settrace(None)
            self._event()


def at_each_call(
    make: Callable[[], S], action: Callable[[S], object], event: Callable[[S], object], *expected: type[BaseException]
) -> Iterator[S]:
    """Do `action` to something new, again and again, with `event` at its first break, its second, and so on.

    That is where the interpreter runs signal handlers and raises KeyboardInterrupt, and with the GIL lets another
    thread go on. What is `expected` may be raised.
    """
    for number in count(1):
        subject = make()
        at = Break(number, partial(event, subject))
        gc.disable()  # the finalizers of other pools are calls too
        sys._getframe().f_trace_opcodes = True  # for 3.12, which settles in the next line what is traced
        sys.settrace(at.look)
        try:
            action(subject)
        except expected:
            pass
        finally:
            sys.settrace(None)
            gc.enable()
        yield subject
        if at.seen < number:
            return
