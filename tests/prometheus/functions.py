"""What the pools run that Prometheus looks at."""

from __future__ import annotations

import threading

held = threading.Event()


def fail_at_times(number: int) -> None:
    """One in four."""
    if number % 4 == 0:
        raise ValueError(number)


def hold(_: int) -> None:
    """For good, or until the service stops."""
    held.wait()


def pass_over(_: int) -> float:
    """A deadline that none can make."""
    return -1.0


def ignore(_: int) -> None:
    return None
