"""What a pool does with a load, one event after the other, in virtual time.

Rules: nothing of a discipline is done here, its lanes are only asked, as a pool asks them. Arrivals, importance and
run times are drawn from streams of their own, so that every policy sees the same arrivals. The loop is what costs:
of an item it holds no more than an entry in a lane and a tuple in a heap.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import takewhile
from random import Random
from typing import Any, Final

from workpool._core.discipline import Discipline
from workpool._core.lane import DEADLINE, KEEP, OVERFLOW, REASONS, Lane
from workpool.simulate.outcome import Outcome
from workpool.simulate.scenario import Item, Scenario

__all__ = ["simulate"]

MEMORY: Final = 1 / 64
"""How much of the expected run time each item makes up anew, after the first, as in a pool."""


def simulate(scenario: Scenario, discipline: Discipline[Item]) -> Outcome:
    """What becomes of the scenario's load in a pool with that discipline."""
    pool = _Pool(scenario, discipline)
    seconds, items = scenario.seconds, _items(scenario)
    arrivals = scenario.arrivals.times(_stream(scenario, "arrivals"))
    for now in takewhile(lambda time: time < seconds, arrivals):
        pool.run(until=now)
        pool.submit(next(items), now)
    pool.run(until=seconds)
    return pool.outcome(seconds)


def _stream(scenario: Scenario, of: str) -> Random:
    return Random(f"{of} {scenario.seed}")


def _items(scenario: Scenario) -> Iterator[Item]:
    """Only two, again and again: nobody tells items apart but by what they say."""
    critical, other = Item(True, scenario.deadline), Item(False, scenario.deadline)
    draw, share = _stream(scenario, "items").random, scenario.critical
    while True:
        yield critical if draw() < share else other


class _Pool:
    """Lanes, workers, and counts."""

    def __init__(self, scenario: Scenario, discipline: Discipline[Item]) -> None:
        lineup = discipline.open()
        self._lanes: tuple[Lane[Any], ...] = lineup.lanes
        self._rank, self._numbered = lineup.rank, lineup.numbered
        self._choose = lineup.choose
        for lane in self._lanes:
            lane.limit = lane.size
        self._idle = scenario.workers
        self._runs = scenario.service.times(_stream(scenario, "service"))
        self._running: list[tuple[float, float, float, Item]] = []
        """A heap of what runs: its end, its run time, when it was submitted, and what it is."""
        self._recent = 0.0
        self._offered = self._refused = self._critical_offered = self._critical_useful = 0
        self._shed = [0] * len(REASONS)
        self._useful = 0
        self._latencies: list[float] = []

    def submit(self, item: Item, now: float) -> None:
        self._offered += 1
        self._critical_offered += item.critical
        lane = self._lanes[0] if self._rank is None else self._numbered[self._rank(item)]
        if lane.accepted < lane.limit:
            lane.accepted += 1
        elif lane.drops:
            lane.waiting.popleft()
            self._shed[OVERFLOW] += 1
        else:
            self._refused += 1
            return
        lane.push((item, now))
        if self._idle:
            self._idle -= 1
            self._take(now)

    def run(self, until: float) -> None:
        """What ends until then; each worker that gets free takes the next item."""
        running = self._running
        while running and running[0][0] <= until:
            end, run, submitted, item = heappop(running)
            self._settle(end - submitted, run, item)
            self._take(end)

    def outcome(self, seconds: float) -> Outcome:
        latencies = sorted(self._latencies)
        return Outcome(
            seconds=seconds,
            offered=self._offered,
            refused=self._refused,
            shed={reason: count for reason, count in zip(REASONS, self._shed, strict=True) if reason},
            done=len(latencies),
            useful=self._useful,
            left=sum(len(lane.waiting) for lane in self._lanes) + len(self._running),
            critical_offered=self._critical_offered,
            critical_useful=self._critical_useful,
            latency_p50=_quantile(latencies, 0.5),
            latency_p99=_quantile(latencies, 0.99),
        )

    def _take(self, now: float) -> None:
        """One worker takes the next item that is not shed, or goes to rest."""
        lane, choose = self._lanes[0], self._choose
        while True:
            if choose is not None:
                lane = choose(now)
            if not lane.waiting:
                self._idle += 1
                return
            item, accepted = lane.pop()
            lane.limit += 1
            verdict = lane.verdict(item, now - accepted, now, self._recent)
            if verdict == KEEP:
                run = next(self._runs)
                heappush(self._running, (now + run, run, accepted, item))
                return
            self._shed[verdict] += 1
            if verdict == DEADLINE:
                self._recent *= 1 - MEMORY

    def _settle(self, latency: float, run: float, item: Item) -> None:
        self._recent += (run - self._recent) * MEMORY if self._recent else run
        self._latencies.append(latency)
        if latency <= item.deadline:
            self._useful += 1
            self._critical_useful += item.critical


def _quantile(ordered: list[float], share: float) -> float:
    """The least that so great a share does not exceed; 0 of nothing."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0
