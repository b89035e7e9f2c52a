"""`workpool check` and `workpool schema`, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.configs import EVERYTHING, ORIGINALS, F
from workpool.cli import main
from workpool.service.config import schema


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_line_for_each_pool_and_warnings_apart(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pools.yaml").write_text(ORIGINALS[1])
    assert main(["check", "pools.yaml"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        f"message_processor: {F}:handle, 10 threads, fifo queue of 1000, metrics also as message_processor_*",
        f"network_io: {F}:handle, 50 threads, fifo queue of 5000",
        f"batch_processor: {F}:handle, 5 threads, fifo queue of 100, metrics also as batch_processor_*",
    ]
    (warning,) = err.splitlines()
    assert warning.startswith("pools.yaml:16:56: metrics.worker_pools.prefixes[2]: warning: ")


def test_what_a_pool_would_be(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pools.yaml").write_text(EVERYTHING)
    assert main(["check", "pools.yaml"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == (
        f"all: {F}:handle, 3 processes, codel queue of 7, up to 4 attempts, lines of items.jsonl, "
        "metrics also as everything_*"
    )
    assert second == f"few-lanes: {F}:handle_async, 10 tasks, lanes queue of 8, up to 5 attempts"
    assert third.startswith(f"threads: {F}:handle, 10 threads, fifo queue of 20")


def test_all_that_is_wrong_and_exit_code_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pools.yaml").write_text(f"worker_pools:\n  a: {{process: {F}:handle, worker: 3, queue_size: x}}\n")
    assert main(["check", "pools.yaml"]) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == ["pools.yaml:2:48", "pools.yaml:2:71"]
    assert err == ""


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "missing.yaml"]) == 2
    assert capsys.readouterr().out == "missing.yaml: there is no such file; name one that is there\n"


def test_the_environment_counts(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pools.yaml").write_text(ORIGINALS[0])
    monkeypatch.setenv("WORKPOOL__WORKER_POOLS__NETWORK_IO__WORKERS", "1")
    assert main(["check", "pools.yaml"]) == 0
    assert f"network_io: {F}:handle, 1 thread, fifo queue of 5000" in capsys.readouterr().out.splitlines()


def test_functions_are_found_in_the_current_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "of_this_folder.py").write_text("def handle(item):\n    return item\n")
    (folder / "pools.yaml").write_text("worker_pools: {a: {process: of_this_folder:handle}}\n")
    assert main(["check", "pools.yaml"]) == 0
    assert capsys.readouterr().out == "a: of_this_folder:handle, 10 threads, fifo queue of 1000\n"


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_other_commands_do_not_wait_for_what_only_these_need() -> None:
    program = (
        "import sys; import workpool.cli.commands; "
        "print([name for name in sys.modules if name in ('yaml', 'workpool.service.models')])"
    )
    assert python(program) == "[]\n"


@pytest.mark.parametrize("command", ["['check', 'pools.yaml']", "['schema']"])
def test_without_the_extra_one_sentence_says_what_to_install(command: str) -> None:
    program = f"import sys; sys.modules['yaml'] = None; from workpool.cli import main; print(main({command}))"
    said = python(program)
    assert "needs PyYAML" in said
    assert "pip install 'workpool[service]'" in said
    assert said.splitlines()[0] == "2"
