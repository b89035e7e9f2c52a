"""How a pool stops, also when nobody told it to: at interpreter exit, and in a forked child.

`stop` has no coordinator: whoever calls it walks through the same steps, each of which may be done twice.
So stops may be concurrent, nested (a signal handler interrupts the waiting of one), or broken off by
Ctrl-C, and a later one finishes what an earlier one left.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import InvalidStateError
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from workpool._clock import Steps, Wake, sit
from workpool._control import ControlledQueue
from workpool._core.report import Abandoned, DrainReport
from workpool._future import ItemFuture, Place
from workpool._state import section
from workpool._worker import Entry, Worker, submitted_at
from workpool.errors import ItemAbandoned, StopTimeout

if TYPE_CHECKING:
    from asyncio import Task

__all__ = ["GRACE", "stack_of", "stack_of_main", "stop", "stop_before_others", "stopping", "watch"]

T = TypeVar("T")

GRACE: Final = 0.5
"""Seconds between asking a running item to end early and giving it up: long enough for a `sleep` of the
context to return and a rollback to be written, short enough not to outgrow a deadline that somebody chose."""

log = logging.getLogger("workpool")


def stopping(queue: ControlledQueue[T], timeout: float | None, drain: bool, wake: Wake) -> Steps[DrainReport[T]]:
    """Close, wait for the workers, give up those that the timeout leaves. Raises `StopTimeout`."""
    queue.insist_outside()
    if queue.report is not None:
        _tell_all(queue)
        return queue.report
    queue.close(drain, None if timeout is None else queue.clock.now() + timeout)
    if not (yield from queue.waiting(lambda: not queue.workers, lambda: _until(queue), wake)):
        queue.cut()
        yield from queue.waiting(lambda: not queue.workers, lambda: _until(queue), wake)
    stacks = _stacks(queue)
    queue.abandon()
    report = _conclude(queue, queue.clock.now(), stacks)
    _tell_all(queue)
    if not report.clean:
        raise StopTimeout(f"{report}; {queue.failure}" if queue.failure else str(report), report)
    return report


def _until(queue: ControlledQueue[Any]) -> float | None:
    """When to wait no longer for the workers."""
    return queue.deadline if queue.cut_at is None else queue.cut_at + GRACE


def stop(queue: ControlledQueue[T], timeout: float | None, drain: bool) -> DrainReport[T]:
    """`stopping`, in this thread."""
    return sit(queue.clock, partial(stopping, queue, timeout, drain))


@section
def _conclude(queue: ControlledQueue[T], now: float, stacks: Mapping[Worker[T], str]) -> DrainReport[T]:
    """The one report. In one section: of two stops at once, one writes and both read."""
    if queue.report is None:
        stats = queue.stats()
        closed_at = now if queue.closed_at is None else queue.closed_at
        cut_at = now if queue.cut_at is None else queue.cut_at
        queue.report = DrainReport(
            pool=queue.name,
            stats=stats,
            drained=stats.processed - queue.done_at_close,
            unprocessed=tuple(entry[0] for entry in _in_order(queue) if _never_ran(entry[2])),
            abandoned=tuple(
                Abandoned(entry[0], worker.name, max(0.0, now - worker.began), stacks.get(worker, ""))
                for worker, entry in queue.lost
            ),
            drain_seconds=cut_at - closed_at,
            grace_seconds=now - cut_at,
            cut_short=queue.cut_short,
        )
    return queue.report


def _in_order(queue: ControlledQueue[T]) -> Sequence[Entry[T]]:
    """What was handed back, the oldest first; of several lanes without an order by keys, lane by lane, and then what
    waited for its next attempt. What several workers had taken and not begun came back in another order."""
    entries = queue.handed_back or ()
    return entries if len(queue.lanes) > 1 and queue.keys is None else sorted(entries, key=submitted_at)


def _never_ran(future: ItemFuture[Any] | None) -> bool:
    """Of an entry that was handed back: nobody had cancelled it before, who then has the item."""
    return future is None or future.place is not Place.WITHDRAWN


def _tell_all(queue: ControlledQueue[Any]) -> None:
    """See to it that no future outlives its pool undone. Whatever a callback raises waits until all are told."""
    raised: BaseException | None = None
    for tell in (queue.tell_dropped, queue.tell_handed_back):
        try:
            tell()
        except BaseException as error:
            raised = error
    for worker, entry in queue.lost:
        future = entry[2]
        try:
            if future is not None and not future.done():
                future.set_exception(ItemAbandoned(f"pool {queue.name!r} gave up on it in worker {worker.name!r}"))
        except InvalidStateError:  # another stop was quicker
            pass
        except BaseException as error:
            raised = error
    if raised is not None:
        raise raised


_STACK_LINE: Final = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')


def _stacks(queue: ControlledQueue[T]) -> dict[Worker[T], str]:
    """Where the workers are that have an item in hand, as a traceback prints it."""
    busy = [worker for worker in list(queue.workers) if worker.entry is not None]
    threads = _threads_stacks() if any(map(_is_in_its_thread, busy)) else {}
    return {worker: _stack(worker, threads) for worker in busy}


def stack_of(worker: Worker[Any]) -> str:
    """Where the worker is."""
    return _stack(worker, _threads_stacks() if _is_in_its_thread(worker) else {})


def _stack(worker: Worker[Any], threads: Mapping[int, str]) -> str:
    if worker.stack is not None:
        return worker.stack()
    if worker.task is None or _is_running(worker.task):
        return threads.get(worker.ident or 0, "")
    return _task_stack(worker.task)


def _is_in_its_thread(worker: Worker[Any]) -> bool:
    """Where it is, the stack of its thread says."""
    return worker.stack is None and (worker.task is None or _is_running(worker.task))


def _is_running(task: Task[None]) -> bool:
    """It holds up its event loop at this moment: where it is, its thread's stack says."""
    return bool(getattr(task.get_coro(), "cr_running", False))


