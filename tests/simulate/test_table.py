"""The table of `workpool simulate examples.overload:scenario` is the one that is promised."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from examples.overload import scenario
from tests.docs.pages import ROOT, page, rows
from workpool.cli.table import table
from workpool.simulate import Outcome

pytestmark = pytest.mark.timeout(300)  # ten simulated minutes of eight policies, once, by whichever test comes first

OUTCOME = [field.name for field in fields(Outcome)]

PROMISED = {
    # name: useful/s, critical in time (%)
    "FIFO, queue 1000, drop when full": (0, 0),
    "FIFO, queue 50": (496, 50),
    "FIFO, dropped at dequeue if already past the deadline": (46, 5),
    "FIFO, dropped if it waited more than a third of the deadline": (500, 50),
    "RFC 8289 CoDel (the square-root law)": (45, 4),
    "CoDel as services use it": (499, 50),
    "adaptive LIFO": (500, 50),
    "two lanes, critical first": (500, 100),
}

CPU_SECONDS = 5.0
"""What a policy may cost."""


@pytest.fixture(scope="module")
def simulated() -> dict[str, Any]:
    """The records of the command by policy, and under "" the seconds of CPU that they cost."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "workpool", "simulate", "examples.overload:scenario", "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {"": after.ru_utime - before.ru_utime, **{record["policy"]: record for record in records}}


def test_it_is_the_scenario_that_is_promised(simulated: dict[str, Any]) -> None:
    assert list(simulated)[1:] == list(PROMISED) == list(scenario.policies)
    assert (scenario.seconds, scenario.seed, scenario.workers, scenario.deadline) == (600, 1, 10, 0.2)
    assert scenario.capacity == pytest.approx(500)
    for name in PROMISED:
        assert simulated[name]["seconds"] == 600
        assert simulated[name]["offered"] == pytest.approx(600_000, rel=0.01)


@pytest.mark.parametrize("name", PROMISED)
def test_each_figure_is_the_one_promised(simulated: dict[str, Any], name: str) -> None:
    useful, critical = PROMISED[name]
    record = simulated[name]
    assert record["useful_rate"] == pytest.approx(useful, rel=0.05, abs=10)
    assert 100 * record["critical_in_time"] == pytest.approx(critical, abs=3)


@pytest.mark.parametrize("name", PROMISED)
def test_each_ledger_balances(simulated: dict[str, Any], name: str) -> None:
    record = simulated[name]
    fates = record["refused"] + sum(record["shed"].values()) + record["done"] + record["left"]
    assert record["offered"] == fates
    assert record["left"] <= scenario.policies[name].capacity + scenario.workers


def test_the_readme_has_this_table(simulated: dict[str, Any]) -> None:
    outcomes = {name: Outcome(**{field: simulated[name][field] for field in OUTCOME}) for name in PROMISED}
    shown = page("README.md").partition("<!-- simulated -->\n")[2].partition("\n<!-- /simulated -->")[0]
    assert shown == table(scenario, outcomes)
    assert [cells[0] for cells in rows(shown + "\n")] == list(PROMISED)


def test_the_plot_in_the_docs_is_of_these_policies() -> None:
    plot = ROOT / "docs" / "overload.svg"
    assert plot.stat().st_size < 200_000
    texts = plot.read_text(encoding="utf-8")
    assert all(f">{name}</text>" in texts for name in scenario.policies)


def test_ten_minutes_take_seconds(simulated: dict[str, Any]) -> None:
    assert simulated[""] < CPU_SECONDS * len(PROMISED)
