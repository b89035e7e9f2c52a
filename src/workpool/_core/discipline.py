"""Who waits, who is next, and who is dropped: the rule of the queue, as a value that opens the lanes of one.

All of them are frozen and may be shared by pools. What they need of time they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar, Union

from workpool._checked import checked_count, checked_limit, checked_seconds
from workpool._core.lane import CODEL, DEADLINE, KEEP, Judge, Lane, Lineup

__all__ = ["DEFAULT_SIZE", "AdaptiveLifo", "CoDel", "Deadline", "Discipline", "Fifo", "Lanes", "OneLane", "Overflow"]

T = TypeVar("T")

DEFAULT_SIZE: Final = 1000

Overflow = Literal["refuse", "drop_oldest"]
Deadline = Callable[[Any], float | None]


@dataclass(frozen=True)
class OneLane:
    """What the disciplines of one lane have in common.

    Args:
        size: how many accepted items may wait for a worker.
        max_wait: seconds (None: no limit). An item that has waited for longer when its turn comes is shed.
        overflow: what happens to an item for which there is no room. "refuse": `submit` raises `QueueFull`.
            "drop_oldest": it is accepted, and the item that has waited longest is shed in its place; those who wait for
            room (`submit_wait`, `map`) still do.
        deadline: called with an item whose turn has come: within how many seconds of its submission its result is of
            use; None: whenever it comes. What is left of that must be no less than the seconds that items take, of
            late; else it is shed.
    """

    size: int = DEFAULT_SIZE
    max_wait: float | None = field(default=None, kw_only=True)
    overflow: Overflow = field(default="refuse", kw_only=True)
    deadline: Deadline | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked_count("size", self.size, DEFAULT_SIZE))
        checked_seconds("max_wait", self.max_wait)
        if self.overflow not in ("refuse", "drop_oldest"):
            raise ValueError(f'overflow must be "refuse" or "drop_oldest", not {self.overflow!r}')
        if self.deadline is not None and not callable(self.deadline):
            raise TypeError(f"deadline must be a function of one item, or None, not {self.deadline!r}")

    @property
    def capacity(self) -> int:
        """How many items may wait."""
        return self.size

    def open(self) -> Lineup[Any]:
        """A new, empty lane that has this rule."""
        lane: Lane[Any] = Lane(self.size, self.overflow == "drop_oldest", self.max_wait, self._judge())
        lane.learns = self.deadline is not None
        return Lineup((lane,), choose=self._chooser(lane))

    def _judge(self) -> Judge | None:
        return None if self.deadline is None else _InTime(self.deadline)

    def _chooser(self, lane: Lane[Any]) -> Callable[[float], Lane[Any]] | None:
        return None


@dataclass(frozen=True)
class Fifo(OneLane):
    """First in, first out.

    With `max_wait` at a third of what the caller still waits for, a pool that is offered twice what it can do still
    does all that it can, for items in time.
    """


@dataclass(frozen=True)
class AdaptiveLifo(OneLane):
    """First in, first out, until the queue has not been empty for `after` seconds; then the newest first.

    In an overload some items come too late whatever one does. Newest first, those are the old ones, and the others are
    served at once; in the order of their coming, all of them are late. When it is full, the oldest is dropped.
    """

    overflow: Overflow = field(default="drop_oldest", kw_only=True)
    after: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_some("after", self.after)

    def _chooser(self, lane: Lane[Any]) -> Callable[[float], Lane[Any]]:
        return _Adapting(lane, self.after).choose


@dataclass(frozen=True)
class CoDel(OneLane):
    """First in, first out; and while items wait too long all the time, those that waited too long are shed.

    Controlled delay, as services use it (folly's `Codel`): if the least wait of an `interval` was above `target`, the
    queue is overloaded for the next one, in which every item is shed that waited for more than twice the target; but
    the first of an interval never. A burst that is worked off within an interval loses nothing. (The square-root law of
    RFC 8289, made for senders that slow down when they lose a packet, sheds far too little where they do not.)

    Args:
        target: seconds that an item may wait all the time.
        interval: seconds in which a queue that is well gets there at least once.
    """

    target: float = field(default=0.005, kw_only=True)
    interval: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_some("target", self.target)
        checked_some("interval", self.interval)

    def _judge(self) -> Judge | None:
        controlled = _Controlled(self.target, self.interval)
        return controlled.judge if self.deadline is None else _Both(controlled.judge, _InTime(self.deadline))


@dataclass(frozen=True)
class Lanes(Generic[T]):
    """Several lanes; an item is next when there is none in a lane before its own.

    Each has a size and a rule of its own, so that none can take the room of another:
    `Lanes(lambda job: 0 if job.critical else 1, [100, CoDel(50)], max_wait=0.07)`.

    Args:
        priority: called with an item when it is submitted: the number of its lane, 0 for what goes first. What it
            raises, `submit` raises; so does a number that no lane has (ValueError).
        lanes: the disciplines of the lanes; a number is short for `Fifo` of that size.
        max_wait: seconds (None: no limit) that no item may wait for, in any lane; else it is shed.
    """

    priority: Callable[[T], int]
    lanes: Sequence[int | OneLane]
    max_wait: float | None = None

    def __post_init__(self) -> None:
        if not callable(self.priority):
            raise TypeError(f"priority must be a function of one item, not {self.priority!r}")
        checked_seconds("max_wait", self.max_wait)
        object.__setattr__(self, "lanes", _checked_lanes(self.lanes))

    @property
    def capacity(self) -> int:
        """How many items may wait, in all lanes."""
        return sum(lane.size for lane in self._inner)

    @property
    def _inner(self) -> Sequence[OneLane]:
        return self.lanes  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # none is a number any more

    def open(self) -> Lineup[T]:
        """New, empty lanes that have these rules."""
        opened = [lane.open() for lane in self._inner]
        for inner in opened:
            for lane in inner.lanes:
                lane.bound(self.max_wait)
        lanes = tuple(inner.lanes[0] for inner in opened)
        choosers = {inner.lanes[0]: inner.choose for inner in opened if inner.choose is not None}
        turn = _InTurn(lanes, choosers)
        return Lineup(lanes, self.priority, _Numbered(enumerate(lanes)), turn.choose if choosers else turn.first)


Discipline = Union[OneLane, Lanes[T]]  # noqa: UP007 - with `|` it could not be asked for the types that it holds
"""The rule of a queue of items of type `T`."""


def checked_some(what: str, seconds: object) -> None:
    """Seconds above 0. Raises TypeError or ValueError."""
    if seconds is None:
        raise TypeError(f"{what} must be a number of seconds, not None")
    checked_limit(what, seconds)


def _checked_lanes(lanes: Any) -> tuple[OneLane, ...]:
    if not _is_list(lanes) or not lanes:
        raise TypeError(f"lanes must be a list of sizes or disciplines, one for each lane, not {lanes!r}")
    return tuple(map(_checked_lane, lanes))


def _is_list(lanes: object) -> bool:
    return isinstance(lanes, Sequence) and not isinstance(lanes, str)


def _checked_lane(lane: object) -> OneLane:
    if isinstance(lane, OneLane):
        return lane
    if isinstance(lane, Lanes):
        raise TypeError(f"a lane cannot have lanes itself: {lane!r}")
    if isinstance(lane, bool) or not isinstance(lane, int):
        raise TypeError(f"a lane must be a size or a discipline, not {lane!r}")
    return Fifo(lane)


class _Numbered(dict[int, Lane[Any]]):
    """Lanes by their numbers: a priority is looked up in no more than a step of its own."""

    def __missing__(self, number: object) -> NoReturn:
        raise ValueError(f"priority gave {number!r} for an item; the lanes are numbered from 0 to {len(self) - 1}")


class _InTurn:
    """The first lane that is not empty; if all are, the first."""

    def __init__(
        self, lanes: tuple[Lane[Any], ...], choosers: Mapping[Lane[Any], Callable[[float], Lane[Any]]]
    ) -> None:
        """`choosers` turn the lanes that either end may be next of."""
        self._lanes = lanes
        self._choosers = choosers

    def first(self, _: float) -> Lane[Any]:
        for lane in self._lanes:
            if lane.waiting:
                return lane
        return self._lanes[0]

    def choose(self, now: float) -> Lane[Any]:
        lane = self.first(now)
        chooser = self._choosers.get(lane)
        return lane if chooser is None else chooser(now)


class _Adapting:
    """Which end of a lane is next. Only a hint: others may come and go meanwhile."""

    def __init__(self, lane: Lane[Any], after: float) -> None:
        self._lane = lane
        self._after = after
        self._since = inf
        """Since when it has not been empty."""

    def choose(self, now: float) -> Lane[Any]:
        lane = self._lane
        waiting = lane.waiting
        if len(waiting) <= 1:
            self._since = inf
        elif self._since == inf:
            try:
                self._since = waiting[0][1]
            except IndexError:  # somebody was quicker
                pass
        lane.turn(now - self._since > self._after)
        return lane


class _InTime:
    """Whether an item can still be done in time."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def __call__(self, item: object, waited: float, age: float, now: float, run: float) -> int:
        limit = self._deadline(item)
        return KEEP if limit is None or limit - age >= run else DEADLINE


class _Controlled:
    """Controlled delay. Workers may come at the same time: then one wait more or less counts in an interval."""

    def __init__(self, target: float, interval: float) -> None:
        self._target = target
        self._interval = interval
        self._until = -inf
        self._least = 0.0
        self._overloaded = False

    def judge(self, item: object, waited: float, age: float, now: float, run: float) -> int:
        if now > self._until:
            self._until = now + self._interval
            self._overloaded = self._least > self._target
            self._least = waited
            return KEEP
        self._least = min(self._least, waited)
        return CODEL if self._overloaded and waited > 2 * self._target else KEEP


class _Both:
    """Two rules, each of which sees every item."""

    def __init__(self, first: Judge, second: Judge) -> None:
        self._first = first
        self._second = second

    def __call__(self, item: object, waited: float, age: float, now: float, run: float) -> int:
        one, other = self._first(item, waited, age, now, run), self._second(item, waited, age, now, run)
        return one or other
