"""Where a container is made, 3.11 may collect garbage, and a finalizer hand an item over: nothing is lost by that."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import pytest

from tests.core.kit import Puppet, Stage
from workpool import Discipline, Fifo, Lanes
from workpool._control import ControlledQueue

pytestmark = pytest.mark.usefixtures("quiet")

RULES: dict[str, Discipline[str]] = {
    "one lane": Fifo(50),
    "two lanes": Lanes(lambda item: int(item[0]), [Fifo(50), Fifo(50)]),
}

ALLOCATIONS: Final = 100
"""More than any of what is done here makes: a collection comes after each of them in turn."""


@pytest.fixture(autouse=True)
def nothing_else_is_collected() -> Iterator[None]:
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


class Late:
    """Hands an item over when it is collected: it is garbage from the beginning."""

    def __init__(self, queue: ControlledQueue[Any]) -> None:
        self._queue = queue
        self._me = self

    def __del__(self) -> None:
        assert self._queue.offer("1 late", None)


def collecting(after: int, queue: ControlledQueue[Any], do: Callable[[], object]) -> None:
    """Do it; after so many allocations an item is handed over."""
    gc.collect()  # it empties the lists of freed containers, too, which need no allocation
    Late(queue)
    gc.set_threshold(after, 1000, 1000)
    gc.enable()
    try:
        do()
    finally:
        gc.disable()
        gc.collect()


@pytest.mark.parametrize("rule", RULES)
def test_a_snapshot_is_of_one_moment(rule: str) -> None:
    for after in range(1, ALLOCATIONS):
        stage = Stage(rule=RULES[rule])
        facts: list[tuple[int, tuple[int, ...]]] = []
        collecting(after, stage.queue, lambda stage=stage, facts=facts: facts.append(stage.queue._facts()))  # type: ignore[misc]
        (depth, (accepted, *_)), *_ = facts
        assert depth == accepted


@pytest.mark.parametrize("rule", RULES)
def test_who_comes_while_cancelled_items_are_swept_is_not_lost(rule: str) -> None:
    for after in range(1, ALLOCATIONS):
        stage = Stage(rule=RULES[rule])
        futures = [stage.call(f"1 {number}") for number in range(3)]
        collecting(after, stage.queue, lambda futures=futures: [future.cancel() for future in futures])  # type: ignore[misc]
        assert [future.cancelled() for future in futures] == [True] * 3
        assert stage.queued() == ["1 late"]
        assert stage.balanced()


def test_who_comes_while_a_worker_looks_at_what_it_may_take_ahead_does_not_disturb_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage(rule=Fifo(50))
    puppet = Puppet(stage.queue)
    for number in range(9):
        assert stage.queue.offer(number, None)
    assert puppet.comes() == 0

    def slice_and_come(*arguments: Any) -> Any:
        made = islice(*arguments)
        assert stage.queue.offer("late", None)
        return made

    monkeypatch.setattr("workpool._several.islice", slice_and_come)
    puppet.worker.ahead = type(stage.queue._lane.waiting)()
    stage.queue.take_ahead(puppet.worker, 3, 0.0)
    assert [entry[0] for entry in puppet.worker.ahead] == [1, 2, 3]
    assert stage.queued() == [4, 5, 6, 7, 8, "late"]
    assert stage.balanced()


@pytest.mark.parametrize("which", range(16))
def test_a_ledger_is_no_more_at_counts_of_which_one_has_changed_but_for_refusals(which: int) -> None:
    ledger = Stage(rule=RULES["two lanes"]).queue.ledger
    before = ledger.counts()
    assert ledger.is_at(before)
    assert ledger.is_at((*before[:which], 1, *before[which + 1 :])) == (which in (8, 9, 10))
