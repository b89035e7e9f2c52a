"""The plot of `workpool simulate`: goodput and latency over offered load, a curve for each policy.

matplotlib is imported where it draws: it takes a second, and is an extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from workpool.simulate import Outcome, Scenario

__all__ = ["FORMATS", "Curve", "draw", "is_there"]

FORMATS: Final = (".png", ".svg")

Curve = Sequence[tuple[float, Outcome]]
"""Offered loads, in items a second, and what became of them."""

STYLES: Final = ("-", "--", "-.", ":")
MARKERS: Final = "osv^DPX*<>"
"""Of one policy to the next colour, style and marker change: where curves lie upon each other, each still shows."""


def is_there() -> bool:
    """Whether matplotlib is installed."""
    try:
        return find_spec("matplotlib") is not None
    except (ImportError, ValueError):  # blocked on purpose
        return False


def draw(path: str, scenario: Scenario, curves: Mapping[str, Curve]) -> None:
    """Write the plot to a file, in the format that its suffix names. Raises OSError."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Text stays text, and the same curves give the same bytes.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "workpool"}):  # pyright: ignore[reportUnknownMemberType]
        rows = (len(curves) + 1) // 2
        figure: Any = Figure(figsize=(11, 5 + 0.25 * rows), layout="constrained")
        goodput, latency = figure.subplots(1, 2)
        for number, (name, curve) in enumerate(curves.items()):
            _add(goodput, latency, name, curve, number)
        _finish_goodput(goodput, scenario)
        _finish_latency(latency, scenario)
        figure.suptitle(_title(scenario))
        figure.legend(*goodput.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, format=Path(path).suffix[1:], dpi=150, metadata=_metadata(path))


def _metadata(path: str) -> dict[str, None]:
    """No date and no version."""
    return {"Software": None} if path.endswith(".png") else {"Date": None, "Creator": None}


def _add(goodput: Any, latency: Any, name: str, curve: Curve, number: int) -> None:
    rates = [rate for rate, _ in curve]
    style = {
        "color": f"C{number % 10}",
        "linestyle": STYLES[number % len(STYLES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "markerfacecolor": "none",
    }
    goodput.plot(rates, [outcome.useful_rate for _, outcome in curve], label=name, **style)
    latency.plot(rates, [1000 * outcome.latency_p99 for _, outcome in curve], **style)


def _finish_goodput(axes: Any, scenario: Scenario) -> None:
    axes.axhline(scenario.capacity, color="0.6", linewidth=1, zorder=0)
    axes.set_title("Goodput")
    axes.set_ylabel(f"useful items/s (done within {1000 * scenario.deadline:,.0f} ms)")
    axes.set_ylim(bottom=0)
    _finish_load(axes, scenario, "bottom")


def _finish_latency(axes: Any, scenario: Scenario) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.axhline(1000 * scenario.deadline, color="0.6", linewidth=1, zorder=0)
    axes.annotate(
        "deadline",
        (1, 1000 * scenario.deadline),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        color="0.4",
    )
    axes.set_title("Latency")
    axes.set_ylabel("p99 from submission to end, of what was done (ms)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    _finish_load(axes, scenario, "top")


def _finish_load(axes: Any, scenario: Scenario, where: str) -> None:
    axes.axvline(scenario.capacity, color="0.6", linewidth=1, zorder=0)
    axes.annotate(
        f"capacity, {scenario.capacity:,.0f}/s",
        (scenario.capacity, 0 if where == "bottom" else 1),
        xycoords=("data", "axes fraction"),
        xytext=(-4, 4 if where == "bottom" else -4),
        textcoords="offset points",
        ha="right",
        va=where,
        color="0.4",
    )
    axes.set_xlabel("offered load (items/s)")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.25)


def _title(scenario: Scenario) -> str:
    return (
        f"{scenario.workers} workers, {1000 * scenario.service.mean_seconds:,.0f} ms an item; "
        f"{scenario.seconds:,.0f} s simulated for each point"
    )
