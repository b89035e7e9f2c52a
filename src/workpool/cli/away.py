"""What a process runs for each line; and how what became of it comes back.

Rules: only what pickles crosses. The function goes as the text that names it, and is imported over there on first use,
from where it was found here. A result comes back as JSON, a failure as the sentence that says why, and what it means.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from workpool.cli.ending import Meaning, meaning
from workpool.cli.target import Explained, decoder, encoded, explain, find
from workpool.sources.lines import Line

__all__ = ["Away", "Told"]


class Told(Explained):
    """What comes back for a line that failed over there, where the exception itself may not pickle."""

    def __init__(self, text: str, seq: int, means: Meaning) -> None:
        super().__init__(text)
        self.seq = seq
        """Of the line."""
        self.means = means

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.seq, self.means))


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
            raise Told(explain(error), line.seq, meaning(error)) from None

    def _prepared(self) -> Callable[[Line], bytes | None]:
        signal.signal(signal.SIGHUP, _ignore)  # a terminal tells every process; the parent decides
        sys.stdout = sys.stderr  # what the module or the function prints is no result
        sys.path[:] = self._path
        function = find(self._target)
        decode = decoder(function, self._target)

        def work(line: Line) -> bytes | None:
            return encoded(function(decode(line.text)))

        return work
