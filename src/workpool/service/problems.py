"""What is wrong with a configuration, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ConfigError", "Place", "Problem", "shown", "step"]

LONGEST = 60
"""So many characters of what somebody wrote are shown."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands: in a file, or, without a line, in an environment variable, or in a file as a whole."""

    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong."""

    place: Place
    path: str
    """Which setting: `worker_pools.mail.workers`; empty for the file."""
    text: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        line = ": ".join(filter(None, (str(self.place), self.path, " ".join(self.text.split()))))
        return line.encode("utf-8", "backslashreplace").decode()


class ConfigError(ValueError):
    """A configuration is wrong. The text has a line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        # Those of the environment last: they have no line.
        self.problems = tuple(sorted(set(problems), key=lambda problem: (not problem.place.line, problem)))
        super().__init__("\n".join(map(str, self.problems)))


def shown(text: str) -> str:
    """What somebody wrote, on one line, and not too much of it."""
    text = " ".join(text.split())
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def step(path: str, key: str | int) -> str:
    """The path of a setting in the one that `path` names."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not re.fullmatch(r"[\w-]+", key):
        return f"{path}[{shown(repr(key))}]"
    return f"{path}.{key}" if path else key
