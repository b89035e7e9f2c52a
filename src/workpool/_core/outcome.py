"""What an exception means for the item that raised it: again, later, no more, or the end of the pool.

Values that are asked, frozen but for the `Budget`, which belongs to one queue, under whose lock it is. What they need
of time and chance they are told.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any, Final, Literal, NamedTuple

from workpool._checked import checked_count, checked_seconds
from workpool.errors import Discard, Fatal, Invalid, ItemAbandoned, NotPicklable, Snooze, Transient, WorkerDied

__all__ = [
    "ATTEMPTS",
    "BUDGET",
    "DEATHS",
    "FATAL",
    "MAX_WAITING",
    "NOT_RETRIED",
    "Again",
    "Backoff",
    "Budget",
    "Classify",
    "Dead",
    "Discarded",
    "Exponential",
    "Failures",
    "Jitter",
    "Retry",
    "Verdict",
]

log = logging.getLogger("workpool")

# Why an item is tried no more. Plain ints, for the reason that fates are.
NOT_RETRIED: Final = 1
ATTEMPTS: Final = 2
BUDGET: Final = 3
MAX_WAITING: Final = 4
INVALID: Final = 5
FATAL: Final = 6

DEATHS: Final = ("", "not_retried", "attempts", "budget", "max_waiting", "invalid", "fatal")
"""The same in words, by those numbers."""


class Again(NamedTuple):
    """The item is to be tried again, in so many seconds."""

    seconds: float
    counts: bool
    """It was an attempt, and a failure; else the item only asked for more time."""


class Dead(NamedTuple):
    """The item has failed for good."""

    why: int


class Discarded(NamedTuple):
    """Nothing is to be done about the item, and that is no failure."""

    reason: str


Verdict = Again | Dead | Discarded

Backoff = Callable[[int], float]
"""Seconds until an item is tried again that has failed so many times, from 1."""

Jitter = Literal["full", "none"]

Classify = Callable[[Exception], BaseException | type[BaseException] | None]


@dataclass(frozen=True)
class Exponential:
    """Seconds until the next attempt: `first`, then `factor` times as many each time, but never more than `most`."""

    first: float = 0.1
    most: float = 30.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        for what in ("first", "most"):
            if checked_seconds(what, getattr(self, what)) is None:
                raise TypeError(f"{what} must be a number of seconds, not None")
        _check_factor(self.factor)

    def __call__(self, failures: int) -> float:
        try:
            return min(self.most, self.first * self.factor ** (failures - 1))
        except OverflowError:
            return self.most


def _check_factor(factor: object) -> None:
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise TypeError(f"factor must be a number, not {factor!r}")
    if not factor >= 1:
        raise ValueError(f"factor must be 1 or more, not {factor}")


@dataclass(frozen=True)
class Constant:
    """The same number of seconds before every attempt."""

    seconds: float

    def __call__(self, _: int) -> float:
        return self.seconds


ONLY_IF_NAMED: Final = (WorkerDied, NotPicklable)
"""Errors of the pool's own after which an item is not tried again because of a base of theirs: it may have killed its
process, or it has run, and nothing of it comes back."""


@dataclass(frozen=True)
class Retry:
    """Which items are tried again, when, and how many.

    An item that waits for its next attempt is with no worker and takes no slot of the queue; then it goes to the front.

    Args:
        attempts: how often an item is tried in all, the first time included.
        on: exceptions after which it is tried again; `Transient` always, `Invalid` and `Fatal` never. `WorkerDied` and
            `NotPicklable` only if they are named: the item may be what killed its process, or has done its work.
        backoff: seconds until the next attempt: a number, or a function of how many attempts have failed.
        jitter: "full": a random number of seconds up to that, so that those that failed together do not come together;
            "none": just that.
        budget: how many retries there may be for each first attempt (None: no limit): of the last ten seconds, but ten
            a second always. It keeps retries from making up most of the load where everything fails. An item for which
            there is no retry left is dead.
        max_waiting: how many items may wait for their next attempt; None: as many as the queue has slots. One more is
            dead.
    """

    attempts: int = 5
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)
    backoff: float | Backoff = Exponential()
    jitter: Jitter = "full"
    budget: float | None = 0.1
    max_waiting: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "attempts", checked_count("attempts", self.attempts, 5))
        object.__setattr__(self, "on", _checked_errors(self.on))
        object.__setattr__(self, "backoff", _checked_backoff(self.backoff))
        if self.jitter not in ("full", "none"):
            raise ValueError(f'jitter must be "full" or "none", not {self.jitter!r}')
        _check_share(self.budget)
        if self.max_waiting is not None:
            checked_count("max_waiting", self.max_waiting, 1)

    def is_for(self, error: BaseException) -> bool:
        """Whether an item that has failed so is tried again."""
        if isinstance(error, Transient):
            return True
        if isinstance(error, ItemAbandoned):  # its pool has no time left
            return False
        for kind in ONLY_IF_NAMED:
            if isinstance(error, kind):
                return any(issubclass(named, kind) for named in self._on)
        return isinstance(error, self._on)

    def seconds(self, failures: int, chance: float) -> float:
        """Until an item is tried again that has failed so many times. `chance` is from 0 to 1."""
        seconds = self._backoff(failures)
        return seconds * chance if self.jitter == "full" else seconds

    @property
    def _on(self) -> tuple[type[BaseException], ...]:
        return self.on if isinstance(self.on, tuple) else (self.on,)

    @property
    def _backoff(self) -> Backoff:
        assert callable(self.backoff)
        return self.backoff


def _checked_errors(on: Any) -> tuple[type[BaseException], ...]:
    kinds: tuple[Any, ...] = (*on,) if isinstance(on, tuple) else (on,)  # pyright: ignore[reportUnknownVariableType]
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"on must be exception types, such as (OSError, TimeoutError), not {on!r}")
    return kinds


def _checked_backoff(backoff: float | Backoff) -> Backoff:
    if callable(backoff):
        return backoff
    seconds = checked_seconds("backoff", backoff)
    if seconds is None:
        raise TypeError("backoff must be seconds, or a function such as Exponential(0.1, 30.0), not None")
    return Constant(seconds)


def _check_share(share: object) -> None:
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise TypeError(f"budget must be a number of retries for each first attempt, or None, not {share!r}")
    if not share >= 0:
        raise ValueError(f"budget must be 0 or more, or None for no limit, not {share}")


class Failures:
    """What becomes of the items of one pool that raise."""

    def __init__(self, retry: Retry | None, classify: Classify | None) -> None:
        self._retry = retry
        self._classify = classify

    def of(self, error: BaseException, attempt: int, chance: float) -> Verdict:
        """What `error`, of the attempt of that number, is to lead to. `chance` is from 0 to 1."""
        error = self._taken_for(error)
        if isinstance(error, Discard):
            return Discarded(error.reason)
        if isinstance(error, Snooze):
            return Again(error.seconds, counts=False)
        if isinstance(error, Fatal):
            return Dead(FATAL)
        if isinstance(error, Invalid):
            return Dead(INVALID)
        retry = self._retry
        if retry is None or not retry.is_for(error):
            return Dead(NOT_RETRIED)
        if attempt >= retry.attempts:
            return Dead(ATTEMPTS)
        try:
            return Again(max(0.0, retry.seconds(attempt, chance)), counts=True)
        except BaseException:  # of somebody's backoff; whatever it is, the item is to be done with
            log.exception("a backoff failed; the item is not tried again")
            return Dead(NOT_RETRIED)

    def _taken_for(self, error: BaseException) -> BaseException:
        """What `classify` says that it is, if it says anything."""
        if self._classify is None or not isinstance(error, Exception):
            return error
        try:
            told = self._classify(error)
            if isinstance(told, type):
                told = told()
        except BaseException:
            log.exception("classify failed; the error is taken for what it is")
            return error
        return told if isinstance(told, BaseException) else error


WINDOW: Final = 10
"""Seconds that a budget looks back."""

ALWAYS: Final = 10 * WINDOW
"""So many retries there may be in a window whatever the budget says: a share of few items is none."""


class Budget:
    """How many retries there may be, for the first attempts of late.

    After Finagle's retry budget: what may be spent is a share of what has come in, within a window. It counts from the
    first retry in the window, which is the sooner the fewer there are: it never allows more than the share.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._spent = 0
        self._marks: deque[tuple[int, int, int]] = deque()
        """By second: the first attempts, and the retries, that there had been when it began."""

    def take(self, now: float, firsts: int) -> bool:
        """Spend one retry, when there have been so many first attempts in all; False: none is left."""
        marks, second = self._marks, floor(now)
        if not marks or marks[-1][0] < second:
            marks.append((second, firsts, self._spent))
        while marks[0][0] <= second - WINDOW:
            marks.popleft()
        _, firsts_before, spent_before = marks[0]
        if self._spent - spent_before >= max(ALWAYS, self._share * (firsts - firsts_before)):
            return False
        self._spent += 1
        return True
