"""Server-sent events: streams that tell the same again and again, and end by themselves.

Rules: a stream is one request that is answered as long as its client listens. A client that reads slowly is sent less
often, and nothing is kept for it. `close` may be called from any thread, and no stream delays a stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from workpool.service.http import EVERYWHERE, Client, Refusal, is_gone

__all__ = ["Stream", "Streams"]

MOST: Final = 64
"""Streams at once: each costs a connection, and a look at all pools each second."""

LAST_WORDS: Final = b"event: end\ndata:\n\n"

LAST: Final = 0.5
"""Seconds for the last words to a client that reads slowly."""


class Streams:
    """Those that are open."""

    def __init__(self, tell: Callable[[], bytes], interval: float) -> None:
        self.tell = tell
        self.interval = interval
        self.closed = False
        self._open: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def reopen(self) -> None:
        self.closed = False

    def close(self) -> None:
        """End those that are open, and refuse others."""
        self.closed = True
        for over, loop in list(self._open.items()):
            with suppress(RuntimeError):  # its loop has ended, and the stream with it
                loop.call_soon_threadsafe(over.set)

    def stream(self) -> Stream:
        """Raises `Refusal`."""
        if self.closed:
            raise Refusal(503, "stopping", "the service stops")
        if len(self._open) >= MOST:
            raise Refusal(503, "too_many_streams", f"{MOST} streams are open already")
        return Stream(self)

    def enter(self) -> asyncio.Event:
        """What is set when the stream is to end."""
        over = asyncio.Event()
        self._open[over] = asyncio.get_running_loop()
        if self.closed:  # it may not have seen this one
            over.set()
        return over

    def leave(self, over: asyncio.Event) -> None:
        del self._open[over]


class Stream:
    """One of them, as the answer to a request."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def send(self, client: Client) -> None:
        await client.send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"), *EVERYWHERE],
            }
        )
        if client.wants_body:
            await self._send_events(client)
        else:
            await client.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, client: Client) -> None:
        over = self._streams.enter()
        feed = asyncio.ensure_future(self._feed(client))
        gone = asyncio.ensure_future(is_gone(client.receive))
        ended = asyncio.ensure_future(over.wait())
        tasks = [feed, gone, ended]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._streams.leave(over)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if not feed.cancelled():
            feed.result()  # which raises
        if gone.cancelled():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST):
                    await client.send({"type": "http.response.body", "body": LAST_WORDS, "more_body": False})

    async def _feed(self, client: Client) -> None:
        """Never returns."""
        said = b"retry: 2000\n"  # milliseconds until a browser that lost its stream asks again
        while True:
            said += b"data: " + self._streams.tell() + b"\n\n"
            await client.send({"type": "http.response.body", "body": said, "more_body": True})
            said = b""
            await asyncio.sleep(self._streams.interval)
