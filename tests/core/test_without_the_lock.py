"""With the GIL, an item is handed over and taken without the lock: in steps between which nobody can come.

What holds the lock meanwhile must reckon with that at each of its calls. So here an item comes, or a worker, after
every single call of every section; and what keeps the steps whole is read off the bytecode.
"""

from __future__ import annotations

import dis
import inspect
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Final

import pytest

from tests.core.kit import Puppet, Stage, at_each_call, in_thread, together
from workpool import AdaptiveLifo, Discipline, Fifo, Lanes, Pool, QueueFull
from workpool._fate import succeeded_for
from workpool._future import Place
from workpool._interpreter import GIL
from workpool._ordering import OrderingQueue
from workpool._queue import BoundedQueue
from workpool._worker import NONE, SUCCEEDED, TELLING, Entry

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.skipif(not GIL, reason="every step takes the lock here")]


RULES: dict[str, Discipline[str]] = {
    "one lane": Fifo(5),
    "shedding": Fifo(5, max_wait=0.5),  # all that is queued from the beginning
    "newest first": AdaptiveLifo(5, after=0.5, overflow="refuse"),
    "two lanes": Lanes(lambda item: len(item) % 2, [2, 3]),
}
DROPPING: Final = Fifo(5, overflow="drop_oldest")


class Scene(Stage):
    """A worker that runs an item, so many idle ones, and what is queued, of five at most."""

    def __init__(self, *queued: str, calls: tuple[str, ...] = (), idle: int = 1, rule: str = "one lane") -> None:
        super().__init__(workers=3, rule=RULES.get(rule, DROPPING))
        self.now = -1.0
        self.dropped: list[str] = []
        self.queue.tell_shed = lambda item, _: self.dropped.append(item)
        self.items: list[str] = []
        self.taken: list[object] = []
        self.busy = Puppet(self.queue, "busy")
        self.busy.worker.at = self.now
        self.submits("running")
        assert self.busy.comes() == "running"
        self.busy.worker.at = 0.0
        self.idle = [Puppet(self.queue, "idle") for _ in range(idle)]
        for puppet in self.idle:
            assert puppet.comes() is None
        for item in queued:
            self.submits(item)
        self.futures = [self.call(item) for item in calls]
        self.items += calls
        self.names = calls
        self.now = 0.0

    def submits(self, item: str = "new") -> None:
        if self.queue.offer(item, None):
            self.items.append(item)

    def takes(self) -> None:
        """The busy worker ends what it has and comes for the next, if it can without the lock, which somebody else has.

        Of a call it first says that it is done, as every worker does: that, too, without the lock."""
        queue, worker = self.queue, self.busy.worker
        lane = queue._lane if queue._choose is None else queue._choose(0.0)
        waiting = lane.waiting
        if not waiting or worker.pending not in (NONE, TELLING) or queue._detour or lane.waiters:
            return
        if self.busy.is_coming:  # it is what this interrupts
            return
        future = waiting[lane.first][2]
        if future is None or future.place is Place.QUEUED:
            self.taken += filter(None, [self.busy.comes(self.ends())])

    def ends(self) -> int:
        """The fate of what the busy worker has in hand, when it comes."""
        worker = self.busy.worker
        future = None if worker.entry is None else worker.entry[2]
        if future is None:
            return NONE if worker.entry is None else SUCCEEDED
        future.set_running_or_notify_cancel()
        succeeded_for(self.queue, worker, future, "result")
        return NONE

    def is_whole(self) -> None:
        """The ledger balances, the slots add up, and each item that was accepted is in one place."""
        queue = self.queue
        stats = in_thread(queue.stats).result()
        assert stats.balance() == 0
        assert stats.submitted == len(self.items)
        handed_back = [item for item, _, future, _ in queue.handed_back or () if future is None]
        cancelled = [
            name
            for name, future in zip(self.names, self.futures, strict=True)
            if name not in self.taken and (future.cancelled() or queue.handed_back)
        ]
        assert not any(
            future.cancelled() for name, future in zip(self.names, self.futures, strict=True) if name in self.taken
        )
        found = ["running", *self.taken, *self.queued(), *handed_back, *cancelled, *self.dropped]
        assert sum(stats.shed.values()) == len(self.dropped)
        assert sorted(map(str, found)) == sorted(self.items)
        if stats.state == "running":
            kept = sum(waiter.granted for lane in queue.lanes for waiter in lane.waiters)
            assert self.room() == queue.size - stats.queue_depth - kept

    def nobody_sleeps_over_an_item(self) -> None:
        """Whoever was woken, or is awake, sees to all that is queued."""
        queue = self.queue
        for _ in range(20):
            for puppet in (*self.idle, self.busy):
                if puppet.wakes or puppet.worker.entry is not None:
                    puppet.comes(SUCCEEDED if puppet.worker.entry is not None else 0)
        assert self.queued() == []
        assert queue.ledger.running == 0


