"""The outcomes of policies as a table in Markdown, aligned to be read as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from workpool.simulate import Outcome, Scenario

__all__ = ["table"]


def table(scenario: Scenario, outcomes: Mapping[str, Outcome]) -> str:
    """What was simulated in a sentence, and a row for each policy."""
    reasons = _reasons(outcomes.values())
    head = [
        "policy",
        "useful/s",
        "critical in time",
        "refused/s",
        *(f"shed/s ({reason})" for reason in reasons),
        "p50",
        "p99",
    ]
    rows = [[name, *_cells(outcome, reasons)] for name, outcome in outcomes.items()]
    return f"{_what(scenario)}\n\n{_aligned(head, rows)}"


def _what(scenario: Scenario) -> str:
    return (
        f"{scenario.workers} workers, {scenario.capacity:,.6g} items/s of capacity, "
        f"{scenario.arrivals.mean_rate:,.6g}/s offered for {scenario.seconds:,.6g} s, "
        f"useful for {_milliseconds(scenario.deadline)}, {_percent(scenario.critical)} critical, seed {scenario.seed}"
    )


def _reasons(outcomes: Iterable[Outcome]) -> list[str]:
    """For which any of them shed an item, in their order."""
    totals: Counter[str] = Counter()
    for outcome in outcomes:
        totals.update(outcome.shed)
    return [reason for reason, total in totals.items() if total]


def _cells(outcome: Outcome, reasons: Sequence[str]) -> list[str]:
    counts = [outcome.refused, *(outcome.shed[reason] for reason in reasons)]
    return [
        f"{outcome.useful_rate:,.0f}",
        _percent(outcome.critical_in_time),
        *(f"{count / outcome.seconds:,.0f}" for count in counts),
        _milliseconds(outcome.latency_p50),
        _milliseconds(outcome.latency_p99),
    ]


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Names to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    ruler = ["-" * (widths[0]), *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [_justified(head, widths), ruler, *(_justified(row, widths) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _justified(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *numbers = cells
    return [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))]
