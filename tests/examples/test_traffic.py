"""The example `traffic`: the service refuses what it cannot take, finishes what it took; the counts of both agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def numbers(pattern: str, output: str) -> list[int]:
    found = re.search(pattern, output)
    assert found, f"nothing like {pattern} in\n{output}"
    return list(map(int, found.groups()))


def test_the_counts_of_both_sides_agree(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    done = subprocess.run(
        [sys.executable, "-m", "examples.traffic", "--seconds", "2", "--log", str(log)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    output = done.stdout
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^the page: http://127\.0\.0\.1:\d+/ for 2 s", output)
    sent, messages, malformed = numbers(r"sent +(\d+) messages = (\d+) accepted \+ (\d+) malformed", output)
    posted, batches, refused = numbers(r"posted +(\d+) batches  = (\d+) accepted \+ (\d+) refused", output)
    assert sent == messages + malformed
    assert posted == batches + refused
    assert min(messages, malformed, batches) > 0
    assert numbers(r"'message_processor' stopped.* (\d+) submitted, (\d+) succeeded", output) == [messages, messages]
    assert numbers(r"'batch_processor' stopped.* (\d+) submitted, (\d+) succeeded", output) == [batches, batches]
    assert len(re.findall(r"message_processor.*in JSON:", log.read_text(encoding="utf-8"))) == malformed
