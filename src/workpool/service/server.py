"""`Server`: an application served by uvicorn, in a thread of its own with a loop of its own.

Rules: a busy event loop, or a main thread that waits, does not hold up a health check. No signal handlers: those are
of whoever owns the process. A stop takes no longer than it is told, whatever the clients do.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from workpool.service.application import Application
from workpool.service.connection import Connection
from workpool.service.names import ForNames, is_loopback

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Server"]

START: Final = 10.0
"""Seconds in which the thread has to serve: it takes milliseconds."""

AFTER: Final = 1.0
"""Seconds over the time of a stop that the thread may need for its own end."""

log = logging.getLogger("workpool")


class Server:
    """Serves an application on a port. Starts once.

    Args:
        application: what answers.
        host: an address of this machine; by default only this machine can ask.
        port: 0 takes any that is free.
        names: by which it may be asked for on a loopback address, besides localhost and addresses: else a page of
            another site could have the browser take that site's name for this server. On any other address all are.
    """

    def __init__(
        self, application: Application, host: str = "127.0.0.1", port: int = 0, names: Collection[str] = ()
    ) -> None:
        self._application = application
        self._guarded = ForNames(application, [host, *names])
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        """For `_begun`."""
        self._begun = False
        self._socket: socket.socket | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._uvicorn = _Uvicorn(self._ready, self._guarded)
        self._thread = threading.Thread(target=self._run, name="workpool-http", daemon=True)

    @property
    def host(self) -> str:
        return self._host

    @property
    def port(self) -> int:
        """The one that it has, when it has been started."""
        return self._port

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Return when it answers. Raises OSError if it cannot have the port, RuntimeError for a second start."""
        with self._lock:
            if self._begun or self._uvicorn.should_exit:
                raise RuntimeError("the server was started or stopped before, and starts only once")
            self._begun = True
        self._socket = _listen(self._host, self._port)
        address, self._port = self._socket.getsockname()[:2]
        self._guarded.takes_any = not is_loopback(address)
        self._application.reopen()
        try:
            self._thread.start()
        except BaseException:
            self._socket.close()
            raise
        self._ready.wait(START)
        if self._failure is not None or not self._uvicorn.started:
            self.stop(0)
            raise RuntimeError("the server did not start") from self._failure

    def stop(self, timeout: float = 5.0) -> None:
        """End open streams, let requests that run end for at most `timeout` seconds, and cut off what is left.

        Harmless before the start, and twice.
        """
        self._application.close()
        self._uvicorn.end_within(timeout)
        if self._thread.ident is None:
            return
        self._thread.join(timeout + AFTER)
        if self._thread.is_alive():
            log.error("the server at %s did not end within %.3g s, and is left to itself", self.url, timeout + AFTER)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        assert self._socket is not None
        try:
            self._uvicorn.run([self._socket])
        except BaseException as error:
            self._failure = error
            log.exception("the server at %s failed", self.url)
        finally:
            self._socket.close()
            self._ready.set()


def _listen(host: str, port: int) -> socket.socket:
    """Raises OSError, in one sentence."""
    try:
        if not 0 <= port <= 65535:
            raise OSError(errno.EINVAL, "a port is a number from 0 to 65535")
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        # The standard library repeats the address in some of its texts.
        reason = os.strerror(errno.EADDRINUSE) if error.errno == errno.EADDRINUSE else error.strerror
        failure = OSError(f"cannot serve on {host} port {port}: {reason or error}")
        failure.errno = error.errno
        raise failure from error
    # For the connections, which take it over. asyncio sets it only where a socket says that it is TCP, which this one
    # does not; without it the second half of each answer waits 40 ms for the client's word that the first has come.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


class _Uvicorn(uvicorn.Server):
    """uvicorn, which says when it serves, and cuts off what its stop leaves."""

    def __init__(self, ready: threading.Event, application: ForNames) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=Connection,
                ws="none",
                loop="asyncio",
                lifespan="off",  # whoever starts the server starts the rest
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()

    def end_within(self, seconds: float) -> None:
        """From any thread."""
        self.config.timeout_graceful_shutdown = seconds  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
        self.should_exit = True
        with suppress(RuntimeError):  # it has ended already
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._ended.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        """uvicorn's looks ten times a second whether it is to end."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):  # then the header with the date is renewed
                    await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        left: list[Any] = list(self.server_state.connections)
        for connection in left:  # who reads too slowly to be told the rest
            connection.transport.abort()
        await asyncio.sleep(0)  # in which they go
