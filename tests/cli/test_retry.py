"""Lines that are tried again, and what a function says by the exception that it raises, wherever it runs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.kit import SECONDS, Child, Ended, check_summary, command, lines, numbers, run, sentences

RETRIED = """
import asyncio
import os
import threading
from functools import wraps

from workpool import Discard, Fatal, Invalid, Snooze, Transient, current

CALLS = int(os.environ.get("CALLS", "-1"))


def fails(times: int):
    "As often as the line says."
    if current().attempt <= times:
        raise ValueError(f"attempt {current().attempt}")
    return [times, current().attempt]

def fails_once(number: int):
    if current().attempt == 1:
        raise OSError("busy")
    return number

def transient(line: str):
    raise Transient("it is busy")

class Mine(Exception):
    def __init__(self, line, lock):
        super().__init__(line)
        self.lock = lock

class MyInvalid(Invalid, Mine): ...
class MyDiscard(Discard):
    def __init__(self):
        super().__init__("of no use")
        self.lock = threading.Lock()

def hopeless(number: int):
    if number == 0:
        raise MyInvalid("never", threading.Lock())
    if number == 1:
        raise SystemExit(5)
    return object()

def mine(line: str):
    raise Mine(line, threading.Lock())

def even_only(number: int):
    if number % 2:
        raise MyDiscard
    return number

def second_thoughts(line: str):
    try:
        open(f"asked-{line}", "x").close()
    except FileExistsError:
        return [line, current().attempt]
    raise Snooze(0.01)

def fatal_at_5(number: int):
    if number == 5:
        raise Fatal("the disk is full")
    return number

def late(line: str):
    "All but the last are far from ready."
    if line != "last":
        raise Snooze(3600)
    return line

def late_or_fails(line: str):
    return late(line) if line == "late" else fails(int(line))

def late_call(line: str):
    os.write(CALLS, b".")
    raise Snooze(3600)

def opened(line: str):
    if line != "last" and not os.path.exists("opened"):
        raise OSError("shut")
    return line

def slow_at_first(line: str):
    if current().attempt == 1:
        current().sleep(3600)
    return line

def stuck(line: str):
    if line != "last":
        print(line, flush=True)
        threading.Event().wait()
    return line

def dies(line: str):
    os._exit(7)
"""

ASYNC_RETRIED = """
import asyncio

import retried
from workpool import current

def made_async(function):
    async def call(line: function.__annotations__[next(iter(function.__annotations__))]):
        await asyncio.sleep(0)
        return function(line)
    return call

for name in ("fails", "fails_once", "transient", "hopeless", "mine", "even_only", "second_thoughts", "fatal_at_5",
             "late", "late_call", "opened"):
    globals()[name] = made_async(getattr(retried, name))

async def stuck(line: str):
    if line != "last":
        print(line, flush=True)
        await asyncio.Event().wait()
    return line

async def slow_at_first(line: str):
    if current().attempt == 1:
        await asyncio.Event().wait()
    return line
