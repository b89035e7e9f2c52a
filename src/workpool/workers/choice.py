"""Which kind of worker a process function gets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool.workers.driver import Driver
from workpool.workers.settings import Interpreters, Processes
from workpool.workers.threads import Threads

__all__ = ["Executor", "ExecutorName", "check_carrying", "checked_executor", "choose", "is_async", "is_called_as"]

T = TypeVar("T")

ExecutorName = Literal["thread", "asyncio", "process", "interpreter", "inline"]

Executor = ExecutorName | Processes | Interpreters

NAMES: Final[tuple[ExecutorName, ...]] = ("thread", "asyncio", "process", "interpreter", "inline")


def checked_executor(executor: object, process: Callable[..., Any]) -> Executor:
    """The kind of worker; None: tasks for a function that is async, or an object that is called like one, else threads.

    Raises TypeError for an async function where nothing would await it, and ValueError for a kind that is none.
    """
    awaited = is_async(process)
    if executor is None:
        return "asyncio" if awaited else "thread"
    if executor != "asyncio" and awaited:
        raise TypeError(
            f"executor={executor!r} cannot await {process!r}, which is async; leave executor out, or say 'asyncio'"
        )
    if isinstance(executor, Processes | Interpreters):
        return executor
    for name in NAMES:
        if executor == name:
            return name
    raise ValueError(
        f"executor must be one of {', '.join(map(repr, NAMES))}, Processes(...), Interpreters(...) or None, "
        f"not {executor!r}"
    )


def is_async(process: Callable[..., Any]) -> bool:
    """Whether what it returns is to be awaited: an `async def`, an object that is called like one, or a partial."""
    import inspect  # slow, and not needed in the process of a worker

    return is_called_as(inspect.iscoroutinefunction, process)


def is_called_as(kind: Callable[[object], bool], function: object) -> bool:
    """Whether calling it is calling a function of that kind."""
    while isinstance(function, partial):
        function = function.func
    # A class is called to make an object, whatever calling that object would do.
    return kind(function) or (not isinstance(function, type) and kind(getattr(function, "__call__", None)))  # noqa: B004


def check_carrying(executor: Executor) -> None:
    """Raises ValueError for workers that context variables cannot reach."""
    for name, settings in (("process", Processes), ("interpreter", Interpreters)):
        if executor == name or isinstance(executor, settings):
            raise ValueError(
                f"carry_context=True is for workers of this {name}: context variables do not cross to another"
            )


def choose(executor: Executor, queue: ControlledQueue[T], process: Callable[[T], Any], hooks: Hooks[T]) -> Driver[T]:
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
    if executor == "interpreter" or isinstance(executor, Interpreters):
        from workpool.workers.interpreters import InterpreterWorkers

        return InterpreterWorkers(
            queue, process, hooks, executor if isinstance(executor, Interpreters) else Interpreters()
        )
    return Threads(queue, process, hooks)
