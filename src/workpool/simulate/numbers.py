"""Numbers of a scenario: one sentence for each that is wrong, with what would be right."""

from __future__ import annotations

from math import isfinite

__all__ = ["checked_positive", "checked_share"]


def checked_positive(what: str, number: object) -> None:
    """A finite number above 0. Raises TypeError or ValueError."""
    if not _checked_number(what, number) > 0:
        raise ValueError(f"{what} must be more than 0, not {number}")


def checked_share(what: str, number: object) -> None:
    """A number from 0 to 1. Raises TypeError or ValueError."""
    if not 0 <= _checked_number(what, number) <= 1:
        raise ValueError(f"{what} must be a share, from 0 to 1, not {number}")


def _checked_number(what: str, number: object) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise TypeError(f"{what} must be a number, not {number!r}")
    if not isfinite(number):
        raise ValueError(f"{what} must be a finite number, not {number}")
    return number
