"""Which kind of worker a process function gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool.workers.driver import Driver
from workpool.workers.threads import Threads

__all__ = ["ExecutorName", "checked_executor", "choose"]

T = TypeVar("T")

ExecutorName = Literal["thread", "asyncio", "inline"]

NAMES: Final[tuple[ExecutorName, ...]] = ("thread", "asyncio", "inline")


def checked_executor(executor: object, process: Callable[..., Any]) -> ExecutorName:
    """The kind of worker; None: tasks for a function that is async, or an object that is called like one, else threads.

    Raises TypeError for an async function where nothing would await it, and ValueError for a kind that is none.
    """
    is_async = _is_async(process)
    if executor is None:
        return "asyncio" if is_async else "thread"
    for name in NAMES:
        if executor == name:
            if is_async and name != "asyncio":
                raise TypeError(
                    f"executor={name!r} cannot await {process!r}, which is async; leave executor out, or say 'asyncio'"
                )
            return name
    raise ValueError(f"executor must be one of {', '.join(map(repr, NAMES))}, or None, not {executor!r}")


def _is_async(process: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(process) or inspect.iscoroutinefunction(getattr(process, "__call__", None))  # noqa: B004


def choose(
    executor: ExecutorName, queue: ControlledQueue[T], process: Callable[[T], Any], hooks: Hooks[T]
) -> Driver[T]:
    """Whoever brings the workers."""
    if executor == "asyncio":
        from workpool.workers.tasks import Tasks  # imports asyncio, which is slow

        return Tasks(queue, process, hooks)
    if executor == "inline":
        from workpool.workers.inline import Inline

        return Inline(queue, process, hooks)
    return Threads(queue, process, hooks)
