"""Lanes, and who is dropped, where something unlucky happens in between."""

from __future__ import annotations

import signal
from collections import deque
from typing import Any

import pytest

from tests.core.kit import Liar, Puppet, Stage, at_each_call
from workpool import Fifo, Hooks, Lanes, Pool
from workpool._core.ledger import Ledger
from workpool._future import ItemFuture
from workpool._interpreter import GIL
from workpool._worker import SUCCEEDED
from workpool.testing import Leash

pytestmark = pytest.mark.usefixtures("quiet")


def lane(item: str) -> int:
    return int(item[0])


DROPPING = Fifo(1, overflow="drop_oldest")


def test_a_drain_goes_on_where_all_that_is_left_in_the_first_lane_was_cancelled() -> None:
    leash: Leash[str] = Leash()
    with Pool(leash.process, workers=1, queue=Lanes(lane, [10, 10])) as pool:
        pool.submit("0 first")
        leash.wait_begun()
        pool.call("0 second")
        cancelled = pool.call("0 third")
        for number in range(5):
            pool.submit(f"1 {number}")
        assert cancelled.cancel()
        pool.close()
        leash.let_go()
        report = pool.stop(20)
    assert (report.clean, report.unprocessed) == (True, ())
    assert len(leash.items) == 7


@pytest.mark.skipif(not GIL, reason="nobody can come between there")
def test_a_worker_whose_lane_somebody_else_has_emptied_looks_at_the_others_before_it_leaves() -> None:
    stage = Stage(workers=2, rule=Lanes(lane, [10, 10]))
    queue = stage.queue
    one, other = Puppet(queue), Puppet(queue)
    for item in ("1 a", "1 b", "0 c", "0 d"):
        assert queue.offer(item, None)
    assert other.comes() == "0 c"
    queue.close(drain=True)
    assert queue._choose is not None
    queue._choose = Liar(queue._choose, lambda: other.comes(SUCCEEDED), at=1)
    future: ItemFuture[Any] = ItemFuture(queue)
    queue.lanes[0].waiting[0] = ("0 d", 0.0, future, None)  # so that it is taken under the lock
    future.lane = queue.lanes[0]
    found = one.comes()
    assert not one.worker.leaving
    assert (found or one.comes()) in ("1 a", "1 b")


def test_an_item_that_is_pressed_in_can_be_cancelled_whatever_its_priority_was_the_first_time() -> None:
    answers = iter([0, 1])

    def fickle(item: str) -> int:
        return next(answers) if item == "fickle" else lane(item)

    stage = Stage(rule=Lanes(fickle, [DROPPING, DROPPING]))
    assert stage.queue.offer("0 a", None)
    future: ItemFuture[Any] = ItemFuture(stage.queue)
    assert not stage.queue.offer("fickle", future)
    assert stage.queue.press("fickle", future) is None
    assert future.cancel()
    assert [(each.limit - each.accepted, len(each.waiting) - each.dead) for each in stage.queue.lanes] == [
        (0, 1),
        (1, 0),
    ]


def test_who_is_interrupted_after_a_drop_gives_the_slot_to_who_waits_for_one() -> None:
    stage = Stage(rule=DROPPING)
    assert stage.queue.offer("first", None)
    _, woken = stage.waits()
    stage.queue.tell_shed = lambda *_: None

    class Interrupted(deque[Any]):
        def popleft(self) -> Any:
            super().popleft()
            raise KeyboardInterrupt

    stage.queue._lane.waiting = Interrupted(stage.queue._lane.waiting)
    with pytest.raises(KeyboardInterrupt):
        stage.queue.press("mine", None)
    assert woken == [None]
    assert (stage.queue.ledger.accepted, stage.queue.ledger.shed[4]) == (1, 1)
    assert stage.balanced()


def test_one_submit_sheds_one_item_however_much_was_put_back() -> None:
    stage = Stage(rule=Fifo(3, overflow="drop_oldest"))
    puppet = Puppet(stage.queue)
    for number in range(3):
        assert stage.queue.offer(number, None)
    assert puppet.comes() == 0
    assert stage.queue.offer(3, None)
    stage.queue.put_back(puppet.worker, 1)
    assert stage.queued() == [0, 1, 2, 3]
    assert stage.queue.press(4, None) is None
    assert stage.queued() == [1, 2, 3, 4]
    assert stage.balanced()


