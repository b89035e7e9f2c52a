"""What a pool says of a wrong argument: one sentence, with what would be right.

The functions take anything: a type checker would call the checks needless.
"""

from __future__ import annotations

from collections.abc import Iterable

from workpool._fate import Hooks

__all__ = [
    "check_hooks",
    "check_initializer",
    "check_process",
    "checked_count",
    "checked_flag",
    "checked_limit",
    "checked_name",
    "checked_seconds",
]


def check_process(process: object) -> None:
    """Raises TypeError if `process` cannot be called."""
    if not callable(process):
        raise TypeError(f"process must be a function of one item, not {process!r}")


def check_hooks(hooks: object) -> None:
    """Raises TypeError for what is neither `Hooks` nor None."""
    if hooks is not None and not isinstance(hooks, Hooks):
        raise TypeError(f"hooks must be Hooks(...), not {hooks!r}")


def check_initializer(initializer: object, initargs: object) -> None:
    """Raises TypeError for what cannot be called with those."""
    if initializer is not None and not callable(initializer):
        raise TypeError(f"initializer must be a callable, or None, not {initializer!r}")
    if not isinstance(initargs, Iterable):
        raise TypeError(f"initargs must be a tuple, not {initargs!r}")


def checked_flag(what: str, flag: object) -> bool:
    """True or False. Raises TypeError."""
    if not isinstance(flag, bool):
        raise TypeError(f"{what} must be True or False, not {flag!r}")
    return flag


def checked_name(name: object, process: object) -> str:
    """The name; None: that of the function. Raises TypeError, and ValueError for an empty one."""
    if name is None:
        own = getattr(process, "__name__", type(process).__name__)
        return own if own.isidentifier() else "pool"
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, not {name!r}")
    if not name:
        raise ValueError("name must not be empty; leave it out (or None) for the function's name")
    return name


def checked_count(what: str, number: object, default: int) -> int:
    """A whole number from 1; None: the default. Raises TypeError or ValueError."""
    if number is None:
        return default
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} must be a whole number, not {number!r}")
    if number < 1:
        raise ValueError(
            f"{what} must be at least 1, not {number}; leave it out (or None) for the default of {default}"
        )
    return number


def checked_seconds(what: str, seconds: object) -> float | None:
    """Seconds from 0; None: no limit. Raises TypeError or ValueError."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{what} must be a number of seconds, or None for no limit, not {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{what} must be 0 seconds or more, or None for no limit, not {seconds}")
    return float(seconds)


def checked_limit(what: str, seconds: object) -> float | None:
    """Seconds above 0; None: no limit. Raises TypeError or ValueError."""
    checked = checked_seconds(what, seconds)
    if checked == 0:
        raise ValueError(f"{what} must be more than 0 seconds, or None for no limit")
    return checked
