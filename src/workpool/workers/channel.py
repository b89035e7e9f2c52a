"""What a worker's thread and its child say to each other: over a socket, with a bell for whoever wants the thread.

What the child has said is kept here until the seat asks for it; log records are logged at once.
"""

from __future__ import annotations

import logging
import pickle
import select
import socket
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter
from typing import Final, Protocol

from workpool.workers import board
from workpool.workers.doorbell import Doorbell
from workpool.workers.seats import KILLED, SeatUnfit
from workpool.workers.wire import Kind, Message, Reader, send

__all__ = ["LEAVE", "LONGEST", "Channel", "Distant"]

log = logging.getLogger("workpool")

LEAVE: Final = 1.0
"""Seconds that a child has to end, when it is told to, before it is killed."""

LONGEST: Final = 0.001
"""Seconds that a result may wait on the board while the child has more to do."""

SELECTABLE: Final = 1024
"""File descriptors from this on `select` does not take."""

AT_ONCE: Final = 100
"""So many messages are seen to before the bell and the board are looked at again."""


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


class Channel:
    """One child's, for the thread that follows it."""

    def __init__(self, child: Distant, bell: Doorbell) -> None:
        self.gone = False
        """The child says no more."""
        self.through = 0
        """It has said that it is through with all items before this."""
        self.posted: dict[int, bytes | bytearray] = {}
        """Results and exceptions that came through the socket, by the numbers of their items."""
        self.stacks: SimpleQueue[str] = SimpleQueue()
        """Where it is, when it was asked."""
        self._child = child
        self._bell = bell
        self._dead = False
        self._unsent: list[memoryview] = []
        self._wanted = select.POLLIN
        self._poll = select.poll()
        self._poll.register(child.sock, select.POLLIN)
        self._poll.register(bell, select.POLLIN)
        self._life = -1 if child.life is None else child.life.fileno()
        if child.life is not None:
            self._poll.register(child.life, select.POLLIN)
        self._bell_fd = bell.fileno()
        self._fds = [fd for fd in (child.sock.fileno(), self._bell_fd, self._life) if fd >= 0]
        self._is_selectable = max(self._fds) < SELECTABLE

    def wait_until_ready(self, limit: float | None) -> None:
        """Raises `SeatUnfit` if it ends instead, says why it cannot be, or takes longer than so many seconds."""
        until = None if limit is None else perf_counter() + limit
        ready = select.poll()  # without the bell: whoever rings it now means the rest that comes after this
        ready.register(self._child.sock, select.POLLIN)
        if self._child.life is not None:
            ready.register(self._child.life, select.POLLIN)
        while True:
            left = None if until is None else max(0.0, until - perf_counter()) * 1000
            more = self._child.reader.has_message
            if not (events := ready.poll(0 if more else left)) and not more:
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

    @property
    def is_sending(self) -> bool:
        """Something is yet to be sent, for which the socket has no room."""
        return bool(self._unsent)

    def send(self, views: list[memoryview]) -> None:
        """What the socket does not take at once, `listen` sends."""
        try:
            self._unsent = send(self._child.sock, self._unsent + views)
        except OSError:  # nobody is there; `_read` finds that out
            self._unsent = []
        wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        if wanted != self._wanted:
            self._poll.modify(self._child.sock, wanted)
            self._wanted = wanted

    def listen(self, until: float | None) -> None:
        """See to what the child says, or has said. Wait for that, or the bell, until that time (None: for ever)."""
        while True:
            more = self._child.reader.has_message  # of a flood
            events = self._wait(0.0 if more else None if until is None else max(0.0, until - perf_counter()))
            if not events and not more:
                return
            rang = self._note(events)
            if self._unsent:
                self.send([])
                if not (rang or more) and all(event == select.POLLOUT for _, event in events):
                    continue
            self._read()
            return

    def _wait(self, seconds: float | None) -> list[tuple[int, int]]:
        """For one of all that can be waited for. `poll` counts milliseconds, which is too coarse for a fraction."""
        if seconds is None or seconds > LONGEST or self._unsent or not self._is_selectable:
            return self._poll.poll(None if seconds is None else seconds * 1000)
        ready, _, _ = select.select(self._fds, (), (), seconds)
        return [(fd, select.POLLIN) for fd in ready]

    def _note(self, events: list[tuple[int, int]]) -> bool:
        """Whether the bell rang. And note whether the child is dead."""
        rang = False
        for fd, _ in events:
            if fd == self._bell_fd:
                rang = True
            elif fd == self._life:
                self._dead = True
        if rang:
            self._bell.answer()
        return rang

    def _read(self) -> None:
        """See to what the child has said so far; of a flood, to some. All of it, when it says no more."""
        reader = self._child.reader
        left = AT_ONCE
        while (left or self._dead) and (message := reader.read()) is not None:
            self._see_to(message)
            left -= 1
            if message.kind == Kind.END and not (reader.has_more or self._dead):  # it seldom says more then
                break
        if reader.ended or self._dead:
            self.gone = True

    def _see_to(self, message: Message) -> None:
        if message.kind == Kind.END:
            self.through = message.number
        elif message.kind == Kind.POST:
            self.posted[message.number] = message.body
        elif message.kind == Kind.STACK:
            self.stacks.put(message.body.decode(errors="replace"))
        elif message.kind == Kind.LOG:
            _log_here(message.body)

    def rest(self) -> None:
        """Wait until the bell rings, or the child is gone."""
        while not self.gone:
            if self._note(self._poll.poll(0 if self._child.reader.has_message else None)):
                return
            self._read()

    def hear_out(self) -> None:
        """It was killed: what it had said is heard to the last."""
        if self._life >= 0:
            ended = select.poll()
            ended.register(self._life, select.POLLIN)
            ended.poll(LEAVE * 1000)
        self._dead = True
        self._read()


def _log_here(pickled: bytes | bytearray) -> None:
    """A record of the child's, as if it had been logged in this process. One that cannot be is dropped, with a word."""
    try:
        record: logging.LogRecord = pickle.loads(pickled)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    except BaseException as error:  # of its unpickling, a filter or a handler: no reason for an item to fail
        log.debug("a log record of a worker could not be logged here: %r", error)