def test_a_handler_that_drops_an_item_tells_of_it_outside_the_lock() -> None:
    inside: list[bool] = []
    leash: Leash[str] = Leash()
    hooks: Hooks[str] = Hooks(shed=lambda *_: inside.append(pool._queue.is_inside()))
    pool = Pool(leash.process, workers=1, queue=DROPPING, hooks=hooks)
    with pool:
        pool.submit("first")
        leash.wait_begun()
        dropped = pool.call("dropped")
        dropped.add_done_callback(lambda _: inside.append(pool._queue.is_inside()))
        pool._queue.acquire()  # as if a section was interrupted
        pool.submit("a handler's")
        pool._queue.release()
        assert not dropped.done()
        leash.let_go()
        assert pool.join(20)
    assert dropped.exception(20) is not None
    assert inside == [False, False]


def test_ctrl_c_in_the_hook_for_what_is_dropped_reaches_whoever_submits() -> None:
    def interrupt(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    leash: Leash[str] = Leash()
    hooks: Hooks[str] = Hooks(shed=interrupt)
    pool = Pool(leash.process, workers=1, queue=DROPPING, hooks=hooks)
    pool.start()
    pool.submit("runs")
    leash.wait_begun()  # else the worker might come, tell of what was dropped, and interrupt whatever the test is at
    pool.submit("dropped")
    with pytest.raises(KeyboardInterrupt):
        pool.submit("accepted")
    assert pool.stats().shed["overflow"] == 1
    pool._queue.tell_shed = lambda *_: None
    leash.let_go()
    pool.stop(20)
    assert pool.stats().balance() == 0


def test_a_rule_that_goes_by_slow_items_learns_that_they_are_quick_again() -> None:
    stage = Stage(size=1, rule=Fifo(1, deadline=lambda _: 0.2))
    puppet = Puppet(stage.queue)
    stage.queue.learn(0.5)  # a cold start
    shed = 0
    while shed < 100:
        assert stage.queue.offer("item", None)
        if puppet.comes() == "item":
            break
        shed += 1
    assert 10 < shed < 100


@pytest.mark.skipif(not GIL, reason="nobody can come between there")
def test_a_worker_that_takes_the_last_item_from_who_is_to_drop_it_leaves_room_and_nobody_is_refused() -> None:
    def start() -> tuple[Stage, Puppet]:
        stage = Stage(rule=DROPPING)
        assert stage.queue.offer("first", None)
        return stage, Puppet(stage.queue)

    def take(scene: tuple[Stage, Puppet]) -> None:
        if scene[0].queue._lane.waiting:  # as a worker does without the lock
            scene[1].comes()

    for stage, puppet in at_each_call(start, lambda scene: scene[0].queue.press("second", None), take):
        taken = [] if puppet.worker.entry is None else [puppet.worker.entry[0]]
        dropped = ["first"] * stage.queue.ledger.shed[4]
        assert sorted([*taken, *stage.queued(), *dropped]) == ["first", "second"]
        assert stage.queue._lane.limit - stage.queue._lane.accepted == 1 - len(stage.queued())
        assert stage.balanced()


@pytest.mark.parametrize("reading", [0, 1])
def test_who_comes_to_a_lane_while_another_one_is_counted_is_not_lost(reading: int) -> None:
    stage = Stage(rule=Lanes(lane, [Fifo(2), Fifo(2), Fifo(2)]))
    queue = stage.queue
    late = iter([*[None] * reading, "1 late"])

    class Counted:
        """The last lane: when it is counted, the one before was."""

        @property
        def accepted(self) -> int:
            if item := next(late, None):
                assert queue.offer(item, None)
            return 0

    lanes: list[Any] = [*queue.lanes[:2], Counted()]
    queue.ledger = Ledger(lanes)
    assert stage.call("1 cancelled").cancel()
    assert list(late) == []
    assert stage.queued() == ["1 late"]
    assert stage.balanced()