def make(*queued: str, calls: tuple[str, ...] = (), idle: int = 1, rule: str = "one lane") -> Callable[[], Scene]:
    return partial(Scene, *queued, calls=calls, idle=idle, rule=rule)


def cut(scene: Scene) -> None:
    scene.queue.close(drain=True)
    scene.queue.cut()


def abandon(scene: Scene) -> None:
    cut(scene)
    scene.queue.abandon()


def wait_for_room(scene: Scene) -> None:
    scene.while_parked = lambda: None
    try:
        scene.put_wait("late", None, 0)
    except QueueFull:
        return
    scene.items.append("late")


class InHand(Scene):
    """The busy worker has a call in hand."""

    def __init__(self, *queued: str, calls: tuple[str, ...]) -> None:
        super().__init__(*queued, calls=calls)
        self.takes()


def give_up(scene: Scene) -> None:
    """What the busy worker had in hand when it was looked at."""
    worker = scene.busy.worker
    entry = worker.entry
    assert entry is not None
    scene.queue.mark_late(worker, entry, worker.began)
    if scene.queue.give_up(worker, entry, 1.0):
        assert worker.entry is entry
        scene.queue.let_go(worker)


def pause_and_resume(scene: Scene) -> None:
    scene.queue.pause()
    scene.queue.resume()


def looks(scene: Scene) -> None:
    assert scene.queue.stats().balance() == 0


STEERING: dict[str, Callable[[Scene], object]] = {
    "submit": lambda scene: scene.submits("newer"),
    "wait for room": wait_for_room,
    "cancel": lambda scene: scene.futures[0].cancel(),
    "cancel both": lambda scene: [future.cancel() for future in scene.futures],
    "stats": looks,
    "join": lambda scene: scene.joins(0.0),
    "pause": pause_and_resume,
    "give up": give_up,
    "shrink": lambda scene: scene.queue.resize(1),
    "close": lambda scene: scene.queue.close(drain=True),
    "close without a drain": lambda scene: scene.queue.close(drain=False),
    "cut": cut,
    "abandon": abandon,
}


@pytest.mark.parametrize("action", STEERING)
@pytest.mark.parametrize(("rule", "full"), [("one lane", False), *((rule, True) for rule in RULES)])
def test_a_worker_that_takes_an_item_after_any_call_leaves_the_queue_whole(action: str, full: bool, rule: str) -> None:
    queued = ("first", "fourth", "fifth") if full else ("first",)
    for scene in at_each_call(make(*queued, calls=("second", "third"), rule=rule), STEERING[action], Scene.takes):
        scene.is_whole()


@pytest.mark.parametrize("queued", [(), ("fourth",)], ids=["alone", "and more"])
@pytest.mark.parametrize("action", [name for name in STEERING if name != "wait for room"])
def test_a_worker_that_ends_a_call_after_any_call_leaves_the_queue_whole(action: str, queued: tuple[str, ...]) -> None:
    def start() -> InHand:
        scene = InHand(calls=("second", "third"))
        for item in queued:
            scene.submits(item)
        return scene

    for scene in at_each_call(start, STEERING[action], ends_and_takes):
        given_up = action in ("give up", "abandon")
        if not (given_up or scene.futures[0].done()):  # the action made fewer calls than that
            ends_and_takes(scene)
        assert given_up or scene.futures[0].result(0) == "result"
        scene.is_whole()


def ends_and_takes(scene: Scene) -> None:
    before = scene.queue.ledger.running
    fate = scene.ends()
    assert (scene.busy.worker.pending == TELLING) == (scene.queue.ledger.running < before)
    if fate == NONE:
        scene.takes()


class Far(Scene):
    """Beside the busy worker, one that has taken several."""

    def __init__(self, *queued: str, calls: tuple[str, ...] = (), ahead: int) -> None:
        super().__init__(*queued, calls=calls, idle=0)
        self.far = Puppet(self.queue, "far")
        self.far.worker.ahead = deque()
        assert self.far.comes() == "first"
        self.queue.take_ahead(self.far.worker, ahead, 0.0)
        self.hand = self.in_hand()

    def in_hand(self) -> list[object]:
        worker = self.far.worker
        return [entry[0] for entry in (worker.entry, *worker.ahead) if entry is not None]

    def is_whole(self) -> None:
        self.taken += [*self.hand[: self.far.worker.passed], *self.in_hand()]
        super().is_whole()


def interrupt(_: Scene) -> None:
    raise KeyboardInterrupt


FAR: dict[str, Callable[[Far], object]] = {
    "takes": lambda scene: scene.queue.take_ahead(scene.far.worker, 2, 0.0),
    "settles": lambda scene: scene.queue.settle_untold(scene.far.worker, SUCCEEDED, 3),
    "puts back": lambda scene: scene.queue.put_back(scene.far.worker, 2),
}

