"""Where the lines go that were not processed: a file to run again on.

Rules: it is written at the very end, when nothing reads the input any more, because it may be one of the
inputs; beside its place and then moved there, so that whoever looks finds the old one or the whole new one.
What is no regular file (a pipe, /dev/null) is written to as it is.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Final

__all__ = ["Left", "count", "save"]

PATIENCE: Final = 1.0
"""Seconds for counting lines that nobody keeps."""


@dataclass(frozen=True, slots=True)
class Left:
    """How many lines there are."""

    lines: int
    exact: bool = True
    """False: at least so many."""


def count(chunks: Iterable[bytes]) -> Left:
    """How many lines the chunks have, as far as that is soon said."""
    until = monotonic() + PATIENCE
    lines, ended = 0, True
    for chunk in chunks:
        lines += chunk.count(b"\n")
        ended = chunk.endswith(b"\n")
        if monotonic() > until:
            return Left(lines + (not ended), exact=False)
    return Left(lines + (not ended))


def save(path: str, chunks: Iterable[bytes]) -> Left:
    """Write the chunks to `path`, in place of what is there. Raises OSError, and then has changed nothing."""
    place = Path(os.path.realpath(path))  # a symbolic link stays one
    if place.exists() and not place.is_file():
        with place.open("wb") as file:
            return _write(file, chunks)
    handle, beside = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.", suffix=".tmp")
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor
            left = _write(file, chunks)
            os.fchmod(handle, _mode(place))
            file.flush()
            os.fsync(handle)
        os.replace(beside, place)  # noqa: PTH105 - one word for one system call
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)  # noqa: PTH108
        raise
    return left


def _write(file: IO[bytes], chunks: Iterable[bytes]) -> Left:
    lines, ended = 0, True
    for chunk in chunks:
        file.write(chunk)
        lines += chunk.count(b"\n")
        ended = chunk.endswith(b"\n")
    return Left(lines + (not ended))


def _mode(place: Path) -> int:
    """That of the file in whose place it comes, or what a new file would have."""
    try:
        return stat.S_IMODE(place.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0o077)
        os.umask(mask)
        return 0o666 & ~mask
