"""What the tests of the HTTP side share: requests to an application in this process, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SOON", "App", "Listener", "Message", "Reply", "ask", "scope_of"]

SOON = 20.0
"""Seconds that a test waits for what has to happen, before it fails."""

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """The status, and the word that goes with it; errors have one shape."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) - {"retry_after"} == {"error", "detail"}
        assert self.json["detail"]
        return self.status, self.json["error"]


def scope_of(method: str, path: str, headers: Iterable[tuple[str, str]] = ()) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("192.0.2.7", 4711),
        "server": ("testserver", 80),
        "state": {},
    }


def ask(
    app: App,
    method: str,
    path: str,
    body: bytes | object = None,
    headers: Iterable[tuple[str, str]] = (),
    chunks: list[Message] | None = None,
) -> Reply | None:
    """One request; a `body` that is not bytes is sent as JSON. None: it was not answered.

    `chunks` are the messages of a body that comes without its length; after the last nothing comes.
    """
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = list(headers)
    if chunks is not None:
        given.append(("Transfer-Encoding", "chunked"))
    elif body is not None or method == "POST":
        given.append(("Content-Length", str(len(content))))
        chunks = [{"type": "http.request", "body": content, "more_body": False}]
    return asyncio.run(_asked(app, scope_of(method, path, given), list(chunks or [])))


async def _asked(app: App, scope: MutableMapping[str, Any], comes: list[Message]) -> Reply | None:
    sent: list[Message] = []

    async def receive() -> Message:
        if comes:
            return comes.pop(0)
        await asyncio.get_running_loop().create_future()  # for ever
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(SOON):
        await app(scope, receive, send)
    if not sent:
        return None
    start, *bodies = sent
    assert not bodies[-1].get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], headers, b"".join(message.get("body", b"") for message in bodies))


class Listener:
    """A client of a stream of events, for a test that is a task."""

    def __init__(self, app: App, path: str = "/api/events") -> None:
        self._app = app
        self._scope = scope_of("GET", path)
        self._came: asyncio.Queue[Message] = asyncio.Queue()
        self._gone = asyncio.Event()
        self.reads = asyncio.Event()
        """Cleared, it takes nothing that it is sent."""
        self.reads.set()
        self.task = asyncio.ensure_future(self._listen())

    async def _listen(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await self.reads.wait()
        self._came.put_nowait(message)

    async def next(self) -> Message:
        async with asyncio.timeout(SOON):
            return await self._came.get()

    async def event(self) -> Any:
        """What the next one says."""
        body = (await self.next())["body"].decode()
        (line,) = [line for line in body.splitlines() if line.startswith("data: ")]
        return json.loads(line.removeprefix("data: "))

    def leave(self) -> None:
        self._gone.set()

    async def end(self) -> None:
        """Wait until the application is done with it."""
        async with asyncio.timeout(SOON):
            await self.task
