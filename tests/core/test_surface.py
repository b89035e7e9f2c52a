"""The public surface is a fixture: whoever changes it changes this list."""

from __future__ import annotations

import queue

import pytest

import workpool
from workpool import errors


def test_what_the_root_exports() -> None:
    assert workpool.__all__ == [
        "Abandoned",
        "AdaptiveLifo",
        "ByKey",
        "CoDel",
        "Context",
        "Discard",
        "Discipline",
        "DrainReport",
        "Exponential",
        "Fatal",
        "Fifo",
        "Histogram",
        "Hooks",
        "Interpreters",
        "Invalid",
        "ItemAbandoned",
        "ItemTimeout",
        "Lanes",
        "NameTaken",
        "NotPicklable",
        "OnFull",
        "Pool",
        "PoolAlreadyStarted",
        "PoolDeadlock",
        "PoolError",
        "PoolExecutor",
        "PoolNotStarted",
        "PoolStats",
        "PoolStopped",
        "Processes",
        "QueueFull",
        "Rate",
        "Retry",
        "Shed",
        "Snooze",
        "StopTimeout",
        "Transient",
        "WorkerDied",
        "current",
    ]
    assert all(hasattr(workpool, name) for name in workpool.__all__)


def test_what_a_pool_can_do() -> None:
    assert {name for name in vars(workpool.Pool) if not name.startswith("_")} == {
        "acall", "ajoin", "amap", "astop", "asubmit", "call", "close", "join", "map", "name", "pause", "release",
        "resize", "resume", "start", "stats", "stop", "submit", "submit_wait", "unregister",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.QueueFull, queue.Full),
        (errors.Shed, TimeoutError),
        (errors.PoolDeadlock, RuntimeError),
        (errors.PoolNotStarted, RuntimeError),
        (errors.PoolAlreadyStarted, RuntimeError),
        (errors.PoolStopped, RuntimeError),
        (errors.StopTimeout, TimeoutError),
        (errors.ItemAbandoned, TimeoutError),
        (errors.NameTaken, ValueError),
    ],
)
def test_each_error_is_one_of_ours_and_its_nearest_builtin(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, errors.PoolError)
    assert issubclass(error, builtin)
    name = builtin.__name__ if builtin.__module__ == "builtins" else "queue.Full"
    assert f"{error.__name__}" in str(errors.__doc__)
    assert name in next(line for line in str(errors.__doc__).splitlines() if f"── {error.__name__}" in line)


def test_every_error_is_in_the_drawn_tree() -> None:
    drawn = {word for line in str(errors.__doc__).splitlines() for word in line.split() if word in errors.__all__}
    assert drawn == set(errors.__all__)


def test_a_queue_full_says_what_it_knows_in_its_repr() -> None:
    assert repr(errors.QueueFull("p", 7, lambda: 1.5)) == "QueueFull('p', size=7, retry_after=1.5)"


@pytest.mark.parametrize(("what", "value"), [("hooks", print), ("name", 3)])
def test_hooks_and_name_of_the_wrong_type_are_refused(what: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{what} must be"):
        workpool.Pool(len, **{what: value})  # type: ignore[call-overload]
