"""Numbers and flags that somebody hands over: one sentence for each that is wrong, with what would be right.

The functions take anything: a type checker would call the checks needless.
"""

from __future__ import annotations

__all__ = ["checked_count", "checked_flag", "checked_limit", "checked_seconds"]


def checked_flag(what: str, flag: object) -> bool:
    """True or False. Raises TypeError."""
    if not isinstance(flag, bool):
        raise TypeError(f"{what} must be True or False, not {flag!r}")
    return flag


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
