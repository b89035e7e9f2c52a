"""A wake that can be waited for along with other things."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["Doorbell"]


class Doorbell:
    """Wakes a thread that waits for several things at once.

    Never closed by hand: a late ring would go to whatever has the file descriptor by then.
    """

    def __init__(self) -> None:
        self._in, self._out = os.pipe()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)

    def ring(self, _: None = None) -> None:
        try:
            os.write(self._out, b"!")
        except BlockingIOError:  # it has rung often enough
            return

    def fileno(self) -> int:
        return self._in

    def answer(self) -> None:
        """Take note that it rang, however often."""
        try:
            os.read(self._in, 4096)
        except BlockingIOError:
            return

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self._in)
        close(self._out)
