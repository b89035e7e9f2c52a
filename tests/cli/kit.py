"""Runs `workpool run` as a user does: in a process of its own, in a folder with modules of functions.

Nothing here sleeps: a function announces its calls on one pipe and waits for another, and what the
command says on stderr is read line by line.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, NamedTuple, Self

SECONDS = 30.0
"""The longest that anything is waited for. On a busy machine a start alone may take a second."""

FUNCTIONS = '''
import os
from dataclasses import dataclass

import typing_extensions
from pydantic import BaseModel

from workpool import current

CALLS, GATE = int(os.environ.get("CALLS", "-1")), int(os.environ.get("GATE", "-1"))


def same(line: str) -> str:
    return line

def bare(line):
    return line

def raw(line: bytes) -> str:
    return line.decode("latin-1")

def length(line: bytes) -> int:
    return len(line)

def double(number: int) -> int:
    return 2 * number

def total(numbers: list[int]) -> int:
    return sum(numbers)

def keys(record: dict[str, int]) -> list[str]:
    return sorted(record)

@dataclass
class Point:
    x: int
    y: int = 0

def flip(point: Point) -> Point:
    assert type(point) is Point
    return Point(point.y, point.x)

class Named(typing_extensions.TypedDict):
    name: str

def name(named: Named) -> str:
    return named["name"]

class Model(BaseModel):
    size: int

def model(item: "Model") -> Model:
    assert type(item) is Model
    return item

class Adder:
    def __call__(self, number: int, plus: int = 1) -> int:
        return number + plus

add = Adder()

def none(line: str) -> None:
    pass

def prints(line: str) -> str:
    print("printed", line)
    return line

def odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is\\nodd")
    return number

def exits(line: str) -> None:
    raise SystemExit(5)

def unspeakable(line: str) -> object:
    return object()

def call(line: str) -> str:
    os.write(CALLS, b".")
    return line

def gated(line: str) -> str:
    """Announces each call, and returns when the gate is opened."""
    os.write(CALLS, b".")
    os.read(GATE, 1)
    return line

def gated_from_5000(line: str) -> str:
    return gated(line) if int(line) >= 5000 else line

def first_gated(line: str) -> str:
    return gated(line) if line == "0" else call(line)

def patient(line: str) -> str:
    """Ends early when it is asked to."""
    os.write(CALLS, b".")
    if not current().sleep(3600):
        raise TimeoutError("asked to end")
    return line

def wide(line: str) -> str:
    os.write(CALLS, b".")
    return line.ljust(4000)
'''

ASYNC_FUNCTIONS = '''
"""What `functions` has, for an event loop; and what only that can have."""

import asyncio
import os
from dataclasses import dataclass
from functools import partial

from functions import CALLS, GATE

opened = None


async def gate():
    """Wait until the gate is opened; cancelling one of those that wait does not end it for the others."""
    global opened
    if opened is None:
        opened = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(GATE, opening)
    await asyncio.shield(opened)

def opening():
    asyncio.get_running_loop().remove_reader(GATE)
    opened.set_result(None)

async def same(line: str) -> str:
    return line

async def double(number: int) -> int:
    return 2 * number

async def none(line: str) -> None:
    pass

async def prints(line: str) -> str:
    print("printed", line)
    return line

async def odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is\\nodd")
    return number

async def exits(line: str) -> None:
    raise SystemExit(5)

async def unspeakable(line: str) -> object:
    return object()

async def call(line: str) -> str:
    os.write(CALLS, b".")
    return line

async def gated(line: str) -> str:
    os.write(CALLS, b".")
    await gate()
    return line

async def gated_from_5000(line: str) -> str:
    return await gated(line) if int(line) >= 5000 else line

async def first_gated(line: str) -> str:
    return await gated(line) if line == "0" else await call(line)

async def patient(line: str) -> str:
    os.write(CALLS, b".")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise TimeoutError("asked to end") from None

async def wide(line: str) -> str:
    os.write(CALLS, b".")
    return line.ljust(4000)

@dataclass
class Adder:
    plus: int = 1

    async def __call__(self, number: int) -> int:
        return number + self.plus

    async def method(self, number: int) -> int:
        return number + self.plus

    @staticmethod
    async def static(number: int) -> int:
        return number + 1

add = Adder()
add_partly = partial(add)
double_partly = partial(double)

async def hurried(line: str) -> str:
    """Has its result ready when it is cancelled."""
    os.write(CALLS, b".")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return line

async def deaf(line: str) -> str:
    """Does not end when it is cancelled."""
    os.write(CALLS, b".")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

async def in_a_thread(line: str) -> str:
    """Leaves a thread that nothing can end, when it is cancelled."""
    await asyncio.to_thread(stuck)
    return line

def stuck():
    os.write(CALLS, b".")
    os.read(GATE, 1)

async def cancels_another(line: str) -> str:
    """Fails by a cancellation that is not its own."""
    other = asyncio.ensure_future(asyncio.Event().wait())
    other.cancel()
    await other

async def ends_its_task(line: str) -> str:
    if line == "5":
        asyncio.current_task().cancel()
        await asyncio.Event().wait()
    return line
'''


class Ended(NamedTuple):
    code: int
    out: bytes
    err: str


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "workpool", "run", *map(str, arguments)]


def run(folder: Path, *arguments: object, stdin: bytes = b"") -> Ended:
    """Run to the end."""
    done = subprocess.run(command(*arguments), cwd=folder, input=stdin, capture_output=True, timeout=SECONDS)
    return Ended(done.returncode, done.stdout, done.stderr.decode())


NURSERY = """
import json, os, sys, tempfile
from workpool.cli import commands, main

