"""Workers that are subinterpreters, with a GIL of their own: the side of the interpreter that has the pool.

A call into another interpreter costs a fifth of a millisecond, and nothing else gets in meanwhile. So each interpreter
has a thread that goes in once, for as long as it lives; the worker's own thread talks to it as it would to a process,
by a board in memory that both see, and a socket. What was not begun can so be taken back, and what is done is there at
once. What a process function keeps in thread-local variables stays from one item to the next.
"""

from __future__ import annotations

import atexit
import logging
import pickle
import socket
import sys
import threading
import time
from contextlib import closing
from types import ModuleType
from typing import Any, Final, TypeVar

from workpool import _stopping
from workpool._control import ControlledQueue
from workpool._fate import Hooks
from workpool._living import Living
from workpool.workers.board import BYTES, ITEMS, Board
from workpool.workers.child import Setup
from workpool.workers.crossing import PROTOCOL
from workpool.workers.distant import DistantWorkers
from workpool.workers.inside import MAIN
from workpool.workers.seats import Plan, SeatUnfit
from workpool.workers.settings import Interpreters
from workpool.workers.wire import Kind, Reader, parts, send, socket_pair

__all__ = ["InterpreterWorkers"]

T = TypeVar("T")

REAP: Final = 5.0
"""Seconds that the exit of the main interpreter waits for those that run no item, and so are about to end."""

log: Final = logging.getLogger("workpool")


class InterpreterWorkers(DistantWorkers[T]):
    """The interpreters of one pool, and their threads."""

    def __init__(self, queue: ControlledQueue[T], process: Any, hooks: Hooks[T], settings: Interpreters) -> None:
        super().__init__(queue, process, hooks, settings, Plan(settings.batch, ITEMS))
        sys.modules.setdefault(MAIN, sys.modules["__main__"])  # what comes back may be of there

    def _start(self, setup: Setup) -> Inmate:
        return Inmate(setup)


class Inmate:
    """One interpreter, the thread that is in it, and the ways to it. Nothing can kill it."""

    kind = "interpreter"
    life: None = None
    kill = None

    def __init__(self, setup: Setup) -> None:
        """Start it. Raises OSError or RuntimeError if the system has no more to give."""
        memory = memoryview(bytearray(BYTES))
        self.board = Board(memory)
        self.sock, theirs = socket_pair()
        self._control, their_control = socket.socketpair()
        self._thread = threading.Thread(
            target=_live,
            args=((theirs, their_control, self._control), memory, setup),
            name=f"{setup.worker}-interpreter",
            daemon=True,  # a process function that never returns must not keep the main interpreter alive
        )
        try:
            self._thread.start()
        except BaseException:
            for end in (self.sock, theirs, self._control, their_control):
                end.close()
            raise
        _inmates.add(self)
        self.sock.setblocking(False)
        self.reader = Reader(self.sock)

    def tell(self, word: bytes, _: None = None) -> None:
        """Say something to the thread that listens there. Harmless when it is gone."""
        try:
            self._control.send(word)
        except OSError:
            return

    def unfit(self, patience: float) -> SeatUnfit:
        self.end(patience)
        return SeatUnfit("the interpreter ended before it was ready")

    def end(self, patience: float) -> str:
        """Have it begin nothing more, and wait so many seconds for its end. May be called again.

        What it still runs then it runs to its end, and closes itself.
        """
        self.board.cut(0)
        _shut(self.sock)
        self._thread.join(patience)
        self.sock.close()
        return "ended"

    def leave(self, until: float) -> None:
        """The main interpreter exits: wait for the end, unless an item runs, which nobody waits for any more."""
        if not self._thread.is_alive():  # as in a forked child, whose copies of the sockets are not to be shut
            return
        self.board.cut(0)
        _shut(self.sock)
        while self.board.begun <= self.board.done and time.monotonic() < until and self._thread.is_alive():
            self._thread.join(0.01)
        _shut(self._control)  # else the thread that listens would hold up the exit


_inmates: Final[Living[Inmate]] = Living()


def _at_exit() -> None:
    """An interpreter that is just being closed when the main one is torn down has crashed both."""
    until = time.monotonic() + REAP
    for inmate in _inmates.all():
        inmate.leave(until)


atexit.register(_at_exit)
_stopping.stop_before_others()


def _shut(sock: socket.socket) -> None:
    """Have the other side read the end. To close it would not do: a forked child may have a copy."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it was, or is closed
        return


def _live(ends: tuple[socket.socket, socket.socket, socket.socket], memory: memoryview, setup: Setup) -> None:
    """One interpreter, from its beginning to its end, in a thread of its own."""
    theirs, their_control, control = ends
    packed = pickle.dumps(setup, PROTOCOL)
    with theirs, their_control, control:
        try:
            with closing(_interpreters().create()) as interpreter:
                try:
                    interpreter.call(_enter, _baggage(), (theirs.fileno(), their_control.fileno()), memory, packed)
                finally:
                    _shut(control)  # the thread that listens ends, for which the interpreter waits
        except BaseException as error:
            log.debug("the interpreter of worker %r ended", setup.worker, exc_info=True)
            try:
                send(theirs, parts(Kind.UNFIT, str(error).encode()))
            except OSError:  # nobody waits for it any more
                return


def _interpreters() -> Any:
    """The library's module, which is not there before 3.14."""
    from importlib import import_module

    return import_module("concurrent.interpreters")


Baggage = tuple[tuple[str, ...], tuple[str, ...], str | None, str | None]


def _baggage() -> Baggage:
    """What an interpreter does not have of its own: where modules are, the arguments, and the main module's file."""
    main: ModuleType = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    return tuple(map(str, sys.path)), tuple(sys.argv), path, getattr(main, "__package__", None)


def _enter(baggage: Baggage, ends: tuple[int, int], memory: memoryview, setup: bytes) -> None:
    """The first that runs in there: it is sent as code, for no module of this package could be found before."""
    import sys

    path, argv, main, package = baggage
    sys.path[:] = path
    sys.argv[:] = argv
    from workpool.workers.inside import lend_main, live

    lend_main(main, package)
    live(*ends, memory, setup)
