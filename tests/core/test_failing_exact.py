"""Keys and next attempts, with an interrupt or a signal handler after each call: no item is lost, no key stays stuck.

The workers are puppets: each comes when it is told to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.kit import Puppet, Stage, at_each_call
from workpool import ByKey, Discipline, Fifo, Lanes
from workpool._core.keys import Keys
from workpool._core.outcome import Again
from workpool._future import ItemFuture
from workpool._worker import FAILED, NONE, SUCCEEDED

Item = tuple[str, int]

RULES: dict[str, Discipline[Item]] = {"one lane": Fifo(10), "two lanes": Lanes(lambda item: item[1] % 2, [10, 10])}


def key(item: Item) -> str:
    return item[0]


class Ordered:
    """A queue with keys and two workers. Of key a the first runs and two wait beside their lanes."""

    def __init__(self, rule: str) -> None:
        self.stage = Stage(workers=2, rule=RULES[rule])
        self.queue = queue = self.stage.queue
        self.keys: Keys[Item] = Keys(ByKey(key, on_dead="hold"))
        queue.take_along(self.keys.line_of)
        queue.keys, queue.has_rules = self.keys, True
        self.took: list[object] = []
        self.futures: dict[Item, ItemFuture[Any]] = {}
        self.puppets = [Puppet(queue, "one"), Puppet(queue, "two")]
        for puppet in self.puppets:
            puppet.comes()
        for number in (1, 2, 3):
            self.call(("a", number))
            self.those_come_who_are_woken()
        assert self.took == [("a", 1)]
        self.busy = next(puppet for puppet in self.puppets if puppet.worker.entry is not None)

    def call(self, item: Item) -> None:
        self.futures[item] = self.stage.call(item)

    def those_come_who_are_woken(self) -> None:
        for puppet in self.puppets:
            if puppet.wakes:
                self.comes(puppet)

    def comes(self, puppet: Puppet, fate: int = NONE) -> None:
        taken = puppet.comes(fate)
        self.took += [] if taken is None else [taken]

    def line(self) -> Any:
        return self.keys.find("a")

    def waits(self) -> None:
        """The first waits for its next attempt."""
        assert self.queue.postpone(self.busy.worker, Again(5.0, counts=True)) == 0

    def fails(self) -> None:
        """The first has failed for good, and holds its key."""
        entry = self.busy.worker.entry
        assert entry is not None
        self.queue.hold(entry)
        self.comes(self.busy, FAILED)

    def is_whole(self) -> None:
        """All that was accepted ends, when time goes on and whoever waits looks again."""
        stats = self.queue.stats()
        for _ in range(10):
            self.stage.now += 10
            self.queue.recall()
            if (line := self.line()) is not None:
                self.queue.let_go_on(line)
                del line
            for puppet in self.puppets:
                self.comes(puppet, SUCCEEDED if puppet.worker.entry is not None else NONE)
            stats = self.queue.stats()
            assert stats.balance() == 0
        assert (stats.queue_depth, stats.running, stats.waiting, stats.keys_held) == (0, 0, 0, 0)
        runs = Counter(self.took)
        for item, future in self.futures.items():
            assert runs[item] in ((0, 1) if item != ("a", 1) else (1, 2))
            assert runs[item] or future.cancelled()


def interrupt(_: Ordered) -> None:
    raise KeyboardInterrupt


def recall(ordered: Ordered) -> None:
    ordered.stage.now += 10
    ordered.queue.recall()


def submit(ordered: Ordered) -> None:
    if ordered.queue._accepting:
        ordered.call(("b", 1))


EVENTS: dict[str, Callable[[Ordered], object]] = {
    "interrupt": interrupt,
    "recall": recall,
    "cancel": lambda ordered: [future.cancel() for future in list(ordered.futures.values())[:2]],
    "submit": submit,
    "close": lambda ordered: ordered.queue.close(drain=False),
}

ACTIONS: dict[str, tuple[Callable[[Ordered], object], Callable[[Ordered], object]]] = {
    "cancel what waits": (Ordered.waits, lambda ordered: ordered.futures["a", 1].cancel()),
    "cancel what is beside": (Ordered.waits, lambda ordered: ordered.futures["a", 2].cancel()),
    "recall": (Ordered.waits, recall),
    "close": (Ordered.waits, lambda ordered: ordered.queue.close(drain=False)),
    "postpone": (lambda _: None, Ordered.waits),
    "release": (Ordered.fails, lambda ordered: ordered.queue.let_go_on(ordered.line())),
    "cancel what is held": (Ordered.fails, lambda ordered: ordered.futures["a", 2].cancel()),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("action", ACTIONS)
def test_no_key_stays_stuck_whatever_comes_between(action: str, event: str, rule: str) -> None:
    before, act = ACTIONS[action]

    def make() -> Ordered:
        ordered = Ordered(rule)
        before(ordered)
        return ordered

    for ordered in at_each_call(make, act, EVENTS[event], KeyboardInterrupt):
        assert ordered.stage.balanced()
        if not ordered.queue._accepting:  # the stop finishes what was interrupted
            ordered.queue.close(drain=False)
        ordered.is_whole()
