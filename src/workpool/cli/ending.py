"""What an exception means for the line, and for the run."""

from __future__ import annotations

from typing import TypeAlias

from workpool.cli.output import Done
from workpool.cli.target import explain
from workpool.errors import Discard, Fatal, Invalid, Snooze, Transient
from workpool.sources.lines import Line

__all__ = ["Meaning", "failure_of", "meaning"]

Meaning: TypeAlias = Exception | type[Exception] | None
"""What a pool is to take an exception for; None: for what it is."""


def meaning(error: BaseException) -> Meaning:
    """What is said by an exception of somebody's own class, without that class. What is no Exception, such as
    SystemExit, is not tried again."""
    if isinstance(error, Snooze):
        return Snooze(error.seconds)
    for kind in (Discard, Fatal, Invalid, Transient):
        if isinstance(error, kind):
            return kind
    return None if isinstance(error, Exception) else Invalid


def failure_of(line: Line, error: BaseException, means: Meaning, attempts: int) -> Done:
    """What is to be said of a line that is not tried again."""
    if means is Discard:
        return Done(line, None, None, discarded=True)
    return Done(line, None, explain(error), attempts=attempts, fatal=means is Fatal)
