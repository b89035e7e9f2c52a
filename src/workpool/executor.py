"""`PoolExecutor`: a pool of threads behind the standard interface for those who run functions, not items.

`loop.run_in_executor`, `concurrent.futures.wait` and `as_completed`, servers and schedulers take it as they take a
`ThreadPoolExecutor`. What it adds: its queue is bounded, its work is counted, and its stop is bounded in time.
A gRPC server expects no executor that refuses or waits, and loses the thread that serves: bound its
`maximum_concurrent_rpcs` by `queue_size`.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from enum import Enum
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, ParamSpec, TypeVar

from workpool._arguments import check_initializer
from workpool._clock import sit
from workpool._context import is_worker_of
from workpool._control import ControlledQueue
from workpool._core.ledger import PoolStats
from workpool._core.report import DrainReport
from workpool._future import ItemFuture, Place
from workpool._living import Living
from workpool.errors import PoolStopped, QueueFull, StopTimeout
from workpool.pool import DEFAULT_STOP_TIMEOUT, Pool

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["OnFull", "PoolExecutor", "Work"]

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("concurrent.futures")  # where those look who had a `ThreadPoolExecutor`

MOST_WORKERS: Final = 32
"""What `ThreadPoolExecutor` starts at most by default; so that one takes the place of the other unchanged."""


class OnFull(Enum):
    """What `PoolExecutor.submit` does when the queue is full."""

    RAISE = "raise"
    """Raise `QueueFull`."""
    WAIT = "wait"
    """Wait for room. Holds up the caller, which must not be an event loop."""
    RUN = "run"
    """Run the function in the caller's thread: who submits too much is slowed down by doing some of it."""


