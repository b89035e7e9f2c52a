"""`Application`: pools over HTTP, as an ASGI application that stands alone or is mounted into another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from workpool.service import openapi, page
from workpool.service.api import Control, Items, Pools, Probes, View, scraping
from workpool.service.events import Stream, Streams
from workpool.service.http import (
    Answer,
    Client,
    Disconnected,
    Limits,
    Receive,
    Refusal,
    Request,
    Response,
    Router,
    Scope,
    Send,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Application"]

log = logging.getLogger("workpool")


class Application:
    """Pools over HTTP.

    It neither starts nor stops them. It runs under any ASGI server, in `workpool.service.server.Server`, or mounted
    into Starlette and FastAPI.

    Args:
        pools: by the name that they have in paths.
        sources: by the pool's name, what tells how its source is, as plain values; for the page and `/api/pools/NAME`.
        token: what a request has to bring to pause, resume, resize or drain a pool; None: none can.
        readiness: why the service is to be sent nothing now; "" if it is. A pool that does not run is a reason anyway.
        registry: what `/metrics` shows; None: these pools.
        limits: of a request's body.
        interval: seconds between two events of a stream.
        stuck_after: for how many seconds an item may run until its worker is shown as stuck.

    Raises:
        ValueError: the token is empty, or two pools that `/metrics` is to show have one name.
    """

    def __init__(
        self,
        pools: Pools,
        *,
        sources: Mapping[str, Callable[[], Mapping[str, Any]]] = MappingProxyType({}),
        token: str | None = None,
        readiness: Callable[[], str] = str,
        registry: CollectorRegistry | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        interval: float = 1.0,
        stuck_after: float = 10.0,
    ) -> None:
        pools = dict(pools)
        view = View(pools, sources, has_control=token is not None, stuck_after=stuck_after)
        probes = Probes(pools, readiness)
        self._streams = Streams(view.event, interval)
        self._router = router = Router()
        for path in page.FILES:
            router.add("GET", path, _file)
        router.add("GET", "", _to_the_slash)
        router.add("GET", "/metrics", scraping(pools, registry))
        router.add("GET", "/livez", probes.live)
        router.add("GET", "/readyz", probes.ready)
        router.add("GET", "/api/events", self._events)
        router.add("GET", "/api/pools", view.list)
        items = Items(pools, limits)
        router.add("POST", "/api/pools/{name}/items", items.submit)
        router.add("GET", "/openapi.json", openapi.serving(items.readers, has_control=token is not None))
        if token is not None:
            for action, handler in Control(pools, token, limits).actions().items():
                router.add("POST", f"/api/pools/{{name}}/{action}", handler)
        router.add("GET", "/api/pools/{name}", view.one)

    def close(self) -> None:
        """End the open streams, which a server would wait for. From any thread; before the server is told to stop."""
        self._streams.close()

    def reopen(self) -> None:
        """Undo `close`, for another server."""
        self._streams.reopen()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        client = Client(receive, send, wants_body=request.method != "HEAD")
        try:
            answer = await self._router.answer(request)
        except Refusal as refusal:
            answer = refusal.response()
        except Disconnected:
            return
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            answer = Refusal(500, "failed", "this failed; the service's log says why").response()
        await answer.send(client)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.reopen()
            else:
                self.close()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _events(self, _: Request) -> Stream:
        return self._streams.stream()


async def _file(request: Request) -> Answer:
    return page.file(request.path)


async def _to_the_slash(request: Request) -> Answer:
    """Mounted at `/pools`, the page is at `/pools/`: what it asks for is beside it."""
    return Response(307, "text/plain", b"", (("Location", f"{request.scope.get('root_path', '')}/"),))
