"""The fixtures that users of pytest get."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
from workpool import QueueFull


def test_one(inline_pool, manual_clock):
    ran = []
    pool = inline_pool(ran.append, queue_size=1, clock=manual_clock.clock)
    pool.submit("a")
    assert ran == ["a"]
    manual_clock.advance(5)
    assert pool.stats().state == "running"
    pool.pause()
    pool.submit("b")
    try:
        pool.submit("c")
    except QueueFull:
        pass
    global left
    left = pool, ran


def test_it_is_stopped_after_the_test():
    pool, ran = left
    assert pool.stats().state == "stopped"
    assert ran == ["a"]
"""


def run(directory: Path, *options: str) -> str:
    (directory / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=directory, env=dict(os.environ))
    return done.stdout + done.stderr


def test_a_users_suite_has_the_fixtures_without_a_word(tmp_path: Path) -> None:
    entry_points = importlib.metadata.entry_points(group="pytest11", name="workpool")
    if not entry_points:
        pytest.skip("workpool is not installed with this Python, only found by its path")
    assert "2 passed" in run(tmp_path)


def test_the_fixtures(tmp_path: Path) -> None:
    options = (
        () if importlib.metadata.entry_points(group="pytest11", name="workpool") else ("-p", "workpool.testing.plugin")
    )
    assert "2 passed" in run(tmp_path, *options)