class Work(NamedTuple):
    """A call that was submitted: what a stop's report names."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class PoolExecutor(Executor):
    """A `concurrent.futures.Executor` on a `Pool` of threads.

    The first `submit` starts the threads, all of them, and exports metrics; so an executor that is made before
    a fork can be used after it. The end of a `with` block is `shutdown()`, which waits without a limit.
    All methods may be called from any thread.

    Args:
        max_workers: how many threads; None is the CPUs plus 4, at most 32.
        thread_name_prefix: names the threads `prefix_0`, `prefix_1` and so on; by default they have the pool's name.
        initializer: called with `initargs` in each thread, before its first item. If it raises, the executor is
            broken: what is pending fails with `BrokenThreadPool`, and `submit` raises that from then on.
        queue_size: how many calls may wait for a thread; None is the default of 1000.
        on_full: what `submit` does when the queue is full.
        name: for metrics and logs; by default the prefix, or else `PoolExecutor-0` and so on.
        stop_timeout: seconds (None: no limit) for the stop at interpreter exit.
        carry_context: whether the context variables of whoever submits are those of the function; `ThreadPoolExecutor`
            does not carry them.
        metrics: True exports to Prometheus on the default registry; or the registry to use.
        metrics_prefix: export the Go package's seven series under this prefix too; implies `metrics`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: a number is out of range, or a name is no metrics name; or `OnFull.RUN` with an initializer.
        ImportError: metrics are wanted, and prometheus_client is not installed.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        queue_size: int | None = None,
        on_full: OnFull = OnFull.RAISE,
        name: str | None = None,
        stop_timeout: float | None = DEFAULT_STOP_TIMEOUT,
        carry_context: bool = False,
        metrics: bool | CollectorRegistry | None = False,
        metrics_prefix: str | None = None,
    ) -> None:
        _check_prefix(thread_name_prefix)
        check_initializer(initializer, initargs)
        _check_on_full(on_full, initializer)
        self._max_workers = _workers(max_workers)  # known by this name to some who look into an executor
        self._on_full = on_full
        self._readiness = _Readiness(thread_name_prefix, initializer, initargs)
        self._pool: Pool[Work, Any] = Pool(
            self._readiness.run if thread_name_prefix or initializer is not None else _run,
            workers=self._max_workers,
            queue_size=queue_size,
            name=thread_name_prefix or f"PoolExecutor-{next(_numbers)}" if name is None else name,
            stop_timeout=stop_timeout,
            carry_context=carry_context,
            metrics=metrics,
            metrics_prefix=metrics_prefix,
        )
        self._queue: ControlledQueue[Work] = self._pool._queue  # pyright: ignore[reportPrivateUsage]
        self._readiness.queue = self._queue
        self._offer: Callable[[Work, ItemFuture[Any]], bool] | None = None
        """None until the pool was started."""
        self._starting = threading.RLock()
        _executors.add(self)

    @property
    def name(self) -> str:
        return self._pool.name

    # -- handing work over ---------------------------------------------------------------------

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have `fn(*args, **kwargs)` run in a thread. Its future can be cancelled while it is queued.

        Raises `PoolStopped`, a RuntimeError, after a shutdown; `BrokenThreadPool` after an initializer failed;
        `QueueFull` if the queue is full and `on_full` says so. In a thread of this executor nothing waits for room,
        which might never come: `OnFull.WAIT` is `OnFull.RUN` there. The first submit also raises `NameTaken`, if
        another running pool exports metrics of this name, and RuntimeError if the system has no more threads.
        """
        future: ItemFuture[R] = ItemFuture(self._queue)
        work = _work(Work, (fn, args, kwargs))
        try:
            if not (self._offer or self._start())(work, future):
                self._find_room(work, future, self._on_full, None)
        except PoolStopped as stopped:
            self._refuse(stopped)
        return future

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """The results of `fn` for the items of all `iterables`, in their order.

        Submits everything at once, waiting for room (with `OnFull.RUN`: running what finds none); with `buffersize`,
        only so many that were not yielded yet, and takes the next items as results are asked for.
        `chunksize` has no effect, as with every executor of threads.

        An exception of `fn` is raised at its turn; TimeoutError, by `map` or at a result, when `timeout` seconds have
        passed since the call. Either, or closing the iterator, cancels what is queued.
        """
        _check_map(timeout, chunksize, buffersize)
        until = None if timeout is None else self._queue.clock.now() + timeout
        calls = iter(zip(*iterables, strict=False))
        flight: deque[Future[R]] = deque()
        try:
            for args in islice(calls, buffersize):
                flight.append(self._enter(fn, args, until))
        except BaseException:
            _cancel(flight)
            raise
        return self._results(fn, calls, flight, until)

    def _results(
        self, fn: Callable[..., R], calls: Iterator[tuple[Any, ...]], flight: deque[Future[R]], until: float | None
    ) -> Iterator[R]:
        """What `flight` yields, filled up from `calls`. Keeps no result that it has yielded."""
        now = self._queue.clock.now
        try:
            while flight:
                ready = [flight[0].result(None if until is None else until - now())]
                flight.popleft()
                for args in islice(calls, 1):
                    flight.append(self._enter(fn, args, until))
                yield ready.pop()
        finally:
            _cancel(flight)

    def _enter(self, fn: Callable[..., R], args: tuple[Any, ...], until: float | None) -> Future[R]:
        """`submit` for `map`."""
        future: ItemFuture[R] = ItemFuture(self._queue)
        work = Work(fn, args, {})
        try:
            if not (self._offer or self._start())(work, future):
                self._find_room(work, future, OnFull.RUN if self._on_full is OnFull.RUN else OnFull.WAIT, until)
        except PoolStopped as stopped:
            self._refuse(stopped)
        except QueueFull:
            raise TimeoutError(f"executor {self.name!r} had no room for an item of map() in time") from None
        return future

    def _find_room(self, work: Work, future: ItemFuture[Any], on_full: OnFull, until: float | None) -> None:
        """Do what `on_full` says about work that found the queue full."""
        queue = self._queue
        if on_full is OnFull.RAISE:
            queue.refuse()
        elif on_full is OnFull.RUN or is_worker_of(queue):
            _run_here(work, future)
        else:
            timeout = None if until is None else until - queue.clock.now()
            sit(queue.clock, partial(queue.entering, work, future, timeout))

    def _start(self) -> Callable[[Work, ItemFuture[Any]], bool]:
        """Start the pool, once."""
        try:  # not `with`: on 3.14 that stays locked for ever after a Ctrl-C in the wrong place
            self._starting.acquire()
            if self._offer is None:
                self._pool.start()
                self._offer = self._queue.offer
            self._starting.release()
        except BaseException:
            try:
                self._starting.release()
            except RuntimeError:
                pass
            raise
        return self._offer

    def _refuse(self, stopped: PoolStopped) -> NoReturn:
        if self._broken:
            raise _broken_pool(self._broken) from None
        # The words of the standard library, for those who look for them.
        raise PoolStopped(f"cannot schedule new futures after shutdown: {stopped}") from None

    @property
    def _broken(self) -> str:
        """Why nothing runs any more; empty while it does."""
        return self._readiness.broken

    # -- stopping ------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept nothing more and, if `wait`, wait until all that was accepted has run; for ever, if need be.

        `cancel_futures` cancels what is queued. Raises RuntimeError for `wait` in a thread of this executor.
        May be called again.
        """
        if not wait:
            self._pool.close(drain=not cancel_futures)
            if cancel_futures:
                _disclaim(self._queue)
            return
        self._refuse_worker("shutdown()")
        try:
            self._pool.stop(None, drain=not cancel_futures)
        except StopTimeout:
            return  # the timeout was that of somebody else's `stop`, who was told

    def stop(self, timeout: float | None = DEFAULT_STOP_TIMEOUT, drain: bool = True) -> DrainReport[Work]:
        """`shutdown` within a time, with a report.

        `drain=False` cancels what is queued. At the timeout (seconds; None: no limit) what is queued is cancelled
        too, what runs sees `current().cancelled`, and what still runs half a second later is abandoned: its future
        fails with `ItemAbandoned`.

        Raises `StopTimeout`, with the report, if anything that was to run did not; RuntimeError in a thread of this
        executor. A second stop is harmless, and can bring the deadline nearer.
        """
        self._refuse_worker("stop()")
        return self._pool.stop(timeout, drain)

    def _refuse_worker(self, what: str) -> None:
        if is_worker_of(self._queue):
            raise RuntimeError(
                f"{what} in a thread of executor {self.name!r} would wait for itself; use shutdown(wait=False) there"
            )

    # -- looking -------------------------------------------------------------------------------

    def stats(self) -> PoolStats:
        """A snapshot in which the counts belong together. What `OnFull.RUN` ran in its caller's thread is not in it."""
        return self._pool.stats()

    def unregister(self) -> None:
        """Remove this executor's series from its metrics registry. Harmless without metrics, and twice."""
        self._pool.unregister()

    def __repr__(self) -> str:
        return f"<PoolExecutor on {self._pool!r}>"


