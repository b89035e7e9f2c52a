"""The lifecycle is one table, and every pair of state and event is in it."""

from __future__ import annotations

from itertools import product

import pytest

from workpool import PoolAlreadyStarted, PoolError, PoolStopped
from workpool._core.lifecycle import MOVES, NOT_ACCEPTING, REFUSALS, Event, State, after, diagram


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_either_moves_or_refuses(state: State, event: Event) -> None:
    assert ((state, event) in MOVES) != ((state, event) in REFUSALS)
    if (state, event) in MOVES:
        assert after(state, event, "p") is MOVES[state, event]
    else:
        with pytest.raises(PoolError, match="pool 'p' "):
            after(state, event, "p")


def test_stopped_is_for_ever() -> None:
    assert {MOVES.get((State.STOPPED, event), State.STOPPED) for event in Event} == {State.STOPPED}


def test_a_second_start_and_a_start_after_the_end_are_told_apart() -> None:
    for state in (State.RUNNING, State.DRAINING):
        with pytest.raises(PoolAlreadyStarted):
            after(state, Event.START, "p")
    with pytest.raises(PoolStopped):
        after(State.STOPPED, Event.START, "p")


def test_every_state_that_does_not_accept_has_its_refusal() -> None:
    assert set(NOT_ACCEPTING) == set(State) - {State.RUNNING}


def test_the_diagram_draws_every_move_that_changes_the_state() -> None:
    assert diagram().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> NEW",
        "    NEW --> RUNNING: start",
        "    NEW --> STOPPED: close",
        "    RUNNING --> DRAINING: close",
        "    RUNNING --> STOPPED: fork",
        "    DRAINING --> STOPPED: finish",
        "    DRAINING --> STOPPED: fork",
        "    STOPPED --> [*]",
    ]
