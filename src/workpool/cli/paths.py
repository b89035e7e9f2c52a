"""Files, looked at before anything starts: what would fail later is said now, in one sentence."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from workpool.cli.output import Sink
from workpool.cli.wrong import Wrong
from workpool.sources.lines import STDIN

__all__ = ["STDOUT", "check", "check_output", "open_sink"]

STDOUT: Final = "-"

Identity = tuple[int, int] | str | None
"""What makes two names one file: device and inode, or where it will be. None: no regular file, and may be
several things at once, as a terminal or /dev/null is."""


def check(files: Iterable[str], output: str, failed: str | None, unprocessed: str | None) -> None:
    """Raises `Wrong` for a file that cannot be what it is to be, or would be two things at once."""
    inputs = [(f"FILE {name!r}", _check_input(name)) for name in files]
    roles = [("--output", check_output("--output", output))]
    for option, path in (("--failed", failed), ("--unprocessed", unprocessed)):
        if path == STDOUT:
            raise Wrong(f"{option} {path!r}: standard output is for the results, name a file")
        if path is not None:
            roles.append((option, check_output(option, path)))
    if unprocessed is not None and isinstance(roles[-1][1], tuple):
        _check_folder("--unprocessed", unprocessed)  # it is written beside its place, and moved there
    taken: dict[Identity, str] = {}
    for role, identity in [*roles, *inputs]:
        other = taken.setdefault(identity, role)
        may_be = role.startswith("FILE") and other.startswith(("FILE", "--unprocessed"))
        if other != role and identity is not None and not may_be:
            raise Wrong(f"{other} and {role} are the same file: give one of them another name")


def open_sink(path: str, option: str) -> Sink:
    """Open to add at the end; `-` is standard output. Raises `Wrong`."""
    if path == STDOUT:
        return Sink(1, "standard output")
    try:
        return Sink(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), f"{option} {path}")
    except OSError as error:
        raise Wrong(f"{option} {path!r}: {error.strerror}") from None


def _check_input(name: str) -> Identity:
    if name == STDIN:
        return _standard(0, "standard input is closed: name a FILE")
    try:
        status = Path(name).stat()
    except OSError as error:
        raise Wrong(f"FILE {name!r} cannot be read: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise Wrong(f"FILE {name!r} is a folder: name the files in it")
    if not os.access(name, os.R_OK):
        raise Wrong(f"FILE {name!r} cannot be read: Permission denied")
    return _identity(status)


def check_output(option: str, name: str) -> Identity:
    """What file it is, or will be. Raises `Wrong` if it cannot be written to."""
    if name == STDOUT:
        return _standard(1, "standard output is closed: give --output FILE")
    try:
        status = Path(name).stat()
    except FileNotFoundError:
        _check_folder(option, name)
        return os.path.realpath(name)
    except OSError as error:
        raise Wrong(f"{option} {name!r}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise Wrong(f"{option} {name!r} is a folder: name a file in it")
    if not os.access(name, os.W_OK):
        raise Wrong(f"{option} {name!r} cannot be written to: Permission denied")
    return _identity(status)


def _standard(fd: int, closed: str) -> Identity:
    try:
        status = os.fstat(fd)
    except OSError:
        raise Wrong(closed) from None
    return _identity(status)


def _identity(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _check_folder(option: str, name: str) -> None:
    folder = Path(os.path.realpath(name)).parent
    if not folder.is_dir():
        raise Wrong(f"{option} {name!r}: there is no folder {str(folder)!r}, make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Wrong(f"{option} {name!r}: nothing can be created in {str(folder)!r}: Permission denied")
