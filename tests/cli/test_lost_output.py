"""Outputs that end, fill up, or stand still: nothing is lost, and nothing hangs."""

from __future__ import annotations

import fcntl
import json
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.kit import SECONDS, Child, command, lines, numbers, run, sentences


def test_a_broken_pipe_ends_it_quietly(folder: Path, functions: str) -> None:
    """As `| head -n 1` does."""
    (folder / "in.txt").write_bytes(numbers(100_000))
    with Child(folder, f"{functions}:same", "in.txt", "--ordered", "--unprocessed", "left") as child:
        assert child.stdout.readline() == b'"0"\n'
        child.stdout.close()
        assert child.process.wait(timeout=SECONDS) == 3
        assert child.process.stderr is not None
        assert child.process.stderr.read() == b""
    left = lines((folder / "left").read_bytes())
    assert left == lines(numbers(100_000))[-len(left) :]
    assert 0 < len(left) < 100_000


def test_a_broken_pipe_in_a_real_shell(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(numbers(100_000))
    shell = ["bash", "-c", '"$@" | head -n 1; echo ${PIPESTATUS[0]}', "bash", *command(f"{functions}:same", "in.txt")]
    done = subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout.splitlines()[1:] == ["3"]
    assert done.stderr == ""


@pytest.mark.parametrize("option", ["--output", "--failed"])
def test_a_full_disk_is_one_sentence_and_what_was_not_written_is_left(
    folder: Path, option: str, functions: str
) -> None:
    ended = run(folder, f"{functions}:odd", option, "/dev/full", "--unprocessed", "left", stdin=b"1\n2\n")
    assert ended.code == 3
    assert sentences(ended)[0] == f"workpool: cannot write to {option} /dev/full: No space left on device"
    written = ended.out if option == "--failed" else b""
    assert sorted(lines(written + (folder / "left").read_bytes())) in ([b"1", b"2"], [b"2"])
    assert "1 of them may have run" in ended.err


def test_a_file_that_cannot_grow_ends_with_a_whole_line(folder: Path) -> None:
    (folder / "in.txt").write_bytes(numbers(100_000))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        done = subprocess.Popen(
            command("functions:same", "in.txt", "--output", "out", "--ordered"),
            cwd=folder,
            stderr=subprocess.PIPE,
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    err = done.communicate(timeout=SECONDS)[1].decode()
    assert done.returncode == 3
    assert "cannot write to --output out: File too large" in err
    out = [json.loads(line) for line in lines((folder / "out").read_bytes())]
    assert out == [str(number) for number in range(len(out))]
    assert f"{len(out):,} processed, 0 of them failed; {100_000 - len(out):,} unprocessed" in err


def test_a_reader_that_stands_still_bounds_the_work_and_holds_up_no_stop(folder: Path, functions: str) -> None:
    """The pipe takes one result; 12 lines are in flight; then the reader of lines waits."""
    (folder / "in.txt").write_bytes(numbers(1000))
    arguments = ("--ordered", "--workers", 2, "--queue-size", 10, "--timeout", 0, "--unprocessed", "left")
    with Child(folder, f"{functions}:wide", "in.txt", *arguments) as child:
        fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, 4096)
        child.await_calls(12)
        child.send(signal.SIGTERM)
        child.process.wait(timeout=SECONDS)
        calls = 12 + child.further_calls()
        out = child.stdout.read()
        ended = child.end()
    whole = out[: out.rfind(b"\n") + 1]
    done = [int(json.loads(line)) for line in lines(whole)]
    left = [int(line) for line in lines((folder / "left").read_bytes())]
    assert calls <= 1 + 12
    assert ended.code == 3
    assert done + left == list(range(1000))
    assert "gave up writing to standard output" in ended.err
    assert f"{calls - len(done)} of them may have run" in ended.err


def test_failures_in_a_pipe_and_results_at_devices(folder: Path) -> None:
    """What is no regular file is written to as it is, and may be used twice."""
    ended = run(folder, "functions:odd", "--failed", "/dev/null", "--output", "/dev/null", stdin=b"1\n2\n")
    assert (ended.code, ended.out) == (1, b"")
    ended = run(folder, "functions:same", "--unprocessed", "/dev/null", stdin=b"1\n2\n")
    assert ended.code == 0
    assert Path("/dev/null").is_char_device()
