"""Workers whose items run in a process or an interpreter: this side of it.

Each has a thread here, and a socket of its own. A batch is sent and followed until its end, and while it runs the next
is sent ahead, if the queue has enough for all: so the child need not wait for its parent between two, and wakes it only
when it has nothing more to do. What is sent is done in its order. If it takes longer than was expected, what the child
has not begun is taken back, for whoever is idle; then nothing more is sent until the child is through with all of it.
"""

from __future__ import annotations

import logging
import pickle
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from itertools import count
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool._worker import FUTURE, Worker, attempt_of
from workpool.errors import NotPicklable, WorkerDied
from workpool.workers import board, child
from workpool.workers.channel import LEAVE, LONGEST, Channel, Distant
from workpool.workers.crossing import PROTOCOL, Refused, dumps, is_raw, loads_error
from workpool.workers.doorbell import Doorbell
from workpool.workers.seats import Chair, Hand, Outcome, Plan, SeatUnfit
from workpool.workers.settings import Interpreters, Processes
from workpool.workers.threads import Threads
from workpool.workers.wire import Kind, note, parts
from workpool.workers.wrapping import late

__all__ = ["DistantSeat", "DistantWorkers"]

T = TypeVar("T")

PATIENCE: Final = 4 / 3
"""So many times as long as a batch is to take, it may, before what the child has not begun of it is taken back."""

PAUSE: Final = 0.002
"""Seconds, to begin with, between two looks whether an item has begun that held others up."""

SHORTEST: Final = 0.0002
"""Seconds between two looks at the board. No reason for this number, but that a look costs a tenth of it."""

LAST_WORDS: Final = 0.5
"""Seconds that a child has to say where it is, before it is killed over an item that takes too long."""

PLAIN: Final = note(False, 1)
"""Of an item whose result nobody wants, and that was not tried before: of most that come in large batches."""

SIMPLE: Final = frozenset({int, str, bytes, float, bool, type(None)})
"""Types whose values share no state: a batch of them can be pickled as one."""


class DistantWorkers(Threads[T]):
    """The threads of one pool that each have something distant to run their items."""

    def __init__(
        self,
        queue: ControlledQueue[T],
        process: Callable[[T], object],
        hooks: Hooks[T],
        settings: Processes | Interpreters,
        plan: Plan,
    ) -> None:
        super().__init__(queue, process, hooks)
        _check_crossing(process, settings)
        self._settings = settings
        self._plan = plan

    @abstractmethod
    def _start(self, setup: child.Setup) -> Distant:
        """Start what is distant. Raises OSError or RuntimeError if the system has no more to give."""

    def _prepared(self, name: str) -> tuple[Worker[T], Callable[[], None]]:
        bell = Doorbell()
        worker: Worker[T] = Worker(name, bell.ring)
        setup = child.Setup(
            self._queue.name,
            name,
            self._process,
            self._settings.initializer,
            self._settings.initargs,
            logging.getLogger().level,
        )
        limit = self._settings.start_timeout if isinstance(self._settings, Processes) else None
        opening = partial(_open, self._queue, worker, bell, partial(self._start, setup), limit)
        return worker, Chair(self._queue, worker, self._hooks, self._plan, opening).run


def _check_crossing(process: object, settings: Processes | Interpreters) -> None:
    """Raises TypeError if the functions cannot be sent there."""
    where = "process" if isinstance(settings, Processes) else "interpreter"
    for what, function in (
        ("process", process),
        ("initializer", settings.initializer),
        ("initargs", settings.initargs),
    ):
        try:
            pickle.dumps(function, PROTOCOL)
        except Exception as error:
            raise TypeError(
                f"{what}={function!r} cannot be sent to a worker's {where}: {error}; define it with `def` at the top "
                "level of a module, and bind arguments with functools.partial"
            ) from error


def _open(
    queue: ControlledQueue[T], worker: Worker[T], bell: Doorbell, start: Callable[[], Distant], limit: float | None
) -> DistantSeat[T]:
    """Start a child, and wait until it is ready. Raises `SeatUnfit`."""
    try:
        new = start()
    except Exception as error:
        raise SeatUnfit(f"nothing can be started for it: {type(error).__name__}: {error}") from error
    worker.cancels = [partial(new.tell, child.CANCEL)]
    worker.end = new.kill
    worker.expire = _ring(bell)
    if worker.given_up and new.kill is not None:
        new.kill()
    elif worker.cancelled:
        new.tell(child.CANCEL)
    try:
        channel = Channel(new, bell)
        channel.wait_until_ready(limit)
        return DistantSeat(queue, worker, new, channel)
    except SeatUnfit:
        raise
    except BaseException as error:
        new.end(0)
        raise SeatUnfit(f"it could not be followed: {type(error).__name__}: {error}") from error


