"""Each race that a comment in the source names, with the bad luck forced: by a lock, a clock or a line that lies.

The workers here are puppets: they come to the queue when the test says so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest

from tests.core.kit import Liar, Puppet, Stage, come_who_are_woken, hurried, in_thread
from workpool import ItemAbandoned, Pool, PoolStopped, QueueFull, StopTimeout
from workpool import _stopping as stopping
from workpool._clock import SYSTEM, Clock, Parker, park
from workpool._control import ControlledQueue
from workpool._future import ItemFuture
from workpool._interpreter import GIL
from workpool._state import Waiter
from workpool._worker import SUCCEEDED, TELLING
from workpool.testing import Leash, ManualClock

pytestmark = pytest.mark.usefixtures("quiet")


# -- who waits for room ------------------------------------------------------------------------


def test_a_slot_that_is_granted_as_the_timeout_expires_is_used() -> None:
    stage = Stage()
    future = stage.call("first")

    def granted_and_expired() -> None:
        future.cancel()
        stage.now += 5

    stage.while_parked = granted_and_expired
    stage.put_wait("late", None, 5)
    assert stage.queued() == ["late"]
    assert stage.room() == 0
    assert stage.balanced()


@pytest.mark.parametrize("others", [0, 1])
def test_a_slot_that_is_granted_after_the_last_look_goes_to_the_next(others: int) -> None:
    stage = Stage()
    future = stage.call("first")
    queue = stage.queue
    woken: list[list[None]] = []

    def granted() -> None:
        """The time is up, and now, before it is refused, the slot comes."""
        woken.extend(stage.waits()[1] for _ in range(others))
        assert future.cancel()
        assert not any(woken)

    queue.try_acquire = Liar(queue.try_acquire, granted, at=2, before=True)  # the first was to line up
    with pytest.raises(QueueFull):
        stage.put_wait("late", None, 0)
    assert stage.queued() == []
    assert woken == [[None]] * others
    assert stage.room() == 1 - others
    assert stage.balanced()


@pytest.mark.parametrize("granted", [True, False])
def test_a_waiter_that_is_interrupted_passes_on_the_slot_that_was_kept_for_it(granted: bool) -> None:
    stage = Stage()
    future = stage.call("first")
    woken: list[None] = []

    def interrupted() -> None:
        nonlocal woken
        _, woken = stage.waits()
        if granted:
            future.cancel()
        raise KeyboardInterrupt

    stage.while_parked = interrupted
    with pytest.raises(KeyboardInterrupt):
        stage.put_wait("interrupted", None, None)
    if not granted:
        assert woken == []
        future.cancel()  # goes to who still waits, not to who left
    assert woken == [None]
    assert stage.queued() == []
    assert stage.room() == 0
    assert stage.balanced()


def test_a_close_between_the_grant_and_the_waiters_return_keeps_its_item_out() -> None:
    stage = Stage()
    future = stage.call("first")

    def granted_and_closed() -> None:
        future.cancel()
        stage.queue.close(drain=True)

    stage.while_parked = granted_and_closed
    with pytest.raises(PoolStopped):
        stage.put_wait("late", None, None)
    assert stage.queue.ledger.accepted == 1
    assert stage.balanced()


class LyingWaiters(OrderedDict[Waiter, None]):
    """Those who wait, and what happens once, when somebody looks at them or leaves."""

    def __init__(self, at: str, event: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._event = at, event

    def _happens(self, at: str) -> None:
        if at == self._at:
            self._at = ""
            self._event()

    def pop(self, *args: Any) -> Any:
        found = super().pop(*args)
        self._happens("pop")
        return found

    def __iter__(self) -> Iterator[Waiter]:
        for waiter in [*super().__iter__()]:
            self._happens("next")
            yield waiter


def test_a_handler_that_closes_while_a_waiter_lines_up_does_not_leave_it_asleep() -> None:
    stage = Stage()
    stage.call("first")
    stage.queue._lane.waiters = LyingWaiters("pop", lambda: stage.queue.close(drain=True))
    with pytest.raises(PoolStopped):
        stage.put_wait("late", None, None)  # parks if it has lined up, and nobody would wake it
    assert not stage.queue._lane.waiters


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_cancel_in_a_handler_amid_a_grant_neither_loses_nor_makes_a_slot(others: int) -> None:
    stage = Stage(size=2)
    first, second = stage.call("first"), stage.call("second")
    stage.queue._lane.waiters = LyingWaiters("next", second.cancel)
    waiters = [stage.waits() for _ in range(others)]
    assert first.cancel()
    assert second.cancelled()
    granted = min(others, 2)
    assert [woken for _, woken in waiters] == [[None]] * granted + [[]] * (others - granted)
    assert stage.room() == 2 - granted
    for waiter, _ in waiters[:granted]:
        assert stage.queue.enter(("granted", 0.0, None, None), waiter)
    assert len(stage.queued()) == 2
    assert stage.balanced()


def test_a_submit_in_a_handler_amid_a_grant_takes_the_slot_and_it_is_not_granted_too() -> None:
    stage = Stage(size=1)
    first = stage.call("first")
    stage.queue._lane.waiters = LyingWaiters("next", lambda: stage.queue.offer("handler's", None))
    _, woken = stage.waits()
    assert first.cancel()
    assert stage.queued() == ["handler's"]
    assert woken == []
    assert stage.room() == 0
    assert stage.balanced()


# -- workers that are woken, and something else comes first ------------------------------------


def test_when_the_woken_worker_is_retired_another_is_woken_for_the_item() -> None:
    stage = Stage(workers=3, size=5)
    bottom, middle, top = [Puppet(stage.queue) for _ in range(3)]
    assert [puppet.comes() for puppet in (bottom, middle, top)] == [None, None, None]
    stage.queue.offer("item", None)
    assert (bottom.wakes, middle.wakes, top.wakes) == (0, 0, 1)
    stage.queue.resize(2)
    assert top.comes() is None
    assert top.worker.leaving
    assert middle.wakes == 1
    assert middle.comes() == "item"
    assert list(stage.queue.workers) == [bottom.worker, middle.worker]


@pytest.mark.parametrize("comes_under_the_pause", [True, False])
def test_a_worker_that_was_woken_as_a_pause_began_takes_the_item_after_it(comes_under_the_pause: bool) -> None:
    stage = Stage(workers=2, size=5)
    one, other = Puppet(stage.queue), Puppet(stage.queue)
    assert one.comes() is other.comes() is None
    stage.queue.offer("item", None)
    assert (one.wakes, other.wakes) == (0, 1)
    stage.queue.pause()
    if comes_under_the_pause:
        assert other.comes() is None
        assert other.wakes == 0
    stage.queue.offer("second", None)
    stage.queue.resume()
    assert come_who_are_woken(one, other) == ["item", "second"]


def test_the_woken_worker_wakes_the_next_as_long_as_more_is_queued() -> None:
    stage = Stage(workers=3, size=5)
    puppets = [Puppet(stage.queue) for _ in range(3)]
    for puppet in puppets:
        assert puppet.comes() is None
    for number in range(3):
        stage.queue.offer(number, None)
    assert [puppet.wakes for puppet in puppets] == [0, 0, 1]
    assert puppets[2].comes() == 0
    assert [puppet.wakes for puppet in puppets] == [0, 1, 0]
    assert puppets[1].comes() == 1
    assert puppets[0].wakes == 1
    assert puppets[0].comes() == 2


def test_a_wake_for_an_item_that_another_took_is_spent_and_the_next_item_wakes_again() -> None:
    stage = Stage(workers=2, size=5)
    idle, busy = Puppet(stage.queue), Puppet(stage.queue)
    assert idle.comes() is None
    stage.queue.offer("item", None)
    assert idle.wakes == 1
    assert busy.comes() == "item"  # it came first
    assert idle.comes() is None
    stage.queue.offer("next", None)
    assert idle.wakes == 1


# -- cancel against take -----------------------------------------------------------------------


def test_a_worker_skips_what_was_withdrawn_just_before_it_came() -> None:
    stage = Stage(size=4)
    puppet = Puppet(stage.queue)
    futures = [stage.call(number) for number in range(4)]
    assert futures[0].cancel()
    assert futures[1].cancel()
    assert puppet.comes() == 2
    assert (stage.queue._lane.dead, stage.queue.ledger.running) == (0, 1)
    assert not futures[2].cancel()
    assert stage.room() == 3
    assert stage.balanced()


def test_a_worker_that_finds_only_what_was_withdrawn_rests() -> None:
    stage = Stage(size=2)
    puppet = Puppet(stage.queue)
    stage.queue.offer("live", None)
    future = stage.call("withdrawn")
    assert future.cancel()
    assert puppet.comes() == "live"
    assert puppet.comes(SUCCEEDED) is None
    assert (stage.queue._lane.dead, stage.queue.ledger.running, stage.queue.ledger.succeeded) == (0, 0, 1)
    assert stage.queue.idle
    assert stage.room() == 2
    assert puppet.wakes == 1
    assert stage.balanced()


def lying_line(stage: Stage, event: Callable[[], object], before: bool) -> None:
    """From now on the lane gives an entry out, and `event` happens just before or after."""
    lane = stage.queue._lane
    lane.pop = Liar(lane.pop, event, before=before)


@pytest.mark.skipif(not GIL, reason="every step takes the lock here")
def test_a_finalizer_that_withdraws_the_item_in_the_workers_very_hand_comes_too_late() -> None:
    stage = Stage(size=3)
    puppet = Puppet(stage.queue)
    puppet.worker.at = 0.0
    future = stage.call("taken")
    stage.call("next")
    answers: list[bool] = []
    lying_line(stage, lambda: answers.append(future.cancel()), before=True)
    assert puppet.comes() == "taken"
    assert (answers, future.cancelled()) == ([False], False)
    assert stage.room() == 2
    assert stage.balanced()


def test_a_finalizer_that_withdraws_the_item_that_a_worker_takes_under_the_lock_wins() -> None:
    stage = Stage(size=3)
    puppet = Puppet(stage.queue)
    puppet.worker.pending = TELLING  # one whose loop was interrupted begins anew with that
    stage.queue._telling += 1
    future = stage.call("withdrawn")
    stage.call("next")
    lying_line(stage, future.cancel, before=False)
    assert puppet.comes() == "next"
    assert future.cancelled()
    assert stage.queue._lane.dead == 0
    assert stage.room() == 3
    assert stage.balanced()


class LyingDeque(deque[Any]):
    """Entries that say how many they are, or have been gone through, and then something happens."""

    after_length: Callable[[], object] | None = None
    after_all: Callable[[], object] | None = None

    def __len__(self) -> int:
        length = super().__len__()
        event, self.after_length = self.after_length, None
        if event is not None:
            event()
        return length

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        event, self.after_all = self.after_all, None
        if event is not None:
            event()


def lying_entries(stage: Stage) -> LyingDeque:
    """The queue's, from now on."""
    lane, entries = stage.queue._lane, LyingDeque(stage.queue._lane.waiting)
    lane.waiting, lane.push, lane.pop, lane.unpop = entries, entries.append, entries.popleft, entries.extendleft
    return entries


