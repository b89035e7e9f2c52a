"""Process functions at the top level of a module, which so reach the workers' processes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from workpool import Discard, Fatal, Invalid, Snooze, Transient, current


def same(item: Any) -> Any:
    return item


class Named(bytes):
    """Bytes, and more than that."""


class Refusing:
    """Where it is unpickled, it raises ValueError with large bytes."""

    def __init__(self, data: object) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return refuse, (self.data,)


def refuse(data: object) -> None:
    raise ValueError(data)


def pid(_: object) -> int:
    return os.getpid()


def nothing(_: object) -> None:
    return None


def end_by(item: str) -> str:
    """What it is told kills the process."""
    ways: dict[str, Callable[[], object]] = {
        "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "exit": lambda: os._exit(3),
        "segfault": lambda: ctypes.string_at(0),
    }
    if item in ways:
        ways[item]()
    return item


def note(item: tuple[str, int]) -> int:
    """Append a line to a file, in one write: whoever reads it sees who ran what, and how often."""
    path, number = item
    with Path(path).open("ab", buffering=0) as file:
        file.write(b"%d\n" % number)
    return number


def sign_in(folder: str) -> None:
    """Say in a folder that this process has started."""
    (Path(folder) / str(os.getpid())).touch()


class Locked:
    """Does not pickle, because of what it is made of."""

    def __init__(self) -> None:
        self.name = "locked"
        self.lock = threading.Lock()


class Holder:
    def __init__(self) -> None:
        self.inner = [Locked()]


class Picky(Exception):
    """Cannot be made anew from its arguments, as pickle does."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


def results(item: str) -> object:
    if item == "locked":
        return Holder()
    if item == "picky":
        raise Picky(1, 2)
    if item == "noisy":
        sys.stdout.write("\0\1\2 print\n")
        sys.stdout.buffer.write(bytes(range(256)) * 100)
        sys.stdout.flush()
        os.write(1, b"\5\0\0\0" * 1000)
    return item


def logs(item: str) -> str:
    logging.getLogger("far.away").warning("%s in %d", item, os.getpid(), extra={"lock": threading.Lock()})
    logging.getLogger("far.away").info("not wanted")
    try:
        raise ValueError(item)
    except ValueError:
        logging.getLogger("far.away").exception("raised")
    return item


def wait_for_gate(path: str | None) -> str | None:
    """Run until somebody opens that pipe to write; None: return at once."""
    if path is not None:
        Path(path).read_bytes()
    return path


def until_cancelled(path: str) -> str:
    Path(path).touch()
    return "ended early" if not current().sleep(20) else "slept"


def touch_and_hang(path: str) -> None:
    Path(path).touch()
    threading.Event().wait()


def set_variable(name: str, value: str) -> None:
    os.environ[name] = value


def variable(name: str) -> str | None:
    return os.environ.get(name)


def broken() -> None:
    raise RuntimeError("no database today")


def big(size: int) -> bytes:
    return b"x" * size


def touch_and_hang_or_not(item: str) -> str:
    if "/" in item:
        touch_and_hang(item)
    return item


class Unpickled(Exception):
    """Pickles, and raises when it is unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one)


def logs_what_does_not_come_through(item: int) -> int:
    logging.getLogger("far").warning("look", extra={"error": Unpickled(1, 2)})
    return item


class Evil:
    """Raises whatever is done with it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        return 1


class Unspeakable(Exception):
    """Neither pickles nor prints."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __reduce__(self) -> Any:
        raise ZeroDivisionError


def raise_unspeakable(item: int) -> int:
    if item == 3:
        raise Unspeakable
    return item


def leave_something_running(item: str) -> str:
    """What is started here holds whatever it inherits open, after this process has ended too."""
    if item == "start" and os.fork() == 0:
        signal.alarm(20)
        signal.pause()
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def note_at_the_gate(item: tuple[str, str]) -> None:
    gate, path = item
    wait_for_gate(gate)
    with Path(path).open("a") as file:
        file.write("ran\n")


def wait_for_gate_at_first(gate: str, starts: str, times: int) -> None:
    """The first so many processes that start wait."""
    with Path(starts).open("a") as file:
        file.write("x")
    if Path(starts).stat().st_size <= times:
        wait_for_gate(gate)


def log_often(count: int) -> int:
    for number in range(count):
        logging.getLogger("often").warning("%d", number)
    return count


class Job(NamedTuple):
    """An item that says what its attempts do, one after the other; then it succeeds."""

    path: str
    number: int
    key: str
    script: tuple[str, ...]


def key_of(job: Job) -> str:
    return job.key


def follow_script(job: Job) -> int:
    """Write down begin and end of each attempt in one file, so that whoever reads it sees what ran at once."""
    with Path(job.path).open("ab+", buffering=0) as file:
        file.seek(0)
        runs = sum(line.startswith(b"begin %d " % job.number) for line in file)
        what = job.script[runs] if runs < len(job.script) else "ok"
        file.write(b"begin %d %d %s\n" % (job.number, current().attempt, what.encode()))
        try:
            end_with(what)
        finally:
            file.write(b"end %d\n" % job.number)
    return job.number


def end_with(what: str) -> None:
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    errors = {"fails": OSError(), "transient": Transient(), "snooze": Snooze(0.001), "discard": Discard()}
    if what in errors:
        raise errors[what]
    if what == "invalid":
        raise Invalid


def attempt_to_die(marker: str) -> int:
    """The first attempt kills its process, the second says which it is."""
    if current().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return current().attempt


def attempt_to_hang(marker: str) -> int:
    if current().attempt == 1:
        touch_and_hang(marker)
    return current().attempt


def third_attempt(_: object) -> int:
    if current().attempt < 3:
        raise Transient
    return current().attempt


def fatal(item: int) -> None:
    raise Fatal(f"no disk for {item}")