MEANWHILE: dict[str, Callable[[Far], object]] = {
    "takes": Scene.takes,
    "submit": lambda scene: scene.submits("newer"),
    "stats": looks,
    "pause": pause_and_resume,
    "close": lambda scene: scene.queue.close(drain=True),
    "close without a drain": lambda scene: scene.queue.close(drain=False),
    "abandon": abandon,
    "interrupt": interrupt,
}


@pytest.mark.parametrize("event", MEANWHILE)
@pytest.mark.parametrize("action", FAR)
@pytest.mark.parametrize(
    ("queued", "calls"), [(("first", "second", "third", "fourth", "fifth"), ()), (("first",), ("second", "third"))]
)
def test_whatever_happens_after_any_call_of_a_worker_that_has_several_each_item_is_in_one_place(
    event: str, action: str, queued: tuple[str, ...], calls: tuple[str, ...]
) -> None:
    make_far = partial(Far, *queued, calls=calls, ahead=0 if action == "takes" else 2)
    for scene in at_each_call(make_far, FAR[action], MEANWHILE[event], KeyboardInterrupt):
        scene.is_whole()


def press(scene: Scene) -> None:
    scene.items.append("pressed")
    scene.queue.press("pressed", None)


def press_from_a_handler(scene: Scene) -> None:
    if not scene.queue.offer("handler's", None):
        scene.queue.press("handler's", None)
    scene.items.append("handler's")


PRESSING: dict[str, Callable[[Scene], object]] = {
    "take": Scene.takes,
    "submit": press_from_a_handler,
    "cancel": lambda scene: [future.cancel() for future in scene.futures],
}


@pytest.mark.parametrize("event", PRESSING)
@pytest.mark.parametrize("calls", [(), ("second", "third")], ids=["", "calls"])
@pytest.mark.parametrize("kept", [True, False], ids=["oldest", "oldest cancelled"])
def test_whatever_happens_after_any_call_of_who_drops_the_oldest_each_item_is_in_one_place(
    event: str, calls: tuple[str, ...], kept: bool
) -> None:
    queued = ("first", "fourth", "fifth") if calls else ("first", "fourth", "fifth", "sixth", "seventh")

    def start() -> Scene:
        scene = Scene(*queued, calls=calls, rule="dropping")
        if calls and not kept:
            scene.takes()
            scene.futures[0].cancel()
            scene.submits("eighth")
            scene.submits("ninth")
        return scene

    for scene in at_each_call(start, press, PRESSING[event]):
        scene.queue.tell_dropped()
        scene.is_whole()


def test_an_interrupt_after_any_call_of_who_drops_the_oldest_loses_nothing() -> None:
    for scene in at_each_call(make("1", "2", "3", "4", "5", rule="dropping"), press, interrupt, KeyboardInterrupt):
        scene.queue.tell_dropped()
        if scene.queue.ledger.accepted < len(scene.items):
            scene.items.remove("pressed")
        scene.dropped = [*dict.fromkeys(scene.dropped)]  # who is interrupted as it tells of one tells of it again
        scene.is_whole()


def test_the_pool_is_not_idle_between_two_items_wherever_a_join_looks() -> None:
    looks: list[bool] = []
    for scene in at_each_call(make("first"), lambda scene: looks.append(scene.queue.idle), Scene.takes):
        assert scene.queue.ledger.running == 1
    assert looks
    assert not any(looks)


def rests(scene: Scene) -> None:
    scene.busy.comes(SUCCEEDED)


def comes_woken(scene: Scene) -> None:
    scene.idle[-1].comes()


COMINGS: dict[str, tuple[Callable[..., Scene], Callable[[Scene], None]]] = {
    "to rest": (make(), rests),
    "alone, to rest": (make(idle=0), rests),
    "alone, to a call": (make(calls=("second",), idle=0), rests),
    "woken": (make("first"), comes_woken),
    "woken, to more": (make("first", "fourth"), comes_woken),
    "woken, to nothing": (make(), comes_woken),
    "to a call": (make(calls=("second",)), rests),
    "woken, to a call": (make(calls=("second",)), comes_woken),
}


@pytest.mark.parametrize("coming", COMINGS)
@pytest.mark.parametrize("rule", ["one lane", "shedding", "two lanes"])
@pytest.mark.parametrize("event", [Scene.submits, Scene.takes], ids=["submit", "take"])
def test_an_item_or_a_worker_after_any_call_of_a_worker_that_comes_leaves_nobody_asleep(
    coming: str, rule: str, event: Callable[[Scene], None]
) -> None:
    start, action = COMINGS[coming]
    for scene in at_each_call(partial(start, rule=rule), action, event):
        assert in_thread(scene.queue.stats).result().balance() == 0
        scene.nobody_sleeps_over_an_item()
        assert in_thread(scene.queue.stats).result().balance() == 0


