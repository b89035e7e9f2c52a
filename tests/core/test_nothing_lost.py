"""Every item ends exactly once, and the ledger says so: by a state machine, and by a million items."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.core.kit import examples, hurried, together
from workpool import (
    AdaptiveLifo,
    CoDel,
    Discipline,
    DrainReport,
    Fifo,
    Hooks,
    Lanes,
    Pool,
    PoolStopped,
    QueueFull,
    Shed,
    StopTimeout,
    current,
)
from workpool._future import ItemFuture

Item = tuple[int, str]
KINDS = st.sampled_from(["quick", "quick", "fails", "exits", "held", "patient"])


@pytest.fixture(autouse=True)
def switch_often(quiet: None) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Machine(RuleBasedStateMachine):
    """Whatever is done to a pool, from several threads at once, every accepted item is found again."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.accepted: list[Item] = []
        self.ran: list[Item] = []
        self.futures: dict[Item, ItemFuture[int]] = {}
        self.count = 0
        self.shed: list[Item] = []
        self.failed: list[Item] = []
        self.report: DrainReport[Item] | None = None
        self.hooks: Hooks[Item] = Hooks(shed=self.note_shed, error=self.note_failed)
        self.pool = self.make()
        self.pool.start()

    queue: Discipline[Item] = Fifo(6)
    item_timeout: float | None = None

    def make(self) -> Pool[Item, int]:
        return self.make_with(self.process)

    def make_with(self, process: Callable[[Item], Any]) -> Pool[Item, int]:
        return Pool(
            process,
            workers=3,
            queue=self.queue,
            hooks=self.hooks,
            item_timeout=self.item_timeout,
            clock=hurried(200),
            name="machine",
        )

    def note_failed(self, item: Item, _: BaseException) -> None:
        with self.lock:
            self.failed.append(item)

    def note_shed(self, item: Item, why: str) -> None:
        assert why in ("max_wait", "deadline", "codel", "overflow")
        with self.lock:
            self.shed.append(item)

    def begin(self, item: Item) -> Item:
        with self.lock:
            self.ran.append(item)
        if item[1] == "fails":
            raise ValueError(item)
        if item[1] == "exits":
            raise SystemExit(3)
        return item

    def process(self, item: Item) -> int:
        number, kind = self.begin(item)
        if kind == "held":
            self.gate.wait(20)
        if kind == "patient":
            current().sleep(1)
        return number

    def new(self, kind: str) -> Item:
        with self.lock:
            self.count += 1
            return self.count, kind

    def hand_over(self, how: str, kind: str) -> None:
        item = self.new(kind)
        try:
            if how == "submit":
                self.pool.submit(item)
            elif how == "wait":
                self.pool.submit_wait(item, timeout=1)
            else:
                future = self.pool.call(item)
                with self.lock:
                    self.futures[item] = future
        except (QueueFull, PoolStopped):
            return
        with self.lock:
            self.accepted.append(item)

    def stop_it(self, timeout: float, drain: bool) -> None:
        try:
            report = self.pool.stop(timeout, drain)
        except StopTimeout as error:
            report = error.report
        assert self.report in (None, report)
        self.report = report

    @rule(ways=st.lists(st.tuples(st.sampled_from(["submit", "wait", "call"]), KINDS), min_size=1, max_size=6))
    def several_hand_over(self, ways: list[tuple[str, str]]) -> None:
        together(*[lambda how=how, kind=kind: self.hand_over(how, kind) for how, kind in ways])

    @rule(which=st.integers(0, 100), kind=KINDS)
    def cancel_one_while_another_comes(self, which: int, kind: str) -> None:
        if self.futures:
            future = list(self.futures.values())[which % len(self.futures)]
            together(future.cancel, lambda: self.hand_over("wait", kind))

    @rule()
    def let_the_held_go(self) -> None:
        self.open_the_gate()

    def open_the_gate(self) -> None:
        self.gate.set()
        self.gate = threading.Event()

    def open_for_good(self) -> None:
        self.gate.set()

    @precondition(lambda self: self.report is None)
    @rule(workers=st.integers(1, 5))
    def resize(self, workers: int) -> None:
        together(lambda: self.pool.resize(workers), lambda: self.hand_over("submit", "quick"))

    @precondition(lambda self: self.report is None)
    @rule()
    def pause_and_resume(self) -> None:
        together(self.pool.pause, lambda: self.hand_over("submit", "quick"))
        together(self.pool.resume, lambda: self.hand_over("wait", "quick"))

    @rule(timeout=st.sampled_from([0.0, 1.0, 20.0]), drain=st.booleans(), kind=KINDS)
    def stop_from_three_sides(self, timeout: float, drain: bool, kind: str) -> None:
        if self.count < 10:
            return
        together(
            lambda: self.stop_it(timeout, drain),
            lambda: self.stop_it(timeout * 2, True),
            lambda: self.hand_over("wait", kind),
        )

    @invariant()
    def the_ledger_balances(self) -> None:
        assert self.pool.stats().balance() == 0

    def teardown(self) -> None:
        self.open_for_good()
        self.pool.resume()
        self.stop_it(2000.0, True)
        assert self.report is not None
        stats = self.pool.stats()
        assert stats.balance() == 0
        taken_back = [item for item, future in self.futures.items() if future.cancelled()]
        taken_back = [item for item in taken_back if item not in self.report.unprocessed]
        ends = Counter([*self.ran, *self.report.unprocessed, *taken_back, *self.shed])
        assert ends == Counter(self.accepted)
        assert stats.cancelled == len(self.report.unprocessed) + len(taken_back)
        assert sum(stats.shed.values()) == len(self.shed)
        assert stats.submitted == len(self.accepted)
        assert stats.succeeded + stats.failed + stats.abandoned == len(self.ran)
        assert all(future.done() for future in self.futures.values())
        abandoned = {lost.item for lost in self.report.abandoned}
        assert abandoned <= set(self.ran)
        told = Counter(self.failed)
        told.update(
            item
            for item, future in self.futures.items()
            if not future.cancelled() and future.exception() and not isinstance(future.exception(), Shed)
        )
        assert max(told.values(), default=1) == 1
        assert stats.failed == len(told.keys() - abandoned)


