"""The log of a service: readable, or JSON, each line with the pool and the worker that it is about."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import logging, sys
from workpool import Pool
from workpool.cli.logs import log_to_stderr

log_to_stderr(sys.argv[1] == "json")
log = logging.getLogger("mine")

def handle(item):
    log.info("had %s", item, extra={"order": item})
    if item == 2:
        raise ValueError("two")

if __name__ == "__main__":
    logging.getLogger("uvicorn.access").info("hidden")
    log.warning("before")
    with Pool(handle, workers=1, name="orders", executor=sys.argv[2]) as pool:
        pool.submit(1)
        pool.submit(2)
"""


def said(tmp_path_program: str, how: str, executor: str) -> list[str]:
    command = [sys.executable, tmp_path_program, how, executor]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    return done.stderr.splitlines()


@pytest.fixture
def program(tmp_path: Any) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_json_says_pool_and_worker_and_what_was_put_on_the_record(program: str, executor: str) -> None:
    lines = [json.loads(line) for line in said(program, "json", executor)]
    before, first, second, failed = lines
    assert (before["message"], before["level"], before["pool"], before["worker"]) == ("before", "warning", None, None)
    assert [line["order"] for line in (first, second)] == [1, 2]
    assert {line["pool"] for line in (first, second, failed)} == {"orders"}
    assert all(line["worker"].startswith("orders-") for line in (first, second))
    assert failed["level"] == "error"
    assert failed["exception"].splitlines()[-1] == "ValueError: two"


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_readable_line_begins_with_when_how_bad_and_where(program: str, executor: str) -> None:
    lines = said(program, "text", executor)
    assert lines[0].endswith(" WARNING mine: before")
    assert " INFO orders-" in lines[1]
    assert lines[1].endswith(": had 1")
    assert lines[-1] == "ValueError: two"
    assert "hidden" not in "".join(lines)


def test_what_is_no_json_is_written_as_its_repr(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import logging; from workpool.cli.logs import log_to_stderr; log_to_stderr(True); "
        "logging.getLogger('x').info('%s', 'é\\n', extra={'thing': {1}, 'message_': object})"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line) | {"thing": "{1}", "message": "é\n"} == json.loads(line)
