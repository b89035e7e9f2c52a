"""Retries, snoozes, discards, keys, rates and stops mixed: each item ends once, and in its order; by a state machine.

Time is the manual clock's. What nobody may see happen (two of a key at once, one out of order, a wrong number of an
attempt) is written down where the items run, and looked for after each step.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.kit import Task, examples, in_thread, together, until
from workpool import (
    ByKey,
    CoDel,
    Discard,
    Discipline,
    DrainReport,
    Exponential,
    Fatal,
    Fifo,
    Hooks,
    Invalid,
    ItemAbandoned,
    Lanes,
    Pool,
    PoolStopped,
    QueueFull,
    Rate,
    Retry,
    Shed,
    Snooze,
    StopTimeout,
    Transient,
    current,
)
from workpool._core.rate import Limiter
from workpool._future import ItemFuture
from workpool._worker import PARKED, Worker
from workpool.testing import ManualClock

Item = tuple[int, str, int]
"""Its number, its key and its lane."""

STEPS = st.sampled_from(["ok", "fails", "fails", "transient", "snooze", "snooze", "discard", "invalid", "other"])
SCRIPTS = st.lists(STEPS, max_size=5)
RETRIES = st.none() | st.builds(
    Retry,
    attempts=st.integers(1, 4),
    on=st.just((OSError,)),
    backoff=st.sampled_from([0, 1, 3.0, Exponential(1, 4)]),
    jitter=st.just("none"),
    budget=st.sampled_from([None, 0.1]),
    max_waiting=st.sampled_from([None, None, 1, 2]),
)
ORDERS = st.sampled_from([None, "go_on", "hold", "drop"])
RATES = st.none() | st.builds(Rate, st.sampled_from([1.0, 4.0]), per=st.just(2.0), burst=st.integers(1, 3))


def key(item: Item) -> str:
    return item[1]


def lane(item: Item) -> int:
    return item[2]


RULES: list[Discipline[Item]] = [
    Fifo(6),
    Fifo(6, max_wait=3),
    Fifo(4, overflow="drop_oldest"),
    CoDel(6, target=0.5, interval=4),
    Lanes(lane, [3, Fifo(4, max_wait=5)]),
]


@pytest.fixture(autouse=True)
def switch_often(quiet: None) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Noting:
    """A limiter, and when it let something start."""

    def __init__(self, limiter: Limiter, rate: Rate) -> None:
        self.wait = limiter.wait
        self._limiter = limiter
        self._rate = rate
        self.starts: list[float] = []

    def start(self, now: float) -> None:
        self._limiter.start(now)
        self.starts.append(now)

    def undo(self) -> None:
        self._limiter.undo()
        self.starts.pop()

    def is_kept(self) -> bool:
        """In no time did more start than may: the burst, and what comes evenly besides."""
        starts, rate = list(self.starts), self._rate  # workers add to it meanwhile
        return all(
            count <= rate.burst + (starts[begin + count - 1] - starts[begin]) * rate.limit / rate.per + 1e-6
            for begin in range(len(starts))
            for count in range(1, len(starts) - begin + 1)
        )


class Book:
    """What happened to each item, by whoever saw it."""

    def __init__(self, is_ordered: bool) -> None:
        self.lock = threading.RLock()
        self.is_ordered = is_ordered
        self.scripts: dict[Item, Iterator[str]] = {}
        self.accepted: list[Item] = []
        self.attempt: Counter[Item] = Counter()
        """The number of the next."""
        self.begun: set[Item] = set()
        self.ends: defaultdict[Item, list[str]] = defaultdict(list)
        self.ending: set[Item] = set()
        """Those that are being taken back just now."""
        self.early: list[tuple[Item, Item]] = []
        """Which began before which of its key that had not ended, as far as was known."""
        self.dropped: set[Item] = set()
        """To make room: by whoever submits, who says so only when others may have gone on. Or with their key: those
        that came after that wait for none of them, while a worker that has one in hand is about to say so."""
        self.running: set[Item] = set()
        self.runs = 0
        self.wrong: list[str] = []

    def begin(self, item: Item, attempt: int) -> str:
        """An attempt: what it does."""
        with self.lock:
            self.runs += 1
            self.expect(attempt == self.attempt[item] + 1, f"{item}: attempt {attempt}")
            self.expect(not self.ends[item], f"{item} runs after its end: {self.ends[item]}")
            if self.is_ordered:
                others = [other for other in self.running if key(other) == key(item)]
                self.expect(not others, f"{item} beside {others}")
                if item not in self.begun:
                    self.early += [(item, other) for other in self.accepted if self.is_passed_over(other, item)]
            self.begun.add(item)
            self.running.add(item)
            return next(self.scripts[item], "ok")

    def is_passed_over(self, other: Item, item: Item) -> bool:
        """It should have come first, as far as is known."""
        is_before = key(other) == key(item) and lane(other) == lane(item) and other[0] < item[0]
        return is_before and not self.ends[other] and other not in self.ending

    def finish(self, item: Item, what: str) -> None:
        """The same attempt is over."""
        with self.lock:
            self.running.discard(item)
            if what in ("ok", "discard"):
                self.ends[item].append(what)
            if what in ("fails", "transient"):
                self.attempt[item] += 1

    def dead(self, item: Item, error: BaseException, attempts: int) -> None:
        with self.lock:
            is_counted = isinstance(error, OSError | Transient) and not isinstance(error, ItemAbandoned)
            expected = self.attempt[item] + (not is_counted)
            self.expect(attempts == expected, f"{item} is dead after {attempts} attempts, not {expected}")
            self.ends[item].append("dead")

    def shed(self, item: Item, why: str) -> None:
        with self.lock:
            self.ends[item].append("shed")
            if why in ("overflow", "key"):
                self.dropped.add(item)

    def expect(self, truth: bool, sentence: str) -> None:
        if not truth:
            self.wrong.append(sentence)


def act(item: Item, what: str) -> Item:
    """What an attempt does at its end."""
    errors: dict[str, BaseException] = {
        "fails": OSError("again"),
        "transient": Transient("again"),
        "invalid": Invalid("never"),
        "other": KeyError("not retried"),
        "discard": Discard("no use"),
        "fatal": Fatal("nothing will"),
    }
    if what == "snooze":
        raise Snooze(2)
    if what in errors:
        raise errors[what]
    return item


class Machine(RuleBasedStateMachine):
    """A pool of threads."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.held: set[int] = set()
        self.waits: set[Item] = set()
        self.futures: dict[Item, ItemFuture[Item]] = {}
        self.stops: list[Task[DrainReport[Item]]] = []
        self.has_failed = False
        self.count = 0
        self.open_a_gate()

    @initialize(retry=RETRIES, on_dead=ORDERS, rate=RATES, discipline=st.sampled_from(RULES), workers=st.integers(1, 3))
    def begin(self, retry: Retry | None, on_dead: Any, rate: Rate | None, discipline: Any, workers: int) -> None:
        self.on_dead = on_dead
        self.book = Book(on_dead is not None)
        self.pool: Pool[Item, Item] = self.make(
            workers=workers,
            queue=discipline,
            retry=retry,
            key=None if on_dead is None else ByKey(key, on_dead=on_dead),
            rate=rate,
            hooks=Hooks(dead=self.book.dead, shed=self.book.shed),
            clock=self.clock.clock,
            name="machine",
        )
        self.noting: Noting | None = None
        if rate is not None:
            assert self.pool._queue.limiter is not None
            self.noting = Noting(self.pool._queue.limiter, rate)
            self.pool._queue.limiter = self.noting  # type: ignore[assignment]
        self.pool.start()

    # -- what differs ----------------------------------------------------------------------------

    def make(self, **options: Any) -> Pool[Item, Item]:
        return Pool(self.process, executor="thread", **options)

    def process(self, item: Item) -> Item:
        what = self.book.begin(item, current().attempt)
        try:
            if item[0] in self.held:
                self.wait_at(item, self.gate)
            return act(item, what)
        finally:
            self.book.finish(item, what)

    def wait_at(self, item: Item, gate: threading.Event) -> None:
        self.waits.add(item)
        gate.wait(20)
        self.waits.discard(item)

    def open_a_gate(self) -> None:
        self.gate = threading.Event()

    def let_go(self) -> None:
        gate = self.gate
        self.open_a_gate()
        gate.set()

    # -- the rules -------------------------------------------------------------------------------

    @rule(
        how=st.sampled_from(["submit", "call", "call"]),
        name=st.sampled_from("aab"),
        number=st.integers(0, 1),
        script=SCRIPTS,
        held=st.sampled_from([False, False, True]),
    )
    def hand_over(self, how: str, name: str, number: int, script: list[str], held: bool) -> None:
        self.count += 1
        item = (self.count, name, number)
        self.book.scripts[item] = iter(script)
        if held:
            self.held.add(item[0])
        with self.book.lock:  # so that no other is found to run before it
            self.book.accepted.append(item)
        try:
            if how == "submit":
                self.pool.submit(item)
            else:
                self.futures[item] = self.pool.call(item)
        except (QueueFull, PoolStopped):
            with self.book.lock:
                self.book.accepted.remove(item)

    @rule(names=st.lists(st.sampled_from("aab"), min_size=2, max_size=4), script=SCRIPTS, held=st.booleans())
    def hand_several_over(self, names: list[str], script: list[str], held: bool) -> None:
        for name in names:
            self.hand_over("call", name, 0, script, held)

    @rule(which=st.integers(0, 100))
    def take_back(self, which: int) -> None:
        items = list(self.futures)  # others may add to them meanwhile
        if not items:
            return
        item = items[-1 - which % len(items)]
        with self.book.lock:
            self.book.ending.add(item)
        was = self.futures[item].cancelled()
        if self.futures[item].cancel() and not was:
            with self.book.lock:
                self.book.ends[item].append("taken back")
        with self.book.lock:
            self.book.ending.discard(item)

    @rule(which=st.integers(0, 100), seconds=st.sampled_from([1.0, 3.0]), name=st.sampled_from("ab"))
    def at_the_same_time(self, which: int, seconds: float, name: str) -> None:
        together(
            lambda: self.take_back(which),
            lambda: self.clock.advance(seconds),
            lambda: self.pool.release(name),
            self.let_go,
            lambda: self.hand_over("call", name, 0, ["fails", "ok"], held=False),
        )

    @rule()
    def let_the_held_go(self) -> None:
        self.let_go()

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.rest()
        self.clock.advance(seconds)
        self.rest()

    def rest(self) -> None:
        """Let whoever can do something do it: for the sake of what comes next, not of any check."""
        for _ in range(300):
            if all(map(self.is_at_rest, list(self.pool._queue.workers))):
                return

    def is_at_rest(self, worker: Worker[Item]) -> bool:
        queue, entry = self.pool._queue, worker.entry
        if entry is not None:
            return entry[0] in self.waits
        return worker.pending == PARKED and (not queue.waking or queue._start_at is not None)

    @rule(pause=st.booleans())
    def pause_or_resume(self, pause: bool) -> None:
        if not pause:
            self.pool.resume()
        elif not self.stops and not self.has_failed:
            try:
                self.pool.pause()
            except PoolStopped:
                pass

    @rule(workers=st.integers(1, 4))
    def resize(self, workers: int) -> None:
        try:
            self.pool.resize(workers)
        except PoolStopped:
            pass

    @rule(name=st.sampled_from("ab"))
    def release(self, name: str) -> None:
        assert self.pool.release(name) in (True, False)

    @precondition(lambda self: self.count > 10)
    @rule(timeout=st.sampled_from([None, 0.0, 2.0, 20.0]), drain=st.booleans())
    def stop(self, timeout: float | None, drain: bool) -> None:
        self.stops.append(in_thread(lambda: self.stop_it(timeout, drain)))

    def stop_it(self, timeout: float | None, drain: bool) -> DrainReport[Item]:
        try:
            return self.pool.stop(timeout, drain)
        except StopTimeout as error:
            return error.report

    @precondition(lambda self: self.count > 15)
    @rule()
    def fatal(self) -> None:
        self.has_failed = True
        self.hand_over("call", "b", 0, ["fatal"], False)

    # -- what holds ------------------------------------------------------------------------------

    @invariant()
    def the_ledger_balances(self) -> None:
        stats = self.pool.stats()
        assert stats.balance() == 0
        assert min(stats.queue_depth, stats.running, stats.waiting) >= 0
        assert not self.book.wrong
        assert self.noting is None or self.noting.is_kept()

    def is_over(self) -> bool:
        """Nothing has to wait for ever: as time goes on, all that was accepted ends."""
        self.clock.advance(1)
        self.let_go()
        for name in "ab":
            self.pool.release(name)
        self.attend()
        stats = self.pool.stats()
        return not (stats.queue_depth or stats.running or stats.waiting)

    def attend(self) -> None:
        """Threads come by themselves."""

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        was_stopped = bool(self.stops) or self.has_failed
        self.pool.resume()
        until(self.is_over)
        stop = in_thread(lambda: self.stop_it(None, True))
        until(lambda: self.is_over() and self.pool.stats().state == "stopped")
        report = stop.result()
        assert {id(other.result()) for other in self.stops} <= {id(report)}
        self.the_ledger_balances()
        self.check(report)
        assert was_stopped or (report.unprocessed == () and report.clean)

    def check(self, report: DrainReport[Item]) -> None:
        """Each that was accepted has ended once, and is counted where it did."""
        ends, stats = self.book.ends, self.pool.stats()
        abandoned = [lost.item for lost in report.abandoned]
        for item in abandoned:  # what it did afterwards is not counted
            ends[item] = ["abandoned"]
        for item in report.unprocessed:  # whose future may have been cancelled when the stop had it already
            ends[item] = [*filter("taken back".__ne__, ends[item]), "unprocessed"]
        assert {item: ends[item] for item in self.book.accepted if len(ends[item]) != 1} == {}
        assert [(item, other) for item, other in self.book.early if other not in self.book.dropped] == []
        counts = Counter(ends[item][0] for item in self.book.accepted)
        assert stats.submitted == len(self.book.accepted)
        assert (stats.succeeded, stats.failed, stats.discarded) == (counts["ok"], counts["dead"], counts["discard"])
        assert sum(stats.shed.values()) == counts["shed"]
        # A stop may give a worker up that has just called an item dead.
        assert counts["dead"] <= sum(stats.dead.values()) <= counts["dead"] + counts["abandoned"]
        assert stats.cancelled == counts["unprocessed"] + counts["taken back"]
        assert stats.abandoned == counts["abandoned"]
        assert self.noting is None or len(self.noting.starts) == self.book.runs
        assert all(is_told(future, ends[item][0]) for item, future in self.futures.items())


