"""The pool of a run: what it is given, and what it posts of each line.

Rules: a line is posted once, when it is done with. Nothing is posted of one that a stop hands back, which is left, nor
of one that is to be tried again: that is the pool's to see to, and `tried` tells only that the line was begun.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from workpool._context import current
from workpool._core.outcome import Exponential, Retry
from workpool._fate import Hooks
from workpool.cli.away import Away, Told
from workpool.cli.ending import Meaning, failure_of, meaning
from workpool.cli.output import Desk, Done
from workpool.cli.target import Decode, encoded
from workpool.errors import Discard, Invalid, ItemAbandoned
from workpool.pool import Pool
from workpool.sources.lines import Line, Window
from workpool.workers.choice import is_async

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Function", "Settings", "make_pool", "window"]

HandOver: TypeAlias = Callable[[Line], object]


class Settings(NamedTuple):
    """What is said of the pool."""

    workers: int
    queue_size: int
    executor: Literal["thread", "process"] | None
    item_timeout: float | None
    retries: int
    """How often a line that failed is tried again."""
    registry: CollectorRegistry | None


class Function(NamedTuple):
    """What is run for each line."""

    target: str
    call: Callable[[Any], Any]
    decode: Decode


def in_flight(settings: Settings) -> int:
    """How many lines there may be at once that are not done with, those that wait for their next attempt among them."""
    return settings.queue_size + settings.workers


def window(settings: Settings) -> Window:
    """As many lines as the pool holds. Of these, half a queue is asked for at once; with retries no more than there are
    workers, which would idle while the others wait for their next attempt."""
    half = settings.queue_size // 2
    return Window(in_flight(settings), max(1, min(half, settings.workers) if settings.retries else half))


def make_pool(settings: Settings, function: Function, desk: Desk) -> tuple[Pool[Line, Any], HandOver]:
    """The pool, and how it is handed a line."""
    if settings.executor == "process":
        return _with_futures(settings, function, Away(function.target), desk)
    if settings.item_timeout is not None:
        return _with_futures(settings, function, _answer(function, desk), desk)
    pool: Pool[Line, None] = Pool(
        _process(function, desk),
        workers=settings.workers,
        queue_size=settings.queue_size,
        name=getattr(function.call, "__name__", "") or "run",
        hooks=Hooks(dead=lambda line, error, attempts: desk.post_failure(_not_done(line, error, attempts))),
        retry=_retry(settings),
        metrics=settings.registry or False,
    )
    return pool, pool.submit_wait


def _retry(settings: Settings) -> Retry:
    """Without a budget, as each line is wanted; and all that are in flight may wait, also for a `Snooze`."""
    return Retry(
        attempts=settings.retries + 1,
        on=(Exception,) if settings.retries else (),
        backoff=Exponential(0.1, 30.0),
        budget=None,
        max_waiting=in_flight(settings),
    )


# -- where the pool has the last word of a line ----------------------------------------------------


def _with_futures(
    settings: Settings, function: Function, answer: Callable[[Line], Any], desk: Desk
) -> tuple[Pool[Line, Any], HandOver]:
    """The future of a line says what became of it, once it is settled.

    The queue has room for all that the window lets in, so that `call` is never refused.
    """
    attempts: dict[int, int] = {}
    """Of the lines, by `seq`, that have failed and whose future does not know it yet."""

    def means(error: Exception) -> Meaning:
        if isinstance(error, ItemAbandoned):  # a task that a stop cancelled: it is left, and not for a next attempt
            return Invalid
        if not isinstance(error, Told):
            return None
        desk.tried.add(error.seq)
        return error.means

    def dead(line: Line, _: BaseException, count: int) -> None:
        attempts[line.seq] = count

    def tell(line: Line, future: Future[Any]) -> None:
        _tell(desk, line, future, attempts.pop(line.seq, 1))

    pool: Pool[Line, Any] = Pool(
        answer,
        workers=settings.workers,
        queue_size=in_flight(settings),
        name=function.target.rpartition(":")[2],
        executor=settings.executor,
        item_timeout=settings.item_timeout,
        # Of a process that was killed nothing comes back that would tell.
        hooks=Hooks(dead=dead, stuck=lambda line, _seconds, _stack: desk.tried.add(line.seq)),
        retry=_retry(settings),
        classify=means,
        metrics=settings.registry or False,
    )
    return pool, lambda line: pool.call(line).add_done_callback(partial(tell, line))


def _tell(desk: Desk, line: Line, future: Future[Any], attempts: int) -> None:
    """Post what became of a line; nothing if the pool handed it back: then it is left."""
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        desk.post(Done(line, future.result(), None))
    elif isinstance(error, ItemAbandoned):  # by a stop: no fault of the line, which is left, and may have run
        desk.post(Done(line, None, None, cut=True))
    else:
        desk.post_failure(failure_of(line, error, error.means if isinstance(error, Told) else meaning(error), attempts))


def _answer(function: Function, desk: Desk) -> Callable[[Line], Any]:
    """What such a pool runs here: the result of a line as JSON. A line may fail after it has returned: it was late."""
    _, call, decode = function

    def answer(line: Line) -> bytes | None:
        desk.tried.add(line.seq)
        return encoded(call(decode(line.text)))

    async def answer_async(line: Line) -> bytes | None:
        desk.tried.add(line.seq)
        return encoded(await call(decode(line.text)))

    return answer_async if is_async(call) else answer


# -- where the worker has it -----------------------------------------------------------------------


def _process(function: Function, desk: Desk) -> Callable[[Line], Any]:
    """What such a pool runs, async if the function is: whatever goes wrong in it is a failure of the line."""
    _, call, decode = function
    post = desk.post

    def process(line: Line) -> None:
        try:
            result = encoded(call(decode(line.text)))
        except BaseException as error:
            _note(line, error, desk)
            raise
        post(Done(line, result, None))

    async def process_async(line: Line) -> None:
        try:
            result = encoded(await call(decode(line.text)))
        except BaseException as error:
            _note(line, error, desk)
            raise
        post(Done(line, result, None))

    return process_async if is_async(call) else process


def _note(line: Line, error: BaseException, desk: Desk) -> None:
    desk.tried.add(line.seq)
    if isinstance(error, Discard):  # of which no hook tells
        desk.post_failure(failure_of(line, error, Discard, 1))


def _not_done(line: Line, error: BaseException, attempts: int) -> Done:
    """It failed; or the stop cancelled its task, which is no fault of the line: it is left, to be run again."""
    if _is_cancelled(error):
        return Done(line, None, None, cut=True)
    return failure_of(line, error, meaning(error), attempts)


def _is_cancelled(error: BaseException) -> bool:
    if not current().cancelled:
        return False
    from asyncio import CancelledError  # imports asyncio, which is slow

    return isinstance(error, CancelledError)
