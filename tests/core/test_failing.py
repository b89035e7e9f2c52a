"""Items that fail: tried again, in which order, how fast, and what is left of them when the pool stops."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.core.kit import until
from workpool import (
    ByKey,
    Discard,
    Exponential,
    Fatal,
    Fifo,
    Hooks,
    Invalid,
    ItemAbandoned,
    ItemTimeout,
    NotPicklable,
    Pool,
    PoolDeadlock,
    PoolStopped,
    Rate,
    Retry,
    Shed,
    Snooze,
    StopTimeout,
    Transient,
    WorkerDied,
    current,
)
from workpool._core.keys import SWEEP, Keys, Line
from workpool._core.outcome import ALWAYS, WINDOW, Budget
from workpool._core.rate import Limiter
from workpool.testing import ManualClock

Item = tuple[str, int]


@pytest.fixture(autouse=True)
def no_noise(quiet: None) -> None:
    """The failures are wanted."""


def key(item: Item) -> str:
    return item[0]


class Failing:
    """A process function whose items fail as often as they are told to; the first of key "a" can be held."""

    def __init__(self, **times: int) -> None:
        self.times = times
        self.ran: list[Item] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, item: Item) -> Item:
        self.ran.append(item)
        if item == ("a", 1):
            self.gate.wait(20)
        name = f"{item[0]}{item[1]}"
        if self.times.get(name, 0):
            self.times[name] -= 1
            raise OSError(name)
        return item


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def failing() -> Iterator[Failing]:
    failing = Failing()
    yield failing
    failing.gate.set()


def after(seconds: float) -> Retry:
    return Retry(backoff=seconds, jitter="none", budget=None)


# -- what is taken back ------------------------------------------------------------------------


def test_a_future_that_waits_for_its_next_attempt_is_taken_back_and_frees_its_key(clock: ManualClock) -> None:
    process = Failing(a1=1)
    with Pool(process, workers=1, retry=after(100), key=key, clock=clock.clock) as pool:
        first = pool.call(("a", 1))
        until(lambda: pool.stats().waiting == 1)
        second = pool.call(("a", 2))
        until(lambda: pool._queue._beside == 1)
        assert first.cancel()
        assert second.result(20) == ("a", 2)
    assert (pool.stats().cancelled, pool.stats().waiting, pool.stats().balance()) == (1, 0, 0)
    assert process.ran == [("a", 1), ("a", 2)]


def test_a_future_whose_next_attempt_is_queued_is_taken_back_and_frees_its_key(clock: ManualClock) -> None:
    process = Failing(a1=1)
    with Pool(process, workers=1, retry=after(1), key=key, clock=clock.clock) as pool:
        first = pool.call(("a", 1))
        until(lambda: pool.stats().waiting == 1)
        second = pool.call(("a", 2))
        until(lambda: pool._queue._beside == 1)
        pool.pause()
        clock.wait_for_sleepers()
        clock.advance(1)
        until(lambda: pool.stats().waiting == 0)
        assert first.cancel()
        pool.resume()
        assert second.result(20) == ("a", 2)
    assert process.ran == [("a", 1), ("a", 2)]


# -- inline ------------------------------------------------------------------------------------


def test_inline_whoever_waits_runs_the_next_attempts() -> None:
    process = Failing(a1=2)
    with Pool(process, executor="inline", retry=after(0.001)) as pool:
        future = pool.call(("a", 1))
        assert not future.done()
        assert pool.join(20)
        assert future.result(0) == ("a", 1)
    assert process.ran == [("a", 1)] * 3


def test_inline_a_drain_runs_the_next_attempts() -> None:
    process = Failing(a1=2)
    pool: Pool[Item, Item] = Pool(process, executor="inline", retry=after(0.001))
    pool.start()
    pool.submit(("a", 1))
    assert pool.stop(20).clean
    assert process.ran == [("a", 1)] * 3


def test_inline_a_look_runs_what_is_due(clock: ManualClock) -> None:
    process = Failing(a1=1)
    with Pool(process, executor="inline", retry=after(5), clock=clock.clock) as pool:
        pool.submit(("a", 1))
        assert not pool.join(0)
        clock.advance(5)
        assert pool.join(0)
    assert process.ran == [("a", 1)] * 2


# -- what a stop hands back --------------------------------------------------------------------


def test_what_was_cancelled_beside_its_lane_is_not_handed_back_and_counts_once(clock: ManualClock) -> None:
    process = Failing(a1=1)
    pool: Pool[Item, Item] = Pool(process, workers=2, retry=after(100), key=key, clock=clock.clock)
    pool.start()
    futures = [pool.call(("a", number)) for number in range(1, 5)]
    until(lambda: pool._queue._beside == 3 and pool.stats().waiting == 1)
    assert futures[2].cancel()
    pool.close(drain=False)
    assert (pool.stats().queue_depth, pool.stats().cancelled, pool.stats().balance()) == (0, 4, 0)
    futures[3].cancel()
    assert (pool.stats().queue_depth, pool.stats().cancelled, pool.stats().balance()) == (0, 4, 0)
    report = pool.stop(0)
    assert sorted(report.unprocessed) == [("a", 1), ("a", 2), ("a", 4)]
    assert report.clean


def test_a_stop_that_only_finds_cancelled_items_was_not_cut_short(clock: ManualClock, failing: Failing) -> None:
    failing.gate.clear()
    pool: Pool[Item, Item] = Pool(failing, workers=2, key=key, clock=clock.clock)
    pool.start()
    futures = [pool.call(("a", number)) for number in range(1, 4)]
    until(lambda: pool._queue._beside == 2)
    assert futures[1].cancel()
    assert futures[2].cancel()
    pool.close(drain=True)
    pool._queue.cut()
    failing.gate.set()
    report = pool.stop(0)
    assert (report.clean, report.unprocessed) == (True, ())


# -- not faster than ---------------------------------------------------------------------------


def test_what_is_shed_takes_nothing_of_the_rate(clock: ManualClock) -> None:
    ran: list[int] = []
    rule = Fifo(1000, max_wait=1.0)
    with Pool(ran.append, executor="inline", rate=Rate(8), queue=rule, clock=clock.clock) as pool:
        for number in range(480):  # twice as many as may start, for half a minute
            clock.advance(0.0625)
            pool.submit(number)
        assert len(ran) == 240
        pool.close(drain=False)
    assert pool.stats().shed["max_wait"] == 480 - len(ran) - pool.stats().cancelled


def test_what_adding_up_fractions_leaves_holds_nothing_back(clock: ManualClock) -> None:
    ran: list[int] = []
    with Pool(ran.append, executor="inline", rate=Rate(10), clock=clock.clock) as pool:
        for number in range(600):
            clock.advance(0.05)
            pool.submit(number)
        assert 299 <= len(ran) <= 301
        pool.close(drain=False)


def test_cancelled_items_do_not_wait_for_the_rate(clock: ManualClock) -> None:
    with Pool(key, workers=2, rate=Rate(1, per=3600), clock=clock.clock) as pool:
        assert pool.call(("a", 1)).result(20) == "a"
        futures = [pool.call(("a", number)) for number in range(5)]
        assert all(future.cancel() for future in futures)
        assert pool.join(20)
    assert pool.stats().cancelled == 5


# -- the rest of a key -------------------------------------------------------------------------


def test_a_key_is_released_when_the_thread_that_was_given_up_over_it_has_ended(clock: ManualClock) -> None:
    process = Failing()
    process.gate.clear()
    order = ByKey(key, on_dead="hold")
    with Pool(process, workers=2, key=order, item_timeout=5, clock=clock.clock) as pool:
        first, second = pool.call(("a", 1)), pool.call(("a", 2))
        until(lambda: process.ran == [("a", 1)])
        for _ in range(2):  # it is told to end, and then given up
            clock.wait_for_sleepers()
            clock.advance(5)
        assert isinstance(first.exception(20), ItemTimeout)
        assert pool.release("a")
        assert pool.call(("b", 1)).result(20) == ("b", 1)
        assert process.ran == [("a", 1), ("b", 1)]
        process.gate.set()
        assert second.result(20) == ("a", 2)


@pytest.mark.parametrize("on_dead", ["go_on", "hold", "drop"])
def test_what_happens_to_the_rest_of_a_key(on_dead: Any, failing: Failing) -> None:
    shed: list[tuple[Item, str]] = []
    failing.times = {"a1": 1}
    failing.gate.clear()
    hooks: Hooks[Item] = Hooks(shed=lambda item, why: shed.append((item, why)))
    with Pool(failing, workers=2, key=ByKey(key, on_dead=on_dead), hooks=hooks) as pool:
        first, second, third = [pool.call(("a", number)) for number in (1, 2, 3)]
        failing.gate.set()
        assert isinstance(first.exception(20), OSError)
        if on_dead == "drop":
            error = second.exception(20)
            assert isinstance(error, Shed)
            assert error.reason == "key"
            assert isinstance(third.exception(20), Shed)
            assert pool.call(("a", 4)).result(20) == ("a", 4)
        elif on_dead == "hold":
            assert pool.call(("b", 1)).result(20) == ("b", 1)
            assert (second.done(), pool.stats().keys_held, pool.stats().queue_depth) == (False, 1, 2)
            assert not pool.release("b")
            assert pool.release("a")
            assert not pool.release("a")
        if on_dead != "drop":
            assert (second.result(20), third.result(20)) == (("a", 2), ("a", 3))
    assert shed == ([(("a", 2), "key"), (("a", 3), "key")] if on_dead == "drop" else [])
    assert (pool.stats().keys_held, pool.stats().balance()) == (0, 0)


def test_what_is_held_when_the_pool_stops_is_handed_back(failing: Failing) -> None:
    failing.times = {"a1": 1}
    pool = Pool(failing, workers=2, key=ByKey(key, on_dead="hold"))
    pool.start()
    first, second = pool.call(("a", 1)), pool.call(("a", 2))
    assert isinstance(first.exception(20), OSError)
    with pytest.raises(StopTimeout) as cut:
        pool.stop(20)
    assert cut.value.report.unprocessed == (("a", 2),)
    assert second.cancelled()


def test_two_hundred_thousand_keys_leave_nothing_behind() -> None:
    def number(item: int) -> int:
        return item

    with Pool(number, workers=2, key=ByKey(number, on_dead="drop")) as pool:
        for item in range(200_000):
            pool.submit_wait(item)
        assert pool.join(60)
        queue = pool._queue
        assert queue.keys is not None
        assert len(queue.keys._cells) <= 2 * SWEEP
        assert not queue._lines
        assert sum(isinstance(thing, Line) for thing in gc.get_objects()) <= 2 * SWEEP


# -- tried again -------------------------------------------------------------------------------


class Dependency:
    """Fails for the first ten seconds."""

    def __init__(self, clock: ManualClock) -> None:
        self.now = clock.clock.now
        self.well_at = self.now() + 10
        self.calls = 0

    def __call__(self, item: int) -> int:
        if self.now() < self.well_at:
            self.calls += 1
            raise OSError("it is down")
        return item


def test_where_everything_fails_retries_are_a_tenth_of_the_load_and_afterwards_all_is_well(clock: ManualClock) -> None:
    dependency = Dependency(clock)
    retry = Retry(backoff=Exponential(0.1, 5), jitter="none", budget=0.1)
    with Pool(dependency, executor="inline", workers=1, retry=retry, clock=clock.clock) as pool:
        for number in range(10_000):
            if number % 10 == 0:
                clock.advance(0.01)
            pool.submit(number)
        assert 10_500 <= dependency.calls <= 11_000
        clock.advance(5)
        pool.join(0)
        assert all(pool.call(number).result(0) == number for number in range(1000))
        stats = pool.stats()
    assert (stats.waiting, stats.succeeded + stats.failed) == (0, 11_000)
    assert stats.succeeded > 1000
    assert stats.dead["budget"] == stats.failed


@pytest.mark.parametrize("drain", [True, False])
@pytest.mark.parametrize("executor", ["thread", "asyncio", "inline"])
def test_a_stop_amid_failures_loses_nothing(clock: ManualClock, executor: Any, drain: bool) -> None:
    dead: list[int] = []
    done: list[int] = []

    def process(item: int) -> None:
        if item % 3 or current().attempt == 1:
            raise OSError("it is down")
        done.append(item)

    async def aprocess(item: int) -> None:
        process(item)

    def note(item: int, error: BaseException, attempts: int) -> None:
        assert attempts == 3
        dead.append(item)

    retry = Retry(attempts=3, backoff=1.0, jitter="none", budget=None)
    function: Callable[[int], Any] = aprocess if executor == "asyncio" else process
    pool: Pool[int, Any] = Pool(
        function, workers=3, executor=executor, retry=retry, hooks=Hooks(dead=note), clock=clock.clock
    )
    pool.start()
    for number in range(300):
        pool.submit(number)
    if executor != "inline":
        until(lambda: pool.stats().waiting == 300)
        clock.wait_for_sleepers()
        clock.advance(1)
        until(lambda: pool.stats().waiting == 200)
    try:
        report = pool.stop(0, drain)
    except StopTimeout as cut:
        report = cut.report
    assert sorted([*dead, *done, *report.unprocessed]) == [*range(300)]
    assert (report.abandoned, pool.stats().waiting, pool.stats().balance()) == ((), 0, 0)


def test_what_would_be_one_too_many_to_wait_is_dead(clock: ManualClock) -> None:
    dead: list[int] = []
    retry = Retry(backoff=100, jitter="none", max_waiting=2)
    hooks: Hooks[int] = Hooks(dead=lambda item, *_: dead.append(item))
    with Pool(raise_again, executor="inline", retry=retry, hooks=hooks, clock=clock.clock) as pool:
        futures = [pool.call(number) for number in range(3)]
        assert isinstance(futures[2].exception(0), Transient)
        assert (dead, pool.stats().waiting, pool.stats().dead["max_waiting"]) == ([2], 2, 1)
        assert futures[0].cancel()
        assert not pool.call(3).done()
        pool.close(drain=False)
    assert pool.stats().cancelled == 3


def raise_again(_: int) -> None:
    raise Transient("again")


@pytest.mark.parametrize("has_future", [True, False])
def test_what_has_failed_for_good_is_given_to_the_hook(has_future: bool) -> None:
    letters: list[tuple[Item, str, int]] = []
    hooks: Hooks[Item] = Hooks(dead=lambda item, error, attempts: letters.append((item, str(error), attempts)))
    retry = Retry(attempts=2, backoff=0, on=OSError)
    with Pool(Failing(a1=5), workers=1, retry=retry, hooks=hooks) as pool:
        if has_future:
            assert str(pool.call(("a", 1)).exception(20)) == "a1"
        else:
            pool.submit(("a", 1))
            assert pool.join(20)
        assert letters == [(("a", 1), "a1", 2)]
    assert (pool.stats().dead["attempts"], pool.stats().retries, pool.stats().failed) == (1, 1, 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Invalid("no"), "invalid"), (KeyError("no"), "not_retried"), (SystemExit(3), "not_retried")],
)
def test_what_is_not_tried_again(error: BaseException, reason: str) -> None:
    def process(_: int) -> None:
        raise error

    with Pool(process, workers=1, retry=Retry(on=OSError)) as pool:
        assert pool.call(1).exception(20) is error
    assert pool.stats().dead[reason] == 1


def test_what_asks_for_more_time_uses_no_attempt_and_what_is_discarded_has_not_failed() -> None:
    seen: list[int] = []

    def process(_: int) -> None:
        seen.append(current().attempt)
        if len(seen) < 4:
            raise Snooze(0)
        raise Discard("no use")

    with Pool(process, workers=1) as pool:
        assert isinstance(pool.call(1).exception(20), Discard)
    stats = pool.stats()
    assert seen == [1, 1, 1, 1]
    assert (stats.snoozes, stats.retries, stats.discarded, stats.failed, stats.processed) == (3, 0, 1, 0, 1)


@pytest.mark.parametrize("executor", ["thread", "asyncio", "inline"])
def test_an_item_knows_which_attempt_it_is(executor: Any) -> None:
    def process(_: int) -> int:
        if current().attempt < 3:
            raise Transient("again")
        return current().attempt

    async def aprocess(item: int) -> int:
        await asyncio.sleep(0)
        return process(item)

    function: Callable[[int], Any] = aprocess if executor == "asyncio" else process
    with Pool(function, workers=2, executor=executor, retry=Retry(backoff=0)) as pool:
        futures = [pool.call(number) for number in range(5)]
        assert pool.join(20)
        assert [future.result(20) for future in futures] == [3] * 5


def test_what_nothing_will_mend_stops_the_pool_and_says_why() -> None:
    def process(item: int) -> None:
        raise Fatal(f"no disk for {item}")

    pool: Pool[int, None] = Pool(process, workers=1)
    pool.start()
    assert isinstance(pool.call(1).exception(20), Fatal)
    until(lambda: pool._queue.closed_at is not None)
    with pytest.raises(PoolStopped, match="stopped by itself: an item failed with Fatal: no disk for 1"):
        pool.submit(2)
    pool.stop(20)
    assert pool.stats().dead["fatal"] == 1


def test_what_takes_too_long_on_an_event_loop_is_tried_again(clock: ManualClock) -> None:
    begun = threading.Semaphore(0)

    async def process(_: int) -> int:
        begun.release()
        if current().attempt == 1:
            await asyncio.Event().wait()
        return current().attempt

    with Pool(process, workers=1, item_timeout=5, retry=Retry(on=ItemTimeout, backoff=0), clock=clock.clock) as pool:
        future = pool.call(1)
        assert begun.acquire(timeout=20)
        clock.wait_for_sleepers()
        clock.advance(5)
        assert future.result(20) == 2


def test_a_classifier_says_what_an_error_is_taken_for() -> None:
    def classify(error: Exception) -> Exception | type[Exception] | None:
        meanings: dict[str, Exception | type[Exception]] = {"later": Snooze(0), "never": Invalid, "fine": Discard}
        return meanings.get(str(error))

    ran: list[str] = []

    def process(item: str) -> str:
        ran.append(item)
        if ran.count(item) == 1:
            raise OSError(item)
        return item

    with Pool(process, workers=1, classify=classify) as pool:
        assert pool.call("later").result(20) == "later"
        assert str(pool.call("never").exception(20)) == "never"
        assert str(pool.call("fine").exception(20)) == "fine"
    assert (pool.stats().snoozes, pool.stats().dead["invalid"], pool.stats().discarded) == (1, 1, 1)


# -- waiting for one's own pool ----------------------------------------------------------------


def test_the_last_thread_that_would_wait_for_its_own_pool_is_told_so() -> None:
    def process(depth: int) -> int:
        return depth and depth + pool.call(depth - 1).result()

    with Pool(process, workers=3) as pool:
        assert pool.call(2).result(20) == 3
        with pytest.raises(PoolDeadlock, match="all 3 workers of pool 'process' would wait"):
            pool.call(3).result(20)


def test_the_last_task_that_would_wait_for_its_own_pool_is_told_so() -> None:
    async def process(depth: int) -> int:
        return depth and depth + await pool.acall(depth - 1)

    with Pool(process, workers=3) as pool:
        assert pool.call(2).result(20) == 3
        with pytest.raises(PoolDeadlock, match="all 3 workers of pool 'process' would wait"):
            pool.call(3).result(20)


def test_the_last_who_would_wait_for_room_in_its_own_pool_is_told_so() -> None:
    def process(item: int) -> None:
        if item:
            pool.submit_wait(0)
            pool.submit_wait(0)

    with Pool(process, workers=1, queue_size=1) as pool:
        with pytest.raises(PoolDeadlock):
            pool.call(1).result(20)


def test_who_waits_for_a_later_item_of_its_own_key_is_told_so() -> None:
    def process(item: Item) -> Item:
        return pool.call((item[0], 0)).result() if item[1] else item

    with Pool(process, workers=5, key=key) as pool:
        with pytest.raises(PoolDeadlock, match=r"would wait for each other: .* on \('a', 1\)"):
            pool.call(("a", 1)).result(20)


# -- wrong arguments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "arguments", "kind", "sentence"),
    [
        (Retry, {"attempts": 0}, ValueError, "attempts must be at least 1"),
        (Retry, {"attempts": 1.5}, TypeError, "attempts must be a whole number"),
        (Retry, {"on": "OSError"}, TypeError, "on must be exception types"),
        (Retry, {"on": [OSError]}, TypeError, "on must be exception types"),
        (Retry, {"backoff": -1}, ValueError, "backoff must be 0 seconds or more"),
        (Retry, {"backoff": None}, TypeError, "backoff must be seconds, or a function"),
        (Retry, {"jitter": "half"}, ValueError, 'jitter must be "full" or "none"'),
        (Retry, {"budget": -0.1}, ValueError, "budget must be 0 or more"),
        (Retry, {"budget": "10%"}, TypeError, "budget must be a number of retries"),
        (Retry, {"max_waiting": 0}, ValueError, "max_waiting must be at least 1"),
        (Exponential, {"first": -1}, ValueError, "first must be 0 seconds or more"),
        (Exponential, {"most": None}, TypeError, "most must be a number of seconds"),
        (Exponential, {"factor": 0.5}, ValueError, "factor must be 1 or more"),
        (Exponential, {"factor": "2"}, TypeError, "factor must be a number"),
        (Rate, {"limit": 0}, ValueError, "limit must be more than 0"),
        (Rate, {"limit": "10"}, TypeError, "limit must be a number"),
        (Rate, {"limit": 10, "per": 0}, ValueError, "per must be more than 0 seconds"),
        (Rate, {"limit": 10, "per": float("inf")}, ValueError, "per must be a number of seconds that ends"),
        (Rate, {"limit": 10, "burst": 0}, ValueError, "burst must be at least 1"),
        (ByKey, {"key": "account"}, TypeError, "key must be a function of one item"),
        (ByKey, {"key": len, "on_dead": "stop"}, ValueError, 'on_dead must be "go_on", "hold" or "drop"'),
        (Snooze, {"seconds": "1"}, TypeError, "wants a number of seconds"),
        (Snooze, {"seconds": -1}, ValueError, "wants 0 seconds or more"),
        (Pool, {"process": len, "retry": 3}, TypeError, "retry must be Retry"),
        (Pool, {"process": len, "rate": 100}, TypeError, "rate must be Rate"),
        (Pool, {"process": len, "classify": "Invalid"}, TypeError, "classify must be a function"),
        (Pool, {"process": len, "key": "account"}, TypeError, "key must be a function of one item"),
    ],
)
def test_a_wrong_argument_is_told_in_one_sentence(
    make: Callable[..., object], arguments: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as wrong:
        make(**arguments)
    assert "\n" not in str(wrong.value)


def test_a_key_by_which_nothing_can_be_looked_up_is_told_to_whoever_submits() -> None:
    def listed(item: str) -> Any:
        return [item]

    with Pool(str.lower, workers=1, key=listed) as pool:
        with pytest.raises(TypeError, match="by which nothing can be looked up"):
            pool.submit("a")
    assert pool.stats().submitted == 0


# -- the parts ---------------------------------------------------------------------------------


def test_a_budget_is_a_share_of_what_came_within_ten_seconds() -> None:
    budget = Budget(0.1)
    assert sum(budget.take(0.0, 0) for _ in range(1000)) == ALWAYS
    assert sum(budget.take(5.0, 10_000) for _ in range(2000)) == 1000 - ALWAYS
    assert not budget.take(WINDOW - 0.1, 10_000)
    assert not budget.take(WINDOW + 0.0, 10_000)  # those at 5.0 count, and nothing has come since
    assert sum(budget.take(WINDOW + 5.0, 10_000) for _ in range(2000)) == ALWAYS


def test_a_limiter_lets_a_burst_go_and_then_what_comes_evenly() -> None:
    limiter = Limiter(0.5, 3)

    def waits(now: float) -> list[float]:
        """How long each of four has to wait that come at the same time."""
        found: list[float] = []
        for _ in range(4):
            found.append(limiter.wait(now))
            limiter.start(now + found[-1])
        return found

    assert waits(0.0) == [0.0, 0.0, 0.0, 0.5]
    assert limiter.wait(0.75) == 0.25
    assert waits(100.0) == [0.0, 0.0, 0.0, 0.5]
    limiter.undo()
    assert limiter.wait(100.0) == 0.5


def test_a_key_has_one_line_as_long_as_somebody_holds_it() -> None:
    keys: Keys[str] = Keys(ByKey(str.lower))
    line = keys.line_of("A")
    assert keys.line_of("a") is line
    assert keys.find("a") is line
    keys.drop(line)
    assert line.is_dropped
    other = keys.line_of("a")
    assert other is not line
    assert not other.is_dropped
    del other
    for number in range(2 * SWEEP):  # so many idle keys are not remembered
        keys.line_of(str(number))
    gc.collect()
    assert keys.find("a") is None
    assert keys.find("b") is None


@pytest.mark.parametrize(
    ("on", "error", "is_for"),
    [
        (Exception, OSError(), True),
        (OSError, ConnectionError(), True),
        (OSError, ValueError(), False),
        (OSError, Transient(), True),
        (Exception, SystemExit(), False),
        (Exception, WorkerDied(), False),
        ((OSError, WorkerDied), WorkerDied(), True),
        (Exception, NotPicklable(), False),
        (TypeError, NotPicklable(), False),
        (NotPicklable, NotPicklable(), True),
        (BaseException, ItemAbandoned(), False),
        (ItemAbandoned, ItemAbandoned(), False),
    ],
)
def test_after_which_errors_an_item_is_tried_again(on: Any, error: BaseException, is_for: bool) -> None:
    assert Retry(on=on).is_for(error) is is_for