def test_a_second_idle_worker_is_woken_when_an_item_comes_as_the_first_looks() -> None:
    """Else it would wait for the first to be done with its own, however long that takes."""
    for scene in at_each_call(make("first", idle=2), comes_woken, Scene.submits):
        assert scene.idle[1].worker.entry is not None
        assert scene.idle[0].wakes == len(scene.queued())


def test_an_interrupt_after_any_call_of_a_worker_that_takes_an_item_does_not_lose_it() -> None:
    for scene in at_each_call(make("first"), rests, interrupt, KeyboardInterrupt):
        in_hand = scene.busy.worker.entry
        assert in_hand is not None
        assert (in_hand[0], scene.queued()) in (("running", ["first"]), ("first", []))
        assert in_thread(scene.queue.stats).result().balance() == 0


@pytest.mark.parametrize(
    "detour", [lambda queue: queue.pause(), lambda queue: queue.resize(1)], ids=["pause", "resize"]
)
def test_a_worker_that_ends_its_item_takes_no_other_under_a_pause_or_when_it_is_one_too_many(detour: Any) -> None:
    scene = Scene("first", idle=1)
    detour(scene.queue)
    assert scene.busy.comes(SUCCEEDED) is None
    assert scene.queued() == ["first"]


# -- the steps themselves -----------------------------------------------------------------------

BREAKS = ("CALL", "JUMP_BACKWARD", "RESUME", "YIELD_VALUE", "SEND", "WITH", "IMPORT", "FOR_ITER", "BEFORE_")
"""Opcodes after or in which the interpreter may do something else (3.11 to 3.15), and a few to be safe."""


def step(function: object, first: str, last: str) -> list[str]:
    """The opcodes of a method from the line that contains `first` to the line of `last`, without its last call."""
    assert isinstance(function, FunctionType)
    lines, at = inspect.getsourcelines(function)
    start = next(at + number for number, line in enumerate(lines) if first in line)
    end = next(at + number for number, line in enumerate(lines) if last in line and at + number >= start)
    found: list[str] = []
    now = 0
    for instruction in dis.get_instructions(function):
        position = instruction.positions
        now = position.lineno if position is not None and position.lineno is not None else now
        if start <= now <= end:
            found.append(instruction.opname)
    last_call = max(number for number, name in enumerate(found) if name.startswith("CALL"))
    return found[:last_call]


@pytest.mark.parametrize(
    ("method", "first", "last"),
    [
        (BoundedQueue.offer, "if GIL", "push(entry)"),
        (Pool.submit_wait, "if queue.waking", "push(entry)"),
        (BoundedQueue.takes, "alone\n", "pop()"),
        (BoundedQueue.succeed, "if worker.settles_freely", "return self.settle"),
        (OrderingQueue._take_free, "waiting = lane.waiting", "pop()"),
    ],
)
def test_between_the_check_and_the_push_or_pop_there_is_no_call(method: object, first: str, last: str) -> None:
    names = step(method, first, last)
    assert len(names) > 20
    assert [name for name in names if name.startswith(BREAKS) and name != "PRECALL"] == []


def test_threads_that_switch_at_every_chance_keep_the_bound_and_run_each_item_once() -> None:
    ran: list[int] = []
    depths: list[int] = []
    pool: Pool[int, None] = Pool(ran.append, workers=4, queue_size=3)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with pool:

            def produce(first: int) -> None:
                for number in range(first, first + 3000):
                    pool.submit_wait(number)

            def watch() -> None:
                for _ in range(1000):
                    stats = pool.stats()
                    depths.append(stats.queue_depth)
                    assert stats.balance() == 0

            together(*(partial(produce, first) for first in (0, 3000, 6000)), watch)
    finally:
        sys.setswitchinterval(before)
    assert sorted(ran) == list(range(9000))
    assert max(depths) <= 3


def test_a_worker_under_a_tracer_takes_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(workers=2)
    stage.queue.offer("first", None)
    taken: list[Any] = []
    real = stage.queue.try_acquire

    def count() -> bool:
        taken.append(None)
        return real()

    stage.queue.try_acquire = count
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        puppet = Puppet(stage.queue)
        taken.clear()
        assert puppet.comes() == "first"
    finally:
        sys.settrace(before)
    assert len(taken) == 1


def test_an_item_goes_in_and_out_while_another_thread_has_the_lock() -> None:
    stage = Stage(size=2)
    puppet = Puppet(stage.queue)
    in_thread(stage.queue.acquire).result()
    assert in_thread(lambda: stage.queue.offer("first", None)).result()
    assert puppet.comes() == "first"
    entry: Entry[Any] | None = puppet.worker.entry
    assert entry is not None
    assert stage.queued() == []
