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
from workpool.workers.board import FAILED, NOTHING, POSTED, RESULT, Board
from workpool.workers.crossing import Refused, dumps, dumps_error
from workpool.workers.wire import Kind, Message, Reader, parts, receive, send

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
        line.send(Kind.UNFIT, 0, "".join(traceback.format_exception(error)).encode())
        return
    line.send(Kind.READY, 0)
    bench = _Bench(line, Board(array), setup.process)
    for message in receive(Reader(sock)):
        bench.run(message)


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C in a terminal, or a service manager that ends a whole group, tells every process; the parent decides.

    A handler that does nothing, instead of SIG_IGN, which what is started from here would inherit.
    """
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

    def send(self, kind: Kind, number: int, *bodies: bytes) -> None:
        with self._lock:
            send(self._sock, parts(kind, number, *bodies))


class _Me:
    """What `current()` tells of in here."""

    def __init__(self) -> None:
        self._queue: ControlledQueue[Any] | None = None

    def introduce(self, setup: Setup) -> None:
        queue: ControlledQueue[Any] = ControlledQueue(setup.pool, Fifo(1), 1, SYSTEM, None)
        worker: Worker[Any] = Worker(setup.worker, _ignore_wake)
        queue.start()
        queue.enlist(worker)
        queue.arrive(worker, threading.get_ident())
        enter(Context(queue, worker))
        self._queue = queue

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
                line.send(Kind.STACK, 0, stack_of_main().encode())
    finally:
        control.close()
        if gone is not None:
            gone()


class _ToParent(logging.handlers.QueueHandler):
    """Log records, to be logged by the parent."""

    def __init__(self, line: _Line) -> None:
        super().__init__(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # `enqueue` knows where to
        self._line = line

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            data = pickle.dumps(record)
        except Exception:  # something extra on it
            said = record.getMessage()
            plain = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, said, None, None)
            data = pickle.dumps(plain)
        self._line.send(Kind.LOG, 0, data)


def _log_to_parent(line: _Line, setup: Setup) -> None:
    """What this process logs is logged there, and nowhere else."""
    root = logging.getLogger()
    if setup.forked:  # the parent's handlers came with the fork
        for logger in list(root.manager.loggerDict.values()):
            if isinstance(logger, logging.Logger):
                logger.handlers.clear()
    root.handlers[:] = [_ToParent(line)]
    root.setLevel(setup.log_level)


class _Bench:
    """Where items run."""

    def __init__(self, line: _Line, board: Board, process: Callable[[Any], Any]) -> None:
        self._line = line
        self._board = board
        self._process = process

    def run(self, message: Message) -> None:
        """Run a batch: `number` bytes say of each whether its result is wanted, the rest is the items."""
        count = message.number
        view = memoryview(message.body)
        wanted = view[:count].tobytes()
        items: list[Any] = pickle.loads(view[count:])
        view.release()
        run = self._run_pickled if message.kind == Kind.PICKLES else self._process
        begin = self._board.begin
        for number in range(count):
            if not begin(number):
                break
            item, items[number] = items[number], None
            self._run_one(number, run, item, bool(wanted[number]))
            del item
        self._line.send(Kind.END, 0)

    def _run_pickled(self, pickled: bytes) -> Any:
        item = pickle.loads(pickled)
        if isinstance(item, Refused):
            raise NotPicklable(item.why)
        return self._process(item)

    def _run_one(self, number: int, run: Callable[[Any], Any], item: Any, wanted: bool) -> None:
        status, data = NOTHING, b""
        began = perf_counter()
        try:
            result = run(item)
            seconds = perf_counter() - began
            if wanted and result is not None:
                status, data = RESULT, dumps("result", result)
        except BaseException as error:
            seconds = perf_counter() - began
            status, data = FAILED, dumps_error(error)
        if data and not self._board.has_room(len(data)):
            self._line.send(Kind.POST, number, data)
            status, data = status + POSTED, b""
        self._board.end(number, status, seconds, data)
