"""The example `distributed`: a service is killed in the middle, and each order is shipped."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.distributed", "--orders", "2000"],
        capture_output=True,
        text=True,
        timeout=55,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert re.search(r"^killed a service \(process \d+\) when (\d[\d,]*) were shipped$", done.stdout, re.MULTILINE)
    assert "\nshipped  2,000 of them, " in done.stdout
    assert done.stdout.endswith("missing  0; the services ended with [0, 0]\n")
