"""The example `checkout`: at twice its capacity, a service with lanes does what is critical in time, and draws it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| (\w+) \| (\w+) \| (\d+) \| (\d+)% \| (\d+)% \| (\d+) ms \| (\d+) ms \|$", re.MULTILINE)


@pytest.mark.timeout(120)
def test_lanes_do_what_is_critical_in_time_and_the_default_does_next_to_nothing(tmp_path: Path) -> None:
    drawn = tmp_path / "latencies.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.checkout", "--seconds", "2", "--plot", str(drawn)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = {(queue, kind): tuple(map(int, figures)) for queue, kind, *figures in ROW.findall(done.stdout)}
    assert list(found) == [(queue, kind) for queue in ("default", "lanes") for kind in ("critical", "others")]
    in_time = {who: figures[1] for who, figures in found.items()}
    assert in_time["lanes", "critical"] > 80
    assert in_time["default", "critical"] < 50
    refused = {who: figures[2] for who, figures in found.items()}
    assert refused["default", "critical"] == refused["default", "others"] == 0
    assert refused["lanes", "others"] > 30
    assert drawn.read_bytes().startswith(b"\x89PNG")
