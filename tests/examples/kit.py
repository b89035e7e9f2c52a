"""What the tests of the examples that serve share: a server in a process of its own, and the printer behind it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Event, Thread
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parents[2]
SOON = 30.0


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Printer:
    """Takes labels at once, and answers when it is let: then `printed` and the label."""

    def __init__(self) -> None:
        self.may_print = Event()
        self._came: SimpleQueue[str] = SimpleQueue()
        printer = self

        class Job(StreamRequestHandler):
            def handle(self) -> None:
                label = self.rfile.readline().decode().strip()
                printer._came.put(label)
                if printer.may_print.wait(SOON):
                    self.wfile.write(f"printed {label}\n".encode())

        self._server = ThreadingTCPServer(("127.0.0.1", 0), Job)
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.may_print.set()
        self._server.shutdown()
        self._thread.join(SOON)
        self._server.server_close()

    def await_labels(self, count: int) -> list[str]:
        """The next so many, in alphabetical order: two workers come in any."""
        return sorted(self._came.get(timeout=SOON) for _ in range(count))


class Server:
    """An example while it runs."""

    def __init__(self, *arguments: str, printer: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", *arguments],
            cwd=ROOT,
            env={**os.environ, "PRINTER": f"127.0.0.1:{printer}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._said = {"stdout": b"", "stderr": b""}

    def await_said(self, words: str, *, on: str) -> str:
        """Until it has said a line with these words; that line."""
        until = monotonic() + SOON
        pipe = {"stdout": self.process.stdout, "stderr": self.process.stderr}[on]
        assert pipe is not None
        while True:
            for line in self._said[on].decode().splitlines(keepends=True):
                if words in line and line.endswith("\n"):
                    return line.strip()
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - monotonic()))
            came = os.read(pipe.fileno(), 1 << 16) if ready else b""
            assert came, f"it did not say {words!r}: {self._said}, {self.kill()}"
            self._said[on] += came

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def end(self) -> Ended:
        """Wait for the end, and have all that it said."""
        out, err = self.process.communicate(timeout=SOON)
        return Ended(
            self.process.returncode, (self._said["stdout"] + out).decode(), (self._said["stderr"] + err).decode()
        )

    def kill(self) -> Ended:
        self.process.kill()
        return self.end()


@contextmanager
def serving(*arguments: str, printer: int) -> Iterator[Server]:
    server = Server(*arguments, printer=printer)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.kill()
