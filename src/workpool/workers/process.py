"""Workers that are processes: the parent's side, most of which serves interpreters too.

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
from workpool.workers.children import Child, Doorbell, context_for
from workpool.workers.crossing import PROTOCOL, Refused, dumps, loads_error
from workpool.workers.seats import Chair, Hand, Outcome, Plan, SeatUnfit
from workpool.workers.settings import Interpreters, Processes
from workpool.workers.threads import Threads
from workpool.workers.wire import Kind, Message, Reader, parts, send
from workpool.workers.wrapping import late

__all__ = ["Distant", "DistantWorkers", "ProcessWorkers"]

T = TypeVar("T")

PATIENCE: Final = 0.002
"""Seconds until a batch, which is to take one millisecond, gives up what the child has not begun."""

LEAVE: Final = 1.0
"""Seconds that a child has to end, when it is told to, before it is killed."""

LAST_WORDS: Final = 0.1
"""Seconds that a child has to say where it is, before it is killed over an item that takes too long."""

SIMPLE: Final = frozenset({int, str, bytes, float, bool, type(None)})
"""Types whose values share no state: a batch of them can be pickled as one."""


class Distant(Protocol):
    """What a seat needs of the process, or interpreter, that it sends its batches to."""

    kind: str
    """What to call it."""
    board: board.Board
    sock: socket.socket
    """Does not block."""
    reader: Reader

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
        opening = partial(_open, self._queue, worker, bell, partial(self._start, setup))
        return worker, Chair(self._queue, worker, self._hooks, self._plan, opening).run


class ProcessWorkers(DistantWorkers[T]):
    """The processes of one pool, and their threads."""

    def __init__(
        self, queue: ControlledQueue[T], process: Callable[[T], object], hooks: Hooks[T], settings: Processes
    ) -> None:
        super().__init__(queue, process, hooks, settings, Plan(settings.batch, board.ITEMS, settings.max_items))
        self._context = context_for(settings.start_method)

    def _start(self, setup: child.Setup) -> Child:
        return Child(self._context, setup._replace(forked=self._context.get_start_method() == "fork"))


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


def _open(queue: ControlledQueue[T], worker: Worker[T], bell: Doorbell, start: Callable[[], Distant]) -> ProcessSeat[T]:
    """Start a child, and wait until it is ready. Raises `SeatUnfit`."""
    try:
        new = start()
    except (OSError, RuntimeError) as error:
        raise SeatUnfit(f"nothing can be started for it: {error}") from error
    worker.cancels = [partial(new.tell, child.CANCEL)]
    worker.end = new.kill
    worker.expire = _ring(bell)
    if worker.given_up and new.kill is not None:
        new.kill()
    elif worker.cancelled:
        new.tell(child.CANCEL)
    seat = ProcessSeat(queue, worker, new, bell)
    seat.wait_until_ready()
    return seat


def _ring(bell: Doorbell) -> Callable[[object], None]:
    """The thread of the worker sees to what takes too long: it alone knows that the child still runs that."""

    def expire(_: object) -> None:
        bell.ring()

    return expire


class ProcessSeat(Generic[T]):
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
        self._poll = select.poll()
        self._poll.register(child.sock, select.POLLIN)
        self._poll.register(bell, select.POLLIN)

    def wait_until_ready(self) -> None:
        """Raises `SeatUnfit` if it ends instead, or says why it cannot be."""
        ready = select.poll()  # without the bell: whoever rings it now means the rest that comes after this
        ready.register(self._child.sock, select.POLLIN)
        while True:
            ready.poll()
            message = self._child.reader.read()
            if self._child.reader.ended:
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
        entries = hand.entries
        count = len(entries)
        self._posted.clear()
        self._through = False
        self._board.reset(count)
        wanted = bytes([entry[2] is not None for entry in entries])
        kind, body = _packed([entry[0] for entry in entries])
        self._send(parts(kind, count, wanted, body))
        seen, kept = self._follow(hand, count)
        if not self._through:
            seen += self._bury(hand, seen, kept)
        hand.put_back(kept - seen)
        if self._late is not None:  # it believes that it is to end
            self.gone = True

    def _follow(self, hand: Hand[T], count: int) -> tuple[int, int]:
        """Until the child is through with the batch, or gone. How many have ended, and how many were left to it."""
        seen, kept = 0, count
        wait: float | None = PATIENCE
        while self._is_on_it():
            news = self._listen(wait)
            done = self._board.done
            self._read()
            if not self._is_on_it():
                done = self._board.done
            if done > seen:
                hand.ended([self._outcome(number) for number in range(seen, done)])
                seen = done
            if self._is_on_it() and hand.is_late and self._late is None:
                kept = self._take_back(hand, seen, kept)
                self._late = seen
                self._expire(hand)
            if not news and wait is not None:
                kept = self._take_back(hand, seen, kept)
                wait = None
        return seen, kept

    def _is_on_it(self) -> bool:
        return not (self._through or self.gone)

    def _take_back(self, hand: Hand[T], seen: int, kept: int) -> int:
        """The batch takes too long: have what the child has not begun, but the first. How many are left to it."""
        certain, possible = self._board.cut(max(seen, 1))
        left = min(kept, possible)
        hand.put_back(kept - left)
        if seen < min(certain, self._board.begun):
            hand.running()
        return left

    def _bury(self, hand: Hand[T], seen: int, kept: int) -> int:
        """The child is gone. The item that it had begun fails: it may have killed it. How many that are."""
        how = self._child.end(LEAVE)
        if min(self._board.begun, kept) <= seen:
            return 0
        seconds = max(0.0, self._queue.clock.now() - self._worker.began)
        hand.ended([Outcome(False, seconds, self._why(how))])
        return 1

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
        except Exception as error:
            what = "an exception" if status == board.FAILED else "a result"
            return Outcome(False, seconds, NotPicklable(f"{what} came back that cannot be unpickled here: {error}"))

    # -- the socket ----------------------------------------------------------------------------

    def _send(self, views: list[memoryview]) -> None:
        """What the socket does not take at once, `_listen` sends."""
        try:
            self._unsent = send(self._child.sock, views)
        except OSError:  # nobody is there; `_read` finds that out
            self._unsent = []
        if self._unsent:
            self._poll.modify(self._child.sock, select.POLLIN | select.POLLOUT)

    def _listen(self, seconds: float | None) -> bool:
        """Wait for the child to say something; False if it did not within so many seconds (None: no limit)."""
        until = None if seconds is None else perf_counter() + seconds
        while True:
            left = None if until is None else max(0.0, until - perf_counter()) * 1000
            events = self._poll.poll(left)
            if not events:
                return False
            if self._bell_rang(events) or events[0][1] & ~select.POLLOUT:
                return True
            self._send(self._unsent)
            if not self._unsent:
                self._poll.modify(self._child.sock, select.POLLIN)

    def _bell_rang(self, events: list[tuple[int, int]]) -> bool:
        rang = any(fd == self._bell.fileno() for fd, _ in events)
        if rang:
            self._bell.answer()
        return rang

    def _read(self) -> None:
        """See to all that the child has said so far."""
        reader = self._child.reader
        while not self._through and (message := reader.read()) is not None:
            self._see_to(message)
        if reader.ended:
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
            if self._bell_rang(self._poll.poll()):
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
    """A record of the child's, as if it had been logged in this process."""
    record: logging.LogRecord = pickle.loads(pickled)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
