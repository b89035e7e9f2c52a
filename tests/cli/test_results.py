"""What comes out: results in one order or another, failures with their line numbers, and a summary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.cli.kit import Child, Nursery, check_summary, lines, numbers, run, sentences

JSON_ERROR = "int in JSON: Invalid JSON: expected value at line 1 column 1"


def test_results_in_the_order_of_the_lines(folder: Path, functions: str) -> None:
    """The first line is the last to be done."""
    (folder / "in.txt").write_bytes(numbers(12))
    with Child(folder, f"{functions}:first_gated", "in.txt", "--ordered", "--workers", 2, "--queue-size", 10) as child:
        child.await_calls(12)
        child.open_gate()
        ended = child.end()
    assert [json.loads(line) for line in lines(ended.out)] == [str(number) for number in range(12)]
    assert ended.code == 0


def test_results_as_they_finish(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(numbers(12))
    with Child(folder, f"{functions}:first_gated", "in.txt", "--workers", 2) as child:
        early = [json.loads(child.stdout.readline()) for _ in range(11)]
        child.open_gate()
        ended = child.end()
    assert sorted(map(int, early)) == list(range(1, 12))
    assert lines(ended.out) == [b'"0"']
    check_summary(ended, processed=12)


def test_many_lines_of_files_and_standard_input_in_order(folder: Path, functions: str) -> None:
    (folder / "one").write_bytes(numbers(20_000))
    (folder / "two").write_bytes(b"-1\r\n-2")
    ended = run(folder, f"{functions}:double", "one", "-", "two", "--ordered", stdin=b"7\n8")
    assert [json.loads(line) for line in lines(ended.out)] == [*range(0, 40_000, 2), 14, 16, -2, -4]
    check_summary(ended, processed=20_004)


@pytest.mark.parametrize(
    ("function", "line", "result"),
    [
        ("same", "a line", "a line"),
        ("same", " käse\t", " käse\t"),
        ("same", "", ""),
        ("same", "lone\rreturn", "lone\rreturn"),
        ("bare", "12", "12"),
        ("raw", "12", "12"),
        ("double", "21", 42),
        ("total", "[1, 2, 3]", 6),
        ("keys", '{"b": 1, "a": 2}', ["a", "b"]),
        ("flip", '{"x": 1}', {"x": 0, "y": 1}),
        ("name", '{"name": "Ann"}', "Ann"),
        ("model", '{"size": 3}', {"size": 3}),
        ("add", "1", 2),
    ],
)
def test_a_line_is_read_as_the_function_says(
    nursery: Nursery, folder: Path, function: str, line: str, result: object
) -> None:
    ended = nursery.run(folder, f"functions:{function}", stdin=line.encode() + b"\r\n")
    assert (json.loads(ended.out), ended.code) == (result, 0)


@pytest.mark.parametrize(
    ("target", "line", "result"),
    [
        ("double", "21", 42),
        ("double_partly", "21", 42),
        ("add", "1", 2),
        ("add_partly", "1", 2),
        ("add.method", "1", 2),
        ("Adder.static", "1", 2),
        ("Adder", "3", {"plus": 3}),  # makes one, and does not call it
    ],
)
def test_what_is_async_is_awaited(nursery: Nursery, folder: Path, target: str, line: str, result: object) -> None:
    ended = nursery.run(folder, f"async_functions:{target}", stdin=line.encode())
    assert (json.loads(ended.out), ended.code) == (result, 0)


def test_a_cancellation_that_is_not_its_own_fails_the_line(nursery: Nursery, folder: Path) -> None:
    ended = nursery.run(folder, "async_functions:cancels_another", "--failed", "failed", stdin=b"a\nb\n")
    assert (ended.code, ended.out) == (1, b"")
    assert [json.loads(line)["error"] for line in lines((folder / "failed").read_bytes())] == ["CancelledError"] * 2
    check_summary(ended, processed=2, failed=2)


def test_functions_of_the_library_too(nursery: Nursery, folder: Path) -> None:
    assert nursery.run(folder, "json:loads", stdin=b"[1]\n").out == b"[1]\n"
    assert nursery.run(folder, "pathlib:Path", stdin=b"a/b\n").out == b'"a/b"\n'


def test_none_is_not_written_and_no_line_is_no_work(nursery: Nursery, folder: Path, functions: str) -> None:
    ended = nursery.run(folder, f"{functions}:none", stdin=b"a\nb\n")
    assert (ended.out, ended.code) == (b"", 0)
    check_summary(ended, processed=2)
    ended = nursery.run(folder, f"{functions}:same", stdin=b"")
    assert (ended.out, ended.code) == (b"", 0)
    check_summary(ended, processed=0)


def test_what_the_function_prints_is_no_result(nursery: Nursery, folder: Path, functions: str) -> None:
    ended = nursery.run(folder, f"{functions}:prints", stdin=b"a\n")
    assert ended.out == b'"a"\n'
    assert "printed a\n" in ended.err


def test_failures_have_their_line_numbers(nursery: Nursery, folder: Path, functions: str) -> None:
    (folder / "one").write_bytes(b"0\n1\nx\n")
    (folder / "two").write_bytes(b"2\n3")
    ended = nursery.run(folder, f"{functions}:odd", "one", "two", "--failed", "failed.jsonl", "--ordered")
    assert (ended.code, ended.out) == (1, b"0\n2\n")
    assert [json.loads(line) for line in lines((folder / "failed.jsonl").read_bytes())] == [
        {"file": "one", "line": 2, "input": "1", "error": "ValueError: 1 is odd", "attempts": 1},
        {"file": "one", "line": 3, "input": "x", "error": f"not {JSON_ERROR}", "attempts": 1},
        {"file": "two", "line": 2, "input": "3", "error": "ValueError: 3 is odd", "attempts": 1},
    ]  # fmt: skip
    check_summary(ended, processed=5, failed=3)
    assert "failed.jsonl" in ended.err


def test_without_a_file_for_them_the_first_failures_are_shown(nursery: Nursery, folder: Path, functions: str) -> None:
    ended = nursery.run(folder, f"{functions}:odd", "--workers", 1, "--ordered", stdin=numbers(20))
    assert ended.code == 1
    assert sentences(ended)[1:] == [
        "workpool: failed: -:2: ValueError: 1 is odd",
        "workpool: failed: -:4: ValueError: 3 is odd",
        "workpool: failed: -:6: ValueError: 5 is odd",
        "workpool: failed: and 7 more; --failed FILE keeps them",
    ]


@pytest.mark.parametrize("function", ["exits", "unspeakable"])
def test_whatever_goes_wrong_with_a_line_is_its_failure(
    nursery: Nursery, folder: Path, function: str, functions: str
) -> None:
    ended = nursery.run(folder, f"{functions}:{function}", stdin=b"a\nb\n")
    assert (ended.code, ended.out) == (1, b"")
    check_summary(ended, processed=2, failed=2)


def test_bytes_that_are_no_text_are_kept(nursery: Nursery, folder: Path) -> None:
    odd = b"\xff\xfe k\xc3\xa4se \xed\xa0\x80\x00"
    ended = nursery.run(folder, "functions:same", "--failed", "failed.jsonl", stdin=odd + b"\r\n")
    failed = json.loads((folder / "failed.jsonl").read_bytes())
    assert ended.code == 1
    assert failed["input"].encode(errors="surrogateescape") == odd
    assert failed["error"].startswith("not UTF-8: invalid start byte at byte 0 (0xff)")
    ended = nursery.run(folder, "functions:length", stdin=odd + b"\r\n")
    assert (ended.code, json.loads(ended.out)) == (0, len(odd))


def test_output_and_failures_are_added_to(nursery: Nursery, folder: Path) -> None:
    arguments = ("functions:odd", "--output", "out", "--failed", "failed")
    for _ in range(2):
        nursery.run(folder, *arguments, stdin=b"1\n2\n")
    assert (folder / "out").read_bytes() == b"2\n2\n"
    assert len(lines((folder / "failed").read_bytes())) == 2


def test_the_script_is_installed(folder: Path) -> None:
    script = Path(sysconfig.get_path("scripts"), "workpool")
    done = subprocess.run([script, "run", "functions:same"], cwd=folder, input=b"a\n", capture_output=True)
    assert (done.returncode, done.stdout) == (0, b'"a"\n')
    version = subprocess.run([sys.executable, "-m", "workpool", "--version"], capture_output=True, text=True)
    assert version.stdout.startswith("workpool 0.")


def test_a_bar_is_drawn_on_a_terminal_and_only_there(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(b"a\nb\n")
    ours, theirs = os.openpty()
    arguments = [sys.executable, "-m", "workpool", "run", f"{functions}:same", "in.txt"]
    subprocess.run(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)
    assert "100%" in drawn
    assert "2 lines" in drawn
    assert "0 queued" in drawn
    assert "2 processed" in drawn
    assert len(sentences(run(folder, f"{functions}:same", "in.txt"))) == 1
    assert "2 lines" in run(folder, f"{functions}:same", "in.txt", "--progress").err
