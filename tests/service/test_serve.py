"""`workpool serve` as a process: signals, exit codes and the time that a stop takes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import IO

import pytest

SECONDS = 30.0
"""The longest that anything is waited for."""

FUNCTIONS = """
import os
import threading

CALLS = int(os.environ["CALLS"])

def note(line):
    os.write(CALLS, b".")

def stuck(line):
    os.write(CALLS, b".")
    threading.Event().wait()
"""


class Serving:
    """One process."""

    def __init__(self, folder: Path, function: str, grace: str) -> None:
        (folder / "served.py").write_text(FUNCTIONS)
        (folder / "pools.yaml").write_text(
            f"worker_pools:\n  a: {{process: served:{function}, workers: 2, source: {{kind: lines, path: '-'}}}}\n"
            f"shutdown: {{grace: {grace}}}\n"
        )
        self._calls, there = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workpool", "serve", "pools.yaml"],
            cwd=folder,
            env={**os.environ, "CALLS": str(there)},
            pass_fds=[there],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(there)
        self.said = b""
        self.wait_for("pools run: a")

    def feed(self, text: bytes) -> None:
        stdin = self._pipe(self.process.stdin)
        stdin.write(text)
        stdin.flush()

    def calls(self, count: int) -> None:
        """Wait until the function was called so often."""
        while count:
            assert select.select([self._calls], [], [], SECONDS)[0]
            count -= len(os.read(self._calls, count))

    def wait_for(self, sentence: str) -> None:
        stderr = self._pipe(self.process.stderr)
        while sentence not in self.said.decode():
            assert select.select([stderr], [], [], SECONDS)[0], self.said
            piece = os.read(stderr.fileno(), 65536)
            assert piece, self.said
            self.said += piece

    def end(self) -> int:
        self.said += self._pipe(self.process.stderr).read()
        return self.process.wait(SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(SECONDS)
        os.close(self._calls)
        for pipe in (self.process.stdin, self.process.stderr):
            self._pipe(pipe).close()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Serving]]:
    all_of_them: list[Serving] = []
    yield all_of_them
    for one in all_of_them:
        one.close()


def serve(started: list[Serving], folder: Path, function: str, grace: str = "20s") -> Serving:
    started.append(Serving(folder, function, grace))
    return started[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_what_was_accepted_and_is_no_failure(
    tmp_path: Path, started: list[Serving], number: int
) -> None:
    serving = serve(started, tmp_path, "note")
    serving.feed(b"1\n2\n3\n")
    serving.calls(3)
    serving.process.send_signal(number)  # while the source is blocked in a read
    assert serving.end() == 0
    said = serving.said.decode()
    assert "3 submitted, 3 succeeded" in said
    assert "nothing is left" in said
    assert not (tmp_path / "a.unprocessed").exists()


def test_what_is_left_is_kept_within_the_grace(tmp_path: Path, started: list[Serving]) -> None:
    serving = serve(started, tmp_path, "stuck", grace="1s")
    serving.feed(b"1\n2\n3\n4\n5\n")
    serving.calls(2)
    began = monotonic()
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 3
    assert monotonic() - began < 10  # it would be for ever; the exact time is that of a busy machine
    assert (tmp_path / "a.unprocessed").read_text() == "1\n2\n3\n4\n5\n"
    assert "something is left" in serving.said.decode()


def test_what_was_read_and_not_begun_is_kept_however_little_time_is_left(
    tmp_path: Path, started: list[Serving]
) -> None:
    serving = serve(started, tmp_path, "stuck", grace="3s")
    text = b"".join(b"%d\n" % number for number in range(5000))  # more than the queue has slots
    serving.feed(text)
    serving.calls(2)
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 3
    assert (tmp_path / "a.unprocessed").read_bytes() == text


def test_a_second_signal_aborts(tmp_path: Path, started: list[Serving]) -> None:
    serving = serve(started, tmp_path, "stuck", grace="1h")
    serving.feed(b"1\n2\n3\n")
    serving.calls(2)
    serving.process.send_signal(signal.SIGTERM)
    serving.wait_for("once more to abort")
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 3
    assert (tmp_path / "a.unprocessed").read_text() == "1\n2\n3\n"


def test_an_end_of_the_source_leaves_it_running(tmp_path: Path, started: list[Serving]) -> None:
    serving = serve(started, tmp_path, "note")
    serving.feed(b"1\n2")
    stdin = serving.process.stdin
    assert stdin is not None
    stdin.close()
    serving.calls(2)
    assert serving.process.poll() is None
    serving.process.send_signal(signal.SIGTERM)
    assert serving.end() == 0


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "pools.yaml").write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "workpool", "serve", "pools.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def test_a_wrong_configuration_is_told_of_and_nothing_is_started(tmp_path: Path) -> None:
    done = run(tmp_path, "worker_pools: {a: {process: builtins:abs, workers: no, source: {kind: lines, path: in.txt}}}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pools.yaml:1:52: worker_pools.a.workers: must be a whole number")


def test_a_service_that_cannot_start(tmp_path: Path) -> None:
    done = run(tmp_path, "worker_pools: {a: {process: builtins:print, source: {kind: lines, path: missing.txt}}}")
    assert done.returncode == 2
    (sentence,) = done.stderr.splitlines()
    assert "the service cannot start" in sentence
    assert "missing.txt" in sentence
