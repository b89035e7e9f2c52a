"""The disciplines, each on its own: what they promise, whatever comes and goes; what they say of wrong arguments."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workpool._core.discipline import AdaptiveLifo, CoDel, Discipline, Fifo, Lanes, OneLane
from workpool._core.lane import CODEL, DEADLINE, KEEP, MAX_WAIT, OVERFLOW, Lane, Lineup


class Item(NamedTuple):
    number: int
    lane: int
    deadline: float | None


class Taken(NamedTuple):
    item: Item
    accepted: float
    now: float


class Shed(NamedTuple):
    item: Item
    reason: int
    waited: float


RUN = 0.02
"""How long items run of late, in seconds."""


def lane_of(lineup: Lineup[Item], item: Item) -> Lane[Any]:
    return lineup.lanes[0] if lineup.rank is None else lineup.numbered[lineup.rank(item)]


@dataclass
class Queue:
    """The least that uses a discipline as a pool does, and remembers everything."""

    discipline: Discipline[Any]
    now: float = 0.0
    accepted: list[Item] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    shed: list[Shed] = field(default_factory=list)
    judged: list[tuple[float, float, int]] = field(default_factory=list)
    """When, how long it had waited, and the verdict."""

    def __post_init__(self) -> None:
        self.lineup: Lineup[Item] = self.discipline.open()
        for lane in self.lineup.lanes:
            lane.limit = lane.size

    def offer(self, item: Item) -> None:
        lane = lane_of(self.lineup, item)
        if lane.accepted < lane.limit:
            lane.accepted += 1
        elif lane.drops:
            oldest, accepted = lane.waiting.popleft()
            self.shed.append(Shed(oldest, OVERFLOW, self.now - accepted))
        else:
            return
        lane.push((item, self.now))
        self.accepted.append(item)

    def take(self) -> None:
        while (lane := self._next()).waiting:
            hint = lane.waiting[lane.first]
            entry = lane.pop()
            assert entry is hint
            lane.limit += 1
            item, accepted = entry
            waited = self.now - accepted
            verdict = lane.verdict(item, waited, self.now, RUN)
            self.judged.append((self.now, waited, verdict))
            if verdict == KEEP:
                self.taken.append(Taken(item, accepted, self.now))
                return
            self.shed.append(Shed(item, verdict, waited))

    def _next(self) -> Lane[Any]:
        return self.lineup.lanes[0] if self.lineup.choose is None else self.lineup.choose(self.now)

    @property
    def waiting(self) -> list[Item]:
        return [item for lane in self.lineup.lanes for item, _ in lane.waiting]


# An event: the milliseconds since the one before, and what is offered (lane, deadline in ms) or None: a worker comes.
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 60), st.none() | st.tuples(st.integers(0, 2), st.none() | st.integers(0, 200))
    ),
    max_size=80,
)  # fmt: skip
Events = list[tuple[int, tuple[int, int | None] | None]]

SIZES = st.integers(1, 8)
WAITS = st.none() | st.integers(0, 150).map(lambda ms: ms / 1000)
OVERFLOWS = st.sampled_from(["refuse", "drop_oldest"])
DEADLINES: st.SearchStrategy[Callable[[Item], float | None] | None] = st.sampled_from(
    [None, lambda item: item.deadline]
)
COMMON: dict[str, st.SearchStrategy[Any]] = {
    "size": SIZES, "max_wait": WAITS, "overflow": OVERFLOWS, "deadline": DEADLINES
}  # fmt: skip
FIFOS = st.builds(Fifo, **COMMON)
LIFOS = st.builds(AdaptiveLifo, **COMMON)
CODELS = st.builds(CoDel, **COMMON)
ONE_LANES: st.SearchStrategy[OneLane] = FIFOS | LIFOS | CODELS
LANES = st.builds(
    Lanes, st.just(lambda item: item.lane), st.lists(SIZES | ONE_LANES, min_size=3, max_size=4), max_wait=WAITS
)  # fmt: skip
ANY: st.SearchStrategy[Discipline[Any]] = ONE_LANES | LANES


def steps(queue: Queue, events: Events) -> Any:
    """Each event, one after the other; the queue is to be looked at after each."""
    number, now = 0, 0
    for gap, offered in events:
        now += gap
        queue.now = now / 1000
        if offered is None:
            queue.take()
        else:
            lane, deadline = offered
            queue.offer(Item(number, lane, None if deadline is None else deadline / 1000))
            number += 1
        yield number


def played(discipline: Discipline[Any], events: Events) -> Queue:
    queue = Queue(discipline)
    for _ in steps(queue, events):
        pass
    return queue


@given(ANY, EVENTS)
def test_no_lane_is_ever_beyond_its_bound(discipline: Discipline[Any], events: Events) -> None:
    queue = Queue(discipline)
    lanes = queue.lineup.lanes
    assert sum(lane.size for lane in lanes) == discipline.capacity
    for _ in steps(queue, events):
        assert all(len(lane.waiting) <= lane.size for lane in lanes)
        assert all(len(lane.waiting) + lane.limit - lane.accepted == lane.size for lane in lanes)
        assert len(queue.waiting) <= discipline.capacity


@given(ANY, EVENTS)
def test_nothing_is_lost_and_nothing_comes_twice(discipline: Discipline[Any], events: Events) -> None:
    queue = Queue(discipline)
    for _ in steps(queue, events):
        ends = [taken.item for taken in queue.taken] + [shed.item for shed in queue.shed] + queue.waiting
        assert Counter(ends) == Counter(queue.accepted)


@given(ANY, EVENTS)
def test_an_opened_discipline_shares_nothing_with_another(discipline: Discipline[Any], events: Events) -> None:
    first = played(discipline, events)
    second = played(discipline, events)
    assert (first.taken, first.shed) == (second.taken, second.shed)


@given(FIFOS | CODELS, EVENTS)
def test_first_in_first_out(discipline: OneLane, events: Events) -> None:
    queue = played(discipline, events)
    numbers = [taken.item.number for taken in queue.taken]
    assert numbers == sorted(numbers)


@given(st.integers(0, 100).map(lambda ms: ms / 1000), EVENTS)
def test_newest_first_once_the_queue_has_not_been_empty_for_so_long(after: float, events: Events) -> None:
    after = after or 0.001
    queue = Queue(AdaptiveLifo(len(events) + 1, after=after))
    since = inf
    """Since when the queue has not been empty, as this test sees it."""
    count, before = 0, list[Item]()
    for _ in steps(queue, events):
        if len(queue.taken) > count:
            count += 1
            is_long = queue.now - since > after
            assert queue.taken[-1].item == before[-1 if is_long else 0]
        before = queue.waiting
        since = min(since, queue.now) if before else inf


@given(LANES, EVENTS)
def test_no_item_before_one_of_an_earlier_lane(discipline: Lanes[Any], events: Events) -> None:
    queue = Queue(discipline)
    count = 0
    for _ in steps(queue, events):
        if len(queue.taken) > count:
            count += 1
            assert not any(lane.waiting for lane in queue.lineup.lanes[: queue.taken[-1].item.lane])


@given(st.lists(st.integers(0, 1), max_size=30))
def test_no_lane_takes_the_room_of_another(lanes: list[int]) -> None:
    queue = Queue(Lanes(lambda item: item.lane, [3, Fifo(2, overflow="drop_oldest")]))
    for number, lane in enumerate(lanes):
        queue.offer(Item(number, lane, None))
    first = [number for number, lane in enumerate(lanes) if lane == 0][:3]
    second = [number for number, lane in enumerate(lanes) if lane == 1][-2:]
    assert [item.number for item in queue.waiting] == first + second
    assert all(shed.item.lane == 1 for shed in queue.shed)


@given(ONE_LANES, EVENTS)
def test_nothing_that_waited_too_long_or_cannot_be_done_in_time_is_taken(discipline: OneLane, events: Events) -> None:
    queue = played(discipline, events)
    most = inf if discipline.max_wait is None else discipline.max_wait
    for item, accepted, now in queue.taken:
        assert now - accepted <= most
        if discipline.deadline is not None and item.deadline is not None:
            assert item.deadline - (now - accepted) >= RUN
    for item, reason, waited in queue.shed:
        if reason == MAX_WAIT:
            assert waited > most
        if reason == DEADLINE:
            assert discipline.deadline is not None
            assert item.deadline is not None
            assert item.deadline - waited < RUN
        if reason == CODEL:
            assert isinstance(discipline, CoDel)
        if reason == OVERFLOW:
            assert discipline.overflow == "drop_oldest"


@given(LANES, EVENTS)
def test_the_wait_of_all_lanes_is_bounded_by_the_lesser_of_two(discipline: Lanes[Any], events: Events) -> None:
    queue = played(discipline, events)
    for item, accepted, now in queue.taken:
        lane = discipline.lanes[item.lane]
        own = lane.max_wait if isinstance(lane, OneLane) else None
        assert now - accepted <= min(bound for bound in (own, discipline.max_wait, inf) if bound is not None)


def intervals(judged: list[tuple[float, float, int]], seconds: float) -> list[list[tuple[float, int]]]:
    """The waits and verdicts of each interval: one begins with the first item after the end of the one before."""
    found: list[list[tuple[float, int]]] = []
    end = -inf
    for now, waited, verdict in judged:
        if now > end:
            found.append([])
            end = now + seconds
        found[-1].append((waited, verdict))
    return found


@given(st.integers(0, 30), st.integers(1, 100), EVENTS)
def test_controlled_delay_sheds_only_after_an_interval_of_waits_above_target(
    target: int, interval: int, events: Events
) -> None:
    discipline = CoDel(100, target=(target or 1) / 1000, interval=interval / 1000)
    queue = played(discipline, events)
    each = intervals(queue.judged, discipline.interval)
    for before, here in pairwise([[(0.0, KEEP)], *each]):
        assert here[0][1] == KEEP, "the first of an interval is never shed"
        overloaded = min(waited for waited, _ in before) > discipline.target
        for waited, verdict in here[1:]:
            assert (verdict == CODEL) == (overloaded and waited > 2 * discipline.target)


def test_a_burst_that_is_worked_off_within_an_interval_loses_nothing() -> None:
    queue = Queue(CoDel(100, target=0.005, interval=0.1))
    for number in range(50):
        queue.offer(Item(number, 0, None))
    for step in range(50):
        queue.now = step * 0.0019
        queue.take()
    assert len(queue.taken) == 50
    queue.now += 0.05
    queue.take()
    queue.offer(Item(50, 0, None))
    queue.take()
    assert len(queue.taken) == 51


def fails(_: Item) -> float:
    raise LookupError("no deadline for that")


def test_a_rule_that_raises_is_logged_and_sheds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    queue = Queue(CoDel(deadline=fails))
    queue.offer(Item(0, 0, None))
    with caplog.at_level(logging.ERROR, "workpool"):
        queue.take()
    assert [taken.item.number for taken in queue.taken] == [0]
    assert [record.exc_info is not None for record in caplog.records] == [True]


@pytest.mark.parametrize("number", [-1, 2, 0.5, None, "first"])
def test_a_priority_that_no_lane_has(number: Any) -> None:
    lineup: Lineup[Item] = Lanes(lambda _: number, [1, 1]).open()
    with pytest.raises(ValueError, match="the lanes are numbered from 0 to 1"):
        lane_of(lineup, Item(0, 0, None))


def test_what_a_priority_raises_comes_out() -> None:
    with pytest.raises(LookupError, match="no deadline"):
        lane_of(Lanes(fails, [1]).open(), Item(0, 0, None))  # type: ignore[arg-type]


def ranked(_: object) -> int:
    return 0


WRONG: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: Fifo(0), ValueError, "size must be at least 1"),
    (lambda: Fifo(1.5), TypeError, "size must be a whole number"),  # type: ignore[arg-type]
    (lambda: Fifo(True), TypeError, "size must be a whole number"),
    (lambda: Fifo(max_wait=-1), ValueError, "max_wait must be 0 seconds or more"),
    (lambda: Fifo(max_wait=float("nan")), ValueError, "max_wait must be 0 seconds or more"),
    (lambda: Fifo(max_wait="1"), TypeError, "max_wait must be a number of seconds"),  # type: ignore[arg-type]
    (lambda: Fifo(overflow="drop"), ValueError, 'overflow must be "refuse" or "drop_oldest"'),  # type: ignore[arg-type]
    (lambda: Fifo(deadline=0.2), TypeError, "deadline must be a function"),  # type: ignore[arg-type]
    (lambda: AdaptiveLifo(after=0), ValueError, "after must be more than 0 seconds"),
    (lambda: AdaptiveLifo(after=None), TypeError, "after must be a number of seconds"),  # type: ignore[arg-type]
    (lambda: AdaptiveLifo(0), ValueError, "size must be at least 1"),
    (lambda: CoDel(target=0), ValueError, "target must be more than 0 seconds"),
    (lambda: CoDel(interval=-0.1), ValueError, "interval must be 0 seconds or more"),
    (lambda: CoDel(interval=None), TypeError, "interval must be a number of seconds"),  # type: ignore[arg-type]
    (lambda: CoDel(overflow="x"), ValueError, "overflow must be"),  # type: ignore[arg-type]
    (lambda: Lanes(3, [1]), TypeError, "priority must be a function"),  # type: ignore[arg-type]
    (lambda: Lanes(ranked, []), TypeError, "lanes must be a list of sizes or disciplines"),
    (lambda: Lanes(ranked, 3), TypeError, "lanes must be a list"),  # type: ignore[arg-type]
    (lambda: Lanes(ranked, "12"), TypeError, "lanes must be a list"),  # type: ignore[arg-type]
    (lambda: Lanes(ranked, [0]), ValueError, "size must be at least 1"),
    (lambda: Lanes(ranked, [True]), TypeError, "a lane must be a size or a discipline"),
    (lambda: Lanes(ranked, [None]), TypeError, "a lane must be a size or a discipline"),  # type: ignore[list-item]
    (lambda: Lanes(ranked, [Lanes(ranked, [1])]), TypeError, "a lane cannot have lanes"),  # type: ignore[list-item]
    (lambda: Lanes(ranked, [1], max_wait=-1), ValueError, "max_wait must be 0 seconds or more"),
]


@pytest.mark.parametrize(
    ("make", "error", "words"), WRONG, ids=[f"{words}-{at}" for at, (*_, words) in enumerate(WRONG)]
)
def test_wrong_arguments(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_they_are_values() -> None:
    assert Fifo(5) == Fifo(5) != Fifo(6)
    assert hash(CoDel(5)) == hash(CoDel(5))
    assert Lanes(ranked, [5, CoDel(5)]) == Lanes(ranked, [Fifo(5), CoDel(5)])
    with pytest.raises(AttributeError):
        Fifo(5).size = 6  # type: ignore[misc]
