"""A connection of uvicorn's, with less patience, and with each answer in one piece.

It stands on httptools, which takes half the time of uvicorn's other parser, h11.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

__all__ = ["Connection"]

PATIENCE: Final = 10.0
"""Seconds in which a client has to have sent the head of its next request, and to read of an answer that waits."""

LAST_PATIENCE: Final = 0.5
"""The latter, in a stop."""

UNASKED: Final = 1 << 20
"""Bytes that a client may send without a whole head of a request: httptools knows no limit."""


class Connection(HttpToolsProtocol):
    """One that does not wait for ever for a client which asks for nothing, or takes nothing."""

    _look: asyncio.TimerHandle | None = None
    _cork: Cork
    _unasked = 0
    _unread: float = inf
    """Bytes that waited for the client at the last look."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._cork = Cork(transport, self.loop)
        super().connection_made(self._cork)
        self.access_log = False  # uvicorn's own switch would turn off the access log of every server in this process
        self._look_in(PATIENCE)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._unasked = self._unasked + len(data) if self._is_idle() else 0
        if self._unasked > UNASKED:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._cork.flush()
        super().on_response_complete()
        self._unread = inf
        self._look_in(PATIENCE)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        self._unread = 0  # one look is enough
        self._look_in(LAST_PATIENCE)

    def _look_in(self, seconds: float) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self.loop.call_later(seconds, self._look_now)

    def _look_now(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread and unread >= self._unread:
            self.transport.abort()
        elif self._is_idle():
            self.transport.close()
        self._unread = unread or inf
        self._look_in(PATIENCE)

    def _is_idle(self) -> bool:
        """It has answered all that it was asked."""
        cycle = _cycle(self)
        return cycle is None or cycle.response_complete


def _cycle(connection: HttpToolsProtocol) -> RequestResponseCycle | None:
    """The request that it answers, or the last; None before the first, of which uvicorn's types do not know."""
    return connection.cycle


class Cork(asyncio.Transport):
    """A transport that holds back what is written until there is an answer to send, or nothing else to do.

    uvicorn writes an answer in pieces. Each is a system call, after which the thread has to wait for the interpreter:
    50 ms beside ten threads that compute.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._held:
            self._loop.call_soon(self.flush)  # for a stream, of which nobody says that it is complete
        self._held.append(bytes(data))

    def flush(self) -> None:
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._held.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()
