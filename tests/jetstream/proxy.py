"""A proxy in front of a server, that holds what goes through it, and cuts it off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Proxy"]


class Proxy:
    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self._there = (there.hostname, there.port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._accepts = True
        self.url = ""

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self.cut(accepts=False)
        self._call(self._server.close)
        self._run(self._ended())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _ended(self) -> None:
        for _ in range(10):  # who has just connected is let go first: cancelled before that, it would stay open
            await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def hold(self) -> None:
        """Let nothing through, and keep it."""
        self._call(self._open.clear)

    def release(self) -> None:
        """Let through what was kept, and what comes."""
        self._call(self._open.set)

    def say(self, data: bytes) -> None:
        """Say it to all clients, as if the server did."""

        def say() -> None:
            for client in self._clients:
                client.write(data)

        self._call(say)

    def cut(self, accepts: bool = True) -> None:
        """End all connections, with what is kept of them; and refuse new ones, if it does not accept."""

        def cut() -> None:
            self._accepts = accepts
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(cut)

    def _call(self, function: Callable[[], object]) -> None:
        async def call() -> None:
            function()

        self._run(call())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._accepts:
            writer.transport.abort()
            return
        try:
            there, here = await asyncio.open_connection(*self._there)
        except BaseException:  # there is no server, or the proxy ends
            writer.transport.abort()
            return
        both = {writer, here}
        self._writers |= both
        self._clients.add(writer)
        try:
            await asyncio.gather(self._pass_on(reader, here), self._pass_on(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= both
            self._clients.discard(writer)
            for each in both:
                each.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError
