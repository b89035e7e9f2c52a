"""Signals: every line ends in exactly one of output, failures and what is left, which finishes the job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.kit import Child, check_summary, lines, numbers, run


def results(data: bytes) -> list[int]:
    return [int(json.loads(line)) for line in lines(data)]


def numbered(data: bytes) -> list[int]:
    return [int(line) for line in lines(data)]


@pytest.mark.parametrize("order", ["--ordered", "--no-progress"])
def test_sigterm_in_the_middle_of_100_000_lines_and_a_second_run_do_every_line_exactly_once(
    folder: Path, order: str, functions: str
) -> None:
    (folder / "in.txt").write_bytes(numbers(100_000))
    common = ("--output", "out", "--unprocessed", "left", order)
    with Child(folder, f"{functions}:gated_from_5000", "in.txt", *common) as child:
        child.await_calls(10)
        child.send(signal.SIGTERM)
        child.await_said("stopping")
        child.open_gate()
        ended = child.end()
    done = results((folder / "out").read_bytes())
    left = numbered((folder / "left").read_bytes())
    assert ended.code == 3
    assert 5000 <= len(done) < 100_000
    assert left == sorted(left)
    assert sorted(done + left) == list(range(100_000))
    check_summary(ended, processed=len(done), unprocessed=len(left))

    ended = run(folder, f"{functions}:same", "left", *common)
    assert ended.code == 0
    assert sorted(results((folder / "out").read_bytes())) == list(range(100_000))
    assert (folder / "left").read_bytes() == b""
    assert sorted(path.name for path in folder.glob("*left*")) == ["left"]  # nothing temporary


def test_what_is_left_is_as_it_came_and_may_take_the_place_of_an_input(folder: Path, functions: str) -> None:
    """Three files, the second without a last line ending, the third with lines as odd as can be."""
    odd = b"\xff\r\n\n \r\x00\nlast"
    (folder / "one").write_bytes(b"a\nb\nc")
    (folder / "two").write_bytes(b"d")
    (folder / "three").write_bytes(odd)
    arguments = ("one", "two", "three", "--workers", 1, "--queue-size", 1, "--timeout", 0, "--unprocessed", "three")
    (folder / "three").chmod(0o640)
    with Child(folder, f"{functions}:gated", *arguments) as child:
        child.await_calls(1)
        child.send(signal.SIGINT)
        ended = child.end()
    assert ended.code == 3
    assert (folder / "three").read_bytes() == b"a\nb\nc\nd\n" + odd
    assert (folder / "three").stat().st_mode & 0o777 == 0o640
    assert (folder / "one").read_bytes() == b"a\nb\nc"
    check_summary(ended, processed=0, unprocessed=8, maybe_run=1)


def test_a_second_signal_aborts(folder: Path, functions: str) -> None:
    """The lines that are stuck are given up: they are left, and may have run."""
    (folder / "in.txt").write_bytes(numbers(5000))
    with Child(
        folder, f"{functions}:gated", "in.txt", "--workers", 3, "--unprocessed", "left", "--output", "o"
    ) as child:
        child.await_calls(3)
        child.send(signal.SIGTERM)
        child.await_said("stopping: what was accepted is finished, for at most 30 s; once more to abort")
        child.send(signal.SIGINT)
        child.await_said("aborting")
        ended = child.end()
        child.open_gate()
    assert ended.code == 3
    assert numbered((folder / "left").read_bytes()) == list(range(5000))
    assert (folder / "o").read_bytes() == b""
    check_summary(ended, processed=0, unprocessed=5000, maybe_run=3)


def test_lines_that_are_stuck_at_the_timeout_are_left_and_may_have_run(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(numbers(40))
    arguments = ("--workers", 2, "--unprocessed", "left", "--timeout", 0.1, "--ordered")
    with Child(folder, f"{functions}:first_gated", "in.txt", *arguments) as child:
        child.await_calls(40)
        child.send(signal.SIGTERM)
        ended = child.end()
    assert ended.code == 3
    assert results(ended.out) == list(range(1, 40))
    assert (folder / "left").read_bytes() == b"0\n"
    check_summary(ended, processed=39, unprocessed=1, maybe_run=1)


def test_a_function_that_ends_when_it_is_asked_to_has_failed(folder: Path, functions: str) -> None:
    arguments = ("--workers", 2, "--unprocessed", "left", "--timeout", 0, "--failed", "failed")
    (folder / "in.txt").write_bytes(numbers(10))
    with Child(folder, f"{functions}:patient", "in.txt", *arguments) as child:
        child.await_calls(2)
        child.send(signal.SIGTERM)
        ended = child.end()
    failed = [json.loads(line) for line in lines((folder / "failed").read_bytes())]
    assert sorted(record["input"] for record in failed) == ["0", "1"]
    assert numbered((folder / "left").read_bytes()) == list(range(2, 10))
    assert ended.code == 3
    check_summary(ended, processed=2, failed=2, unprocessed=8)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_idle_standard_input_does_not_hold_up_a_stop(folder: Path, number: int, functions: str) -> None:
    arguments = (f"{functions}:call", "--unprocessed", "left")
    with Child(folder, *arguments, stdin=subprocess.PIPE) as child:
        child.stdin.write(b"a\n")
        assert child.stdout.readline() == b'"a"\n'
        child.send(number)
        assert child.process.wait(timeout=10) == 0  # all there was is done
        assert (folder / "left").read_bytes() == b""


def test_a_fifo_that_nobody_writes_to_does_not_hold_up_a_stop(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "rest").write_bytes(b"b\n")
    with Child(folder, "functions:call", "-", "fifo", "rest", "--unprocessed", "left", stdin=subprocess.PIPE) as child:
        child.stdin.write(b"a\n")
        child.stdin.close()
        child.await_calls(1)
        child.send(signal.SIGTERM)
        assert child.process.wait(timeout=10) == 3
    assert (folder / "left").read_bytes() == b"b\n"


def test_of_a_pipe_what_arrives_is_left_and_nobody_takes_the_beginning_of_a_line_for_one(folder: Path) -> None:
    arguments = ("functions:gated", "--workers", 1, "--queue-size", 1, "--timeout", 0, "--unprocessed", "left")
    with Child(folder, *arguments, stdin=subprocess.PIPE) as child:
        child.stdin.write(b"a\nb\n")
        child.await_calls(1)
        child.stdin.write(b"c\nd\nhalf of a li")
        child.send(signal.SIGTERM)
        assert child.process.wait(timeout=10) == 3
        assert "still open" in (said := child.process.stderr.read().decode())  # type: ignore[union-attr]
        assert "half of a li" in said
    assert (folder / "left").read_bytes() == b"a\nb\nc\nd\n"


def test_whoever_writes_to_a_pipe_may_finish_after_the_stop(folder: Path) -> None:
    arguments = ("functions:gated", "--workers", 1, "--queue-size", 1, "--timeout", 0, "--unprocessed", "left")
    with Child(folder, *arguments, stdin=subprocess.PIPE) as child:
        child.stdin.write(b"a\n")
        child.await_calls(1)
        child.send(signal.SIGTERM)
        child.stdin.write(numbers(100_000))
        child.stdin.close()
        assert child.process.wait(timeout=20) == 3
    assert (folder / "left").read_bytes() == b"a\n" + numbers(100_000)


def test_standard_input_from_a_file_is_left_too(folder: Path) -> None:
    (folder / "in.txt").write_bytes(b"skipped\n" + numbers(200_000))
    fd = os.open(folder / "in.txt", os.O_RDONLY)
    os.read(fd, len(b"skipped\n"))
    with Child(folder, "functions:gated", "--timeout", 0, "--unprocessed", "left", stdin=fd) as child:
        os.close(fd)
        child.await_calls(10)
        child.send(signal.SIGTERM)
        assert child.end().code == 3
    assert (folder / "left").read_bytes() == numbers(200_000)


def test_a_stop_without_a_place_for_what_is_left_says_so(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(numbers(5000))
    with Child(folder, f"{functions}:gated", "in.txt", "--timeout", 0) as child:
        child.await_calls(10)
        child.send(signal.SIGTERM)
        ended = child.end()
    assert ended.code == 3
    check_summary(ended, processed=0, unprocessed=5000, maybe_run=10)
    assert "--unprocessed FILE would keep" in ended.err


def test_a_signal_that_was_ignored_stays_so(folder: Path) -> None:
    """As of a command that `nohup` or a script started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Child(folder, "functions:call", stdin=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        child.stdin.write(b"a\n")
        child.await_calls(1)
        child.send(signal.SIGINT)
        child.stdin.write(b"b\n")
        child.await_calls(1)
        ended = child.end()
    assert ended.code == 0
    check_summary(ended, processed=2)


def test_in_flight_are_no_more_lines_than_the_pool_holds(folder: Path, functions: str) -> None:
    """Line 0 is slow, and those behind it have to wait for their turn: the reader does, too."""
    arguments = (f"{functions}:first_gated", "in.txt", "--ordered", "--workers", 2, "--queue-size", 10, "--timeout", 0)
    (folder / "in.txt").write_bytes(numbers(1000))
    with Child(folder, *arguments, "--unprocessed", "left") as child:
        child.await_calls(12)
        child.send(signal.SIGTERM)
        ended = child.end()
        assert child.further_calls() == 0
    assert results(ended.out) == list(range(1, 12))
    assert numbered((folder / "left").read_bytes()) == [0, *range(12, 1000)]


def test_what_a_cancelled_function_still_returns_is_its_result(folder: Path) -> None:
    """It has half a second for that."""
    (folder / "in.txt").write_bytes(numbers(10))
    arguments = ("--workers", 2, "--timeout", 0, "--unprocessed", "left")
    with Child(folder, "async_functions:hurried", "in.txt", *arguments) as child:
        child.await_calls(2)
        child.send(signal.SIGTERM)
        ended = child.end()
    assert ended.code == 3
    assert sorted(results(ended.out)) == [0, 1]
    assert numbered((folder / "left").read_bytes()) == list(range(2, 10))
    check_summary(ended, processed=2, unprocessed=8)


@pytest.mark.parametrize("function", ["deaf", "in_a_thread"])
def test_what_does_not_end_when_it_is_cancelled_holds_up_no_exit(folder: Path, function: str) -> None:
    """Neither a task, nor the thread that one waited for."""
    (folder / "in.txt").write_bytes(numbers(5))
    arguments = ("--workers", 2, "--timeout", 0, "--unprocessed", "left", "--failed", "failed")
    with Child(folder, f"async_functions:{function}", "in.txt", *arguments) as child:
        child.await_calls(2)
        child.send(signal.SIGTERM)
        ended = child.end()
    assert ended.code == 3
    assert numbered((folder / "left").read_bytes()) == list(range(5))
    assert (folder / "failed").read_bytes() == b""
    check_summary(ended, processed=0, unprocessed=5, maybe_run=2)


@pytest.mark.parametrize("queue_size", [1, 10_000])
def test_a_function_that_ends_the_pools_own_task_ends_the_run_and_it_says_so(folder: Path, queue_size: int) -> None:
    """Also while the reader waits for room."""
    (folder / "in.txt").write_bytes(numbers(10_000))
    arguments = ("--workers", 1, "--queue-size", queue_size, "--unprocessed", "left", "--failed", "failed")
    ended = run(folder, "async_functions:ends_its_task", "in.txt", *arguments)
    assert ended.code == 3
    assert "the function ended its event loop, or the task that called it" in ended.err
    assert results(ended.out) == list(range(5))
    assert [json.loads(line)["input"] for line in lines((folder / "failed").read_bytes())] == ["5"]
    assert numbered((folder / "left").read_bytes()) == list(range(6, 10_000))
    check_summary(ended, processed=6, failed=1, unprocessed=9_994)
