"""Workers whose items run in a process or an interpreter: this side of it.

Each has a thread here, and a socket of its own. A batch is sent and followed until its end, one batch at a time: so
there is nothing to keep in order, and an item that was sent waits for nothing but the items of its batch. If those take
longer than was expected, what the child has not begun is taken back, for whoever is idle.
"""

from __future__ import annotations

import logging
import pickle
import select
import socket
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Final, Generic, Protocol, TypeVar

from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool._worker import Worker
from workpool.errors import NotPicklable, WorkerDied
from workpool.workers import board, child
from workpool.workers.crossing import PROTOCOL, Refused, dumps, loads_error
from workpool.workers.doorbell import Doorbell
from workpool.workers.seats import KILLED, Chair, Hand, Outcome, Plan, SeatUnfit
from workpool.workers.settings import Interpreters, Processes
from workpool.workers.threads import Threads
from workpool.workers.wire import Kind, Message, Reader, parts, send
from workpool.workers.wrapping import late

__all__ = ["Distant", "DistantSeat", "DistantWorkers"]

T = TypeVar("T")

log = logging.getLogger("workpool")

PATIENCE: Final = 0.002
"""Seconds until a batch, which is to take one millisecond, gives up what the child has not begun."""

LEAVE: Final = 1.0
"""Seconds that a child has to end, when it is told to, before it is killed."""

AT_ONCE: Final = 100
"""So many messages are seen to before the bell and the board are looked at again."""

LAST_WORDS: Final = 0.1
"""Seconds that a child has to say where it is, before it is killed over an item that takes too long."""

SIMPLE: Final = frozenset({int, str, bytes, float, bool, type(None)})
"""Types whose values share no state: a batch of them can be pickled as one."""


class HasFileno(Protocol):
    """What can be waited for."""

    def fileno(self) -> int: ...


class Distant(Protocol):
    """What a seat needs of the process, or interpreter, that it sends its batches to."""

    kind: str
    """What to call it."""
    board: board.Board
    sock: socket.socket
    """Does not block."""
    reader: Reader

    @property
    def life(self) -> HasFileno | None:
        """Tells its end, which the socket does not while something that it has started holds that; None: it does."""

    @property
    def kill(self) -> Callable[[], None] | None:
        """Ends it at once; None: nothing can."""

    def tell(self, word: bytes, _: None = None) -> None:
        """Say something to the thread that listens there."""

    def end(self, patience: float) -> str:
        """Have it end, and free what it had. How it ended."""
        ...

    def unfit(self, patience: float) -> SeatUnfit:
        """Why it never was ready, once it has ended."""
        ...


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
    seat = DistantSeat(queue, worker, new, bell)
    try:
        seat.wait_until_ready(limit)
    except SeatUnfit:
        raise
    except BaseException as error:
        new.end(0)
        raise SeatUnfit(f"it could not be followed: {type(error).__name__}: {error}") from error
    return seat


def _ring(bell: Doorbell) -> Callable[[object], None]:
    """The thread of the worker sees to what takes too long: it alone knows that the child still runs that."""

    def expire(_: object) -> None:
        bell.ring()

    return expire


