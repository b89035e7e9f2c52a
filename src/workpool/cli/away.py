"""What a process runs for each line; and how what became of it comes back.

Rules: only what pickles crosses. The function goes as the text that names it, and is imported over there on first use,
from where it was found here. A result comes back as JSON, a failure as the sentence that says why.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import Any

from workpool.cli.output import Done
from workpool.cli.target import Explained, decoder, encode, explain, find
from workpool.errors import ItemAbandoned
from workpool.sources.lines import Line

__all__ = ["Away", "tell"]


def _ignore(_: int, __: FrameType | None) -> None:
    return None


class Away:
    """A function by its name, to be called with lines somewhere else."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._path = [entry or str(Path.cwd()) for entry in sys.path]
        self._work: Callable[[Line], bytes | None] | None = None
        self.__name__ = target.rpartition(":")[2]

    def __call__(self, line: Line) -> bytes | None:
        try:
            if self._work is None:
                self._work = self._prepared()
            return self._work(line)
        except BaseException as error:
            raise Explained(explain(error)) from None

    def _prepared(self) -> Callable[[Line], bytes | None]:
        signal.signal(signal.SIGHUP, _ignore)  # a terminal tells every process; the parent decides
        sys.stdout = sys.stderr  # what the module or the function prints is no result
        sys.path[:] = self._path
        function = find(self._target)
        decode = decoder(function, self._target)

        def work(line: Line) -> bytes | None:
            result = function(decode(line.text))
            return None if result is None else encode(result) + b"\n"

        return work


def tell(post: Callable[[Done], object], line: Line, future: Future[Any]) -> None:
    """Post what became of a line; nothing if the pool handed it back: then it is left."""
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        post(Done(line, future.result(), None))
    else:
        cut = isinstance(error, ItemAbandoned)  # by a stop: no fault of the line, which is left, and may have run
        post(Done(line, None, None if cut else explain(error), cut))
