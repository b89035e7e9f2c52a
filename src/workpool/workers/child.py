"""What runs in the process, or interpreter, of a worker: take a batch, run it, say on the board what became of it.

The main thread runs items. Another listens to the parent: it hears that the running item is to end early, and that the
parent is gone, on which a process ends whatever it is doing.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import pickle
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from functools import partial
from time import perf_counter
from types import FrameType
from typing import Any, NamedTuple

from workpool._clock import SYSTEM
from workpool._context import Context, enter
from workpool._control import ControlledQueue
from workpool._core.discipline import Fifo
from workpool._stopping import stack_of_main
from workpool._worker import Worker
from workpool.errors import NotPicklable
from workpool.workers.board import FAILED, NOTHING, POSTED, RAW, RESULT, Board
from workpool.workers.crossing import Refused, dumps, dumps_error, is_raw
from workpool.workers.wire import WANTED, Kind, Message, Reader, attempt_in, parts, send

__all__ = ["CANCEL", "DUMP", "Setup", "main", "serve"]

CANCEL = b"c"
DUMP = b"d"


class Setup(NamedTuple):
    """What a child must know, once."""

    pool: str
    worker: str
    process: Callable[[Any], Any]
    initializer: Callable[..., object] | None
    initargs: tuple[Any, ...]
    log_level: int
    forked: bool = False


def main(sock: socket.socket, control: socket.socket, array: Any, pickled: bytes) -> None:
    """Serve the parent until it is gone, or closes the socket."""
    for end in (sock, control):  # what is started from here is not to hold them open
        end.set_inheritable(False)
    _leave_signals_to_the_parent()
    serve(sock, control, array, pickled, partial(os._exit, 1))  # the parent is gone: nobody wants what runs here


def serve(
    sock: socket.socket, control: socket.socket, array: Any, pickled: bytes, gone: Callable[[], object] | None = None
) -> None:
    """Serve the parent until it closes the socket. When it is `gone`, that is called; None: it cannot be."""
    line = _Line(sock)
    me = _Me()
    threading.Thread(target=_listen, args=(control, line, me, gone), daemon=gone is not None).start()
    try:
        setup: Setup = pickle.loads(pickled)
        me.introduce(setup)
        _log_to_parent(line, setup)
        if setup.initializer is not None:
            setup.initializer(*setup.initargs)
    except BaseException as error:
        line.send(Kind.UNFIT, "".join(traceback.format_exception(error)).encode())
        return
    line.send(Kind.READY)
    _Bench(line, Board(array), setup.process, me).work(Reader(sock))


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C in a terminal, or a service manager that ends a whole group, tells every process; the parent decides.

    A handler that does nothing, instead of SIG_IGN, which what is started from here would inherit.
    """
    signal.set_wakeup_fd(-1)  # of a parent that was forked: whoever reads that takes this process's signals for its
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))


def _ignore(_: int, __: FrameType | None) -> None:
    return None


class _Line:
    """The way to the parent, for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def send(self, kind: Kind, *bodies: bytes, number: int = 0) -> None:
        message = parts(kind, *bodies, number=number)
        with self._lock:
            send(self._sock, message)


class _Me:
    """What `current()` tells of in here."""

    def __init__(self) -> None:
        self._queue: ControlledQueue[Any] | None = None
        self._worker: Worker[Any] | None = None

    def running(self, attempt: int) -> None:
        """What runs now is that attempt."""
        if self._worker is not None:
            self._worker.attempt = attempt

    def introduce(self, setup: Setup) -> None:
        queue: ControlledQueue[Any] = ControlledQueue(setup.pool, Fifo(1), 1, SYSTEM, None)
        worker: Worker[Any] = Worker(setup.worker, _ignore_wake)
        queue.start()
        queue.enlist(worker)
        queue.arrive(worker, threading.get_ident())
        enter(Context(queue, worker))
        self._queue = queue
        self._worker = worker

    def cancel(self) -> None:
        if self._queue is not None:
            self._queue.cut()


def _ignore_wake(_: None) -> None:
    return None


def _listen(control: socket.socket, line: _Line, me: _Me, gone: Callable[[], object] | None) -> None:
    """In a thread of its own: the parent's word, and its end."""
    try:
        while word := control.recv(1):
            if word == CANCEL:
                me.cancel()
            elif word == DUMP:
                line.send(Kind.STACK, stack_of_main().encode())
    finally:
        control.close()
        if gone is not None:
            gone()


