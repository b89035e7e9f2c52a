"""What stands on stderr at the end: what became of the lines, and what to do about those that are left."""

from __future__ import annotations

from dataclasses import dataclass

from workpool.cli.leftover import Left
from workpool.cli.output import FIRST_ERRORS, Tally

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a run."""

    tally: Tally
    left: Left
    maybe_run: int
    waited: int
    """Of those, how many waited to be tried again."""
    retries: int
    seconds: float
    trouble: list[str]
    failed: str | None
    """Where the failures were written."""
    unprocessed: str | None
    """Where the lines that are left were written."""
    cut_off: bytes | None
    """An input was a pipe, and still open: the beginning of a line that had not arrived as a whole."""

    @property
    def exit_code(self) -> int:
        if self.left.lines or self.trouble or self.cut_off:
            return 3
        return 1 if self.tally.failed else 0

    def sentences(self) -> list[str]:
        return [*self.trouble, self._counts(), *self._failures(), *self._left(), *self._open()]

    def _counts(self) -> str:
        done, discarded = self.tally.done, self.tally.discarded
        at_least = "" if self.left.exact else "at least "
        waited = f", {self.waited:,} waited to be tried again" if self.waited else ""
        maybe = f" ({self.maybe_run:,} of them may have run{waited})" if self.maybe_run else ""
        retries = f"{self.retries:,} {'retry' if self.retries == 1 else 'retries'}; " if self.retries else ""
        needless = f", {discarded:,} discarded" if discarded else ""
        return (
            f"{done:,} processed, {self.tally.failed:,} of them failed{needless}; "
            f"{at_least}{self.left.lines:,} unprocessed{maybe}; {retries}"
            f"{self.seconds:,.1f} s, {done / max(self.seconds, 1e-9):,.0f}/s"
        )

    def _failures(self) -> list[str]:
        if not self.tally.failed:
            return []
        if self.failed is not None:
            return [f"the failures are in {self.failed}"]
        shown = [f"failed: {done.line.file}:{done.line.number}: {done.error}" for done in self.tally.first_errors]
        more = self.tally.failed - FIRST_ERRORS
        return [*shown, *([f"failed: and {more:,} more; --failed FILE keeps them"] if more > 0 else [])]

    def _left(self) -> list[str]:
        if not self.left.lines:
            return []
        if self.unprocessed is None:
            return ["--unprocessed FILE would keep the lines that are left"]
        return [f"the lines that are left are in {self.unprocessed}: run again on that"]

    def _open(self) -> list[str]:
        if self.cut_off is None:
            return []
        text = "the input was a pipe, and still open: lines that had not arrived are lost to this run"
        return [f"{text}, among them one that was cut off after {self.cut_off[-60:]!r}" if self.cut_off else text]
