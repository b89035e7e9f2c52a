"""`workpool simulate`: from its options to its table.

Rules: everything that can be wrong is looked at before anything is simulated; the results go to standard output, and
nothing else does.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from workpool._core.discipline import Discipline
from workpool._named import one_line
from workpool.cli import paths
from workpool.cli.table import table
from workpool.cli.target import load_value
from workpool.cli.wrong import Wrong
from workpool.simulate import Item, Outcome, Scenario, simulate

if TYPE_CHECKING:
    from workpool.cli.plotting import Curve

__all__ = ["SimulateOptions", "simulate_command"]

PLOTTED_SECONDS: Final = 60.0
"""Simulated for each point of a plot, of which there are a hundred; or the scenario's, if those are fewer."""

LOADS: Final = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0)
"""The points of a plot, as multiples of the capacity: close together where everything changes."""

Policies = Mapping[str, Discipline[Item]]


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the command line says. None: as the scenario has it."""

    target: str
    seed: int | None
    seconds: float | None
    rate: float | None
    policy: tuple[str, ...]
    json: bool
    plot: str | None


def simulate_command(options: SimulateOptions) -> int:
    """The exit code. Raises `Wrong` if it cannot start, or a rule of the scenario fails."""
    if options.plot is not None:
        _check_plot(options.plot)
    scenario = _scenario(options)
    outcomes: dict[str, Outcome] = {}
    with _failures_of_rules():
        for number, name in enumerate(scenario.policies, 1):
            with _shown(f"{number} of {len(scenario.policies)}: {name}"):
                outcomes[name] = _outcome(scenario, name)
            if options.json:
                _write(json.dumps(_record(scenario, name, outcomes[name])))
        if not options.json:
            _write(table(scenario, outcomes))
        if options.plot is not None:
            _plot(scenario, options.plot)
    return 0


def _check_plot(path: str) -> None:
    from workpool.cli import plotting

    if Path(path).suffix not in plotting.FORMATS:
        raise Wrong(f"--plot {path!r}: name a file that ends in {' or '.join(plotting.FORMATS)}")
    if not plotting.is_there():
        raise Wrong("--plot needs matplotlib, not installed here: pip install 'workpool[plot]'")
    paths.check_output("--plot", path)


def _scenario(options: SimulateOptions) -> Scenario:
    """The one that is named, as the options change it."""
    with redirect_stdout(sys.stderr):  # what the module prints is no result
        scenario = load_value(options.target)
    if not isinstance(scenario, Scenario):
        raise Wrong(f"TARGET {options.target!r} is not a Scenario, but a value of type {type(scenario).__name__}")
    if not scenario.policies:
        raise Wrong(f"TARGET {options.target!r} has no policies: give it policies={{name: discipline, ...}}")
    try:
        if options.seed is not None:
            scenario = replace(scenario, seed=options.seed)
        if options.seconds is not None:
            scenario = replace(scenario, seconds=options.seconds)
        if options.rate is not None:
            scenario = scenario.at(options.rate)
    except ValueError as error:  # click takes inf and nan for numbers; the sentence begins with the option's name
        raise Wrong(f"--{error}") from None
    return replace(scenario, policies=_chosen(scenario.policies, options.policy)) if options.policy else scenario


def _chosen(policies: Policies, names: tuple[str, ...]) -> Policies:
    for name in names:
        if name not in policies:
            known = ", ".join(map(repr, policies))
            raise Wrong(f"--policy {name!r}: the scenario has no such policy, but {known}")
    return {name: policies[name] for name in names}


def _outcome(scenario: Scenario, name: str) -> Outcome:
    try:
        return simulate(scenario, scenario.policies[name])
    except _RuleFailed as error:
        raise Wrong(f"policy {name!r}: its rule failed for an item: {one_line(error.reason)}") from None
    except Exception as error:  # of a priority, which a pool would let `submit` raise
        raise Wrong(f"policy {name!r}: {one_line(error)}") from None


class _RuleFailed(Exception):
    def __init__(self, reason: BaseException) -> None:
        self.reason = reason


class _Raising(logging.Handler):
    """A pool logs a rule that failed and goes on. Here the numbers would be worth nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise _RuleFailed(record.exc_info[1])


@contextmanager
def _failures_of_rules() -> Generator[None, None, None]:
    log, handler = logging.getLogger("workpool"), _Raising()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _plot(scenario: Scenario, path: str) -> None:
    from workpool.cli import plotting

    shorter = replace(scenario, seconds=min(scenario.seconds, PLOTTED_SECONDS))
    try:
        plotting.draw(path, shorter, _curves(shorter))
    except OSError as error:
        raise Wrong(f"--plot {path!r}: {error.strerror or error}") from None


def _curves(scenario: Scenario) -> Mapping[str, Curve]:
    """The outcomes of every policy over the offered load."""
    return {name: list(_curve(scenario, name)) for name in scenario.policies}


def _curve(scenario: Scenario, name: str) -> Iterator[tuple[float, Outcome]]:
    for load in LOADS:
        rate = load * scenario.capacity
        with _shown(f"the plot: {name}, at {rate:,.0f}/s"):
            yield rate, _outcome(scenario.at(rate), name)


def _record(scenario: Scenario, name: str, outcome: Outcome) -> dict[str, object]:
    """A line of JSON: what was simulated, the counts, and the figures of the table."""
    return {
        "policy": name,
        "seed": scenario.seed,
        "workers": scenario.workers,
        "offered_rate": scenario.arrivals.mean_rate,
        "capacity": scenario.capacity,
        **asdict(outcome),
        "useful_rate": outcome.useful_rate,
        "critical_in_time": outcome.critical_in_time,
    }


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def _shown(what: str) -> Generator[None, None, None]:
    """A line on a terminal that says what is being simulated, as long as it is."""
    _show(f"workpool: simulating {what}")
    try:
        yield
    finally:
        _show("")


def _show(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line}\x1b[K")  # in the place of the one before
        sys.stderr.flush()
