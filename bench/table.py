"""Rows of one Markdown table: what was measured, as a ratio, and what it is to be."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    what: str
    measured: str
    target: str
    holds: bool | None
    """None: there is nothing that it must be."""


@dataclass
class Table:
    rows: list[Row] = field(default_factory=list)

    def at_most(self, what: str, figures: str, ratio: float, bound: float) -> None:
        self._add(what, f"{figures}: **{ratio:.2f}×**", f"at most {bound:g}×", ratio <= bound)

    def at_least(self, what: str, figures: str, ratio: float, bound: float) -> None:
        self._add(what, f"{figures}: **{ratio:.1f}×**", f"at least {bound:g}×", ratio >= bound)

    def note(self, what: str, measured: str) -> None:
        self._add(what, measured, "", None)

    def _add(self, what: str, measured: str, target: str, holds: bool | None) -> None:
        row = Row(what, measured, target, holds)
        self.rows.append(row)
        print(self.line(row), flush=True)

    @staticmethod
    def head() -> str:
        return "| | measured | to be | |\n|---|---|---|---|"

    @staticmethod
    def line(row: Row) -> str:
        mark = {True: "yes", False: "**no**", None: ""}[row.holds]
        return f"| {row.what} | {row.measured} | {row.target} | {mark} |"

    @property
    def missed(self) -> int:
        return sum(row.holds is False for row in self.rows)


def micro(seconds: float) -> str:
    return f"{seconds * 1e6:.2f} µs"