def is_told(future: Future[Item], end: str) -> bool:
    """The future says what became of its item."""
    if end in ("unprocessed", "taken back"):
        return future.cancelled()
    error = future.exception(0)
    kinds: dict[str, Any] = {"discard": Discard, "shed": Shed, "abandoned": ItemAbandoned, "dead": Exception}
    return error is None if end == "ok" else isinstance(error, kinds[end])


class MachineOfTasks(Machine):
    """A pool of tasks, on an event loop of its own."""

    def make(self, **options: Any) -> Pool[Item, Item]:
        return Pool(self.aprocess, **options)

    async def aprocess(self, item: Item) -> Item:
        what = self.book.begin(item, current().attempt)
        try:
            if item[0] in self.held:
                self.waits.add(item)
                await asyncio.shield(asyncio.wrap_future(self.promise))
            result = act(item, what)
        except asyncio.CancelledError:
            what = "cancelled"
            raise
        finally:
            self.waits.discard(item)
            self.book.finish(item, what)
        return result

    def open_a_gate(self) -> None:
        self.promise: Future[None] = Future()

    def let_go(self) -> None:
        promise = self.promise
        self.open_a_gate()
        promise.set_result(None)


class MachineInline(Machine):
    """Without workers of its own, so that nothing can be held."""

    def make(self, **options: Any) -> Pool[Item, Item]:
        return Pool(self.process, executor="inline", **options)

    def wait_at(self, item: Item, gate: threading.Event) -> None:
        """It would wait for itself."""

    def rest(self) -> None:
        self.attend()

    def attend(self) -> None:
        self.pool.join(0)


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=examples(60),
    stateful_step_count=30,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],  # which traces, and takes minutes
    suppress_health_check=list(HealthCheck),
)

TestMachineOfTasks = MachineOfTasks.TestCase
TestMachineOfTasks.settings = settings(TestMachine.settings, max_examples=examples(30))

TestMachineInline = MachineInline.TestCase
TestMachineInline.settings = settings(TestMachine.settings, max_examples=examples(60))
