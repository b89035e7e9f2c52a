"""The fixtures that users of pytest get."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

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


INSTALLED = bool(importlib.metadata.entry_points(group="pytest11", name="workpool"))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """By pytest, of a user's suite; told of the fixtures only where it cannot find them itself."""
    directory = tmp_path_factory.mktemp("users")
    (directory / "test_mine.py").write_text(TESTS)
    options = () if INSTALLED else ("-p", "workpool.testing.plugin")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, cwd=directory, env=dict(os.environ))
    return done.stdout + done.stderr


@pytest.mark.skipif(not INSTALLED, reason="workpool is not installed with this Python, only found by its path")
def test_a_users_suite_has_the_fixtures_without_a_word(said: str) -> None:
    assert "2 passed" in said


def test_the_fixtures(said: str) -> None:
    assert "2 passed" in said
