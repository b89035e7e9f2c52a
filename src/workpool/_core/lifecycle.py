"""The life of a pool, as one table.

Rules: every change of state goes through `after`. Nobody compares states to choose a move. Every pair
of state and event is in `MOVES` or in `REFUSALS`, and a test visits each. The diagram in the
documentation is `diagram()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from workpool.errors import PoolAlreadyStarted, PoolError, PoolNotStarted, PoolStopped

__all__ = ["MOVES", "NOT_ACCEPTING", "REFUSALS", "Event", "State", "after", "diagram"]


class State(Enum):
    """Where a pool is in its life."""

    NEW = "new"
    """Constructed: no worker yet, nothing is accepted."""
    RUNNING = "running"
    """Accepts items and runs them."""
    DRAINING = "draining"
    """Accepts nothing; the workers finish what was accepted."""
    STOPPED = "stopped"
    """For ever: every accepted item has met its fate."""


class Event(Enum):
    """What can happen to a pool."""

    START = "start"
    CLOSE = "close"
    """Somebody wants it to stop, with or without a drain."""
    FINISH = "finish"
    """The last worker left, or was given up."""
    FORK = "fork"
    """This is a forked child: the workers stayed in the parent."""


MOVES: Final[Mapping[tuple[State, Event], State]] = {
    (State.NEW, Event.START): State.RUNNING,
    (State.NEW, Event.CLOSE): State.STOPPED,
    (State.NEW, Event.FORK): State.NEW,
    (State.RUNNING, Event.CLOSE): State.DRAINING,
    (State.RUNNING, Event.FORK): State.STOPPED,
    (State.DRAINING, Event.CLOSE): State.DRAINING,
    (State.DRAINING, Event.FINISH): State.STOPPED,
    (State.DRAINING, Event.FORK): State.STOPPED,
    (State.STOPPED, Event.CLOSE): State.STOPPED,
    (State.STOPPED, Event.FINISH): State.STOPPED,
    (State.STOPPED, Event.FORK): State.STOPPED,
}

REFUSALS: Final[Mapping[tuple[State, Event], tuple[type[PoolError], str]]] = {
    (State.RUNNING, Event.START): (PoolAlreadyStarted, "is started already"),
    (State.DRAINING, Event.START): (PoolAlreadyStarted, "was started before, and is draining now"),
    (State.STOPPED, Event.START): (PoolStopped, "is stopped, and a pool starts only once; make a new one"),
    (State.NEW, Event.FINISH): (PoolNotStarted, "has no workers that could finish"),
    (State.RUNNING, Event.FINISH): (PoolAlreadyStarted, "cannot finish while it accepts items"),
}

NOT_ACCEPTING: Final[Mapping[State, tuple[type[PoolError], str]]] = {
    State.NEW: (PoolNotStarted, "is not started; enter it with `with`, or call start()"),
    State.DRAINING: (PoolStopped, "is draining and accepts nothing more"),
    State.STOPPED: (PoolStopped, "is stopped"),
}


def after(state: State, event: Event, name: str) -> State:
    """The state that follows, or the error for an event that has no place there.

    `name` is the pool's, for the error's text.
    """
    move = MOVES.get((state, event))
    if move is not None:
        return move
    error, why = REFUSALS[state, event]
    raise error(f"pool {name!r} {why}")


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    lines += [
        f"    {state.name} --> {move.name}: {event.value}"
        for (state, event), move in MOVES.items()
        if state is not move
    ]
    return "\n".join([*lines, "    STOPPED --> [*]"])