class MachineOfTasks(Machine):
    """The same on an event loop of the pool's own."""

    def __init__(self) -> None:
        self.promise: Future[None] = Future()
        super().__init__()

    def make(self) -> Pool[Item, int]:
        return self.make_with(self.aprocess)

    async def aprocess(self, item: Item) -> int:
        number, kind = self.begin(item)
        if kind == "held":
            await asyncio.shield(asyncio.wrap_future(self.promise))
        if kind == "patient":
            for _ in range(50):
                await asyncio.sleep(0)
        return number

    def open_the_gate(self) -> None:
        self.promise.set_result(None)
        self.promise = Future()

    def open_for_good(self) -> None:
        self.promise.set_result(None)


class MachineWithTimeout(Machine):
    """The same where an item may take two seconds: one that is held is given up, and one that is patient may be."""

    item_timeout = 2.0


class MachineOfTasksWithTimeout(MachineOfTasks):
    """Of those that are held, every other one ends when it is cancelled."""

    item_timeout = 2.0

    async def aprocess(self, item: Item) -> int:
        promise = self.promise
        try:
            return await super().aprocess(item)
        except asyncio.CancelledError:
            if item[0] % 2:
                raise
            await asyncio.shield(asyncio.wrap_future(promise))
            return item[0]


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=examples(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


TestMachineOfTasks = MachineOfTasks.TestCase
TestMachineOfTasks.settings = settings(TestMachine.settings, max_examples=examples(25))


TestMachineWithTimeout = MachineWithTimeout.TestCase
TestMachineWithTimeout.settings = settings(TestMachine.settings, max_examples=examples(25))


TestMachineOfTasksWithTimeout = MachineOfTasksWithTimeout.TestCase
TestMachineOfTasksWithTimeout.settings = settings(TestMachine.settings, max_examples=examples(25))


def lane(item: Item) -> int:
    return item[0] % 2


def seconds(item: Item) -> float | None:
    return None if item[0] % 3 else 0.5


RULES: dict[str, Discipline[Item]] = {
    "max_wait, deadline, overflow": Fifo(6, max_wait=0.5, deadline=seconds, overflow="drop_oldest"),
    "newest first": AdaptiveLifo(6, after=0.2),
    "controlled delay": CoDel(6, target=0.01, interval=0.2),
    "lanes": Lanes(lane, [3, Fifo(3, overflow="drop_oldest")], max_wait=0.5),
    "lanes with rules": Lanes(lane, [AdaptiveLifo(3, after=0.1), CoDel(3, target=0.01, interval=0.2)]),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("machine", [Machine, MachineOfTasks])
def test_nothing_is_lost_whoever_is_dropped(machine: type[Machine], rule: str) -> None:
    class WithRule(machine):  # type: ignore[misc, valid-type]
        queue = RULES[rule]

    run: Callable[..., None] = run_state_machine_as_test
    run(WithRule, settings=settings(TestMachine.settings, max_examples=examples(8)))


def test_a_million_items_from_20_producers_through_20_workers_with_failures() -> None:
    count, producers = 1_000_000, 20
    seen = bytearray(count)

    def process(number: int) -> None:
        seen[number] += 1
        if number % 100 == 0:
            raise ValueError(number)

    def produce(start: int) -> None:
        for number in range(start, count, producers):
            pool.submit_wait(number)

    sys.setswitchinterval(0.005)
    with Pool(process, workers=20, queue_size=1000) as pool:
        together(*[lambda start=start: produce(start) for start in range(producers)])
    stats = pool.stats()
    assert seen == b"\x01" * count
    assert (stats.submitted, stats.failed, stats.succeeded) == (count, count // 100, count - count // 100)
    assert stats.balance() == 0
    assert stats.run_success.count + stats.run_error.count == stats.queue_wait.count == count
