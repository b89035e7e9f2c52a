"""Which kind of worker a process function gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool.workers.driver import Driver
from workpool.workers.settings import Processes
from workpool.workers.threads import Threads

__all__ = ["ExecutorName", "check_carrying", "checked_executor", "choose"]

T = TypeVar("T")

ExecutorName = Literal["thread", "asyncio", "process", "inline"]

NAMES: Final[tuple[ExecutorName, ...]] = ("thread", "asyncio", "process", "inline")


def checked_executor(executor: object, process: Callable[..., Any]) -> ExecutorName | Processes:
    """The kind of worker; None: tasks for a function that is async, or an object that is called like one, else threads.

    Raises TypeError for an async function where nothing would await it, and ValueError for a kind that is none.
    """
    is_async = _is_async(process)
    if executor is None:
        return "asyncio" if is_async else "thread"
    if executor != "asyncio" and is_async:
        raise TypeError(
            f"executor={executor!r} cannot await {process!r}, which is async; leave executor out, or say 'asyncio'"
        )
    if isinstance(executor, Processes):
        return executor
    for name in NAMES:
        if executor == name:
            return name
    raise ValueError(f"executor must be one of {', '.join(map(repr, NAMES))}, Processes(...) or None, not {executor!r}")


def _is_async(process: Callable[..., Any]) -> bool:
    import inspect  # slow, and not needed in the process of a worker

    return inspect.iscoroutinefunction(process) or inspect.iscoroutinefunction(getattr(process, "__call__", None))  # noqa: B004


def check_carrying(executor: ExecutorName | Processes) -> None:
    """Raises ValueError for workers that context variables cannot reach."""
    if executor == "process" or isinstance(executor, Processes):
        raise ValueError("carry_context=True is for workers of this process: context variables do not cross to another")


def choose(
    executor: ExecutorName | Processes, queue: ControlledQueue[T], process: Callable[[T], Any], hooks: Hooks[T]
) -> Driver[T]:
    """Whoever brings the workers."""
    if executor == "asyncio":
        from workpool.workers.tasks import Tasks  # imports asyncio, which is slow

        return Tasks(queue, process, hooks)
    if executor == "inline":
        from workpool.workers.inline import Inline

        return Inline(queue, process, hooks)
    if executor == "process" or isinstance(executor, Processes):
        from workpool.workers.process import ProcessWorkers  # imports multiprocessing

        settings = executor if isinstance(executor, Processes) else Processes()
        return ProcessWorkers(queue, process, hooks, settings)
    return Threads(queue, process, hooks)
