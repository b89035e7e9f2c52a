"""The example `messages`: what it prints adds up, and nothing that matters is shed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.messages import Command, Message, Status, Telemetry, bursts, decode, encode, is_command

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.messages", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def number(pattern: str, output: str) -> int:
    found = re.search(pattern, output, re.MULTILINE)
    assert found, f"nothing like {pattern} in\n{output}"
    return int(found[1])


def commands(seed: int) -> int:
    """How many well-formed commands there are."""
    count = 0
    for line in [line for burst in bursts(seed) for line in burst]:
        try:
            count += isinstance(decode(line), Command)
        except ValueError:
            pass
    return count


@pytest.fixture(scope="module")
def output() -> str:
    return run()


def test_the_counts_add_up(output: str) -> None:
    received = number(r"^received +(\d+)", output)
    accepted = number(r"= (\d+) accepted", output)
    shed = number(r"accepted \+ (\d+) shed", output)
    succeeded = number(r"= (\d+) succeeded", output)
    failed = number(r"succeeded \+ (\d+) failed", output)
    by_type = [number(rf"^{name} +(\d+)", output) for name in ("telemetry", "command", "status")]
    assert received == sum(map(len, bursts(1))) == accepted + shed
    assert accepted == number(r"^accepted +(\d+)", output) == succeeded + failed
    assert succeeded == sum(by_type)
    assert number(r"of (\d+) failures", output) == failed
    assert shed > 0


def test_no_command_is_shed(output: str) -> None:
    assert number(r"^command +(\d+)", output) == commands(seed=1) > 0


def test_each_burst_has_its_line_of_statistics(output: str) -> None:
    lines = [
        [int(each) for each in re.findall(r"\d+", line)] for line in output.splitlines() if line.startswith("burst")
    ]
    sizes = [len(burst) for burst in bursts(1)]
    assert [line[:2] for line in lines] == [[i, sum(sizes[:i])] for i in range(1, len(sizes) + 1)]
    for _, received, processed, failed, shed, queued, size, busy, workers in lines:
        assert 0 <= received - shed - queued - processed <= workers  # those that run
        assert failed <= processed
        assert queued <= size
        assert busy <= workers


def test_the_drain_is_reported(output: str) -> None:
    assert re.search(r"^pool 'messages' stopped in .* 0 unprocessed, 0 abandoned$", output, re.MULTILINE)


def test_a_seed_chooses_the_messages() -> None:
    assert number(r"^command +(\d+)", run("--seed", "7")) == commands(seed=7) != commands(seed=1)
    assert list(bursts(3)) == list(bursts(3)) != list(bursts(4))


@pytest.mark.parametrize(
    "message", [Telemetry("pump-1", 61.5), Command("pump-2", "flush"), Status("pump-3", False)], ids=repr
)
def test_a_message_survives_its_line(message: Message) -> None:
    assert decode(encode(message)) == message
    assert is_command(encode(message)) is isinstance(message, Command)


@pytest.mark.parametrize("line", ["", "{", "7", "[]", "null", '{"type": "rumour"}', '{"type": "status", "x": 1}'])
def test_what_is_no_message(line: str) -> None:
    with pytest.raises(ValueError):
        decode(line)


def test_some_messages_are_malformed() -> None:
    lines = [line for burst in bursts(5) for line in burst]
    malformed = 0
    for line in lines:
        try:
            decode(line)
        except ValueError:
            malformed += 1
    assert 0 < malformed < len(lines) / 20
