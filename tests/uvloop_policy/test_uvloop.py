"""The tests of tasks, and the contract, on another event loop: in a process of its own, as the policy is global."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.pages import ROOT


def test_tasks_and_the_contract_on_uvloop() -> None:
    child = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.uvloop_policy.plugin",
            "tests/tasks",
            "tests/conformance",
            "-k",
            "not Processes and not Interpreters",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert child.returncode == 0, child.stdout
    assert " passed" in child.stdout