class _ToParent(logging.handlers.QueueHandler):
    """Log records, to be logged by the parent."""

    def __init__(self, line: _Line, setup: Setup) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # `enqueue` knows where to
        self._line = line
        self._place = {"pool": setup.pool, "worker": setup.worker}

    def enqueue(self, record: logging.LogRecord) -> None:
        vars(record).update(self._place)
        try:
            data = pickle.dumps(record)
        except Exception:  # something extra on it
            said = record.getMessage()
            plain = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, said, None, None)
            vars(plain).update(self._place)
            data = pickle.dumps(plain)
        self._line.send(Kind.LOG, data)


def _log_to_parent(line: _Line, setup: Setup) -> None:
    """What this process logs is logged there, and nowhere else."""
    root = logging.getLogger()
    if setup.forked:  # the parent's handlers came with the fork
        for logger in list(root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
    root.handlers[:] = [_ToParent(line, setup)]
    root.setLevel(setup.log_level)


class _Bench:
    """Where items run."""

    def __init__(self, line: _Line, board: Board, process: Callable[[Any], Any], me: _Me) -> None:
        self._line = line
        self._me = me
        self._board = board
        self._process = process

    def work(self, reader: Reader) -> None:
        """Run what comes until the parent closes the socket, and say so when there is nothing more to run."""
        while (message := reader.read()) is not None:
            self._run(message)
            end = message.number + message.items
            if self._board.is_all(end):
                try:
                    self._line.send(Kind.END, number=end)
                except (BrokenPipeError, ConnectionResetError):  # it was seen on the board already, and that is all
                    return

    def _run(self, message: Message) -> None:
        """Run a batch: a note of one byte for each item, the rest is the items."""
        count = message.items
        number = message.number
        view = memoryview(message.body)
        notes = view[:count].tobytes()
        items: list[Any] = [bytes(view[count:])] if message.kind == Kind.RAW else pickle.loads(view[count:])
        view.release()
        if self._board.turn(number):
            run = self._run_pickled if message.kind == Kind.PICKLES else self._process
            self._run_all(number, run, items, notes)

    def _run_all(self, number: int, run: Callable[[Any], Any], items: list[Any], notes: bytes) -> None:
        """The path of every item. The end of one is the start of the next: the clock is read once for each."""
        begin, end = self._board.begin, self._board.end
        items.reverse()
        before = None
        began = perf_counter()
        for note in notes:
            if not begin(number):
                return
            status = NOTHING
            if note != before:
                self._me.running(attempt_in(note))
                before = note
            try:
                result = run(items.pop())
                at = after = perf_counter()
                if note & WANTED and result is not None:
                    status = self._tell_result(number, result)
                    after = perf_counter()
            except BaseException as error:
                at = perf_counter()
                status = self._tell(number, FAILED, dumps_error(error))
                after = perf_counter()
            result = None  # it is not to live on while the next item runs
            end(number, status, at - began)
            began = after
            number += 1

    def _tell_result(self, number: int, result: object) -> int:
        if is_raw(result):
            return self._tell(number, RESULT + RAW, result)
        return self._tell(number, RESULT, dumps("result", result))

    def _tell(self, number: int, status: int, data: bytes) -> int:
        """Say what became of an item, on the board if there is room for it."""
        if self._board.has_room(len(data)):
            self._board.write(number, data)
            return status
        self._line.send(Kind.POST, data, number=number)
        return status + POSTED

    def _run_pickled(self, pickled: bytes) -> Any:
        item = pickle.loads(pickled)
        if isinstance(item, Refused):
            raise NotPicklable(item.why)
        return self._process(item)
