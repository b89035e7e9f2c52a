"""The example `aggregate`: whoever parses, the result is the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.aggregate import Summary, summarize

ROOT = Path(__file__).parents[2]
EXPECTED = "3 files, of which 1 cannot be parsed\n3 functions, 1 classes\nthe longest function: 3 lines, "


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.aggregate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=ROOT)


@pytest.mark.parametrize(
    "executor",
    [
        "thread",
        "process",
        pytest.param("interpreter", marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="3.14 has them")),
    ],
)
def test_the_result_is_the_same_whoever_parses(tmp_path: Path, executor: str) -> None:
    (tmp_path / "a.py").write_text("import os, os.path, sys\nclass A:\n    def f(self):\n        pass\n")
    (tmp_path / "b.py").write_text("from os import path\nasync def g():\n    def h(): pass\n    return h\n")
    (tmp_path / "c.py").write_text("def f(:\n")
    done = run(str(tmp_path), "--executor", executor)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{EXPECTED}{tmp_path / 'b.py'}:2 g\nimported most: os (3), sys (1)\n")


def test_what_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path / "none"))
    assert done.returncode == 2
    assert "is no folder" in done.stderr


def test_a_file_that_is_not_there_any_more_is_counted_and_ends_nothing(tmp_path: Path) -> None:
    gone = tmp_path / "gone.py"
    gone.symlink_to(tmp_path / "nowhere.py")
    assert summarize(str(gone)) == Summary(files=1, unreadable=1)