for request in map(json.loads, sys.stdin):
    streams = [tempfile.TemporaryFile() for _ in range(3)]
    streams[0].write(request["stdin"].encode("latin-1"))
    streams[0].seek(0)
    child = os.fork()
    if not child:
        for number, stream in enumerate(streams):
            os.dup2(stream.fileno(), number)
        os.chdir(request["folder"])
        code = main(request["arguments"])
        sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    texts = [os.pread(stream.fileno(), 1 << 24, 0).decode("latin-1") for stream in streams[1:]]
    print(json.dumps([os.waitstatus_to_exitcode(status), *texts]), flush=True)
"""


class Nursery:
    """Runs the command in a fork of a process that has imported everything: 30 times a second, not 3.

    For the many cases of which each is a run to the end; `run` is how it is really started.
    """

    def __init__(self, subcommand: str = "run") -> None:
        self._subcommand = subcommand
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, folder: Path, *arguments: object, stdin: bytes = b"") -> Ended:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = [self._subcommand, *map(str, arguments)]
        request = {"folder": str(folder), "arguments": words, "stdin": stdin.decode("latin-1")}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        assert ready, f"no end of {arguments} within {SECONDS} s"
        code, out, err = json.loads(self._process.stdout.readline())
        return Ended(code, out.encode("latin-1"), err.encode("latin-1").decode())

    def close(self) -> None:
        self._process.communicate(timeout=SECONDS)


class Child:
    """`workpool run` while it runs."""

    def __init__(self, folder: Path, *arguments: object, stdin: int = subprocess.DEVNULL) -> None:
        self._calls, calls = os.pipe()
        gate, self._gate = os.pipe()
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env={**os.environ, "CALLS": str(calls), "GATE": str(gate)},
            pass_fds=(calls, gate),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        os.close(calls)
        os.close(gate)
        self._said = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.open_gate()
        os.close(self._calls)

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def send(self, *signals: int) -> None:
        for number in signals:
            self.process.send_signal(number)

    def await_calls(self, count: int) -> None:
        """Until that many calls were announced."""
        while count > 0:
            came = _read(self._calls, count, "a call")
            assert came, "it ended before it had called that often"
            count -= len(came)

    def further_calls(self) -> int:
        """How many calls were announced beside those that were awaited. After the end."""
        count = 0
        while came := _read(self._calls, 1 << 16, "the end of the calls"):
            count += len(came)
        return count

    def await_said(self, words: str) -> str:
        """Until it has said a line with these words on stderr; that line."""
        assert self.process.stderr is not None
        while True:
            for line in self._said.decode().splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.strip()
            came = _read(self.process.stderr.fileno(), 1 << 16, f"{words!r} in {self._said!r}")
            assert came, f"it ended without saying {words!r}: {self._said!r}"
            self._said += came

    def open_gate(self) -> None:
        """Let all calls return, those to come too."""
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1

    def end(self) -> Ended:
        """Wait for the end, and have what it wrote since."""
        out, err = self.process.communicate(timeout=SECONDS)
        return Ended(self.process.returncode, out, (self._said + err).decode())


def _read(fd: int, most: int, what: str) -> bytes:
    until = monotonic() + SECONDS
    ready, _, _ = select.select([fd], [], [], max(0.0, until - monotonic()))
    assert ready, f"{SECONDS} s waited for {what}"
    return os.read(fd, most)


def lines(data: bytes) -> list[bytes]:
    assert not data or data.endswith(b"\n")
    return data.splitlines()


def check_summary(ended: Ended, *, processed: int, failed: int = 0, unprocessed: int = 0, maybe_run: int = 0) -> None:
    maybe = f" ({maybe_run:,} of them may have run)" if maybe_run else ""
    expected = f"workpool: {processed:,} processed, {failed:,} of them failed; {unprocessed:,} unprocessed{maybe}; "
    assert expected in ended.err, ended.err


def sentences(ended: Ended) -> Sequence[str]:
    assert "Traceback" not in ended.err
    return ended.err.splitlines()
