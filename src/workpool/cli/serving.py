"""`workpool serve`: a service from its configuration to its exit code.

Rules: everything that can be wrong is looked at before anything is started. The main thread does nothing but take
events off one queue. Whatever happens in a stop, the process ends when the time for it is up: a thread sees to that; if
that hangs too, faulthandler's, which is no thread of Python's; and if not even the signal was heard, because C code
does not let go of the interpreter, a process beside it.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from workpool._named import look_here
from workpool.cli import watchdog
from workpool.cli.job import LOOK, Signalled, signals
from workpool.cli.logs import log_to_stderr
from workpool.cli.wrong import Wrong
from workpool.service.config import Config, ConfigError, Problem, load
from workpool.service.service import Service, Stopped

__all__ = ["serve_command"]

EDGE: Final = 0.85
"""Seconds over the budget in which a stop that is about to end may do so. Giving up on what runs takes half of one."""

LAST: Final = 0.1
"""Seconds after which whoever ends the process when nothing of Python's does comes behind that."""

LEFT: Final = 3
"""The exit code when something is left."""

SWITCH: Final = 0.001
"""Seconds that a thread keeps the interpreter when another wants it. With the interpreter's own 5 ms a health check
waits for 50 ms each time that it needs it, beside ten threads that compute."""


log = logging.getLogger("workpool")


def serve_command(file: str, log_json: bool = False, nats: tuple[str | None, int] | None = None) -> int:
    """Run the service until a signal; the exit code. Raises `Wrong` if it cannot start.

    `nats` is the folder and the port (0: a free one) of a NATS server that runs as long as the service does.
    """
    log_to_stderr(log_json)
    look_here()
    try:
        config = load(file, os.environ, _warn)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    events: SimpleQueue[Signalled | Stopped | BaseException] = SimpleQueue()
    grace = config.shutdown.grace
    with _server(nats) as url, _watched(grace), signals(events):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # it puts `Signalled` alone
        stopped = _serve(config, events, url)
        for line in str(stopped).splitlines():
            log.info("%s", line)
        log.info("stopped; %s is left", "nothing" if stopped.clean else "something")
        code = 0 if stopped.clean else LEFT
        if _may_be_stuck(config, stopped):
            sys.stderr.flush()
            _end_servers()
            os._exit(code)  # what is stuck may hold something that an orderly exit waits for
    return code


def _serve(config: Config, events: SimpleQueue[Signalled | Stopped | BaseException], nats: str | None) -> Stopped:
    service = Service(config) if nats is None else Service(config, nats=nats)
    if service.server is not None:
        sys.setswitchinterval(SWITCH)
    try:
        service.start()
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        raise Wrong(f"the service cannot start: {error}") from None
    grace = config.shutdown.grace
    at = "" if service.server is None else f"; {service.server.url}"
    log.info("%s", f"pools run: {', '.join(service.pools)}{at}")
    signalled = 0
    while True:
        event = _next(events)
        if isinstance(event, Stopped):
            return event
        if isinstance(event, BaseException):
            raise event
        signalled += 1
        if signalled == 1:
            _watch(grace)
            log.info("stopping: what was accepted is finished, for at most %g s; once more to abort", grace)
            _thread(lambda: events.put(_stop(service, grace)))
        else:
            log.info("aborting")
            _thread(service.abort)


def _stop(service: Service, grace: float) -> Stopped | BaseException:
    try:
        return service.stop(grace)
    except BaseException as error:
        return error


def _next(events: SimpleQueue[Signalled | Stopped | BaseException]) -> Signalled | Stopped | BaseException:
    """In short waits: a signal that comes just before a wait begins does not end that, and no handler runs."""
    while True:
        try:
            return events.get(timeout=LOOK)
        except Empty:
            pass


@contextmanager
def _watched(grace: float) -> Generator[None, None, None]:
    """With a process that ends this one, where there is what that needs: the one way when no signal can be heard."""
    if not hasattr(os, "pidfd_open"):
        yield
        return
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    command = [sys.executable, "-I", "-S", str(Path(watchdog.__file__)), str(os.getpid()), str(grace + EDGE + LAST)]
    try:
        process = subprocess.Popen(command, stdin=theirs, stdout=subprocess.DEVNULL)
    except OSError as error:
        os.close(ours)
        raise Wrong(f"the service cannot start: there is to be a process beside it: {error.strerror}") from None
    finally:
        os.close(theirs)
    before = signal.set_wakeup_fd(ours, warn_on_full_buffer=False)
    _forget_in_forks(ours)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(ours)
        process.kill()  # it may have heard a signal, and wait for the end of this process
        process.wait()


def _forget_in_forks(wakeup: int) -> None:
    """A signal to what a process function has forked is not one to the service: nobody beside it is to hear of it."""

    def forget() -> None:
        there = signal.set_wakeup_fd(-1)
        if there != wakeup:  # somebody else's, set since
            signal.set_wakeup_fd(there)

    os.register_at_fork(after_in_child=forget)


def _watch(grace: float) -> None:
    """End the process at the edge of its budget. The second is for when no thread of Python's gets to run any more."""
    timer = threading.Timer(grace + EDGE, _end)
    timer.daemon = True
    timer.start()
    try:
        faulthandler.dump_traceback_later(grace + EDGE + LAST / 2, exit=True)
    except (OSError, ValueError, RuntimeError):  # no stderr that is a file
        pass


def _end() -> None:
    """Say nothing by `logging`, whose lock somebody may hold who hangs: but on its own, and wait for nobody."""
    threading.Thread(target=os.write, args=(2, b"workpool: the time is up; something is left\n"), daemon=True).start()
    threading.Event().wait(LAST / 4)
    _end_servers()
    os._exit(LEFT)


@contextmanager
def _server(nats: tuple[str | None, int] | None) -> Generator[str | None, None, None]:
    """With a NATS server of our own, if one is wanted: where it is."""
    if nats is None:
        yield None
        return
    from workpool.sources.jetstream import NatsServer

    folder, port = nats
    server = NatsServer(folder, port=port)
    try:
        server.start()
    except OSError as error:
        raise Wrong(f"the NATS server cannot start: {error}") from None
    _servers.append(server.pid)
    log.info("the NATS server is at %s", server.url)
    try:
        yield server.url
    finally:
        _servers.clear()
        server.stop()


_servers: list[int] = []
"""The processes of servers, which outlive this one if nobody ends them."""


def _end_servers() -> None:
    for pid in _servers:
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError:  # it has ended; whoever calls this is about to, and must
            pass


def _may_be_stuck(config: Config, stopped: Stopped) -> bool:
    """A process function may still run: one that was given up, in the stop or for its `item_timeout`."""
    timed = any(pool.item_timeout is not None for pool in config.worker_pools.values())
    return timed or any(report.abandoned for report in stopped.reports)


def _thread(run: Callable[[], object]) -> None:
    threading.Thread(target=run, name="workpool-stop", daemon=True).start()


def _warn(problem: Problem) -> None:
    log.warning("%s", problem)
