"""Two hundred configurations that were right before something was done to them, and whatever else bytes may be.

Each has at least one error, on a line that there is, and where it is known which line was spoilt, on that.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.configs import EVERYTHING, ORIGINALS, problems_of
from workpool.service.config import Problem

COUNT: Final = 200

Spoil = Callable[[list[str], random.Random], int | None]
"""Makes the lines of a configuration wrong; the number of the line that is, if that can be said."""


def some_line(lines: list[str], dice: random.Random, pattern: str) -> int:
    """The index of a line like that."""
    return dice.choice([at for at, line in enumerate(lines) if re.search(pattern, line)])


VALUE: Final = r"^ +(?!unprocessed|path|host|token|- )[a-z_]+: \S"
"""A key of ours with a value on its line, which cannot be just any text."""


def unknown_key(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, r"^ +(?!kind|key|process|path|limit|priority)[a-z_]{4,}: \S")
    indent, key, rest = re.fullmatch(r"( +)([a-z_]+)(:.*)", lines[at]).groups()  # type: ignore[union-attr]
    cut = dice.randrange(len(key))
    lines[at] = f"{indent}{key[:cut]}{'q' if key[cut] == 'z' else 'z'}{key[cut + 1 :]}{rest}"
    return at + 1


def wrong_type(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, VALUE)
    lines[at] = re.sub(
        r": .*", f": {dice.choice(['[[1]]', '{a: {b: c}}', '12:30:59', '!x y', '2026-11-25'])}", lines[at]
    )
    return at + 1


def nothing(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, r"^ +(process|workers|queue_size|size|attempts|path|limit|port|grace|kind): \S")
    lines[at] = re.sub(r": .*", ":", lines[at])
    return at + 1


def negative(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, r": \d")
    lines[at] = re.sub(r": .*", f": -{dice.randint(1, 10**20)}", lines[at])
    return at + 1


def second_key(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, VALUE)
    lines.insert(at + 1, lines[at])
    return at + 2


def no_module(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, "tests.service.functions:")
    lines[at] = re.sub(
        r"tests\.service\.functions:\w+",
        dice.choice(["nowhere:f", "tests.nowhere:f", "tests.service.functions:f"]),
        lines[at],
    )
    return at + 1


def missing_process(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, "^    process:")
    del lines[at]
    return at


def tab(lines: list[str], dice: random.Random) -> None:
    at = some_line(lines, dice, "^  +[a-z]")
    lines[at] = "\t" + lines[at].lstrip()


def not_allowed(lines: list[str], dice: random.Random) -> int:
    at = dice.randrange(len(lines))
    cut = dice.randrange(len(lines[at]))
    lines[at] = lines[at][:cut] + dice.choice("\0\7\x1b\x7f\ufffe") + lines[at][cut:]
    return at + 1


def not_utf_8(lines: list[str], dice: random.Random) -> int:
    at = dice.randrange(len(lines))
    cut = dice.randrange(len(lines[at]))
    lines[at] = lines[at][:cut] + dice.choice(["\udcff", "\udc80", "\udcc3"]) + lines[at][cut:]
    return at + 1


def unclosed(lines: list[str], dice: random.Random) -> None:
    at = some_line(lines, dice, VALUE)
    lines[at] = re.sub(r": .*", f": {dice.choice(['[1', '{a: 1', chr(34), chr(39), '[1, {'])}", lines[at])


def no_alias(lines: list[str], dice: random.Random) -> int:
    at = some_line(lines, dice, VALUE)
    lines[at] = re.sub(r": .*", ": *other", lines[at])
    return at + 1


def indented(lines: list[str], dice: random.Random) -> None:
    at = some_line(lines, dice, r"^ +(?!grace|backoff: t)[a-z_]+: \S")  # which are alone in theirs
    lines[at] = lines[at][1:]


SPOILS: Final[list[Spoil]] = [
    *(unknown_key, wrong_type, nothing, negative, second_key, no_module, missing_process),
    *(tab, not_allowed, not_utf_8, unclosed, no_alias, indented),
]


def spoilt(number: int) -> tuple[bytes, int | None, str]:
    """The configuration of that number, its wrong line, and what was done."""
    dice = random.Random(number)
    spoil = SPOILS[number % len(SPOILS)]
    lines = dice.choice([*ORIGINALS, EVERYTHING, EVERYTHING]).splitlines()
    line = spoil(lines, dice)
    return ("\n".join(lines) + "\n" * dice.randrange(2)).encode("utf-8", "surrogateescape"), line, spoil.__name__


def check(problems: list[Problem], content: bytes) -> None:
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", content.decode("utf-8-sig", "replace"))
    for problem in problems:
        assert 1 <= problem.place.line <= len(lines), problem
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1, problem
        assert problem.text
        assert "\n" not in str(problem)


@pytest.mark.parametrize("number", range(COUNT))
def test_each_has_an_error_on_the_line_that_was_spoilt(tmp_path: Path, number: int) -> None:
    content, line, what = spoilt(number)
    problems = problems_of(tmp_path, content)
    assert problems, what
    check(problems, content)
    if line is not None:
        assert line in {problem.place.line for problem in problems}, (what, list(map(str, problems)))
        assert len(problems) <= 3, (what, list(map(str, problems)))


def test_the_corpus_does_everything_and_nothing_twice() -> None:
    made = [spoilt(number) for number in range(COUNT)]
    assert {what for _, _, what in made} == {spoil.__name__ for spoil in SPOILS}
    assert len({content for content, _, _ in made}) >= 0.8 * COUNT


quick = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)


@quick
@given(content=st.binary(max_size=200) | st.text("{}[]:,-&*!|>'\"%@`#?~<=ab01 \n\t", max_size=60).map(str.encode))
def test_any_bytes_are_a_configuration_or_have_an_error(tmp_path: Path, content: bytes) -> None:
    problems = problems_of(tmp_path, content)
    assert problems
    check(problems, content)


@quick
@given(data=st.data())
def test_a_configuration_with_pieces_moved_is_right_or_has_an_error(tmp_path: Path, data: st.DataObject) -> None:
    text = data.draw(st.sampled_from([*ORIGINALS, EVERYTHING]))
    for _ in range(data.draw(st.integers(1, 4))):
        start, length, to = (data.draw(st.integers(0, len(text))) for _ in range(3))
        piece = text[start : start + length % 40]
        text = (
            text[:to]
            + data.draw(st.sampled_from([piece, "", "&a ", "*a", "<<: ", "!!str ", "\t", "- ", "? "]))
            + text[to:]
        )
    content = text.encode()
    (tmp_path / "pools.yaml").write_bytes(content)
    try:
        problems = problems_of(tmp_path, content)
    except AssertionError:  # a warning is one there
        return
    check(problems, content)