def _task_stack(task: Task[None]) -> str:
    """Down to the innermost coroutine that it waits in."""
    frames: list[traceback.FrameSummary] = []
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            frames.append(traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        coroutine = getattr(coroutine, "cr_await", None)
    return "".join(traceback.format_list(frames))


def stack_of_main() -> str:
    """Where the main thread is, as a traceback prints it."""
    return _threads_stacks().get(threading.main_thread().ident or 0, "")


def _threads_stacks() -> dict[int, str]:
    """Where the threads are, by their idents."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
        return {ident: "".join(traceback.format_stack(frame)) for ident, frame in frames.items()}
    return _dumped()


def _dumped() -> dict[int, str]:
    """The stacks of (at most a hundred) threads, by way of faulthandler: it reads them in C, in one go.

    Walking the frames of a running thread in Python has crashed 3.11.
    """
    import faulthandler  # not in a subinterpreter, which can import this module nevertheless
    import tempfile  # slow, and hardly ever needed

    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        blocks = re.split(r"(?:Current t|T)hread 0x([0-9a-f]+)", file.read())[1:]
    found: dict[int, str] = {}
    for ident, text in zip(blocks[::2], blocks[1::2], strict=True):
        lines = [match for line in text.splitlines() if (match := _STACK_LINE.fullmatch(line))]
        frames = [traceback.FrameSummary(line["file"], int(line["line"]), line["name"]) for line in reversed(lines)]
        found[int(ident, 16)] = "".join(traceback.format_list(frames))
    return found


_watched: set[weakref.ref[ControlledQueue[Any]]] = set()
"""The queue of every pool. A worker keeps its queue alive, nothing here does."""


def watch(queue: ControlledQueue[Any]) -> None:
    """See to it that the pool stops at exit, and is closed in a forked child."""
    _watched.add(weakref.ref(queue, _watched.discard))


def _alive() -> list[ControlledQueue[Any]]:
    return [queue for ref in list(_watched) if (queue := ref()) is not None]


def _at_exit() -> None:
    """Stop what nobody stopped, all at the same time, and log what that lost. Starts no thread."""
    left = [queue for queue in _alive() if queue.workers]
    for queue in left:
        timeout = queue.stop_timeout
        queue.close(drain=True, deadline=None if timeout is None else queue.clock.now() + timeout)
    for queue in left:
        try:
            report: DrainReport[Any] = stop(queue, queue.stop_timeout, drain=True)
        except StopTimeout as error:
            report = error.report
        except Exception:  # of a callback of a future: the other pools are to be stopped all the same
            log.exception("pool %r did not stop well when the interpreter ended", queue.name)
            continue
        if report.unprocessed or report.abandoned:
            log.error("%s; nobody had stopped it when the interpreter ended", report)


def _in_forked_child() -> None:
    for queue in _alive():
        queue.disown_workers()


def stop_before_others() -> None:
    """Stop, at interpreter exit, before whatever was registered for that so far."""
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)


stop_before_others()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)
