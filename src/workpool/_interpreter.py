"""What kind of interpreter runs this."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["GIL"]

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Threads take turns, and only after a call: a stretch of code without one is a single step for everybody."""