"""


class Where(NamedTuple):
    """Where a function runs."""

    module: str
    options: tuple[str, ...]

    def words(self, function: str, *arguments: object) -> tuple[object, ...]:
        # Ten processes, the default, take longer to start than most of what is tried with them.
        few = ("--workers", 2) if "process" in self.options and "--workers" not in arguments else ()
        return (f"{self.module}:{function}", *arguments, *self.options, *few)


WHERE = {
    "thread": Where("retried", ()),
    "task": Where("async_retried", ()),
    "process": Where("retried", ("--executor", "process")),
    "thread, timed": Where("retried", ("--timeout-per-item", "20")),
    "task, timed": Where("async_retried", ("--timeout-per-item", "20")),
}


everywhere = pytest.mark.parametrize("where", WHERE, indirect=True)
"""With a time for each line, too: then the pool of threads or tasks has another form."""


@pytest.fixture(params=["thread", "task", "process"])
def where(request: pytest.FixtureRequest) -> Where:
    return WHERE[request.param]


@pytest.fixture(autouse=True)
def modules(folder: Path) -> None:
    (folder / "retried.py").write_text(RETRIED)
    (folder / "async_retried.py").write_text(ASYNC_RETRIED)


def records(folder: Path) -> list[dict[str, Any]]:
    """The failures, by line."""
    found = [json.loads(line) for line in lines((folder / "failed").read_bytes())]
    return sorted(found, key=lambda record: int(record["line"]))


def attempts(folder: Path) -> list[int]:
    return [record["attempts"] for record in records(folder)]


def results(data: bytes) -> list[Any]:
    return [json.loads(line) for line in lines(data)]


def summary(ended: Ended) -> str:
    (sentence,) = [sentence for sentence in sentences(ended) if " processed, " in sentence]
    return sentence


@everywhere
def test_a_line_that_fails_is_tried_again_so_often(folder: Path, where: Where) -> None:
    """Also when its turn holds up the others."""
    ended = run(folder, *where.words("fails", "--retry", 2, "--ordered", "--failed", "failed"), stdin=b"0\n2\n3\n1\n")
    assert results(ended.out) == [[0, 1], [2, 3], [1, 2]]
    assert records(folder) == [
        {"file": "-", "line": 3, "input": "3", "error": "ValueError: attempt 3", "attempts": 3},
    ]
    assert ended.code == 1
    check_summary(ended, processed=4, failed=1)
    assert "; 5 retries; " in summary(ended)


def test_without_the_option_nothing_is_tried_again(folder: Path, where: Where) -> None:
    ended = run(folder, *where.words("fails", "--failed", "failed"), stdin=b"0\n1\n")
    assert (ended.code, results(ended.out)) == (1, [[0, 1]])
    assert attempts(folder) == [1]
    assert "retr" not in ended.err


@pytest.mark.parametrize(("retries", "tried"), [(0, 1), (1, 2)])
def test_what_is_transient_is_no_more_often_than_it_is_said(
    folder: Path, where: Where, retries: int, tried: int
) -> None:
    ended = run(folder, *where.words("transient", "--retry", retries, "--failed", "failed"), stdin=b"a\n")
    assert ended.code == 1
    assert attempts(folder) == [tried]
    assert ("; 1 retry; " in summary(ended)) == (retries == 1)


def test_what_will_not_do_the_next_time_is_not_tried_again(folder: Path, where: Where) -> None:
    """Its own class of Invalid, SystemExit, a result that is no JSON, and a line that is not what it takes."""
    ended = run(folder, *where.words("hopeless", "--retry", 5, "--failed", "failed"), stdin=b"0\n1\n2\nx\n")
    assert (ended.code, ended.out) == (1, b"")
    assert attempts(folder) == [1, 1, 1, 1]
    invalid, left, unwritable, unread = [record["error"] for record in records(folder)]
    assert invalid.startswith("MyInvalid: ")
    assert left == "SystemExit: 5"
    assert unwritable.startswith("PydanticSerializationError: ")
    assert unread.startswith("not int in JSON: ")
    assert "retr" not in ended.err


def test_an_exception_that_does_not_pickle_is_one_like_others(folder: Path, where: Where) -> None:
    ended = run(folder, *where.words("mine", "--retry", 1, "--failed", "failed"), stdin=b"a\n")
    assert ended.code == 1
    (record,) = records(folder)
    assert (record["error"].partition(":")[0], record["attempts"]) == ("Mine", 2)


@everywhere
def test_what_is_discarded_is_no_failure_and_has_no_result(folder: Path, where: Where) -> None:
    """Many more than may be in flight at once."""
    arguments = ("--workers", 1, "--queue-size", 2, "--ordered", "--failed", "failed")
    ended = run(folder, *where.words("even_only", *arguments), stdin=numbers(40))
    assert (ended.code, results(ended.out)) == (0, list(range(0, 40, 2)))
    assert (folder / "failed").read_bytes() == b""
    assert "40 processed, 0 of them failed, 20 discarded; 0 unprocessed; " in ended.err


@everywhere
def test_what_asks_for_more_time_comes_again_and_that_is_no_attempt(folder: Path, where: Where) -> None:
    """All of them may wait at once, though they are more than the queue takes."""
    ended = run(folder, *where.words("second_thoughts", "--workers", 2, "--queue-size", 1), stdin=b"a\nb\nc\n")
    assert (ended.code, sorted(results(ended.out))) == (0, [["a", 1], ["b", 1], ["c", 1]])
    check_summary(ended, processed=3)


@everywhere
def test_a_line_may_end_the_run(folder: Path, where: Where) -> None:
    (folder / "in.txt").write_bytes(numbers(10_000))
    arguments = ("in.txt", "--workers", 1, "--queue-size", 20, "--retry", 3, "--ordered")
    kept = ("--failed", "failed", "--unprocessed", "left")
    ended = run(folder, *where.words("fatal_at_5", *arguments, *kept))
    assert ended.code == 3
    assert "workpool: in.txt:6 says that no line will do, and ended the run: Fatal: the disk is full\n" in ended.err
    assert "the workers ended" not in ended.err
    (record,) = records(folder)
    assert (record["input"], record["error"], record["attempts"]) == ("5", "Fatal: the disk is full", 1)
    done, left = results(ended.out), [int(line) for line in lines((folder / "left").read_bytes())]
    assert done[:5] == list(range(5))
    assert sorted([*done, 5, *left]) == list(range(10_000))
    assert len(left) > 9000
    check_summary(ended, processed=len(done) + 1, failed=1, unprocessed=len(left))


def test_a_line_that_ends_the_run_is_reason_enough_if_it_is_the_last(folder: Path, where: Where) -> None:
    ended = run(folder, *where.words("fatal_at_5"), stdin=b"5\n")
    assert ended.code == 3
    check_summary(ended, processed=1, failed=1)


def await_last(child: Child, before: bytes, behind: bytes = b"") -> None:
    """Give it these lines and one between; until that is done. By then the one worker has had those before it."""
    child.stdin.write(before + b"last\n" + behind)
    assert child.stdout.readline() == b'"last"\n'


@everywhere
def test_what_waits_for_its_next_attempt_at_the_end_of_a_stop_is_left(folder: Path, where: Where) -> None:
    arguments = ("--workers", 1, "--retry", 3, "--timeout", 0, "--failed", "failed", "--unprocessed", "left")
    with Child(folder, *where.words("late", *arguments), stdin=subprocess.PIPE) as child:
        await_last(child, b"a\nb\nc\n")
        child.send(signal.SIGINT)
        ended = child.end()
    assert ended.code == 3
    assert (folder / "left").read_bytes() == b"a\nb\nc\n"
    assert (folder / "failed").read_bytes() == b""
    assert "1 processed, 0 of them failed; 3 unprocessed (3 of them may have run, 3 waited to be tried again); " in (
        summary(ended)
    )


@everywhere
def test_what_a_stop_cuts_short_is_left_and_was_not_tried_again(folder: Path, where: Where) -> None:
    arguments = ("--workers", 1, "--retry", 3, "--timeout", 0, "--failed", "failed", "--unprocessed", "left")
    with Child(folder, *where.words("stuck", *arguments), stdin=subprocess.PIPE) as child:
        await_last(child, b"", b"stuck\n")
        child.await_said("stuck")
        child.send(signal.SIGINT)
        ended = child.end()
    assert ended.code == 3
    assert (folder / "left").read_bytes() == b"stuck\n"
    assert (folder / "failed").read_bytes() == b""
    assert "1 processed, 0 of them failed; 1 unprocessed (1 of them may have run); " in summary(ended)
    assert "retr" not in summary(ended)


def test_a_second_ctrl_c_does_not_wait_for_the_next_attempt(folder: Path, where: Where) -> None:
    with Child(folder, *where.words("late", "--workers", 1, "--unprocessed", "left"), stdin=subprocess.PIPE) as child:
        await_last(child, b"a\n")
        child.send(signal.SIGINT)
        child.await_said("stopping")
        child.send(signal.SIGINT)
        ended = child.end()
    assert ended.code == 3
    assert (folder / "left").read_bytes() == b"a\n"


def test_a_stop_waits_for_the_next_attempt_while_it_has_time(folder: Path, where: Where) -> None:
    arguments = ("--workers", 1, "--retry", 1_000_000, "--unprocessed", "left")
    with Child(folder, *where.words("opened", *arguments), stdin=subprocess.PIPE) as child:
        await_last(child, b"a\nb\n")
        child.send(signal.SIGTERM)
        child.await_said("stopping")
        (folder / "opened").touch()
        ended = child.end()
    assert (ended.code, sorted(results(ended.out))) == (0, ["a", "b"])
    assert (folder / "left").read_bytes() == b""
    check_summary(ended, processed=3)


def test_ctrl_c_in_the_middle_and_a_second_run_do_every_line_exactly_once(folder: Path, where: Where) -> None:
    (folder / "in.txt").write_bytes(numbers(120))
    options = ("--retry", 1, "--failed", "failed", "--unprocessed", "left")
    few = ("--workers", 2, "--queue-size", 5, "--timeout", 0)
    with Child(folder, *where.words("fails_once", "in.txt", *options, *few)) as child:
        done = [json.loads(child.stdout.readline()) for _ in range(20)]
        child.send(signal.SIGINT)
        ended = child.end()
    done += results(ended.out)
    left = [int(line) for line in lines((folder / "left").read_bytes())]
    assert ended.code == (3 if left else 0)
    assert left == sorted(left)
    assert sorted(done + left) == list(range(120))

    ended = run(folder, *where.words("fails_once", "left", *options))
    assert ended.code == 0
    assert sorted(done + results(ended.out)) == list(range(120))
    assert (folder / "left").read_bytes() == (folder / "failed").read_bytes() == b""


@pytest.mark.parametrize("module", ["retried", "async_retried"])
def test_lines_that_wait_for_their_next_attempt_are_in_flight_too(folder: Path, module: str) -> None:
    """No more lines are read than queue and workers hold, however many could be put aside."""
    (folder / "in.txt").write_bytes(numbers(1000))
    arguments = ("in.txt", "--workers", 2, "--queue-size", 10, "--timeout", 0, "--unprocessed", "left")
    with Child(folder, f"{module}:late_call", *arguments) as child:
        child.await_calls(12)
        child.send(signal.SIGTERM)
        ended = child.end()
        assert child.further_calls() == 0
    assert ended.code == 3
    assert lines((folder / "left").read_bytes()) == lines(numbers(1000))


def test_a_line_that_took_too_long_is_tried_again(folder: Path, where: Where) -> None:
    arguments = ("--retry", 1, "--timeout-per-item", 0.5, "--workers", 1)
    ended = run(folder, *where.words("slow_at_first", *arguments), stdin=b"a\n")
    assert (ended.code, ended.out) == (0, b'"a"\n')
    assert "; 1 retry; " in summary(ended)


def test_a_line_that_may_have_killed_its_process_is_not_tried_again(folder: Path) -> None:
    arguments = ("--retry", 3, "--executor", "process", "--workers", 1, "--failed", "failed")
    ended = run(folder, "retried:dies", *arguments, stdin=b"a\n")
    assert ended.code == 1
    (record,) = records(folder)
    assert (record["error"].partition(":")[0], record["attempts"]) == ("WorkerDied", 1)


def test_the_bar_tells_how_many_were_tried_again_and_how_many_wait(folder: Path) -> None:
    ours, theirs = os.openpty()
    arguments = command("retried:late_or_fails", "--retry", 1, "--workers", 1, "--progress", "--timeout", 0)
    wide = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    with subprocess.Popen(arguments, cwd=folder, stdin=subprocess.PIPE, stderr=theirs, env=wide) as child:
        os.close(theirs)
        assert child.stdin is not None
        child.stdin.write(b"late\n1\n")
        child.stdin.flush()
        await_drawn(ours, b"1 retry, 1 waiting")
        child.send_signal(signal.SIGINT)
        child.stdin.close()
        await_drawn(ours, b"1 waited to be tried again")
    os.close(ours)


def await_drawn(terminal: int, words: bytes) -> None:
    drawn = b""
    while words not in drawn:
        ready, _, _ = select.select([terminal], [], [], SECONDS)
        assert ready, drawn
        drawn += os.read(terminal, 1 << 16)


@pytest.mark.parametrize("value", ["-1", "1.5", "many", ""])
def test_wrong_values(folder: Path, value: str) -> None:
    ended = run(folder, "functions:same", "--retry", value)
    assert_one_sentence(ended, ["--retry", "workpool run --help"])


def assert_one_sentence(ended: Ended, words: Sequence[str]) -> None:
    (sentence,) = sentences(ended)
    assert [word for word in words if word not in sentence] == []
    assert (ended.code, ended.out) == (2, b"")
