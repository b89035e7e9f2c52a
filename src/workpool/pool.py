"""`Pool`: the one place where queue, lifecycle, workers and ledger meet."""

from __future__ import annotations

import logging
import warnings
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar, Unpack, overload

from workpool import _stopping, metrics
from workpool._arguments import (
    check_failures,
    check_hooks,
    check_order,
    check_process,
    check_rate,
    checked_discipline,
    checked_name,
)
from workpool._checked import checked_count, checked_flag, checked_limit, checked_seconds
from workpool._clock import SYSTEM, Clock, Steps, Wake, sit
from workpool._context import is_worker_of, worker_here
from workpool._control import ControlledQueue
from workpool._core.discipline import DEFAULT_SIZE, Discipline
from workpool._core.keys import ByKey, Keys, checked_key
from workpool._core.ledger import PoolStats
from workpool._core.lifecycle import Event, State, after
from workpool._core.outcome import Budget, Classify, Failures, Retry
from workpool._core.rate import Rate
from workpool._core.report import DrainReport
from workpool._fate import Hooks, tell_dead, tell_shed
from workpool._future import ItemFuture
from workpool._worker import Ticket
from workpool.errors import PoolDeadlock, PoolError, StopTimeout
from workpool.workers.choice import Executor, check_carrying, checked_executor, choose
from workpool.workers.driver import Driver
from workpool.workers.timekeeper import Timekeeper
from workpool.workers.watch import Watch

if TYPE_CHECKING:
    from typing import Self

    from prometheus_client import CollectorRegistry

__all__ = ["DEFAULT_QUEUE_SIZE", "DEFAULT_STOP_TIMEOUT", "DEFAULT_WORKERS", "Pool"]

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

DEFAULT_WORKERS: Final = 10
DEFAULT_QUEUE_SIZE: Final = DEFAULT_SIZE
DEFAULT_STOP_TIMEOUT: Final = 30.0

log = logging.getLogger("workpool")


class Options(TypedDict, Generic[T], total=False):
    """The arguments of `Pool` that have defaults; it says what they mean."""

    workers: int | None
    queue_size: int | None
    queue: Discipline[T] | None
    name: str | None
    hooks: Hooks[T] | None
    retry: Retry | None
    classify: Classify | None
    key: Callable[[T], Hashable] | ByKey[T] | None
    rate: Rate | None
    executor: Executor | None
    item_timeout: float | None
    stop_timeout: float | None
    carry_context: bool
    metrics: bool | CollectorRegistry | None
    metrics_prefix: str | None
    clock: Clock


