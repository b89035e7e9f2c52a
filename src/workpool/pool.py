"""`Pool`: the one place where queue, lifecycle, workers and ledger meet."""

from __future__ import annotations

import inspect
import logging
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from workpool import _stopping, metrics
from workpool._clock import SYSTEM, Clock, sit
from workpool._context import is_worker_of
from workpool._control import ControlledQueue
from workpool._core.discipline import Fifo
from workpool._core.ledger import PoolStats
from workpool._core.lifecycle import Event, State, after
from workpool._core.report import DrainReport
from workpool._fate import Hooks
from workpool._future import ItemFuture
from workpool.errors import PoolError, StopTimeout
from workpool.workers.threads import Threads

if TYPE_CHECKING:
    from typing import Self

    from prometheus_client import CollectorRegistry

__all__ = ["DEFAULT_QUEUE_SIZE", "DEFAULT_STOP_TIMEOUT", "DEFAULT_WORKERS", "Pool"]

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_WORKERS: Final = 10
DEFAULT_QUEUE_SIZE: Final = 1000
DEFAULT_STOP_TIMEOUT: Final = 30.0

log = logging.getLogger("workpool")


class Pool(Generic[T, R]):
    """A bounded queue of items of type `T` and the threads that run `process` on them.

    Constructing it starts nothing. `with pool:` starts the workers and, at the end of the block, drains:
    every accepted item has met its fate, or `StopTimeout` says which have not. A pool starts once.
    All methods may be called from any thread; from a process function, a hook or a signal handler too,
    except those that wait.

    Args:
        process: called with each item, in a worker. What it raises, SystemExit included, fails the item
            and leaves the worker alive; it is logged and given to the hook, or to the future if there is one.
        workers: how many threads; None is the default of 10.
        queue_size: how many accepted items may wait for a worker; None is the default of 1000.
        name: for metrics, logs and threads; by default the function's.
        hooks: what to call when an item fails that has no future.
        stop_timeout: seconds (None: no limit) for the stop at the end of a `with` block and at
            interpreter exit.
        metrics: True exports to Prometheus on the default registry; or the registry to use.
        metrics_prefix: export the Go package's seven series under this prefix too; implies `metrics`.
        clock: where time comes from; for tests.

    Raises:
        TypeError: `process` cannot be called with an item, or an argument has the wrong type.
        ValueError: a number is out of range, or a name is no metrics name.
        ImportError: metrics are wanted, and prometheus_client is not installed.
    """

    def __init__(
        self,
        process: Callable[[T], R],
        *,
        workers: int | None = None,
        queue_size: int | None = None,
        name: str | None = None,
        hooks: Hooks[T] | None = None,
        stop_timeout: float | None = DEFAULT_STOP_TIMEOUT,
        metrics: bool | CollectorRegistry | None = False,
        metrics_prefix: str | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        _check_process(process)
        _check_hooks(hooks)
        self._queue: ControlledQueue[T] = ControlledQueue(
            _name(name, process),
            Fifo(_count("queue_size", queue_size, DEFAULT_QUEUE_SIZE)),
            _count("workers", workers, DEFAULT_WORKERS),
            clock,
            _seconds("stop_timeout", stop_timeout),
        )
        self._threads = Threads(self._queue, process, Hooks() if hooks is None else hooks)
        self._export = _exporter(metrics, metrics_prefix, self._queue)
        _stopping.watch(self._queue)
        weakref.finalize(self, _dropped, self._queue).atexit = False

    @property
    def name(self) -> str:
        return self._queue.name

    # -- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, and export metrics.

        Raises `PoolAlreadyStarted`; `PoolStopped` for a pool that was stopped; `NameTaken` if another
        running pool exports metrics of this name or prefix on the same registry, which leaves this one
        unstarted; RuntimeError if the system has no more threads, which leaves it stopped.
        """
        after(self._queue.state, Event.START, self.name)
        try:
            if self._export is not None:
                self._export.register()
            self._queue.start()
            self._threads.fill()
        except PoolError:
            raise
        except BaseException:
            self._queue.close(drain=False)
            self.unregister()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop(self._queue.stop_timeout)
        except StopTimeout as cut:
            if error is None:
                raise
            log.error("%s; at the end of a block that had failed itself", cut)
            error.add_note(str(cut))

    # -- handing items over --------------------------------------------------------------------

    def submit(self, item: T) -> None:
        """Hand `item` over; returns at once, or raises at once.

        Raises `QueueFull`, `PoolNotStarted` or `PoolStopped`; each means that the item was not accepted.
        Costs about half a microsecond.
        """
        if not self._queue.offer(item, None):
            self._queue.refuse()

    def submit_wait(self, item: T, timeout: float | None = None) -> None:
        """`submit`, waiting for room for at most `timeout` seconds (None: for ever).

        Who waited longest is served first. Raises `QueueFull` when the time is up, and `PoolStopped`
        as soon as the pool closes; each means that the item was not accepted. Waiting in a process
        function of this pool for room in this pool deadlocks if all workers do it.
        """
        if not self._queue.offer(item, None):
            queue = self._queue
            sit(queue.clock, partial(queue.entering, item, None, _seconds("timeout", timeout)))

    def call(self, item: T) -> ItemFuture[R]:
        """Submit, and have the result: a `concurrent.futures.Future`.

        Raises what `submit` does. `cancel()` takes the item back while it is queued. The process
        function's exception is the future's. An item that a stop handed back has its future cancelled,
        one that it abandoned fails with `ItemAbandoned`: no future outlives its pool undone.
        Costs a few microseconds more than `submit`.
        """
        future: ItemFuture[R] = ItemFuture(self._queue.withdraw)
        if not self._queue.offer(item, future):
            self._queue.refuse()
        return future

    def map(self, items: Iterable[T]) -> Iterator[R]:
        """The results of all `items`, in their order, each as soon as it and those before it are done.

        Lazy: takes from `items` only what queue and workers have room for, waits for room, never sheds.
        An item's exception is raised at its turn; that, or closing the iterator, cancels what is queued.
        """
        queue = self._queue
        window = queue.size + queue.target
        flight: deque[ItemFuture[R]] = deque()
        try:
            for item in items:
                future: ItemFuture[R] = ItemFuture(queue.withdraw)
                sit(queue.clock, partial(queue.entering, item, future, None))
                flight.append(future)
                while flight and (len(flight) >= window or flight[0].done()):
                    yield flight.popleft().result()
            while flight:
                yield flight.popleft().result()
        finally:
            for future in flight:
                future.cancel()

    # -- stopping ------------------------------------------------------------------------------

    def stop(self, timeout: float | None = DEFAULT_STOP_TIMEOUT, drain: bool = True) -> DrainReport[T]:
        """Refuse new items, let the workers finish what was accepted, and report.

        `drain=False` hands the queued items back instead, in `report.unprocessed`. At the timeout
        (seconds; None: no limit) queued items are handed back too, running ones see
        `current().cancelled`, and what still runs half a second later is abandoned. The timeout is for
        items: `stop(0)` of an idle pool is clean.

        Raises `StopTimeout`, with the report, if the timeout cut the drain short or an item was
        abandoned; RuntimeError in a worker of this pool, which would wait for itself (use `close`).
        A second stop is harmless: it waits with the first, can bring the deadline nearer and turn
        draining off; after the end it returns the same report. A stop lifts a pause.
        """
        seconds = _seconds("timeout", timeout)
        self._refuse_worker("stop", "close()")
        try:
            return _stopping.stop(self._queue, seconds, drain)
        finally:
            self._threads.reap()

    def close(self, drain: bool = True) -> None:
        """The half of `stop` that does not wait. Callable from workers, hooks and signal handlers."""
        self._queue.close(drain)

    # -- looking and steering ------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """A snapshot in which the counts belong together. Costs microseconds for each worker."""
        return self._queue.stats()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing is queued and nothing runs; False if `timeout` seconds were too few.

        The pool goes on accepting. Raises RuntimeError in a worker of this pool.
        """
        seconds = _seconds("timeout", timeout)
        self._refuse_worker("join", "a future of call()")
        queue = self._queue
        until = None if seconds is None else queue.clock.now() + seconds
        return sit(queue.clock, partial(queue.waiting, lambda: queue.idle, lambda: until))

    def pause(self) -> None:
        """Let no worker take another item until `resume`; what runs goes on, and items are still accepted.

        Raises `PoolStopped`.
        """
        self._queue.pause()

    def resume(self) -> None:
        """End a pause. Harmless without one."""
        self._queue.resume()

    def resize(self, workers: int) -> None:
        """Change the number of workers. New ones start now; those too many end after their item.

        Raises `PoolStopped`, and ValueError below 1.
        """
        self._queue.resize(_count("workers", workers, DEFAULT_WORKERS))
        self._threads.fill()

    def unregister(self) -> None:
        """Remove this pool's series from its metrics registry. Harmless without metrics, and twice."""
        if self._export is not None:
            self._export.unregister()

    def __repr__(self) -> str:
        stats = self.stats()
        return (
            f"<Pool {stats.pool!r} {stats.state}: {stats.workers_busy}/{stats.workers} workers busy, "
            f"{stats.queue_depth}/{stats.queue_size} queued>"
        )

    def _refuse_worker(self, what: str, instead: str) -> None:
        if is_worker_of(self._queue):
            raise RuntimeError(f"{what}() in a worker of pool {self.name!r} would wait for itself; use {instead} there")


def _dropped(queue: ControlledQueue[Any]) -> None:
    """Nobody holds the pool any more: let its workers finish and end."""
    was_running = queue.state is State.RUNNING
    queue.close(drain=True)
    if was_running:
        warnings.warn(f"pool {queue.name!r} was dropped without a stop; it drains now", ResourceWarning, stacklevel=2)


def _exporter(
    wanted: bool | CollectorRegistry | None, prefix: str | None, queue: ControlledQueue[Any]
) -> metrics.Export | None:
    if not wanted and prefix is None:
        return None
    return metrics.Export(
        None if wanted is None or isinstance(wanted, bool) else wanted, prefix, queue.name, queue.stats
    )


def _check_process(process: object) -> None:
    if not callable(process):
        raise TypeError(f"process must be a function of one item, not {process!r}")
    if inspect.iscoroutinefunction(process):
        raise TypeError(f"process must be a plain function: {process!r} is async, and these workers are threads")


def _check_hooks(hooks: object) -> None:
    if hooks is not None and not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be Hooks(...), not {hooks!r}")


def _name(name: object, process: object) -> str:
    if name is None:
        own = getattr(process, "__name__", type(process).__name__)
        return own if own.isidentifier() else "pool"
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    if not name:
        raise ValueError("name must not be empty; leave it out (or None) for the function's name")
    return name


def _count(what: str, number: object, default: int) -> int:
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} must be a whole number, not {number!r}")
    if number < 1:
        raise ValueError(
            f"{what} must be at least 1, not {number}; leave it out (or None) for the default of {default}"
        )
    return number


def _seconds(what: str, seconds: object) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} must be a number of seconds, or None for no limit, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{what} must be 0 seconds or more, or None for no limit, not {seconds}")
    return float(seconds)