@pytest.mark.parametrize(
    ("handler", "left"),
    [
        ("submits", [3, 4, "new"]),
        ("cancels", [4]),
        ("submits and cancels", [4, "new"]),
        ("closes without a drain", []),
    ],
)
def test_a_handler_amid_a_sweep_of_the_line_loses_nothing(handler: str, left: list[object]) -> None:
    stage = Stage(size=6)
    futures = [stage.call(number) for number in range(5)]
    for future in futures[:2]:
        future.cancel()

    def handle() -> None:
        if "submits" in handler:
            assert stage.queue.offer("new", None)
        if "cancels" in handler:
            assert futures[3].cancel()
        if "closes" in handler:
            stage.queue.close(drain=False)

    lying_entries(stage).after_all = handle
    assert futures[2].cancel()
    assert stage.queued() == left
    assert stage.queue._lane.dead == len(stage.queue._lane.waiting) - len(left)
    assert stage.balanced()
    handed_back = [
        item for item, _, future, _ in stage.queue.handed_back or () if future and future.place.value == "queued"
    ]
    assert handed_back == ([3, 4] if "closes" in handler else [])
    if "closes" not in handler:
        puppet = Puppet(stage.queue)
        assert [puppet.comes()] + [puppet.comes(SUCCEEDED) for _ in left] == [*left, None]
        assert stage.balanced()
        assert stage.room() == 6