class Pool(Generic[T, R]):
    """A bounded queue of items of type `T` and the workers that run `process` on them.

    If `process` is an `async def`, the workers are tasks: of the event loop that runs where the pool is started,
    or, where none does, of one in a thread of its own. Else they are threads.

    Constructing it starts nothing. `with pool:` or `async with pool:` starts the workers and, at the end of the
    block, drains: every accepted item has met its fate, or `StopTimeout` says which have not. A pool starts once.
    All methods may be called from any thread; from a process function, a hook or a signal handler too,
    except those that wait. Those that wait have a form for tasks, of any event loop and with either kind of
    worker: `asubmit`, `acall`, `amap`, `astop`, `ajoin`.

    Args:
        process: called with each item, in a worker. What it raises, SystemExit included, fails the item
            and leaves the worker alive; it is logged and given to the hook, or to the future if there is one.
        workers: how many threads or tasks; None is the default of 10.
        queue_size: how many accepted items may wait for a worker; None is the default of 1000. Short for
            `queue=Fifo(queue_size)`.
        queue: who waits, who is next and who is dropped: `Fifo`, `AdaptiveLifo`, `CoDel` or `Lanes`.
        name: for metrics, logs and threads; by default the function's.
        hooks: what to call when something happens to an item.
        retry: which items are tried again after they have failed, when, and how many; None: none.
        classify: called with what an item raised: what that is to be taken for, an exception or its class, such as
            `Invalid` or `Snooze(5)`; or None: for what it is.
        key: called with an item when it is submitted: items of one key run one at a time and in their order; or
            `ByKey(...)`, which also says what happens to the rest of a key when an item has failed for good.
        rate: how many items may start in how much time; None: as many as there are workers for.
        executor: who runs items: "thread"; "process", or `Processes(...)`; "interpreter", or `Interpreters(...)`, from
            Python 3.14 on; "asyncio", also for what is async without looking it, such as a lambda;
            "inline", for tests, runs each in the thread of whoever submits it, before `submit` returns.
        item_timeout: seconds (None: no limit) that an item may run. Then it fails with `ItemTimeout`: its process is
            killed, its task cancelled; its thread, which cannot be killed, sees `current().cancelled`, and half a
            second later goes on unwatched while another takes its place.
        stop_timeout: seconds (None: no limit) for the stop at the end of a `with` block and at
            interpreter exit.
        carry_context: whether the context variables (`contextvars`) of whoever submits are those of the process
            function.
        metrics: True exports to Prometheus on the default registry; or the registry to use.
        metrics_prefix: export the Go package's seven series under this prefix too; implies `metrics`.
        clock: where time comes from; for tests.

    Raises:
        TypeError: `process` cannot be called with an item, or an argument has the wrong type.
        ValueError: a number is out of range, or a name is no metrics name.
        ImportError: metrics are wanted, and prometheus_client is not installed.
    """

    @overload
    def __init__(self, process: Callable[[T], Coroutine[Any, Any, R]], **options: Unpack[Options[T]]) -> None: ...

    @overload
    def __init__(self, process: Callable[[T], R], **options: Unpack[Options[T]]) -> None: ...

    def __init__(
        self,
        process: Callable[[T], Any],
        *,
        workers: int | None = None,
        queue_size: int | None = None,
        queue: Discipline[T] | None = None,
        name: str | None = None,
        hooks: Hooks[T] | None = None,
        retry: Retry | None = None,
        classify: Classify | None = None,
        key: Callable[[T], Hashable] | ByKey[T] | None = None,
        rate: Rate | None = None,
        executor: Executor | None = None,
        item_timeout: float | None = None,
        stop_timeout: float | None = DEFAULT_STOP_TIMEOUT,
        carry_context: bool = False,
        metrics: bool | CollectorRegistry | None = False,
        metrics_prefix: str | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        check_process(process)
        check_hooks(hooks)
        self._queue: ControlledQueue[T] = ControlledQueue(
            checked_name(name, process),
            checked_discipline(queue, queue_size),
            checked_count("workers", workers, DEFAULT_WORKERS),
            clock,
            checked_seconds("stop_timeout", stop_timeout),
        )
        kind = checked_executor(executor, process)
        if checked_flag("carry_context", carry_context):
            check_carrying(kind)
            self._queue.take_along(_copied)
            self._queue.carries_context = True
        self._set_rules(checked_key(key), rate)
        self._queue.item_timeout = checked_limit("item_timeout", item_timeout)
        self._set_failures(retry, classify)
        hooks = Hooks() if hooks is None else hooks
        self._process = process
        self._queue.tell_dead = partial(tell_dead, self._queue, hooks)
        if hooks.shed is not None:
            self._queue.tell_shed = partial(tell_shed, self._queue, hooks.shed)
        self._driver = choose(kind, self._queue, process, hooks)
        self._watch = _watch(self._queue, kind, hooks, self._driver)
        self._time = Timekeeper(self._queue)
        self._is_inline = kind == "inline"
        if not self._is_inline:  # where whoever submits or waits does everything
            self._queue.keep_time = self._time.start
        self._now = clock.now
        self._offer = self._driver.offer
        self._offer_waiting = self._driver.offer_waiting
        self._queue.here = partial(worker_here, self._queue)
        self._export = _exporter(metrics, metrics_prefix, self._queue)
        _stopping.watch(self._queue)
        weakref.finalize(self, _dropped, self._queue).atexit = False

    def _set_failures(self, retry: Retry | None, classify: Classify | None) -> None:
        """Say what becomes of items that raise."""
        check_failures(retry, classify)
        queue = self._queue
        queue.failures = Failures(retry, classify)
        if retry is not None:
            queue.budget = None if retry.budget is None else Budget(retry.budget)
            queue.most_waiting = queue.size if retry.max_waiting is None else retry.max_waiting

    def _set_rules(self, order: ByKey[T] | None, rate: Rate | None) -> None:
        """Say which items may start."""
        check_rate(rate)
        queue = self._queue
        if order is not None:
            check_order(queue.discipline)
            keys: Keys[T] = Keys(order)
            queue.keys = keys
            queue.take_along(keys.line_of if queue.carry is None else partial(_ticket, keys, queue.carry))
            if order.on_dead == "drop":
                queue.judge_all()
        queue.limiter = None if rate is None else rate.open()
        queue.has_rules = order is not None or rate is not None

    @property
    def name(self) -> str:
        return self._queue.name

    # -- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers, and export metrics.

        Raises `PoolAlreadyStarted`; `PoolStopped` for a pool that was stopped; `NameTaken` if another
        running pool exports metrics of this name or prefix on the same registry, which leaves this one
        unstarted; RuntimeError or OSError if the system has no more threads or the like to give, which closes it:
        it is stopped when the workers that were there have left.
        """
        after(self._queue.state, Event.START, self.name)
        try:
            if self._export is not None:
                self._export.register()
            self._queue.start()
            self._driver.fill()
            if self._watch is not None:
                self._watch.start()
            if self._queue.limiter is not None:
                self._queue.keep_time()
        except PoolError:
            raise
        except BaseException:
            self._queue.close(drain=False)
            self._driver.reap()
            self.unregister()
            raise

    def __enter__(self) -> Self:
        self._driver.refuse_with_block()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._noted_on(error):
            self.stop(self._queue.stop_timeout)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._noted_on(error):
            await self.astop(self._queue.stop_timeout)

    @contextmanager
    def _noted_on(self, error: BaseException | None) -> Generator[None, None, None]:
        """A `StopTimeout` at the end of a block does not hide what the block itself raised."""
        try:
            yield
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
        offer = self._offer  # a local: see `offer` itself
        if not offer(item, None) and (refusal := self._queue.press(item, None)) is not None:
            raise refusal

    def submit_wait(self, item: T, timeout: float | None = None) -> None:
        """`submit`, waiting for room for at most `timeout` seconds (None: for ever).

        Who waited longest is served first. Raises `QueueFull` when the time is up, and `PoolStopped`
        as soon as the pool closes; each means that the item was not accepted. In a process function of this pool,
        without a timeout, `PoolDeadlock` if all its other workers wait for their pool already.
        """
        queue = self._queue
        lane = queue.direct
        if lane is not None:  # what `offer` does, without its frame, which costs 5 % of an item
            now = self._now
            entry = (item, now(), None, None)
            if queue.waking or not queue.resting:  # from here on no call but the last
                push = lane.push
                accepted = lane.accepted
                if accepted < lane.limit:
                    lane.accepted = accepted + 1
                    push(entry)
                    return
        if not self._offer_waiting(item, None):
            self._sit(
                "submit_wait()",
                "asubmit()",
                partial(self._queue.entering, item, None, checked_seconds("timeout", timeout)),
            )

    async def asubmit(self, item: T, timeout: float | None = None) -> None:
        """`submit_wait` for tasks: holds no event loop up.

        Cancelled, it raises CancelledError, which means that the item was not accepted, as every exception does.
        """
        if not self._queue.offer(item, None):
            await self._await(partial(self._queue.entering, item, None, checked_seconds("timeout", timeout)))

    def call(self, item: T) -> ItemFuture[R]:
        """Submit, and have the result: a `concurrent.futures.Future`.

        Raises what `submit` does. `cancel()` takes the item back while it is queued. The process
        function's exception is the future's. An item that a stop handed back has its future cancelled,
        one that it abandoned fails with `ItemAbandoned`: no future outlives its pool undone. Waiting for it in a
        process function of this pool raises `PoolDeadlock` if all its other workers wait for their pool already.
        Costs a few microseconds more than `submit`.
        """
        future: ItemFuture[R] = ItemFuture(self._queue)
        if not self._offer(item, future) and (refusal := self._queue.press(item, future)) is not None:
            raise refusal
        return future

    async def acall(self, item: T) -> R:
        """`call`, and wait for the result. Cancelled while the item is queued, it takes the item back."""
        return await self._awaited(self.call(item))

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
                future: ItemFuture[R] = ItemFuture(queue)
                if not self._offer_waiting(item, future):
                    self._sit("map()", "amap()", partial(queue.entering, item, future, None))
                flight.append(future)
                while flight and (len(flight) >= window or flight[0].done()):
                    yield flight.popleft().result()
            while flight:
                yield flight.popleft().result()
        finally:
            for future in flight:
                future.cancel()

    async def amap(self, items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[R]:
        """`map` for tasks: `async for result in pool.amap(items)`. Of an iterator that blocks, it blocks the loop."""
        queue = self._queue
        window = queue.size + queue.target
        flight: deque[ItemFuture[R]] = deque()
        try:
            async for item in _each(items):
                future: ItemFuture[R] = ItemFuture(queue)
                if not self._offer(item, future):
                    await self._await(partial(queue.entering, item, future, None))
                flight.append(future)
                while flight and (len(flight) >= window or flight[0].done()):
                    yield await self._awaited(flight.popleft())
            while flight:
                yield await self._awaited(flight.popleft())
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
        seconds = checked_seconds("timeout", timeout)
        self._refuse_worker("stop", "close()")
        try:
            return self._sit("stop()", "`await astop()`", partial(_stopping.stopping, self._queue, seconds, drain))
        finally:
            self._reap()

    async def astop(self, timeout: float | None = DEFAULT_STOP_TIMEOUT, drain: bool = True) -> DrainReport[T]:
        """`stop` for tasks. Cancelled, it leaves the pool closed; a later stop finishes what it left."""
        seconds = checked_seconds("timeout", timeout)
        self._refuse_worker("astop", "close()")
        try:
            report = await self._await(partial(_stopping.stopping, self._queue, seconds, drain))
        except StopTimeout:
            await self._reap_async()
            raise
        await self._reap_async()
        return report

    async def _reap_async(self) -> None:
        await self._driver.reap_async()
        await self._time.reap_async()
        if self._watch is not None:
            await self._watch.reap_async()

    def _reap(self) -> None:
        self._driver.reap()
        self._time.reap()
        if self._watch is not None:
            self._watch.reap()

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
        return self._sit("join()", "`await ajoin()`", self._joining("join", timeout))

    async def ajoin(self, timeout: float | None = None) -> bool:
        """`join` for tasks."""
        return await self._await(self._joining("ajoin", timeout))

    def _joining(self, name: str, timeout: float | None) -> Callable[[Wake], Steps[bool]]:
        seconds = checked_seconds("timeout", timeout)
        self._refuse_worker(name, "a future of call()")
        queue = self._queue
        until = None if seconds is None else queue.clock.now() + seconds
        return partial(queue.waiting, lambda: queue.idle, lambda: until)

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
        self._queue.resize(checked_count("workers", workers, DEFAULT_WORKERS))
        self._driver.fill()

    def release(self, key: Hashable) -> bool:
        """Let the items of a key go on that are held because one of them has failed for good (`ByKey`); False if they
        are not held."""
        keys = self._queue.keys
        line = None if keys is None else keys.find(key)
        if line is None or not self._queue.let_go_on(line):
            return False
        self._queue.attend()
        return True

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

    def _sit(self, what: str, instead: str, start: Callable[[Wake], Steps[S]]) -> S:
        """Wait as a thread does."""
        self._queue.refuse_to_block(what, instead)
        return sit(self._queue.clock, start)

    async def _awaited(self, future: ItemFuture[R]) -> R:
        """The result of a call. Cancelled, or where it would wait for ever, it takes the item back."""
        import asyncio  # whoever awaits has imported it; for the others it is slow

        try:
            done = self._queue.nest(future.done, future)
        except PoolDeadlock:
            future.cancel()
            raise
        try:
            if self._is_inline:
                await self._await(partial(self._queue.waiting, future.done, lambda: None))
            return await asyncio.wrap_future(future)
        finally:
            if done is not None:
                done()

    async def _await(self, start: Callable[[Wake], Steps[S]]) -> S:
        """Wait as a task does."""
        from workpool._awaiting import await_steps  # imports asyncio

        return await await_steps(self._queue.clock, start)

    def _refuse_worker(self, what: str, instead: str) -> None:
        if is_worker_of(self._queue):
            raise RuntimeError(f"{what}() in a worker of pool {self.name!r} would wait for itself; use {instead} there")


def _copied(_: object) -> Context:
    return copy_context()


def _ticket(keys: Keys[T], carry: Callable[[T], Any], item: T) -> Ticket:
    """What an item takes along with a key and context variables."""
    return Ticket(carry(item), keys.line_of(item))


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


def _watch(queue: ControlledQueue[T], kind: object, hooks: Hooks[T], driver: Driver[T]) -> Watch[T] | None:
    """Inline there is nobody to watch: an item is over before anybody could see to it."""
    if queue.item_timeout is None or kind == "inline":
        return None
    return Watch(queue, queue.item_timeout, hooks, driver.fill)


async def _each(items: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
