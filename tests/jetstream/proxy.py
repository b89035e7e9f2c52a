"""A proxy in front of a server, that holds what goes through it, and cuts it off."""

from __future__ import annotations

import asyncio
import socket
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
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepts = True
        self.url = ""

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._listener.setblocking(False)
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._call(lambda: self._begin(self._accept()))
        return self

    def __exit__(self, *_: object) -> None:
        self.cut(accepts=False)
        self._run(self._ended())
        self._listener.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _ended(self) -> None:
        await self._passes()  # who has just connected has begun: cancelled before that, it would stay open
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._passes()  # in which what was aborted is closed

    async def _passes(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

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

    async def _accept(self) -> None:
        """Not with `asyncio.start_server`, which leaves whoever comes while it is closed with an open socket."""
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            if self._accepts:
                self._begin(self._connected(client))
            else:
                client.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, client: socket.socket) -> None:
        both: set[asyncio.StreamWriter] = set()
        try:
            reader, writer = await asyncio.open_connection(sock=client)
            both.add(writer)
            there, here = await asyncio.open_connection(*self._there)
            both.add(here)
            self._writers |= both
            self._clients.add(writer)
            await asyncio.gather(self._pass_on(reader, here), self._pass_on(there, writer))
        except (OSError, asyncio.CancelledError):  # there is no server, or no client, or the proxy ends
            pass
        finally:
            self._writers -= both
            self._clients -= both
            for each in both:
                each.transport.abort()
            if not both:
                client.close()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._open.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError
