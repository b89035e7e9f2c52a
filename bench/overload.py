"""Whether real pools rank the disciplines as the simulation does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from random import Random
from time import perf_counter, sleep
from typing import Any, Final

from bench.table import Table
from examples.overload import scenario
from workpool import Discipline, Lanes, Pool, QueueFull
from workpool.simulate import Item, simulate

ROUNDS: Final = 7
ITEMS: Final = 200_000
WORKERS: Final = 10


def nothing(_: int) -> None:
    return None


# -- ranking ---------------------------------------------------------------------------------------


SECONDS: Final = 3.0
SETTLED: Final = 0.5
"""What is offered before is not counted: the queue is to be full first, where it gets full."""


@dataclass
class Tried:
    """What became of what was offered to a real pool."""

    offered: int = 0
    critical: int = 0
    useful: int = 0
    critical_in_time: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, item: Item) -> None:
        with self.lock:
            self.useful += 1
            self.critical_in_time += item.critical

    @property
    def rate(self) -> float:
        return self.useful / (SECONDS - SETTLED)

    @property
    def share(self) -> float:
        return self.critical_in_time / self.critical


@dataclass(frozen=True)
class Ticket:
    """An item on its way through a real pool."""

    item: Item
    at: float
    counts: bool
    takes: float


def _on_threads(tried: Tried) -> Callable[[Ticket], None]:
    def process(ticket: Ticket) -> None:
        sleep(ticket.takes)
        _note(tried, ticket)

    return process


def _on_a_loop(tried: Tried) -> Callable[[Ticket], Any]:
    async def process(ticket: Ticket) -> None:
        await asyncio.sleep(ticket.takes)
        _note(tried, ticket)

    return process


def _note(tried: Tried, ticket: Ticket) -> None:
    if ticket.counts and perf_counter() - ticket.at <= scenario.deadline:
        tried.done(ticket.item)


def _try(rule: Discipline[Item], kind: Callable[[Tried], Callable[[Ticket], Any]]) -> Tried:
    tried, dice = Tried(), Random(scenario.seed)
    pool = Pool(kind(tried), workers=scenario.workers, queue=_of_tickets(rule), stop_timeout=1)
    pool.start()
    began = perf_counter()
    at = 0.0
    while (at := at + dice.expovariate(scenario.arrivals.mean_rate)) < SECONDS:
        sleep(max(0.0, began + at - perf_counter()))
        item = Item(dice.random() < scenario.critical, scenario.deadline)
        ticket = Ticket(item, began + at, at >= SETTLED, dice.expovariate(1 / scenario.service.mean_seconds))
        if ticket.counts:
            tried.offered += 1
            tried.critical += item.critical
        try:
            pool.submit(ticket)
        except QueueFull:
            pass
    sleep(scenario.deadline)
    pool.close(drain=False)
    pool.stop(1, drain=False)
    return tried


def _of_tickets(rule: Discipline[Item]) -> Discipline[Ticket]:
    """The same rule, for items on their way."""
    if not isinstance(rule, Lanes):
        return rule
    priority = rule.priority
    return Lanes(lambda ticket: priority(ticket.item), rule.lanes, rule.max_wait)


def ranking(table: Table) -> None:
    """Real threads and a real event loop, beside the simulation of the same eight policies."""
    simulated = {name: simulate(replace(scenario, seconds=60), rule) for name, rule in scenario.policies.items()}
    for label, kind in (("threads", _on_threads), ("asyncio", _on_a_loop)):
        found = {name: _try(rule, kind) for name, rule in scenario.policies.items()}
        wrong = 0
        for name, tried in found.items():
            virtual = simulated[name]
            table.note(
                f"{label}, useful/s and critical in time: {name}",
                f"{tried.rate:.0f}/s, {tried.share:.0%} "
                f"(simulated: {virtual.useful_rate:.0f}/s, {virtual.critical_in_time:.0%})",
            )
        for one, other in combinations(found, 2):
            rates = simulated[one].useful_rate, simulated[other].useful_rate
            wrong += _differ(rates, 100, (found[one].rate, found[other].rate))
            shares = simulated[one].critical_in_time, simulated[other].critical_in_time
            wrong += _differ(shares, 0.2, (found[one].share, found[other].share))
        table.at_most(f"{label}: pairs of policies that a real pool ranks the other way", str(wrong), wrong, 0)


def _differ(virtual: tuple[float, float], by: float, real: tuple[float, float]) -> bool:
    """The simulation tells two policies apart, by at least so much, and the real pools disagree."""
    return abs(virtual[0] - virtual[1]) > by and (virtual[0] > virtual[1]) is not (real[0] > real[1])


def overload_section(table: Table) -> None:
    ranking(table)