def _run_here(work: Work, future: ItemFuture[Any]) -> None:
    """Run the work in this thread. What is no `Exception`, such as Ctrl-C, is raised too: it is for the caller."""
    future.place = Place.TAKEN  # so that no `cancel` takes from the queue what is not in it
    future.set_running_or_notify_cancel()
    try:
        future.set_result(_run(work))
    except Exception as error:
        future.set_exception(error)
    except BaseException as error:
        future.set_exception(error)
        raise


class _Readiness:
    """What a thread does before its first item: takes its name, and runs the initializer."""

    def __init__(self, prefix: str, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        self.queue: ControlledQueue[Work] | None = None
        self.broken = ""
        self._prefix = prefix
        self._numbers = count()
        self._initializer = initializer
        self._initargs = initargs
        self._here = threading.local()

    def run(self, work: Work) -> Any:
        """The process function. When the initializer has failed, it fails each item that is still queued."""
        if not hasattr(self._here, "ready"):
            self._prepare()
        if self.broken:
            raise _broken_pool(self.broken)
        return _run(work)

    def _prepare(self) -> None:
        self._here.ready = True
        if self._prefix:
            threading.current_thread().name = f"{self._prefix}_{next(self._numbers)}"
        if self._initializer is None:
            return
        try:
            self._initializer(*self._initargs)
        except BaseException as error:
            assert self.queue is not None
            self.broken = f"the initializer of executor {self.queue.name!r} failed: {error!r}"
            log.critical("Exception in the initializer of executor %r:", self.queue.name, exc_info=error)
            self.queue.close(drain=True)


def _broken_pool(why: str) -> BrokenExecutor:
    from concurrent.futures.thread import BrokenThreadPool  # half a millisecond, for who has no use for it

    return BrokenThreadPool(why)


def _run(work: Work) -> Any:
    fn, args, kwargs = work
    return fn(*args, **kwargs)


def _disclaim(queue: ControlledQueue[Work]) -> None:
    """What was handed back was cancelled by who knows of it: no stop reports it as lost, nor the interpreter's exit."""
    for entry in queue.handed_back or ():
        future = entry[2]
        if future is not None:
            future.place = Place.WITHDRAWN


def _cancel(flight: deque[Future[R]]) -> None:
    """Cancel all, and forget them: an exception that one has would else keep itself alive."""
    while flight:
        flight.pop().cancel()


_new: Any = tuple
_work: Final[Callable[[type[Work], tuple[Any, ...]], Work]] = _new.__new__  # as `Work(...)`, without a detour
_numbers: Final = count()
_executors: Final[Living[PoolExecutor]] = Living()


@atexit.register
def _at_exit() -> None:
    """Let none start that has not: its threads would die with the interpreter. The others' pools see to themselves."""
    for executor in _executors.all():
        if executor.stats().state == "new":
            executor.shutdown(wait=False)


def _check_prefix(prefix: object) -> None:
    if not isinstance(prefix, str):
        raise TypeError(f"thread_name_prefix must be a string, not {prefix!r}")


def _check_on_full(on_full: object, initializer: object) -> None:
    if not isinstance(on_full, OnFull):
        raise TypeError(f"on_full must be one of {', '.join(map(str, OnFull))}, not {on_full!r}")
    if on_full is OnFull.RUN and initializer is not None:
        raise ValueError(
            "OnFull.RUN would run work in threads that the initializer has not prepared; use OnFull.WAIT with one"
        )


def _check_map(timeout: object, chunksize: object, buffersize: object) -> None:
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float)):
        raise TypeError(f"timeout must be a number of seconds, or None, not {timeout!r}")
    if isinstance(chunksize, bool) or not isinstance(chunksize, int):
        raise TypeError(f"chunksize must be an integer, not {chunksize!r}")
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")
    if buffersize is not None and (isinstance(buffersize, bool) or not isinstance(buffersize, int)):
        raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
    if buffersize is not None and buffersize < 1:
        raise ValueError(f"buffersize must be None or > 0, not {buffersize}")


def _workers(number: object) -> int:
    if number is None:
        cpus: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
        return min(MOST_WORKERS, (cpus() or 1) + 4)
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"max_workers must be an integer, or None, not {number!r}")
    if number < 1:
        raise ValueError(f"max_workers must be greater than 0, not {number}")
    return number