def test_a_cancel_in_a_handler_while_the_line_is_handed_back_is_counted_once() -> None:
    stage = Stage(size=3)
    entries = lying_entries(stage)
    futures = [stage.call(number) for number in range(3)]
    entries.after_length = lambda: [future.cancel() for future in futures[:2]]
    stage.queue.close(drain=False)
    assert all(future.cancelled() for future in futures)
    assert stage.queue.ledger.cancelled == 3
    assert stage.balanced()
    assert stopping.stop(stage.queue, 0, drain=True).unprocessed == (2,)


# -- a lock that somebody else has -------------------------------------------------------------


class Taken:
    """A lock that refuses `times` tries, and counts those who block on it."""

    def __init__(self, queue: ControlledQueue[Any], times: int) -> None:
        self.tries = self.blocked = 0
        self._times, self._try = times, queue.try_acquire
        self._acquire = queue.acquire
        queue.try_acquire = self.try_acquire
        queue.acquire = self.acquire

    def try_acquire(self) -> bool:
        self.tries += 1
        return self.tries > self._times and self._try()

    def acquire(self) -> object:
        self.blocked += self.tries > 0
        return self._acquire()


@pytest.mark.parametrize(("again", "pauses"), [(0, 10), (10, 0), (4, 6)], ids=["gil", "no gil", "both"])
@pytest.mark.parametrize(("times", "tries", "blocked"), [(0, 1, 0), (5, 6, 0), (10**9, 11, 1)])
def test_who_finds_the_lock_taken_lets_others_run_before_it_blocks(
    times: int, tries: int, blocked: int, again: int, pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workpool._state.TRIES", again)
    monkeypatch.setattr("workpool._state.PAUSES", (0.0,) * pauses)
    stage = Stage(workers=2)
    idle, puppet = Puppet(stage.queue), Puppet(stage.queue)
    assert idle.comes() is None
    taken = Taken(stage.queue, times)
    assert stage.queue.offer("item", None)  # which wakes somebody
    assert (taken.tries, taken.blocked) == (tries, blocked)
    assert puppet.comes() == "item"
    taken.tries = taken.blocked = 0
    assert puppet.comes(SUCCEEDED) is None
    assert (taken.tries, taken.blocked) == (tries, blocked)
    assert in_thread(stage.queue.stats).result().succeeded == 1  # the lock is free


def test_a_submit_blocks_on_the_lock_for_as_long_as_another_thread_holds_it() -> None:
    stage = Stage()
    queue = stage.queue
    puppet = Puppet(queue)
    assert puppet.comes() is None
    held, blocks = threading.Event(), threading.Event()
    real = queue.acquire

    def hold() -> None:
        real()
        held.set()
        assert blocks.wait(20)
        queue.release()

    holding = in_thread(hold)
    assert held.wait(20)
    queue.acquire = Liar(real, blocks.set, before=True)
    assert queue.offer("item", None)  # which wakes the worker
    holding.result()
    assert stage.queued() == ["item"]
    assert puppet.wakes == 1


# -- stops -------------------------------------------------------------------------------------


def test_the_late_end_of_an_abandoned_item_changes_nothing() -> None:
    stage = Stage()
    puppet = Puppet(stage.queue)
    stage.queue.offer("stuck", None)
    assert puppet.comes() == "stuck"
    stage.queue.close(drain=True)
    stage.queue.abandon()
    before = stage.queue.stats()
    assert (before.abandoned, before.running, before.state) == (1, 0, "stopped")
    assert puppet.comes(SUCCEEDED) is None
    assert puppet.worker.leaving
    assert stage.queue.stats() == before
    assert stage.balanced()


def test_the_late_end_of_an_abandoned_item_with_a_future_changes_nothing() -> None:
    stage = Stage()
    puppet = Puppet(stage.queue)
    future = stage.call("stuck")
    assert puppet.comes() == "stuck"
    stage.now = 5.0
    with pytest.raises(StopTimeout) as caught:
        stage.while_parked = lambda: setattr(stage, "now", 10.0)
        stopping.stop(stage.queue, 0, drain=True)
    assert isinstance(future.exception(0), ItemAbandoned)
    puppet.worker.fate = SUCCEEDED
    assert not stage.queue.settle(puppet.worker)
    assert puppet.comes() is None
    assert stage.queue.stats() == caught.value.report.stats
    assert isinstance(future.exception(0), ItemAbandoned)


def test_a_worker_that_is_given_up_while_it_tells_a_future_is_not_counted_as_abandoned() -> None:
    stage = Stage()
    puppet = Puppet(stage.queue)
    stage.call("told")
    assert puppet.comes() == "told"
    puppet.worker.fate = SUCCEEDED
    assert stage.queue.settle(puppet.worker)
    while_telling = stage.queue.idle
    stage.queue.close(drain=True)
    stage.queue.abandon()
    assert (while_telling, stage.queue.idle) == (False, True)
    assert puppet.comes() is None
    assert (stage.queue.ledger.succeeded, stage.queue.ledger.abandoned, stage.queue._telling) == (1, 0, 0)
    assert stage.balanced()


def test_stops_that_conclude_at_the_same_moment_share_one_report_and_tell_each_future_once() -> None:
    for at in range(1, 100):
        stage = Stage(size=3)
        puppet = Puppet(stage.queue)
        futures = [stage.call("stuck"), stage.call("queued")]
        told: list[Future[Any]] = []
        for future in futures:
            future.add_done_callback(told.append)
        assert puppet.comes() == "stuck"
        reports: list[object] = []

        def stop(stage: Stage = stage, reports: list[object] = reports) -> None:
            stage.while_parked = lambda: setattr(stage, "now", stage.now + 10)
            try:
                reports.append(stopping.stop(stage.queue, 0, drain=True))
            except StopTimeout as error:
                reports.append(error.report)

        def comes_between(stage: Stage = stage, stop: Callable[[], None] = stop) -> None:
            if not stage.queue._owned():
                in_thread(stop).result()

        release = stage.queue.release = Liar(stage.queue.release, comes_between, at=at)
        stop()
        if release.calls < at:
            assert at > 5
            return
        assert reports[0] is reports[-1] is stage.queue.report
        assert sorted(map(id, told)) == sorted(map(id, futures))
        assert stage.balanced()


class Stubborn(BaseException):
    """What a callback raises that nothing in the standard library catches."""


def raises(_: object) -> None:
    raise Stubborn


def stuck_pool(count: int) -> tuple[Pool[object, object], Leash[Any], list[ItemFuture[object]]]:
    leash: Leash[Any] = Leash()
    pool = Pool(leash.process, workers=count, clock=hurried(50))
    pool.start()
    futures = [pool.call(number) for number in range(count)]
    leash.wait_begun(count)
    return pool, leash, futures


@pytest.mark.parametrize("bad", [SystemExit, KeyboardInterrupt, Stubborn])
def test_a_callback_that_raises_while_a_stop_tells_futures_keeps_none_from_being_told(
    bad: type[BaseException],
) -> None:
    def callback(_: object) -> None:
        raise bad

    pool, leash, futures = stuck_pool(3)
    for future in futures:
        future.add_done_callback(callback)
    with pytest.raises(bad):
        pool.stop(0)
    assert all(isinstance(future.exception(0), ItemAbandoned) for future in futures)
    assert len(pool.stop().abandoned) == 3
    leash.let_go()


def test_a_callback_that_raises_while_queued_items_are_handed_back_keeps_none_from_being_told() -> None:
    pool: Pool[int, int] = Pool(abs, workers=1)
    pool.start()
    pool.pause()
    futures = [pool.call(number) for number in range(3)]
    for future in futures:
        future.add_done_callback(raises)
    try:
        with pytest.raises(Stubborn):
            pool.close(drain=False)
        assert all(future.cancelled() for future in futures)
    finally:
        for _ in futures:
            try:
                pool.stop()
            except Stubborn:
                pass


@pytest.mark.parametrize("waiting", [0, 1])
def test_a_stop_after_one_that_was_broken_off_while_it_told_futures_tells_the_rest(waiting: int) -> None:
    pool, leash, futures = stuck_pool(2)
    queued = [pool.call(number) for number in range(2)]
    (queued if waiting else futures)[0].add_done_callback(raises)
    with pytest.raises(Stubborn):
        pool.stop(0, drain=False)
    try:
        report = pool.stop(0)
    except StopTimeout as error:
        report = error.report
    assert (len(report.unprocessed), len(report.abandoned)) == (2, 2)
    assert all(isinstance(future.exception(0), ItemAbandoned) for future in futures)
    for future in queued:
        with pytest.raises(CancelledError):
            future.result(0)
    leash.let_go()


def test_a_second_stop_that_was_broken_off_between_any_two_steps_is_finished_by_a_third() -> None:
    for at in range(1, 100):
        stage = Stage(size=3)
        puppet = Puppet(stage.queue)
        futures = [stage.call("stuck"), stage.call("queued")]
        assert puppet.comes() == "stuck"

        def interrupted() -> None:
            raise KeyboardInterrupt

        def stop(stage: Stage = stage) -> object:
            stage.while_parked = lambda: setattr(stage, "now", stage.now + 10)
            try:
                return stopping.stop(stage.queue, 0, drain=True)
            except StopTimeout as error:
                return error.report

        release = stage.queue.release = Liar(stage.queue.release, interrupted, at=at)
        try:
            stop()
        except KeyboardInterrupt:
            pass
        if release.calls < at:
            assert at > 5
            return
        report = stop()
        assert report is stage.queue.report
        assert (futures[1].cancelled(), type(futures[0].exception(0))) == (True, ItemAbandoned)
        assert stage.balanced()


def test_a_stop_in_a_handler_that_interrupted_the_pools_own_section_is_refused_with_advice() -> None:
    refused: list[str] = []

    def handle() -> None:
        for wait in (pool.stop, pool.join, lambda: pool.submit_wait(3)):
            with pytest.raises(RuntimeError, match="in a signal handler or finalizer that interrupted it") as caught:
                wait()
            refused.append(str(caught.value))

    pool: Pool[int, int] = Pool(abs, workers=1, queue_size=1, name="own")
    with pool:
        pool.pause()
        pool.submit(1)
        pool._queue.release = Liar(pool._queue.release, handle, before=True)
        with pytest.raises(QueueFull):
            pool.submit(2)
        pool.resume()
    assert len(refused) == 3
    assert all("use close()" in text for text in refused)
    assert pool.stats().balance() == 0


# -- starts ------------------------------------------------------------------------------------


def test_an_item_that_comes_between_start_and_close_before_there_is_a_worker_is_handed_back() -> None:
    pool: Pool[int, int] = Pool(abs, workers=2)
    futures: list[ItemFuture[int]] = []

    def submit_and_close() -> None:
        futures.append(pool.call(1))
        pool.close()

    pool._queue.release = Liar(pool._queue.release, lambda: in_thread(submit_and_close).result())
    pool.start()
    assert futures[0].cancelled()
    with pytest.raises(StopTimeout) as caught:
        pool.stop()
    assert caught.value.report.unprocessed == (1,)
    assert caught.value.report.cut_short
    assert (pool.stats().state, pool.stats().balance()) == ("stopped", 0)


def test_a_worker_that_is_enlisted_as_the_pool_closes_is_not_brought() -> None:
    pool: Pool[int, int] = Pool(abs, workers=2)
    pool._queue.try_acquire = Liar(pool._queue.try_acquire, lambda: in_thread(pool.close).result(), at=2, before=True)
    pool.start()
    assert not pool._queue.workers
    assert pool.stop().clean


@pytest.mark.parametrize("when", ["before the thread starts", "before it arrives", "when it has arrived"])
def test_an_interrupted_start_of_a_thread_leaves_no_phantom(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start
    holds = when == "before it arrives"
    arrived = threading.Event()

    def start(thread: threading.Thread) -> None:
        monkeypatch.undo()
        if holds:
            pool._queue.acquire()
        if when != "before the thread starts":
            real(thread)
        if when == "when it has arrived":
            assert arrived.wait(20)
        raise KeyboardInterrupt

    def parks(parker: Parker, timeout: float | None) -> bool:
        arrived.set()
        return park(parker, timeout)

    pool: Pool[int, int] = Pool(abs, workers=1, clock=Clock(SYSTEM.now, parks))
    with pool:
        assert pool.call(-1).result(20) == 1
        pool.pause()  # joins the first worker with the held, at its next look
        arrived.clear()
        monkeypatch.setattr(threading.Thread, "start", start)
        with pytest.raises(KeyboardInterrupt):
            pool.resize(2)
        if holds:
            pool._queue.release()
        pool.resume()
        assert len(pool._queue.workers) == (2 if when == "when it has arrived" else 1)
        pool.resize(2)
        assert len(pool._queue.workers) == 2
        assert sum(1 for worker in pool._queue.workers if worker.ident is None) <= 1
        assert [future.result(20) for future in [pool.call(-n) for n in range(20)]] == list(range(20))
    assert pool.stop().clean


@pytest.mark.parametrize("really", [True, False])
def test_an_interrupted_start_of_a_pool_leaves_it_stopped(really: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        monkeypatch.undo()
        if really:
            real(thread)
        raise KeyboardInterrupt

    pool: Pool[int, int] = Pool(abs, workers=3)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        pool.start()
    with pytest.raises(PoolStopped):
        pool.submit(1)
    assert pool.stop(20).clean
    assert pool.stats().state == "stopped"


# -- waiting -----------------------------------------------------------------------------------


def test_a_join_is_not_asleep_when_the_pool_falls_idle_between_its_look_and_its_park() -> None:
    manual = ManualClock()
    pool: Pool[int, int] = Pool(abs, workers=1, clock=manual.clock)
    with pool:
        pool.pause()
        future = pool.call(1)
        pool._queue.release = Liar(pool._queue.release, lambda: in_thread(future.cancel).result())
        assert pool.join(5)
        assert future.cancelled()


def test_a_cancel_that_was_interrupted_before_it_told_the_future_is_finished() -> None:
    stage = Stage()
    future = stage.call("item")
    _, woken = stage.waits()

    def interrupted() -> None:
        raise KeyboardInterrupt

    stage.queue.release = Liar(stage.queue.release, interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.cancel()
    assert future.cancelled()
    assert woken == [None]
    assert stage.queue.ledger.cancelled == 1
    assert stage.balanced()
