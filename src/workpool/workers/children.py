"""Starting processes, talking to them, and ending them; what there is of `multiprocessing` here."""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.process
import os
import pickle
import signal
import socket
import threading
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait as wait_for
from typing import Any, Final

from workpool import _stopping
from workpool._living import Living
from workpool.workers import child
from workpool.workers.board import Board
from workpool.workers.crossing import PROTOCOL
from workpool.workers.seats import KILLED, SeatUnfit
from workpool.workers.wire import Reader, socket_pair

__all__ = ["Child", "Life", "context_for", "pids"]

_stopping.stop_before_others()  # `multiprocessing` waits at exit for its processes, and they wait for their pools

_starting = threading.Lock()
"""Held while a process starts, or is looked after: `multiprocessing` is not made for several threads. And so that no
fork copies the end of a socket that is meant for another child, which would keep that from ever seeing it close."""

_ends: Final[Living[socket.socket]] = Living()
"""This process's ends of all sockets, for a forked child to close: else no other child would see them close."""


def _renew_lock() -> None:
    """In a forked child: it was forked while a thread of the parent had it."""
    global _starting
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def context_for(start_method: str | None) -> Any:
    """What starts processes in that way; None: the safest there is. Raises ValueError for what this system has not."""
    methods = multiprocessing.get_all_start_methods()
    if start_method is None:
        start_method = "forkserver" if "forkserver" in methods else "spawn"
    if start_method not in methods:
        raise ValueError(f"start_method={start_method!r} is not there on this system; it has {', '.join(methods)}")
    if start_method == "fork":
        warnings.warn(
            "start_method='fork' copies a process in which threads run: a lock that one of them holds stays locked in "
            "the copy for ever; 'forkserver' does not",
            RuntimeWarning,
            stacklevel=6,
        )
    if start_method == "forkserver":
        _preload()
    return multiprocessing.get_context(start_method)


def _preload() -> None:
    """Have a fork server that is yet to start import, once, what each child needs."""
    server = getattr(multiprocessing.forkserver, "_forkserver", None)
    names = getattr(server, "_preload_modules", None)
    if server is not None and isinstance(names, list) and child.__name__ not in names:
        server.set_forkserver_preload([*names, child.__name__])


_all: Final[Living[Child]] = Living()


def pids() -> list[int]:
    """The processes of all pools that have not ended, as far as was noticed. `multiprocessing` does not list them."""
    return [child.pid for child in _all.all() if not child.has_ended]


def _forget(process: Any) -> None:
    """Have `multiprocessing` not look after it: whoever asks that for its active children reads the one exit status of
    each, by a file descriptor that may by then be that of the next."""
    known = getattr(multiprocessing.process, "_children", None)
    if isinstance(known, set):
        known.discard(process)


class Life:
    """Of one process: something to wait for that tells its end, and a way to kill it that cannot hit another.

    The end of its socket tells nothing while something that it has started holds that open. Never closed by hand, as a
    doorbell.
    """

    def __init__(self, process: Any) -> None:
        self._process = process
        try:
            self._fd: int | None = os.pidfd_open(process.pid)
        except (AttributeError, OSError):  # not on this system
            self._fd = None

    def fileno(self) -> int:
        sentinel: int = self._process.sentinel
        return sentinel if self._fd is None else self._fd

    def kill(self) -> None:
        try:
            if self._fd is None:
                self._process.kill()
            else:
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)
        except (OSError, ValueError):  # it has ended
            return

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self._fd is not None:
            close(self._fd)


class Child:
    """One process, and the ways to it."""

    kind = "process"

    def __init__(self, context: Any, setup: child.Setup) -> None:
        """Start it. Raises OSError if the system has no more to give."""
        array = Board.array(context)
        self.board = Board(array)
        with _starting:
            self.sock, theirs = socket_pair()
            self._control, their_control = socket.socketpair()
            _ends.add(self.sock)
            _ends.add(self._control)
            self._process = context.Process(
                target=_forked if setup.forked else child.main,
                args=(theirs, their_control, array, pickle.dumps(setup, PROTOCOL)),
                name=setup.worker,
            )
            try:
                _start(self._process, context.get_start_method())
                _forget(self._process)
            except BaseException:
                self.sock.close()
                self._control.close()
                raise
            finally:
                theirs.close()
                their_control.close()
        self.life = Life(self._process)
        self._pid: int = self._process.pid
        self._forkserver = context.get_start_method() == "forkserver"
        self._ended = ""
        self.sock.setblocking(False)
        self.reader = Reader(self.sock)
        _all.add(self)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def has_ended(self) -> bool:
        return bool(self._ended)

    def tell(self, word: bytes, _: None = None) -> None:
        """Say something to the thread that listens there. Harmless when it is gone."""
        try:
            self._control.send(word)
        except OSError:
            return

    def kill(self) -> None:
        """End it at once. From any thread, and harmless when it has ended."""
        self.life.kill()

    def unfit(self, patience: float) -> SeatUnfit:
        """Why it never was ready, once it has ended."""
        how = self.end(patience)
        why = f"the process {how} before it was ready; see what it wrote to stderr"
        return SeatUnfit(why, KILLED if "killed" in how else 1)

    def end(self, patience: float) -> str:
        """Wait so many seconds for its end, then kill it, and free what it had. How it ended. May be called again."""
        if self._ended:
            return self._ended
        self.sock.close()  # it reads that there is nothing more to do
        dead = bool(wait_for([self.life.fileno()], patience))
        if not dead:
            self.kill()
            dead = bool(wait_for([self.life.fileno()], LONG))
        self._control.close()
        with _starting:  # with a limit, it would wait for what something that lives on may hold open
            self._process.join(None if dead and not self._forkserver else 1.0)
            code = self._process.exitcode
            try:
                self._process.close()
            except ValueError:  # it could not be killed, or its exit code was lost
                pass
        self._ended = _how(code)
        return self._ended


LONG: Final = 10.0
"""Seconds after which a process that was killed is left to itself."""


def _start(process: Any, method: str) -> None:
    """With the signals of a terminal or a service manager held up, until the child says that they are the parent's.

    Not with a fork server, which would hold them up for whoever else uses it.
    """
    if method == "forkserver":
        process.start()
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        with warnings.catch_warnings():
            if method == "fork":  # it was said already, at the construction of the pool
                warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _forked(*arguments: Any) -> None:
    for end in _ends.all():
        end.close()
    child.main(*arguments)


def _how(code: int | None) -> str:
    if code is None:
        return "ended in an unknown way"
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"
