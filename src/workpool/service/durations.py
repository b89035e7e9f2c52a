"""Durations as people write them: `250ms`, `1m30s`, `25s`; or a plain number of seconds."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DURATION", "seconds_of"]

_NUMBER: Final = r"\d+(?:\.\d+)?"

UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
"""The greatest first, as they are written; in seconds."""

DURATION: Final = r"^(?=\d)" + "".join(f"(?:({_NUMBER}){unit}(?![a-z]))?" for unit in UNITS) + "$"
"""Also for a JSON Schema: JavaScript reads it alike."""


def seconds_of(duration: object) -> float:
    """The number of seconds, from 0. Raises ValueError."""
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        if not 0 <= duration < float("inf"):
            raise ValueError("must be 0 seconds or more, and not without an end")
        return float(duration)
    found = re.fullmatch(DURATION, duration, re.ASCII) if isinstance(duration, str) else None
    if found is None:
        raise ValueError("must be a duration such as 250ms, 25s or 1m30s, or a number of seconds")
    return sum(float(number) * unit for number, unit in zip(found.groups(), UNITS.values(), strict=True) if number)