def _ring(bell: Doorbell) -> Callable[[object], None]:
    """The thread of the worker sees to what takes too long: it alone knows that the child still runs that."""

    def expire(_: object) -> None:
        bell.ring()

    return expire


class DistantSeat(Generic[T]):
    """Where the items of one worker run, until it is gone."""

    def __init__(self, queue: ControlledQueue[T], worker: Worker[T], child: Distant, channel: Channel) -> None:
        self._queue = queue
        self._worker = worker
        self._child = child
        self._channel = channel
        self._board = child.board
        self._board.lift()
        self._late: int | None = None
        """The item that took too long: the child was killed over it, or told to end early if nothing can kill it."""
        self._spent = False
        """The child may live, and is to have nothing more to do."""
        # Of items, by their numbers.
        self._first = -worker.passed
        """What number the first that the worker ever had would have."""
        self._sent = 0
        """Before this all were sent."""
        self._front = 0
        """Before this are those of the batch that the child is on; from this on, what was sent ahead."""
        self._kept = 0
        """Before this all are left to the child, or have ended."""
        self._wanted = 0
        """From this on, nobody waits for the result of any that was sent."""
        self._certain = 0
        """Before this all are the child's, when some were taken back."""
        self._cut = False
        """Some were taken back, and the child may not be through with them."""
        self._due = 0.0
        """When the batch that the child is on takes too long."""
        self._pause = PAUSE

    @property
    def gone(self) -> bool:
        return self._spent or self._channel.gone

    def run(self, hand: Hand[T], take_more: Callable[[], bool]) -> None:
        hand.begin()
        self._open()
        self._dispatch(hand, 0)
        self._follow(hand, take_more)
        if self.gone:
            self._bury(hand)
        if hand.left:
            hand.put_back(hand.left)
        if self._late is not None:  # it believes that it is to end
            self._spent = True

    def abort(self, hand: Hand[T]) -> None:
        """Something here has failed amid a batch: end the child, and settle what it has done by its board."""
        self._spent = True
        if self._child.kill is not None:
            self._child.kill()
            self._channel.hear_out()
        self._bury(hand)
        hand.put_back(hand.left)

    def _open(self) -> None:
        """The child has nothing more to begin, and nothing of its last items is in hand: what comes has new numbers."""
        if self._cut:
            self._cut = False
            self._board.lift()
        self._kept = self._sent
        self._first = self._sent - self._worker.passed

    def _dispatch(self, hand: Hand[T], start: int) -> None:
        """Send what is in hand from there on.

        It counts as the child's from before the first byte goes out: what it has not begun after all, its board says.
        """
        entries = hand.entries(start)
        kind, body = _packed([entry[0] for entry in entries])
        notes = bytes(
            [
                PLAIN if entry[2] is None and entry[3] is None else note(entry[2] is not None, attempt_of(entry))
                for entry in entries
            ]
        )
        views = parts(kind, notes, body, number=self._sent, items=len(entries))
        hand.awaited = any(map(FUTURE, entries))
        if hand.awaited:
            self._wanted = self._sent + len(entries)
        self._sent = self._kept = self._sent + len(entries)
        self._board.announce(self._sent)
        self._channel.send(views)
        hand.sent()

    def _follow(self, hand: Hand[T], take_more: Callable[[], bool]) -> None:
        """Until the child is through with what it was sent, or gone."""
        self._front = 0
        until: float | None = self._send_ahead(hand, take_more)
        while True:
            self._channel.listen(until)
            self._harvest(hand)  # after whatever has read that it is through: all that is done is on the board now
            if not self._is_on_it(hand):
                return
            if hand.is_late and self._late is None:
                self._take_back(hand)
                self._late = self._seen
                self._expire(hand)
                until = 0.0  # that has listened, too
            elif self._cut:
                until = self._look_whether_it_runs(hand)
            else:
                until = self._send_ahead(hand, take_more)

    def _is_on_it(self, hand: Hand[T]) -> bool:
        """The child may have something to do: of what was taken back it alone knows whether it had begun that."""
        return not self.gone and self._channel.through < self._sent and (self._cut or hand.left > 0)

    def _send_ahead(self, hand: Hand[T], take_more: Callable[[], bool]) -> float:
        """When the child is on its last batch, send the next. If it takes too long over that, take back what there is.

        Gives the time when to look again: the child tells by itself only when it has nothing more to do. A result that
        somebody waits for is found within a millisecond; others with the whole batch, as each look costs 50 µs.
        """
        now = perf_counter()
        seen = self._seen
        if seen >= self._front:
            self._front = self._sent
            self._due = now + PATIENCE * hand.span
        elif now >= self._due:
            self._take_back(hand)
            return now
        if self._front == self._sent:
            left = hand.left
            if left and not self._channel.is_sending and take_more():
                self._dispatch(hand, left)
        until = self._due
        if self._front < self._sent:
            until = min(until, now + max(SHORTEST, hand.expected * (self._front - seen)))
        if seen < self._wanted and seen + 1 < self._front:
            until = min(until, now + LONGEST)
        return until

    @property
    def _seen(self) -> int:
        """Before this item all have ended, and were settled; it is the first in hand."""
        return self._first + self._worker.passed

    def _harvest(self, hand: Hand[T]) -> None:
        """Settle what is done, as far as it is here: the message with a large result may still be on its way."""
        seen = self._seen
        statuses, seconds = self._board.read(seen, self._kept, self._channel.posted)
        if not statuses:
            return
        if self._late is None and not any(statuses):
            hand.returned(seconds)
        else:
            hand.ended(list(map(self._outcome, count(seen), statuses, seconds)))
        if self._channel.posted:
            for number in range(seen, self._seen):
                self._channel.posted.pop(number, None)

    def _take_back(self, hand: Hand[T]) -> None:
        """The batch takes too long: have what the child has not begun, but the first that has not ended."""
        seen = self._seen
        self._certain, possible = self._board.cut(seen + 1)
        self._cut = True
        self._pause = PAUSE
        back = self._kept - min(self._kept, possible)
        self._kept -= back
        hand.put_back(back)

    def _look_whether_it_runs(self, hand: Hand[T]) -> float | None:
        """Once the item that holds up what was taken back is begun, its future is to say that it runs.

        When to look again, less and less often; None: that need not be.
        """
        seen = self._seen
        if self._board.begun > seen and self._certain > seen:  # else the child may yet find that it was taken back
            hand.running()
            return None
        self._pause *= 2
        return perf_counter() + self._pause

    def _bury(self, hand: Hand[T]) -> None:
        """The child is gone. The item that it had begun fails: it may have killed it."""
        how = self._child.end(LEAVE)
        self._harvest(hand)
        if (lost := min(self._board.done, self._kept) - self._seen) > 0:  # they ended, and are not to run again
            hand.ended([(False, 0.0, self._why(how))] * lost)
        if min(self._board.begun, self._kept) > self._seen:
            seconds = max(0.0, self._queue.clock.now() - self._worker.began)
            hand.ended([(False, seconds, self._why(how))])

    def _why(self, how: str) -> Exception:
        if self._late is not None and self._queue.item_timeout is not None:
            return late(self._worker, self._queue.item_timeout)
        return WorkerDied(f"the {self._child.kind} of worker {self._worker.name!r} {how} while it ran the item")

    def _expire(self, hand: Hand[T]) -> None:
        """The item has taken too long: kill the child, when it has said where it is."""
        kill = self._child.kill
        if kill is None:
            self._child.tell(child.CANCEL)
            return
        self._child.tell(child.DUMP)
        until = perf_counter() + LAST_WORDS
        while self._channel.stacks.empty() and not self.gone and perf_counter() < until:
            self._channel.listen(until)  # which ends with any message, or the bell
        hand.stuck(self._channel.stacks.get() if not self._channel.stacks.empty() else "")
        kill()

    def _outcome(self, number: int, status: int, seconds: float) -> Outcome:
        if number == self._late and self._queue.item_timeout is not None:
            return False, seconds, late(self._worker, self._queue.item_timeout)
        if status == board.NOTHING:
            return True, seconds, None
        failed = status & board.FAILED
        try:
            data = self._channel.posted[number] if status & board.POSTED else self._board.written(number)
            if status & board.RAW:
                return True, seconds, bytes(data)
            if failed:
                return False, seconds, loads_error(data)
            return True, seconds, pickle.loads(data)
        except BaseException as error:
            what = "an exception" if failed else "a result"
            return False, seconds, NotPicklable(f"{what} came back that cannot be unpickled here: {error}")

    def rest(self) -> None:
        self._channel.rest()

    def close(self) -> None:
        self._child.end(LEAVE)


def _packed(items: list[Any]) -> tuple[Kind, bytes]:
    """The items of a batch. Those that could share something are pickled each, as if each had come alone."""
    if len(items) == 1 and is_raw(items[0]):
        return Kind.RAW, items[0]
    if {*map(type, items)} <= SIMPLE:
        return Kind.ITEMS, pickle.dumps(items, PROTOCOL)
    return Kind.PICKLES, pickle.dumps([_pickled(item) for item in items], PROTOCOL)


def _pickled(item: object) -> bytes:
    try:
        return dumps("item", item)
    except NotPicklable as error:
        return pickle.dumps(Refused(str(error)), PROTOCOL)
