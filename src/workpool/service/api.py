"""What a service answers about its pools, and what can be done to them over HTTP.

Rules: nothing here waits for a pool, but for `resize`, which may have to start processes and is done in a thread. What
steers asks for the token first, before it says whether there is such a pool.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Final, cast

from workpool import metrics
from workpool.errors import PoolNotStarted, PoolStopped, QueueFull
from workpool.pool import Pool
from workpool.service.http import Answer, Handler, Limits, Refusal, Request, Response, as_json, encode
from workpool.service.items import Reader
from workpool.service.looking import is_paused, workers_of
from workpool.sources.handing import process_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Control", "Items", "Probes", "View", "find", "scraping"]

Pools = Mapping[str, Pool[Any, Any]]
Sources = Mapping[str, Callable[[], Mapping[str, Any]]]

MOST_WORKERS: Final = 10_000
"""To which a request can resize a pool: a slip of the hand is not to start a million threads."""

log = logging.getLogger("workpool")


def find(pools: Pools, request: Request) -> Pool[Any, Any]:
    """The one that the path names. Raises `Refusal`."""
    name = request.names["name"]
    try:
        return pools[name]
    except KeyError:
        raise Refusal(404, "no_such_pool", f"there is no pool {name!r}") from None


class View:
    """The pools, as JSON."""

    def __init__(self, pools: Pools, sources: Sources, *, has_control: bool, stuck_after: float) -> None:
        self._pools = pools
        self._sources = sources
        self._has_control = has_control
        self._stuck_after = stuck_after

    def all(self) -> dict[str, Any]:
        return {
            "at": time.time(),
            "control": self._has_control,
            "pools": {name: pool.stats().as_dict() for name, pool in self._pools.items()},
            "paused": [name for name, pool in self._pools.items() if is_paused(pool)],
        }

    def event(self) -> bytes:
        return encode(self.all())

    async def list(self, _: Request) -> Answer:
        return as_json(self.all())

    async def one(self, request: Request) -> Answer:
        pool = find(self._pools, request)
        source = self._sources.get(request.names["name"])
        return as_json(
            {
                "at": time.time(),
                "stats": pool.stats().as_dict(),
                "paused": is_paused(pool),
                "workers": workers_of(pool, self._stuck_after),
                "source": None if source is None else source(),
            }
        )


class Probes:
    """Whether the service lives, and whether it should be sent anything."""

    def __init__(self, pools: Pools, readiness: Callable[[], str]) -> None:
        self._pools = pools
        self._readiness = readiness

    async def live(self, _: Request) -> Answer:
        return as_json({"status": "alive"})

    async def ready(self, _: Request) -> Answer:
        if reason := self._readiness() or self._not_running():
            raise Refusal(503, "not_ready", reason)
        return as_json({"status": "ready"})

    def _not_running(self) -> str:
        states = [(name, pool.stats().state) for name, pool in self._pools.items()]
        says = {"new": "is not started", "draining": "is draining", "stopped": "is stopped"}
        return "; ".join(f"pool {name!r} {says[state]}" for name, state in states if state in says)


class Items:
    """Items for the pools."""

    def __init__(self, pools: Pools, limits: Limits) -> None:
        self._pools = pools
        self._limits = limits
        self.readers: Mapping[str, Reader] = {name: Reader(process_of(pool)) for name, pool in pools.items()}

    async def submit(self, request: Request) -> Answer:
        request.refuse_foreign_page()
        pool = find(self._pools, request)
        name = request.names["name"]
        item = self.readers[name].read(await request.body(self._limits))
        try:
            pool.submit(item)
        except QueueFull as full:
            seconds = full.retry_after
            raise Refusal(
                429,
                "queue_full",
                f"the queue of pool {name!r} is full",
                ("Retry-After", str(max(1, ceil(seconds)))),  # the header has no room for less than a second
                retry_after=seconds,
            ) from None
        except (PoolStopped, PoolNotStarted) as error:
            raise Refusal(503, "not_accepting", str(error)) from None
        return as_json({"accepted": True}, 202)


class Control:
    """What steers the pools: for whoever has the token."""

    def __init__(self, pools: Pools, token: str, limits: Limits) -> None:
        if not token:
            raise ValueError("token must not be empty: leave it out (or None) to have nothing steered over HTTP")
        self._pools = pools
        self._authorization = b"bearer " + token.encode()
        self._limits = limits

    def actions(self) -> Mapping[str, Handler]:
        return {"pause": self._pause, "resume": self._resume, "resize": self._resize, "drain": self._drain}

    async def _pause(self, request: Request) -> Answer:
        pool = self._permitted(request)
        _done(request, pool.pause)
        return as_json({"paused": True})

    async def _resume(self, request: Request) -> Answer:
        pool = self._permitted(request)
        _done(request, pool.resume)
        return as_json({"paused": False})

    async def _drain(self, request: Request) -> Answer:
        pool = self._permitted(request)
        _done(request, pool.close)
        return as_json({"state": pool.stats().state}, 202)

    async def _resize(self, request: Request) -> Answer:
        pool = self._permitted(request)
        workers = _workers(await request.body(self._limits))
        await asyncio.to_thread(_done, request, lambda: pool.resize(workers), f" to {workers} workers")
        return as_json({"workers": workers})

    def _permitted(self, request: Request) -> Pool[Any, Any]:
        """The pool that is meant, for who has the token. Raises `Refusal`."""
        given = request.header(b"authorization")
        kind, _, token = (given or b"").partition(b" ")
        if not hmac.compare_digest(kind.lower() + b" " + token.strip(), self._authorization):
            log.warning(
                "%s was refused to %s: %s", request.path, request.sender, "wrong token" if given else "no token"
            )
            raise Refusal(
                401,
                "wrong_token" if given else "no_token",
                "the token is wrong" if given else "this wants the header `Authorization: Bearer TOKEN`",
                ("WWW-Authenticate", 'Bearer realm="workpool"'),
            )
        return find(self._pools, request)


def _done(request: Request, do: Callable[[], None], how: str = "") -> None:
    """Do it, and say so. Raises `Refusal`."""
    try:
        do()
    except (PoolStopped, PoolNotStarted) as error:
        log.warning("%s%s by %s failed: %s", request.path, how, request.sender, error)
        raise Refusal(409, "not_running", str(error)) from None
    log.warning("%s%s was done for %s", request.path, how, request.sender)


def _workers(body: bytes) -> int:
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "not_json", f"not JSON: {error}") from None
    workers = cast("dict[str, object]", content).get("workers") if isinstance(content, dict) else None
    if isinstance(workers, float) and workers.is_integer():
        workers = int(workers)  # JSON has one kind of number
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= MOST_WORKERS:
        raise Refusal(422, "not_a_number", f'wanted is {{"workers": N}}, and N a whole number from 1 to {MOST_WORKERS}')
    return workers


def scraping(pools: Pools, registry: CollectorRegistry | None) -> Handler:
    """What answers a scrape. Raises ImportError without prometheus_client, and ValueError for two pools of one name."""
    import prometheus_client
    from prometheus_client.openmetrics import exposition

    if registry is None:
        registry = prometheus_client.CollectorRegistry()
        registry.register(_collector(pools))
    wanted = registry
    generate_openmetrics: Callable[[CollectorRegistry], bytes] = getattr(exposition, "generate_latest")  # noqa: B009 - it has no types

    async def scrape(request: Request) -> Answer:
        if _prefers_openmetrics((request.header(b"accept") or b"").decode("latin-1")):
            body = bytes(generate_openmetrics(wanted))
            return Response(200, exposition.CONTENT_TYPE_LATEST, body)
        return Response(200, "text/plain; version=0.0.4; charset=utf-8", prometheus_client.generate_latest(wanted))

    return scrape


def _collector(pools: Pools) -> metrics.PoolCollector:
    names = [pool.name for pool in pools.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two pools are named {min(twice)!r}, which no metrics could tell apart; pass a registry")
    collector = metrics.PoolCollector()
    for pool in pools.values():
        collector.put(pool.name, pool.stats)
    return collector


def _prefers_openmetrics(accept: str) -> bool:
    """Whether it is asked for by its name, and text is not asked for more."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    return (
        weights["application/openmetrics-text"] > 0 and weights["application/openmetrics-text"] >= weights["text/plain"]
    )


def _weight(parameters: list[str]) -> float:
    given = next((word[2:] for word in parameters if word.startswith("q=")), "1")
    try:
        return float(given)
    except ValueError:
        return 0.0
