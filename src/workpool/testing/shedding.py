"""The part of the contract that says who waits, who is next and who is dropped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from workpool._core.discipline import AdaptiveLifo, CoDel, Discipline, Fifo, Lanes
from workpool._fate import Hooks
from workpool.errors import QueueFull, Shed
from workpool.pool import Pool
from workpool.testing.clock import ManualClock
from workpool.testing.doubles import Leash

__all__ = ["Shedding"]


class Held:
    """A pool of one worker, which holds the item "first" while others line up."""

    def __init__(self, make: Callable[..., Pool[Any, Any]], queue: Discipline[Any]) -> None:
        self.leash: Leash[Any] = Leash()
        self.clock = ManualClock()
        self.shed: list[tuple[object, str]] = []
        self.pool = make(self.leash, workers=1, queue=queue, hooks=Hooks(shed=self._note), clock=self.clock.clock)

    def _note(self, item: object, why: str) -> None:
        self.shed.append((item, why))
        if item == "what breaks the hook":
            raise ValueError(item)

    def __enter__(self) -> Held:
        self.pool.start()
        self.pool.submit("first")
        self.leash.wait_begun()
        return self

    def __exit__(self, *_: object) -> None:
        self.leash.let_go()
        self.pool.stop(20)
        assert self.pool.stats().balance() == 0

    def goes_on(self) -> list[object]:
        """Let everything run: what ran, after the first."""
        self.leash.let_go()
        assert self.pool.join(20)
        return self.leash.items[1:]

    def counts(self) -> dict[str, int]:
        """How many were shed, by the reasons for which some were."""
        return {why: count for why, count in self.pool.stats().shed.items() if count}


def lane_of(item: Any) -> int:
    """Items are pairs of a lane and something else; a text is for the first."""
    return 0 if item == str(item) else int(item[0])


def seconds_of(item: Any) -> float | None:
    """Items are pairs of a deadline and something else; a text has none."""
    return None if item == str(item) else float(item[0])


class Shedding:
    """To be mixed into what says how to `make` a pool."""

    make: Callable[..., Pool[Any, Any]]

    def test_what_has_waited_too_long_is_shed_and_does_not_run(self) -> None:
        with Held(self.make, Fifo(10, max_wait=1.0)) as held:
            held.pool.submit("late")
            future = held.pool.call("late, too")
            held.clock.advance(0.5)
            held.pool.submit("in time")
            held.clock.advance(0.75)
            assert held.goes_on() == ["in time"]
            with pytest.raises(Shed) as shed:
                future.result(20)
            assert (shed.value.reason, shed.value.waited) == ("max_wait", 1.25)
            assert held.shed == [("late", "max_wait"), ("late, too", "max_wait")]
            assert held.counts() == {"max_wait": 2}
            stats = held.pool.stats()
            assert (stats.submitted, stats.succeeded, stats.failed) == (4, 2, 0)

    def test_any_number_of_items_in_a_row_may_be_shed(self) -> None:
        with Held(self.make, Fifo(500, max_wait=1.0)) as held:
            for number in range(300):
                held.pool.submit(number)
            held.clock.advance(2)
            held.pool.submit("in time")
            assert held.goes_on() == ["in time"]
            assert held.counts() == {"max_wait": 300}

    def test_what_cannot_be_done_in_time_is_shed(self) -> None:
        with Held(self.make, Fifo(10, deadline=seconds_of)) as held:
            held.pool.submit((0.5, "no"))
            held.pool.submit((60.0, "yes"))
            held.pool.submit("whenever")
            held.clock.advance(1)
            assert held.goes_on() == [(60.0, "yes"), "whenever"]
            assert held.shed == [((0.5, "no"), "deadline")]

    def test_a_rule_or_a_hook_that_raises_changes_nothing(self) -> None:
        def broken(*_: object) -> float:
            raise ValueError("broken")

        with Held(self.make, Fifo(1, deadline=broken, overflow="drop_oldest")) as held:
            held.pool.submit("what breaks the hook")
            held.pool.submit("kept")
            assert held.goes_on() == ["kept"]
            assert held.counts() == {"overflow": 1}

    def test_the_oldest_makes_room_where_that_is_the_rule(self) -> None:
        with Held(self.make, Fifo(2, overflow="drop_oldest")) as held:
            future = held.pool.call(1)
            held.pool.submit(2)
            held.pool.submit(3)
            assert isinstance(future.exception(20), Shed)
            assert held.shed == [(1, "overflow")]
            held.pool.submit(4)
            assert held.pool.stats().queue_depth == 2
            assert held.goes_on() == [3, 4]
            assert held.counts() == {"overflow": 2}
            assert held.pool.stats().dropped == 0

    def test_who_waits_for_room_drops_nobody(self) -> None:
        with Held(self.make, Fifo(1, overflow="drop_oldest")) as held, ThreadPoolExecutor(1) as threads:
            held.pool.submit(1)
            waiting = threads.submit(held.pool.submit_wait, 2, 3600)
            held.clock.wait_for_sleepers()
            assert held.goes_on()[:1] == [1]
            waiting.result(20)
            assert held.counts() == {}

    def test_a_cancelled_item_makes_no_room_twice(self) -> None:
        with Held(self.make, Fifo(2, overflow="drop_oldest")) as held:
            cancelled = held.pool.call(1)
            held.pool.submit(2)
            assert cancelled.cancel()
            for number in (3, 4):
                held.pool.submit(number)
            assert held.goes_on() == [3, 4]
            assert held.shed == [(2, "overflow")]
            assert held.pool.stats().cancelled == 1

    def test_the_first_lane_goes_first_and_each_has_its_own_room(self) -> None:
        with Held(self.make, Lanes(lane_of, [2, Fifo(2)])) as held:
            for item in ((1, "a"), (1, "b"), (0, "c"), (0, "d")):
                held.pool.submit(item)
            for lane in (0, 1):
                with pytest.raises(QueueFull) as full:
                    held.pool.submit((lane, "x"))
                assert full.value.size == 2
            assert (held.pool.stats().queue_size, held.pool.stats().queue_depth) == (4, 4)
            assert held.goes_on() == [(0, "c"), (0, "d"), (1, "a"), (1, "b")]

    def test_a_lane_has_a_rule_of_its_own_and_the_wait_is_bounded_in_all(self) -> None:
        with Held(self.make, Lanes(lane_of, [5, Fifo(1, overflow="drop_oldest")], max_wait=1.0)) as held:
            for item in ((0, "late"), (1, "dropped"), (1, "late")):
                held.pool.submit(item)
            held.clock.advance(2)
            held.pool.submit((0, "in time"))
            assert held.goes_on() == [(0, "in time")]
            assert held.shed == [((1, "dropped"), "overflow"), ((0, "late"), "max_wait"), ((1, "late"), "max_wait")]

    def test_what_no_lane_takes_is_not_accepted(self) -> None:
        with Held(self.make, Lanes(lane_of, [2, 2])) as held:
            with pytest.raises(ValueError, match="priority gave 7 for an item; the lanes are numbered from 0 to 1"):
                held.pool.submit((7, "x"))
            with pytest.raises(ValueError, match="priority gave -1"):
                held.pool.call((-1, "x"))
            assert held.pool.stats().submitted == 1

    def test_a_slot_that_comes_free_is_for_who_waits_for_that_lane(self) -> None:
        with Held(self.make, Lanes(lane_of, [1, 1])) as held, ThreadPoolExecutor(2) as threads:
            first = held.pool.call((0, "a"))
            second = held.pool.call((1, "b"))
            waiting = {lane: threads.submit(held.pool.submit_wait, (lane, "waits"), 3600) for lane in (1, 0)}
            held.clock.wait_for_sleepers(2)
            assert first.cancel()
            waiting[0].result(20)
            assert not waiting[1].done()
            assert second.cancel()
            waiting[1].result(20)
            assert held.goes_on() == [(0, "waits"), (1, "waits")]

    def test_a_stop_hands_back_what_waits_in_all_lanes(self) -> None:
        with Held(self.make, Lanes(lane_of, [2, 2])) as held:
            for item in ((1, "a"), (0, "b"), (1, "c")):
                held.pool.submit(item)
            held.pool.close(drain=False)
            held.leash.let_go()
            report = held.pool.stop(20)
            assert report.unprocessed == ((0, "b"), (1, "a"), (1, "c"))
            assert held.pool.stats().cancelled == 3

    def test_the_newest_is_next_once_the_queue_was_not_empty_for_long(self) -> None:
        with Held(self.make, AdaptiveLifo(4, after=0.1)) as held:
            for number in range(3):
                held.pool.submit(number)
                held.clock.advance(0.01)
            held.clock.advance(0.2)
            held.pool.submit(3)
            held.pool.submit(4)  # in the place of 0
            assert held.goes_on() == [4, 3, 2, 1]
            assert held.shed == [(0, "overflow")]

    def test_a_queue_that_is_slow_all_the_time_sheds_what_waited_long(self) -> None:
        with Held(self.make, CoDel(10, target=0.005, interval=0.1)) as held:
            for number in range(3):
                held.pool.submit(number)
            held.clock.advance(0.2)
            assert held.goes_on() == [0, 1, 2]
            held.leash.hold()
            held.clock.advance(0.2)
            held.pool.submit("second")
            held.leash.wait_begun(4)
            for number in range(3, 6):
                held.pool.submit(number)
            held.clock.advance(0.05)
            assert held.goes_on() == [0, 1, 2, "second"]
            assert held.counts() == {"codel": 3}
