"""Lines that run in processes, and lines that take too long."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.kit import Child, check_summary, lines, numbers, run, sentences

FAR = """
import os

import threading

def odd(number: int):
    print("printed", number)
    if number == 3:
        os._exit(7)
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number

def stuck(number: int):
    if number == 1:
        threading.Event().wait()
    return number
"""


@pytest.fixture(autouse=True)
def far(folder: Path) -> None:
    (folder / "far.py").write_text(FAR)


def errors(folder: Path) -> list[str]:
    return [json.loads(line)["error"] for line in lines((folder / "failed").read_bytes())]


def test_a_process_that_dies_fails_its_line_and_no_other(folder: Path) -> None:
    arguments = ("--executor", "process", "--workers", 2, "--ordered", "--failed", "failed")
    ended = run(folder, "far:odd", *arguments, stdin=numbers(6) + b"x\n")
    assert (ended.code, lines(ended.out)) == (1, [b"0", b"2", b"4"])
    first, died, odd, unread = errors(folder)
    assert (first, odd) == ("ValueError: 1 is odd", "ValueError: 5 is odd")
    assert died.startswith("WorkerDied: the process of worker")
    assert unread.startswith("not int in JSON")
    check_summary(ended, processed=7, failed=4)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_line_that_takes_too_long_has_failed(folder: Path, executor: str) -> None:
    arguments = ("--executor", executor, "--timeout-per-item", 0.5, "--workers", 2, "--failed", "failed")
    ended = run(folder, "far:stuck", *arguments, stdin=numbers(6))
    assert (ended.code, sorted(lines(ended.out))) == (1, [b"0", b"2", b"3", b"4", b"5"])
    (error,) = errors(folder)
    assert error.startswith("ItemTimeout: it ran for more than 0.5 s")


def test_sigterm_drains_processes(folder: Path) -> None:
    (folder / "far.py").write_text("def same(number: int):\n    return number\n")
    arguments = ("--executor", "process", "--workers", 2, "--queue-size", 10, "--unprocessed", "left")
    with Child(folder, "far:same", "-", *arguments, stdin=subprocess.PIPE) as child:
        child.stdin.write(b"0\n")
        assert child.stdout.readline() == b"0\n"
        child.stdin.write(numbers(1000))
        child.send(signal.SIGTERM)
        child.stdin.close()
        child.process.stdin = None
        ended = child.end()
    left = (folder / "left").read_bytes()
    assert sorted(map(int, lines(ended.out) + lines(left))) == list(range(1000))
    assert ended.code == (3 if left else 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("async_functions:same --executor thread", "is async"),
        ("async_functions:same --executor process", "is async"),
        ("functions:same --executor nothing", "--executor"),
        ("functions:same --timeout-per-item 0", "--timeout-per-item"),
        ("functions:same --timeout-per-item nan", "nan"),
    ],
)
def test_wrong_values(folder: Path, arguments: str, words: str) -> None:
    ended = run(folder, *arguments.split())
    (sentence,) = sentences(ended)
    assert words in sentence
    assert ended.code == 2
