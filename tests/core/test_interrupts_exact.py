"""Ctrl-C and signal handlers after each single call of the pool's own code, and in a lock that lies."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from tests.core.kit import Liar, at_each_call, in_thread
from workpool import Pool, PoolError, PoolStopped, StopTimeout
from workpool._future import ItemFuture
from workpool._state import Waiter

pytestmark = pytest.mark.usefixtures("quiet", "nobody_stays")

made: list[Pool[str, None]] = []


@pytest.fixture
def nobody_stays() -> Iterator[None]:
    """A test that fails leaves no worker to the next."""
    yield
    for pool in made:
        pool.close(drain=False)
    made.clear()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Busy:
    """A paused pool with three queued items, two of them with futures, and what has run."""

    def __init__(self, queue_size: int = 5) -> None:
        self.ran: list[str] = []
        self.pool: Pool[str, None] = Pool(self.ran.append, workers=1, queue_size=queue_size)
        made.append(self.pool)
        self.start()

    def start(self) -> None:
        self.pool.start()
        self.pool.pause()
        self.pool.submit("first")
        self.futures: list[ItemFuture[None]] = [self.pool.call("second"), self.pool.call("third")]

    def is_whole(self) -> None:
        """Another thread gets the lock, the ledger balances, and each item is found where its future says."""
        assert in_thread(self.pool.stats).result().balance() == 0
        try:
            report = self.pool.stop(20)
        except StopTimeout as error:
            report = error.report
        assert report.abandoned == ()
        stats = self.pool.stats()
        assert (stats.balance(), stats.queue_depth, stats.running, stats.state) == (0, 0, 0, "stopped")
        assert stats.submitted == stats.succeeded + stats.cancelled
        assert stats.succeeded == len(self.ran)
        assert all(future.done() for future in self.futures)
        for name, future in zip(("second", "third"), self.futures, strict=False):
            assert self.ran.count(name) == (0 if future.cancelled() else 1)
        assert self.ran.count("first") + report.unprocessed.count("first") == (1 if stats.submitted else 0)


class Full(Busy):
    """The same with no room left, and two who wait for it."""

    def __init__(self) -> None:
        super().__init__(queue_size=3)
        queue = self.pool._queue
        self.waiters = [Waiter(queue._lane, lambda _: None), Waiter(queue._lane, lambda _: None)]
        for waiter in self.waiters:
            assert not queue.enter(("late", 0.0, None, None), waiter)

    def is_whole(self) -> None:
        queue = self.pool._queue
        waiting, kept = len(queue._lane.waiters), sum(waiter.granted for waiter in self.waiters)
        if self.pool.stats().state == "running":
            assert not (waiting and queue._lane.accepted < queue._lane.limit), "somebody waits although there is room"
            assert waiting + kept == 2
            for waiter in self.waiters:
                queue.forsake(waiter)
            self.holds(3)
        super().is_whole()

    def holds(self, size: int) -> None:
        """No slot was lost, and none was made."""
        with pytest.raises(PoolError):
            while True:
                self.pool.submit("more")
        assert self.pool.stats().queue_depth == size


def looks(busy: Busy) -> None:
    assert busy.pool.stats().balance() == 0


ACTIONS: dict[str, Callable[[Busy], object]] = {
    "submit": lambda busy: busy.pool.submit("new"),
    "submit_wait": lambda busy: busy.pool.submit_wait("new", timeout=0),
    "call": lambda busy: busy.futures.append(busy.pool.call("new")),
    "cancel": lambda busy: busy.futures[0].cancel(),
    "cancel both": lambda busy: [future.cancel() for future in busy.futures],
    "stats": looks,
    "resume": lambda busy: busy.pool.resume(),
    "pause": lambda busy: busy.pool.pause(),
    "grow": lambda busy: busy.pool.resize(2),
    "shrink": lambda busy: busy.pool.resize(1),
    "close": lambda busy: busy.pool.close(),
    "close without a drain": lambda busy: busy.pool.close(drain=False),
    "stop": lambda busy: busy.pool.stop(20),
    "stop without a drain": lambda busy: busy.pool.stop(20, drain=False),
}


CASES = [(make, action) for make in (Busy, Full) for action in ACTIONS if (make, action) != (Full, "resume")]
PATHS = [(make, action) for make, action in CASES if action not in ("call", "stop", "pause")]
"""The same without what takes the way of another: that would cost seconds."""


def a_handler_submits(busy: Busy) -> None:
    try:
        busy.pool.submit("handler's")
    except PoolError:
        pass


HANDLERS: dict[str, Callable[[Busy], object]] = {
    "submits": a_handler_submits,
    "cancels": lambda busy: busy.futures[1].cancel(),
    "closes": lambda busy: busy.pool.close(),
    "closes without a drain": lambda busy: busy.pool.close(drain=False),
    "looks": looks,
}


@pytest.mark.parametrize(("make", "action"), CASES)
def test_a_keyboard_interrupt_after_any_call_leaves_the_pool_whole(make: Callable[[], Busy], action: str) -> None:
    for busy in at_each_call(make, ACTIONS[action], interrupt, KeyboardInterrupt, PoolError):
        busy.is_whole()


@pytest.mark.parametrize(("make", "action"), PATHS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_a_handler_after_any_call_leaves_the_pool_whole(make: Callable[[], Busy], action: str, handler: str) -> None:
    for busy in at_each_call(make, ACTIONS[action], HANDLERS[handler], PoolError):
        busy.is_whole()


class Cold(Busy):
    """A pool that is yet to be started."""

    def start(self) -> None:
        self.futures = []


@pytest.mark.parametrize("event", [interrupt, *HANDLERS.values()], ids=["interrupt", *HANDLERS])
def test_a_start_that_is_disturbed_after_any_call_leaves_no_worker_and_no_item(event: Callable[[Busy], object]) -> None:
    def disturb(busy: Busy) -> None:
        if busy.futures or event is not HANDLERS["cancels"]:
            event(busy)

    for busy in at_each_call(Cold, lambda busy: busy.pool.start(), disturb, KeyboardInterrupt, PoolStopped):
        stats = in_thread(busy.pool.stats).result()
        assert stats.balance() == 0
        assert (stats.state in ("new", "running")) == (busy.pool._queue.closed_at is None)
        try:
            report = busy.pool.stop(20)
        except StopTimeout as error:
            report = error.report
        assert report.unprocessed in ((), ("handler's",))
        stats = busy.pool.stats()
        assert (stats.balance(), stats.queue_depth, stats.state) == (0, 0, "stopped")


def interrupt_unless_an_error_is_handled() -> None:
    """Between the beginning of an `except` and the end of its first call, the interpreter interrupts nothing."""
    if sys.exc_info()[0] is None:
        raise KeyboardInterrupt


SLOTS: dict[str, tuple[str, bool]] = {
    "before it has tried to take the lock": ("try_acquire", True),
    "when it has tried": ("try_acquire", False),
    "before it has taken the lock": ("acquire", True),
    "when it has taken it": ("acquire", False),
    "before it has given it back": ("release", True),
    "when it has given it back": ("release", False),
}


@pytest.mark.parametrize(("make", "action"), PATHS)
@pytest.mark.parametrize("slot", SLOTS)
def test_a_keyboard_interrupt_in_a_lock_that_lies_leaves_the_lock_free(
    make: Callable[[], Busy], action: str, slot: str
) -> None:
    name, before = SLOTS[slot]
    for at in range(1, 100):
        busy = make()
        queue = busy.pool._queue
        real = getattr(queue, name)
        liar = Liar(real, interrupt_unless_an_error_is_handled if before else interrupt, at=at, before=before)
        setattr(queue, name, liar)
        try:
            ACTIONS[action](busy)
        except (KeyboardInterrupt, PoolError):
            pass
        setattr(queue, name, real)
        busy.is_whole()
        if liar.calls < at:
            return
