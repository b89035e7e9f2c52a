"""The part of the contract that says what becomes of items that fail, in which order items run, and how fast."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from time import monotonic
from typing import Any

import pytest

from workpool._context import current
from workpool._core.discipline import Fifo
from workpool._core.keys import ByKey
from workpool._core.outcome import Retry
from workpool._core.rate import Rate
from workpool._fate import Hooks
from workpool._worker import PARKED
from workpool.errors import Discard, Fatal, Invalid, PoolStopped, Shed, Snooze, StopTimeout, Transient
from workpool.pool import Pool
from workpool.testing.clock import PATIENCE, ManualClock
from workpool.testing.doubles import Leash, Recorder

__all__ = ["Failing"]


def fail_so_often(item: tuple[int, str]) -> int:
    """Raise in so many attempts, and give the number of the one that did not."""
    times, how = item
    attempt = current().attempt
    if attempt > times:
        return attempt
    raise ERRORS[how](f"attempt {attempt}")


ERRORS: dict[str, type[Exception]] = {
    "transient": Transient,
    "invalid": Invalid,
    "fatal": Fatal,
    "os": OSError,
    "value": ValueError,
}


def raised(item: Any) -> Any:
    """What is an exception is raised."""
    if isinstance(item, BaseException):
        raise item
    return item


class AtFirst:
    """A process function that raises this so often, and then returns the item."""

    def __init__(self, error: Exception, times: int) -> None:
        self._error = error
        self._left = times

    def __call__(self, item: Any) -> Any:
        if self._left:
            self._left -= 1
            raise self._error
        return item


class Direct:
    """A process function that is itself what runs; it is to be at the top level of a module."""

    def __init__(self, process: Callable[[Any], Any]) -> None:
        self.process = process

    async def async_process(self, item: Any) -> Any:
        return self.process(item)


def key_of(item: Any) -> str:
    """Items begin with their keys."""
    return str(item[0])


class Trial:
    """A pool by a manual clock, and what became of its items."""

    def __init__(self, make: Callable[..., Pool[Any, Any]], double: Any, **options: Any) -> None:
        self.clock = ManualClock()
        self.dead: list[tuple[Any, str, int]] = []
        self.shed: list[tuple[Any, str]] = []
        hooks: Hooks[Any] = Hooks(dead=self._note_dead, shed=lambda item, why: self.shed.append((item, why)))
        options.setdefault("workers", 2)
        self.pool = make(double, hooks=hooks, clock=self.clock.clock, **options)

    def _note_dead(self, item: Any, error: BaseException, attempts: int) -> None:
        self.dead.append((item, type(error).__name__, attempts))

    def __enter__(self) -> Trial:
        self.pool.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool.stats().state != "stopped":
            self.pool.close(drain=False)
            self.pool.stop(None)
        assert self.pool.stats().balance() == 0

    def wait_until_waiting(self) -> None:
        """Until something waits for its next attempt, and the pool for the time of that."""
        self.clock.wait_for_sleepers()

    def wait_until_idle(self) -> None:
        """Until each worker rests: it reads the clock again before it takes its next item. Raises TimeoutError."""
        until = monotonic() + PATIENCE
        while not all(worker.pending == PARKED for worker in list(self.pool._queue.workers)):  # pyright: ignore[reportPrivateUsage]
            if monotonic() > until:
                raise TimeoutError("a worker does not come to rest")

    def deaths(self) -> dict[str, int]:
        """How many have failed for good, by the reasons for which some have."""
        return {why: count for why, count in self.pool.stats().dead.items() if count}


ALWAYS = Retry(attempts=3, backoff=1.0, jitter="none", budget=None)


class Failing:
    """To be mixed into what says how to `make` a pool."""

    make: Callable[..., Pool[Any, Any]]

    # -- what is tried again -------------------------------------------------------------------

    def test_an_item_is_tried_again_when_its_time_has_come(self) -> None:
        with Trial(self.make, Direct(fail_so_often), retry=ALWAYS) as trial:
            future = trial.pool.call((2, "os"))
            for attempts in (1, 2):
                trial.wait_until_waiting()
                stats = trial.pool.stats()
                assert (stats.waiting, stats.running, stats.queue_depth, stats.balance()) == (1, 0, 0, 0)
                assert stats.retries == attempts
                assert not trial.pool.join(0)
                assert not future.done()
                trial.clock.advance(1.0)
            assert future.result(20) == 3
            stats = trial.pool.stats()
            assert (stats.succeeded, stats.failed, stats.retries, stats.waiting) == (1, 0, 2, 0)
            assert (stats.run_error.count, stats.run_success.count, stats.queue_wait.count) == (2, 1, 3)
        assert trial.dead == []

    def test_after_the_last_attempt_it_is_dead(self) -> None:
        with Trial(self.make, Direct(fail_so_often), retry=ALWAYS) as trial:
            future = trial.pool.call((9, "os"))
            for _ in range(2):
                trial.wait_until_waiting()
                trial.clock.advance(1.0)
            error = future.exception(20)
            assert isinstance(error, OSError)
            assert str(error) == "attempt 3"
            assert trial.dead == [((9, "os"), "OSError", 3)]
            assert trial.deaths() == {"attempts": 1}

    def test_what_will_never_work_is_dead_at_once(self) -> None:
        with Trial(self.make, Direct(fail_so_often), retry=Retry(on=OSError, budget=None)) as trial:
            assert isinstance(trial.pool.call((9, "invalid")).exception(20), Invalid)
            assert isinstance(trial.pool.call((9, "value")).exception(20), ValueError)
            trial.pool.submit((8, "invalid"))
            assert trial.pool.join(20)
            assert sorted(trial.dead) == [
                ((8, "invalid"), "Invalid", 1),
                ((9, "invalid"), "Invalid", 1),
                ((9, "value"), "ValueError", 1),
            ]
            assert trial.deaths() == {"invalid": 2, "not_retried": 1}
            assert trial.pool.stats().failed == 3

    def test_without_retry_nothing_is_tried_again(self) -> None:
        with Trial(self.make, Direct(fail_so_often)) as trial:
            assert isinstance(trial.pool.call((9, "transient")).exception(20), Transient)
            assert trial.dead == [((9, "transient"), "Transient", 1)]
            assert trial.deaths() == {"not_retried": 1}

    def test_others_errors_can_be_classified(self) -> None:
        def classify(error: Exception) -> type[Exception] | None:
            if isinstance(error, OSError):
                return Invalid
            raise error

        with Trial(self.make, Recorder(raised), retry=ALWAYS, classify=classify) as trial:
            assert isinstance(trial.pool.call(OSError()).exception(20), OSError)
            future = trial.pool.call(KeyError())
            trial.wait_until_waiting()
            assert future.cancel()
            assert [(name, attempts) for _, name, attempts in trial.dead] == [("OSError", 1)]
            assert trial.deaths() == {"invalid": 1}

    def test_what_is_discarded_is_no_failure(self) -> None:
        with Trial(self.make, Recorder(raised), retry=ALWAYS) as trial:
            trial.pool.submit(Discard("too old"))
            error = trial.pool.call(Discard("too old")).exception(20)
            assert isinstance(error, Discard)
            assert error.reason == "too old"
            assert trial.pool.join(20)
            stats = trial.pool.stats()
            assert (stats.discarded, stats.processed, stats.failed, stats.retries) == (2, 2, 0, 0)
            assert trial.dead == []

    def test_a_snooze_uses_no_attempt(self) -> None:
        recorder: Recorder[Any, Any] = Recorder(AtFirst(Snooze(5.0), 4))
        with Trial(self.make, recorder, workers=1) as trial:
            future = trial.pool.call("item")
            for _ in range(4):
                trial.wait_until_waiting()
                assert trial.pool.stats().waiting == 1
                trial.clock.advance(5.0)
            assert future.result(20) == "item"
            stats = trial.pool.stats()
            assert (stats.snoozes, stats.retries, stats.run_error.count, stats.succeeded) == (4, 0, 0, 1)
            assert len(recorder.items) == 5

    def test_what_waits_can_be_taken_back(self) -> None:
        with Trial(self.make, Direct(fail_so_often), retry=ALWAYS) as trial:
            future = trial.pool.call((9, "os"))
            trial.wait_until_waiting()
            assert not future.running()
            assert future.cancel()
            stats = trial.pool.stats()
            assert (stats.waiting, stats.cancelled, stats.balance()) == (0, 1, 0)
            assert trial.pool.join(20)
            with pytest.raises(CancelledError):
                future.result(20)

    def test_no_more_wait_than_may(self) -> None:
        retry = Retry(attempts=3, backoff=1.0, budget=None, max_waiting=1)
        with Trial(self.make, Direct(fail_so_often), workers=1, retry=retry) as trial:
            future = trial.pool.call((9, "os"))
            trial.wait_until_waiting()
            assert isinstance(trial.pool.call((8, "os")).exception(20), OSError)
            assert trial.deaths() == {"max_waiting": 1}
            assert trial.dead == [((8, "os"), "OSError", 1)]
            assert future.cancel()

    def test_a_budget_bounds_the_retries(self) -> None:
        retry = Retry(attempts=1000, backoff=0, budget=0.1)
        with Trial(self.make, Direct(fail_so_often), workers=1, retry=retry) as trial:
            assert isinstance(trial.pool.call((1000, "os")).exception(20), OSError)
            assert trial.deaths() == {"budget": 1}
            assert trial.dead == [((1000, "os"), "OSError", 101)]  # ten a second there may be always

    def test_a_deadline_is_counted_from_the_submission(self) -> None:
        queue = Fifo(10, deadline=lambda _: 1.5)
        with Trial(self.make, Direct(fail_so_often), workers=1, queue=queue, retry=ALWAYS) as trial:
            future = trial.pool.call((9, "os"))
            for _ in range(2):
                trial.wait_until_waiting()
                trial.wait_until_idle()
                trial.clock.advance(1.0)
            assert isinstance(future.exception(20), Shed)
            assert trial.shed == [((9, "os"), "deadline")]

    def test_what_is_fatal_stops_the_pool(self) -> None:
        with Trial(self.make, Direct(fail_so_often), workers=1, retry=ALWAYS) as trial:
            trial.pool.pause()
            future = trial.pool.call((9, "fatal"))
            trial.pool.submit((0, "os"))
            trial.pool.resume()
            assert isinstance(future.exception(20), Fatal)
            with pytest.raises(StopTimeout, match="an item failed with Fatal: attempt 1") as stopped:
                trial.pool.stop(20)
            assert stopped.value.report.unprocessed == ((0, "os"),)
            with pytest.raises(PoolStopped, match="stopped by itself: an item failed with Fatal: attempt 1"):
                trial.pool.submit((0, "os"))
            assert trial.deaths() == {"fatal": 1}

    def test_a_drain_waits_for_what_is_to_be_tried_again(self) -> None:
        with Trial(self.make, Direct(fail_so_often), retry=ALWAYS) as trial:
            future = trial.pool.call((1, "os"))
            trial.wait_until_waiting()
            trial.pool.close()
            assert not future.done()
            trial.clock.advance(1.0)
            assert future.result(20) == 2
            assert trial.pool.stop(20).clean

    def test_a_stop_without_a_drain_hands_back_what_is_to_be_tried_again(self) -> None:
        with Trial(self.make, Direct(fail_so_often), workers=1, retry=ALWAYS, key=key_of) as trial:
            for item in ((9, "os"), (8, "os"), (9, ""), (8, "")):
                trial.pool.submit(item)
            assert trial.pool.call((0, "")).result(20) == 1  # what came before has run, or waits
            report = trial.pool.stop(20, drain=False)
            assert report.unprocessed == ((9, "os"), (8, "os"), (9, ""), (8, ""))
            assert report.clean
            assert report.stats.retries == 2

    def test_what_still_waits_at_the_timeout_is_in_the_report(self) -> None:
        with Trial(self.make, Direct(fail_so_often), workers=1, retry=ALWAYS) as trial:
            future = trial.pool.call((9, "os"))
            trial.pool.submit((8, "os"))
            assert trial.pool.call((0, "")).result(20) == 1  # what came before has run
            with pytest.raises(StopTimeout) as stopped:
                trial.pool.stop(0)
            assert sorted(stopped.value.report.unprocessed) == [(8, "os"), (9, "os")]
            assert stopped.value.report.stats.cancelled == 2
            assert future.cancelled()
            assert trial.dead == []

    # -- order ---------------------------------------------------------------------------------

    def test_items_of_one_key_run_one_at_a_time_and_in_order(self) -> None:
        leash: Leash[str] = Leash()
        with Trial(self.make, leash, key=key_of) as trial:
            for item in ("a1", "a2", "a3", "b1", "b2"):
                trial.pool.submit(item)
            leash.wait_begun(2)
            assert sorted(leash.items) == ["a1", "b1"]
            assert (trial.pool.stats().running, trial.pool.stats().queue_depth) == (2, 3)
            leash.let_go()
            assert trial.pool.join(20)
            assert [item for item in leash.items if item[0] == "a"] == ["a1", "a2", "a3"]
            assert [item for item in leash.items if item[0] == "b"] == ["b1", "b2"]

    def test_an_item_that_waits_holds_its_key(self) -> None:
        recorder: Recorder[str, str] = Recorder(AtFirst(OSError("not yet"), 1))
        with Trial(self.make, recorder, workers=1, key=key_of, retry=ALWAYS) as trial:
            futures = [trial.pool.call("a1"), trial.pool.call("a2")]
            trial.wait_until_waiting()
            assert trial.pool.call("b1").result(20) == "b1"
            assert not any(future.done() for future in futures)
            trial.clock.advance(1.0)
            assert [future.result(20) for future in futures] == ["a1", "a2"]
            assert recorder.items == ["a1", "b1", "a1", "a2"]

    def test_a_key_can_be_held_when_an_item_of_it_is_dead(self) -> None:
        recorder: Recorder[str, str] = Recorder(AtFirst(Invalid("never"), 1))
        with Trial(self.make, recorder, workers=1, key=ByKey(key_of, on_dead="hold")) as trial:
            futures = [trial.pool.call(item) for item in ("a1", "a2", "b1")]
            assert isinstance(futures[0].exception(20), Invalid)
            assert futures[2].result(20) == "b1"
            stats = trial.pool.stats()
            assert (stats.keys_held, stats.queue_depth, stats.balance()) == (1, 1, 0)
            assert not trial.pool.release("b")
            assert trial.pool.release("a")
            assert futures[1].result(20) == "a2"
            assert trial.pool.stats().keys_held == 0

    def test_what_a_dead_item_holds_is_handed_back_by_a_stop(self) -> None:
        recorder: Recorder[str, str] = Recorder(AtFirst(Invalid("never"), 1))
        with Trial(self.make, recorder, workers=1, key=ByKey(key_of, on_dead="hold")) as trial:
            futures = [trial.pool.call(item) for item in ("a1", "a2", "a3")]
            assert isinstance(futures[0].exception(20), Invalid)
            with pytest.raises(StopTimeout) as stopped:
                trial.pool.stop(20)
            assert stopped.value.report.unprocessed == ("a2", "a3")
            assert futures[1].cancelled()

    def test_the_rest_of_a_key_can_be_dropped_when_an_item_of_it_is_dead(self) -> None:
        recorder: Recorder[str, str] = Recorder(AtFirst(Invalid("never"), 1))
        with Trial(self.make, recorder, workers=1, key=ByKey(key_of, on_dead="drop")) as trial:
            trial.pool.pause()
            futures = [trial.pool.call(item) for item in ("a1", "a2", "b1", "a3")]
            trial.pool.resume()
            assert isinstance(futures[0].exception(20), Invalid)
            for future in (futures[1], futures[3]):
                error = future.exception(20)
                assert isinstance(error, Shed)
                assert error.reason == "key"
            assert futures[2].result(20) == "b1"
            assert trial.pool.call("a4").result(20) == "a4"
            assert trial.shed == [("a2", "key"), ("a3", "key")]
            assert recorder.items == ["a1", "b1", "a4"]

    def test_a_queued_item_behind_its_key_can_be_taken_back(self) -> None:
        leash: Leash[str] = Leash()
        with Trial(self.make, leash, key=key_of, queue_size=3) as trial:
            trial.pool.submit("a1")
            leash.wait_begun()
            futures = [trial.pool.call(item) for item in ("a2", "a3")]
            trial.pool.submit("b1")
            leash.wait_begun()
            assert futures[0].cancel()
            assert trial.pool.stats().queue_depth == 1
            leash.let_go()
            assert futures[1].result(20) == "a3"
            assert trial.pool.join(20)
            assert sorted(leash.items) == ["a1", "a3", "b1"]

    # -- rate ----------------------------------------------------------------------------------

    def test_no_more_items_start_than_the_rate_allows(self) -> None:
        recorder: Recorder[int, int] = Recorder(raised)
        with Trial(self.make, recorder, workers=1, rate=Rate(2, per=1.0, burst=3)) as trial:
            futures = [trial.pool.call(number) for number in range(6)]
            assert [future.result(20) for future in futures[:3]] == [0, 1, 2]
            for number in (3, 4, 5):
                assert trial.pool.stats().queue_depth == 6 - number
                trial.wait_until_waiting()
                trial.clock.advance(0.5)
                assert futures[number].result(20) == number
            assert recorder.items == list(range(6))
            assert trial.pool.join(20)
