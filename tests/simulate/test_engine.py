"""What holds of every simulation, whatever the load and the discipline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise, takewhile
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.kit import Puppet, Stage
from workpool import AdaptiveLifo, CoDel, Discipline, Fifo, Lanes
from workpool._core.lane import CODEL
from workpool._worker import SUCCEEDED
from workpool.simulate import (
    Arrivals,
    Bursts,
    Constant,
    Exponential,
    Fixed,
    Item,
    LogNormal,
    Poisson,
    RfcCoDel,
    Scenario,
    Service,
    simulate,
)

RATES = st.floats(1, 200)
SECONDS = st.floats(0.001, 1)
ARRIVALS: st.SearchStrategy[Arrivals] = (
    st.builds(Constant, RATES)
    | st.builds(Poisson, RATES)
    | st.builds(
        Bursts, st.lists(st.tuples(st.just(0.0) | RATES, SECONDS), max_size=2).map(lambda some: [*some, (50, 1)])
    )
)
SERVICES: st.SearchStrategy[Service] = (
    st.builds(Fixed, SECONDS) | st.builds(Exponential, SECONDS) | st.builds(LogNormal, SECONDS, st.floats(0.1, 2))
)


def lane(item: Item) -> int:
    return 0 if item.critical else 1


def deadline(item: Item) -> float:
    return item.deadline


COMMON: dict[str, st.SearchStrategy[Any]] = {
    "size": st.integers(1, 20),
    "max_wait": st.none() | st.floats(0, 2),
    "overflow": st.sampled_from(["refuse", "drop_oldest"]),
    "deadline": st.sampled_from([None, deadline]),
}
ONE_LANES = st.one_of(*(st.builds(kind, **COMMON) for kind in (Fifo, AdaptiveLifo, CoDel, RfcCoDel)))
ANY: st.SearchStrategy[Discipline[Item]] = ONE_LANES | st.builds(
    Lanes, st.just(lane), st.lists(ONE_LANES, min_size=2, max_size=2), max_wait=st.none() | st.floats(0, 2)
)
SCENARIOS = st.builds(
    Scenario,
    arrivals=ARRIVALS,
    service=SERVICES,
    deadline=st.floats(0.001, 3),
    critical=st.floats(0, 1),
    workers=st.integers(1, 5),
    seconds=st.floats(0.1, 5),
    seed=st.integers(0, 1000),
)


@given(SCENARIOS, ANY)
def test_the_ledger_balances(scenario: Scenario, discipline: Discipline[Item]) -> None:
    outcome = simulate(scenario, discipline)
    assert outcome.balance == 0
    assert min(outcome.refused, outcome.done, outcome.left, *outcome.shed.values()) >= 0
    assert outcome.left <= discipline.capacity + scenario.workers
    assert outcome.critical_useful <= outcome.useful <= outcome.done
    assert outcome.critical_useful <= outcome.critical_offered <= outcome.offered
    assert 0 <= outcome.latency_p50 <= outcome.latency_p99
    assert 0 <= outcome.critical_in_time <= 1


@given(SCENARIOS, ANY)
def test_the_same_seed_gives_the_same_outcome(scenario: Scenario, discipline: Discipline[Item]) -> None:
    assert simulate(scenario, discipline) == simulate(scenario, discipline)


@given(SCENARIOS, ANY, ANY)
def test_every_discipline_is_offered_the_same(
    scenario: Scenario, one: Discipline[Item], other: Discipline[Item]
) -> None:
    first, second = simulate(scenario, one), simulate(scenario, other)
    assert (first.offered, first.critical_offered) == (second.offered, second.critical_offered)


@given(ANY, st.integers(1, 5), st.floats(0.01, 0.5), st.floats(0.05, 0.9))
def test_in_an_underload_everything_is_done_in_time(
    discipline: Discipline[Item], workers: int, run: float, load: float
) -> None:
    scenario = Scenario(
        arrivals=Constant(load * workers / run),
        service=Fixed(run),
        deadline=2 * run,
        critical=0.5,
        workers=workers,
        seconds=50 * run,
    )
    outcome = simulate(scenario, discipline)
    assert (outcome.refused, sum(outcome.shed.values())) == (0, 0)
    assert outcome.useful == outcome.done
    assert outcome.left <= workers
    assert outcome.latency_p99 == pytest.approx(run)


@given(ANY, ARRIVALS, st.integers(1, 5), st.floats(0.01, 0.5), st.floats(1, 30))
def test_more_load_never_makes_more_than_capacity(
    discipline: Discipline[Item], arrivals: Arrivals, workers: int, run: float, load: float
) -> None:
    scenario = Scenario(
        arrivals=arrivals, service=Fixed(run), deadline=1e9, workers=workers, seconds=20 * run,
    )  # fmt: skip
    outcome = simulate(scenario.at(load * scenario.capacity), discipline)
    assert outcome.done <= scenario.capacity * scenario.seconds * (1 + 1e-9)


@settings(max_examples=25)
@given(ARRIVALS, st.integers(0, 100))
def test_arrivals_come_in_order_and_at_their_rate(arrivals: Arrivals, seed: int) -> None:
    times = list(islice(arrivals.times(Random(seed)), 2000))
    assert all(before <= after for before, after in pairwise(times))
    assert times[0] >= 0
    doubled = arrivals.at(2 * arrivals.mean_rate)
    assert type(doubled) is type(arrivals)
    assert doubled.mean_rate == pytest.approx(2 * arrivals.mean_rate)
    seconds = 4000 / arrivals.mean_rate + 20
    count = sum(1 for _ in takewhile(lambda time: time < seconds, arrivals.times(Random(seed))))
    # In phases the end may fall into the busiest; 6 standard deviations beside.
    rest = 200 if isinstance(arrivals, Bursts) else 0
    assert count == pytest.approx(seconds * arrivals.mean_rate, abs=6 * (seconds * arrivals.mean_rate) ** 0.5 + rest)


def test_bursts_come_in_their_phases() -> None:
    times = list(takewhile(lambda time: time < 100, Bursts([(0, 1), (1000, 1), (10, 8)]).times(Random(1))))
    by_phase = [sum(1 for time in times if low <= time % 10 < high) for low, high in ((0, 1), (1, 2), (2, 10))]
    assert by_phase[0] == 0
    assert by_phase[1] == pytest.approx(10_000, rel=0.05)
    assert by_phase[2] == pytest.approx(800, rel=0.2)


@pytest.mark.parametrize("service", [Fixed(0.02), Exponential(0.02), LogNormal(0.02, 1)])
def test_run_times_have_the_mean_that_they_say(service: Service) -> None:
    times = list(islice(service.times(Random(1)), 100_000))
    assert sum(times) / len(times) == pytest.approx(service.mean_seconds, rel=0.03)
    assert min(times) > 0


@pytest.mark.parametrize(("service", "times_the_mean"), [(Exponential(1), 4.6), (LogNormal(1, 1), 6.2)])
def test_the_tails_are_as_long_as_the_docstrings_say(service: Service, times_the_mean: float) -> None:
    times = list(islice(service.times(Random(1)), 100_000))
    assert sum(time > times_the_mean for time in times) == pytest.approx(1000, rel=0.15)


def test_another_seed_and_another_rate_make_another_load() -> None:
    scenario = Scenario(arrivals=Poisson(100), service=Fixed(0.01), deadline=1, seconds=10)
    first = simulate(scenario, Fifo()).offered
    assert simulate(replace(scenario, seed=2), Fifo()).offered != first
    assert simulate(scenario.at(200), Fifo()).offered == pytest.approx(2 * first, rel=0.2)


def test_the_square_root_law_sheds_ever_more_often() -> None:
    lineup = RfcCoDel(10_000, target=0.005, interval=0.1).open()
    (lane,) = lineup.lanes
    for _ in range(10_000):
        lane.push((None, 0.0))
    shed = [0.001 * step for step in range(1, 3000) if lane.pop() and lane.verdict(None, 1.0, 0.001 * step, 0.02)]
    gaps = [after - before for before, after in pairwise(shed)]
    assert shed[0] == pytest.approx(0.101, abs=0.002)
    assert gaps == [pytest.approx(0.1 / n**0.5, abs=0.0021) for n in range(1, len(gaps) + 1)]


def test_the_square_root_law_keeps_the_last_and_what_waited_little() -> None:
    lineup = RfcCoDel().open()
    (lane,) = lineup.lanes
    assert not any(lane.verdict(None, 1.0, step, 0.02) for step in range(10))
    lane.push((None, 0.0))
    assert not any(lane.verdict(None, 0.004, step, 0.02) for step in range(10))


def scenario_with(**changes: Any) -> Callable[[], object]:
    right: dict[str, Any] = {
        "arrivals": Poisson(1), "service": Fixed(1), "deadline": 1
    }  # fmt: skip
    return lambda: Scenario(**(right | changes))


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Poisson(0), ValueError, "rate must be more than 0, not 0"),
    (lambda: Constant(-1), ValueError, "rate must be more than 0"),
    (lambda: Poisson(inf), ValueError, "rate must be a finite number"),
    (lambda: Poisson("9"), TypeError, "rate must be a number"),  # type: ignore[arg-type]
    (lambda: Poisson(9).at(0), ValueError, "rate must be more than 0"),
    (lambda: Bursts([]), ValueError, "phases must have at least one with a rate above 0"),
    (lambda: Bursts([(0, 1)]), ValueError, "phases must have at least one"),
    (lambda: Bursts([(1, 0)]), ValueError, "the seconds of a phase must be more than 0"),
    (lambda: Bursts([(-1, 1)]), ValueError, "the rate of a phase must be more than 0"),
    (lambda: Bursts([(1, 1)]).at(inf), ValueError, "rate must be a finite number"),
    (lambda: Fixed(0), ValueError, "seconds must be more than 0"),
    (lambda: Exponential(-1), ValueError, "mean must be more than 0"),
    (lambda: LogNormal(1, 0), ValueError, "sigma must be more than 0"),
    (lambda: RfcCoDel(target=0), ValueError, "target must be more than 0 seconds"),
    (lambda: RfcCoDel(interval=None), TypeError, "interval must be a number of seconds"),  # type: ignore[arg-type]
    (scenario_with(arrivals=1000), TypeError, "arrivals must be Arrivals, such as Poisson(1000), not 1000"),
    (scenario_with(service=0.02), TypeError, "service must be a Service, such as Exponential(0.02), not 0.02"),
    (scenario_with(deadline=0), ValueError, "deadline must be more than 0"),
    (scenario_with(critical=30), ValueError, "critical must be a share, from 0 to 1, not 30"),
    (scenario_with(workers=0), ValueError, "workers must be at least 1"),
    (scenario_with(seconds=inf), ValueError, "seconds must be a finite number"),
    (scenario_with(seed=1.5), TypeError, "seed must be a whole number"),
    (scenario_with(policies=[Fifo()]), TypeError, "policies must be a mapping of names to disciplines"),
    (scenario_with(policies={1: Fifo()}), TypeError, "the name of a policy must be a str, not 1"),
    (scenario_with(policies={"a": 100}), TypeError, "the policy 'a' must be a discipline"),
]


@pytest.mark.parametrize(
    ("make", "error", "words"), WRONG, ids=[f"{words}-{at}" for at, (*_, words) in enumerate(WRONG)]
)
def test_wrong_arguments(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_law_of_the_rfc_holds_in_a_pool_too() -> None:
    stage = Stage(rule=RfcCoDel(100, target=0.01, interval=0.1))
    puppet = Puppet(stage.queue)
    for number in range(100):
        assert stage.queue.offer(number, None)
    taken: list[object] = []
    for step in range(20):
        stage.now = puppet.worker.at = 0.05 * (step + 1)
        taken.append(puppet.comes(SUCCEEDED if step else 0))
    assert taken[:2] == [0, 1]
    assert stage.queue.ledger.shed[CODEL] > 3
    assert stage.balanced()
