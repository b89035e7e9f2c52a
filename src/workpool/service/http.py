"""HTTP as ASGI has it: requests with limits, responses, errors of one shape, and which handler is whose.

Rules: nothing here knows of pools. Whatever a client sends is bounded in size and in time before it is read. What is
refused is a `Refusal`, which becomes `{"error": a word, "detail": a sentence}` and its status.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

__all__ = [
    "Answer",
    "Client",
    "Disconnected",
    "Handler",
    "Limits",
    "Message",
    "Receive",
    "Refusal",
    "Request",
    "Response",
    "Router",
    "Scope",
    "Send",
    "as_json",
    "encode",
    "is_gone",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

EVERYWHERE: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
)
"""Headers of every response."""


class Refusal(Exception):
    """No, with a status, a word for programs and a sentence for people."""

    def __init__(self, status: int, error: str, detail: str, *headers: tuple[str, str], **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.content = {"error": error, "detail": detail, **more}
        self.headers = headers

    def response(self) -> Response:
        return as_json(self.content, self.status, *self.headers)


class Disconnected(Exception):
    """The client went away before it had said all: there is nobody to answer."""


class Answer(Protocol):
    """What a handler returns."""

    async def send(self, client: Client) -> None: ...


@dataclass(frozen=True, slots=True)
class Client:
    """The two ends of a request that has been read."""

    receive: Receive
    send: Send
    wants_body: bool
    """False for HEAD."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole one."""

    status: int
    kind: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    async def send(self, client: Client) -> None:
        own = [(b"content-type", self.kind.encode()), (b"content-length", b"%d" % len(self.body))]
        more = [(name.lower().encode(), value.encode()) for name, value in self.headers]
        await client.send({"type": "http.response.start", "status": self.status, "headers": [*own, *more, *EVERYWHERE]})
        body = self.body if client.wants_body else b""
        await client.send({"type": "http.response.body", "body": body, "more_body": False})


_encoder: Final = json.JSONEncoder(separators=(",", ":"))


def encode(content: object) -> bytes:
    return _encoder.encode(content).encode()


def as_json(content: object, status: int = 200, *headers: tuple[str, str]) -> Response:
    return Response(status, "application/json", encode(content), headers)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask of the server."""

    body_bytes: int = 1 << 20
    body_seconds: float = 10.0
    """In which a body has to be there."""


class Request:
    """What a client asks for. Headers are read as they come: bytes, their names in small letters."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path = _path(scope)
        self.receive = receive
        self.names: Mapping[str, str] = {}
        """What the path of the route left open."""

    def header(self, name: bytes) -> bytes | None:
        """The first of that name."""
        found: bytes | None = next((value for key, value in self.scope["headers"] if key == name), None)
        return found

    @property
    def sender(self) -> str:
        """Where it comes from, for a log."""
        client = self.scope.get("client")
        return f"{client[0]}:{client[1]}" if client else "an unknown address"

    def refuse_foreign_page(self) -> None:
        """Refuse what a page of another site has a browser send: it may reach addresses that the page cannot.

        A browser says where a request comes from; what says nothing is no browser.
        """
        site = self.header(b"sec-fetch-site")
        origin = self.header(b"origin")
        if site is not None:
            foreign = site not in (b"same-origin", b"none")
        else:
            foreign = origin is not None and urlsplit(origin).netloc != (self.header(b"host") or b"")
        if foreign:
            raise Refusal(403, "foreign_page", "a page of another site may not ask for that")

    async def body(self, limits: Limits) -> bytes:
        """All of it."""
        length = self.header(b"content-length")
        if length is None and self.header(b"transfer-encoding") is None:
            raise Refusal(411, "length_required", "a body is wanted, and its Content-Length")
        if length is not None and not re.fullmatch(rb"[0-9]{1,19}", length):
            raise Refusal(400, "bad_request", "Content-Length is not a number of bytes")
        if length is not None and int(length) > limits.body_bytes:
            raise _too_large(limits)
        try:
            async with asyncio.timeout(limits.body_seconds):
                return await self._read(limits)
        except TimeoutError:
            raise Refusal(
                408,
                "timeout",
                f"the body was not there within {limits.body_seconds:g} s",
                ("Connection", "close"),
            ) from None

    async def _read(self, limits: Limits) -> bytes:
        came = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            came += message.get("body", b"")
            if len(came) > limits.body_bytes:
                raise _too_large(limits)
            if not message.get("more_body", False):
                return bytes(came)


async def is_gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, "too_large", f"a body may have {limits.body_bytes} bytes at most")


def _path(scope: Scope) -> str:
    """Below the one where the application is mounted: Starlette and uvicorn leave that in front of it."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    below = path.removeprefix(root)
    return below if below.startswith("/") or not below else path


Handler = Callable[[Request], Awaitable[Answer]]


class Router:
    """Which handler is whose."""

    def __init__(self) -> None:
        self._plain: dict[str, dict[str, Handler]] = {}
        self._open: dict[re.Pattern[str], dict[str, Handler]] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """`{name}` in a path stands for anything, slashes too. Of two paths that fit, the first added counts."""
        if "{" in path:
            pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>.+)", path), re.DOTALL)  # compiled once: the same object
            self._open.setdefault(pattern, {})[method] = handler
        else:
            self._plain.setdefault(path, {})[method] = handler

    async def answer(self, request: Request) -> Answer:
        """Raises `Refusal`."""
        methods = self._methods(request)
        handler = methods.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            allowed = sorted({*methods, "HEAD"} if "GET" in methods else methods)
            raise Refusal(
                405, "method_not_allowed", f"{request.method} is not for {request.path}", ("Allow", ", ".join(allowed))
            )
        return await handler(request)

    def _methods(self, request: Request) -> dict[str, Handler]:
        if request.path in self._plain:
            return self._plain[request.path]
        for pattern, methods in self._open.items():
            found = pattern.fullmatch(request.path)
            if found is not None:
                request.names = found.groupdict()
                return methods
        raise Refusal(404, "not_found", f"there is nothing at {request.path}")