class DistantSeat(Generic[T]):
    """Where the items of one worker run, until it is gone."""

    def __init__(self, queue: ControlledQueue[T], worker: Worker[T], child: Distant, bell: Doorbell) -> None:
        self._queue = queue
        self._worker = worker
        self._child = child
        self._bell = bell
        self._board = child.board
        self._posted: dict[int, bytearray] = {}
        self._stacks: SimpleQueue[str] = SimpleQueue()
        self._late: int | None = None
        """The item that took too long: the child was killed over it, or told to end early if nothing can kill it."""
        self._through = False
        """The child has said that it is through with the batch."""
        self.gone = False
        self._unsent: list[memoryview] = []
        self._wanted = select.POLLIN
        self._poll = select.poll()
        self._poll.register(child.sock, select.POLLIN)
        self._poll.register(bell, select.POLLIN)
        self._life = -1 if child.life is None else child.life.fileno()
        if child.life is not None:
            self._poll.register(child.life, select.POLLIN)
        self._dead = False
        self._kept = 0
        """How many items of the batch are left to the child."""
        self._outcomes: list[Outcome] = []
        """What became of the first items of the batch."""

    def wait_until_ready(self, limit: float | None) -> None:
        """Raises `SeatUnfit` if it ends instead, says why it cannot be, or takes longer than so many seconds."""
        until = None if limit is None else perf_counter() + limit
        ready = select.poll()  # without the bell: whoever rings it now means the rest that comes after this
        ready.register(self._child.sock, select.POLLIN)
        if self._child.life is not None:
            ready.register(self._child.life, select.POLLIN)
        while True:
            left = None if until is None else max(0.0, until - perf_counter()) * 1000
            if not (events := ready.poll(left)):
                self._child.end(0)
                raise SeatUnfit(f"the {self._child.kind} was not ready within {limit:g} s", KILLED)
            self._note(events)
            message = self._child.reader.read()
            if self._child.reader.ended or (self._dead and message is None):
                raise self._child.unfit(LEAVE)
            if message is None:
                continue
            if message.kind == Kind.READY:
                return
            if message.kind == Kind.UNFIT:
                self._child.end(LEAVE)
                raise SeatUnfit(message.body.decode(errors="replace").rstrip())
            self._see_to(message)

    # -- a batch -------------------------------------------------------------------------------

    def run(self, hand: Hand[T]) -> None:
        hand.begin()
        entries = hand.entries
        count = len(entries)
        self._posted.clear()
        self._through = False
        self._board.reset(count)
        wanted = bytes([entry[2] is not None for entry in entries])
        kind, body = _packed([entry[0] for entry in entries])
        self._send(parts(kind, count, wanted, body))
        self._kept = count
        self._outcomes.clear()
        self._follow(hand)
        if not self._through:
            self._bury(hand)
        hand.put_back(hand.left)
        if self._late is not None:  # it believes that it is to end
            self.gone = True

    def abort(self, hand: Hand[T]) -> None:
        """Something here has failed amid a batch: end the child, and settle what it has done by its board."""
        self.gone = True
        if self._child.kill is not None:
            self._child.kill()
        self._bury(hand)
        hand.put_back(hand.left)

    def _follow(self, hand: Hand[T]) -> None:
        """Until the child is through with the batch, or gone."""
        wait: float | None = PATIENCE
        while self._is_on_it():
            news = self._listen(wait)
            done = self._board.done
            self._read()
            self._harvest(hand, done)
            if self._is_on_it() and hand.is_late and self._late is None:
                self._take_back(hand)
                self._late = self._seen(hand)
                self._expire(hand)
            if not news and wait is not None:
                self._take_back(hand)
                wait = None
        if self._through:  # whatever has read that: all that is done is on the board now
            self._harvest(hand, self._board.done)

    def _is_on_it(self) -> bool:
        return not (self._through or self.gone)

    def _seen(self, hand: Hand[T]) -> int:
        """How many items of the batch have ended, and were settled."""
        return self._kept - hand.left

    def _harvest(self, hand: Hand[T], done: int) -> None:
        """Settle what is done, as far as it is here: the message with a large result may still be on its way."""
        seen = self._seen(hand)
        while len(self._outcomes) < done and self._board.is_here(len(self._outcomes), self._posted):
            self._outcomes.append(self._outcome(len(self._outcomes)))
        if len(self._outcomes) > seen:
            hand.ended(self._outcomes[seen:])

    def _take_back(self, hand: Hand[T]) -> None:
        """The batch takes too long: have what the child has not begun, but the first."""
        seen = self._seen(hand)
        certain, possible = self._board.cut(max(seen, 1))
        left = min(self._kept, possible)
        back, self._kept = self._kept - left, left
        hand.put_back(back)
        if seen < min(certain, self._board.begun):
            hand.running()

    def _bury(self, hand: Hand[T]) -> None:
        """The child is gone. The item that it had begun fails: it may have killed it."""
        how = self._child.end(LEAVE)
        self._harvest(hand, min(self._board.done, self._kept))
        if min(self._board.begun, self._kept) > self._seen(hand):
            seconds = max(0.0, self._queue.clock.now() - self._worker.began)
            hand.ended([Outcome(False, seconds, self._why(how))])

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
        self._listen(LAST_WORDS)
        self._read()
        hand.stuck(self._stacks.get() if not self._stacks.empty() else "")
        kill()

    def _outcome(self, number: int) -> Outcome:
        outcome = self._read_outcome(number)
        if number == self._late and self._queue.item_timeout is not None:
            return Outcome(False, outcome.seconds, late(self._worker, self._queue.item_timeout))
        return outcome

    def _read_outcome(self, number: int) -> Outcome:
        status, seconds, data = self._board.read(number)
        if status >= board.POSTED:
            data = memoryview(self._posted.pop(number))
            status -= board.POSTED
        if status == board.NOTHING:
            return Outcome(True, seconds, None)
        try:
            if status == board.FAILED:
                return Outcome(False, seconds, loads_error(data))
            return Outcome(True, seconds, pickle.loads(data))
        except BaseException as error:
            what = "an exception" if status == board.FAILED else "a result"
            return Outcome(False, seconds, NotPicklable(f"{what} came back that cannot be unpickled here: {error}"))

    # -- the socket ----------------------------------------------------------------------------

    def _send(self, views: list[memoryview]) -> None:
        """What the socket does not take at once, `_listen` sends."""
        try:
            self._unsent = send(self._child.sock, views)
        except OSError:  # nobody is there; `_read` finds that out
            self._unsent = []
        wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        if wanted != self._wanted:
            self._poll.modify(self._child.sock, wanted)
            self._wanted = wanted

    def _listen(self, seconds: float | None) -> bool:
        """Wait for the child to say something; False if it did not within so many seconds (None: no limit)."""
        until = None if seconds is None else perf_counter() + seconds
        while True:
            left = None if until is None else max(0.0, until - perf_counter()) * 1000
            events = self._poll.poll(left)
            if not events:
                return False
            rang = self._note(events)
            if self._unsent:
                self._send(self._unsent)
            if rang or any(event & ~select.POLLOUT for _, event in events):
                return True

    def _note(self, events: list[tuple[int, int]]) -> bool:
        """Whether the bell rang. And note whether the child is dead."""
        rang = False
        for fd, _ in events:
            self._dead = self._dead or fd == self._life
            rang = rang or fd == self._bell.fileno()
        if rang:
            self._bell.answer()
        return rang

    def _read(self) -> None:
        """See to what the child has said so far; of a flood, to some. All of it, when it says no more."""
        reader = self._child.reader
        left = AT_ONCE
        while not self._through and (left or self._dead) and (message := reader.read()) is not None:
            self._see_to(message)
            left -= 1
        if reader.ended or self._dead:
            self.gone = True

    def _see_to(self, message: Message) -> None:
        if message.kind == Kind.END:
            self._through = True
        elif message.kind == Kind.POST:
            self._posted[message.number] = message.body
        elif message.kind == Kind.STACK:
            self._stacks.put(message.body.decode(errors="replace"))
        elif message.kind == Kind.LOG:
            _log_here(message.body)

    # -- between two batches -------------------------------------------------------------------

    def rest(self) -> None:
        self._through = False
        while not self.gone:
            if self._note(self._poll.poll()):
                return
            self._read()

    def close(self) -> None:
        self._child.end(LEAVE)


def _packed(items: list[Any]) -> tuple[Kind, bytes]:
    """The items of a batch. Those that could share something are pickled each, as if each had come alone."""
    if {*map(type, items)} <= SIMPLE:
        return Kind.ITEMS, pickle.dumps(items, PROTOCOL)
    return Kind.PICKLES, pickle.dumps([_pickled(item) for item in items], PROTOCOL)


def _pickled(item: object) -> bytes:
    try:
        return dumps("item", item)
    except NotPicklable as error:
        return pickle.dumps(Refused(str(error)), PROTOCOL)


def _log_here(pickled: bytearray) -> None:
    """A record of the child's, as if it had been logged in this process. One that cannot be is dropped, with a word."""
    try:
        record: logging.LogRecord = pickle.loads(pickled)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException as error:  # of its unpickling, a filter or a handler: no reason for an item to fail
        log.debug("a log record of a worker could not be logged here: %r", error)
