"""The application below a path of Starlette's and FastAPI's, and of a server's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from tests.service.asking import App, Reply, ask, scope_of
from workpool import Pool
from workpool.service.application import Application

TOKEN = "s3cret"


def echo(number: int) -> int:
    return number


def in_starlette(application: Application, path: str) -> App:
    return Starlette(routes=[Mount(path, application)])


def in_fastapi(application: App, path: str) -> App:
    app = FastAPI()
    app.mount(path, application)
    return app


def in_both(application: Application, path: str) -> App:
    """The one mounted into the other."""
    outer, inner = path.rsplit("/", 1)
    return in_starlette(application, path) if not outer else in_fastapi(in_starlette(application, f"/{inner}"), outer)


def under_root_path(application: Application, path: str) -> App:
    """As uvicorn's `--root-path`: it puts that in front of the path."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        await application({**scope, "root_path": path}, receive, send)

    return app


def with_trimmed_path(application: Application, path: str) -> App:
    """As servers and frameworks do that keep what is mounted apart from the rest of the path."""

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        await application({**scope, "root_path": path, "path": scope["path"].removeprefix(path)}, receive, send)

    return app


def asked(app: App, method: str, path: str, body: object = None, *headers: tuple[str, str]) -> Reply:
    reply = ask(app, method, path, body, headers)
    assert reply is not None
    return reply


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, in_both, under_root_path, with_trimmed_path])
@pytest.mark.parametrize("at", ["/pools", "/admin/pools", "/a"])
def test_each_route_is_below_the_path(mount: Callable[[Application, str], App], at: str) -> None:
    with Pool(echo, name="echo") as pool:
        app = mount(Application({"echo": pool}, token=TOKEN), at)
        assert asked(app, "GET", f"{at}/livez").status == 200
        assert asked(app, "GET", f"{at}/").headers["content-type"].startswith("text/html")
        assert b"workpool_submitted_total" in asked(app, "GET", f"{at}/metrics").body
        assert asked(app, "GET", f"{at}/api/pools").json["pools"] == {"echo": pool.stats().as_dict()}
        assert asked(app, "POST", f"{at}/api/pools/echo/items", 3).status == 202
        bearer = ("Authorization", f"Bearer {TOKEN}")
        assert asked(app, "POST", f"{at}/api/pools/echo/pause", b"", bearer).json == {"paused": True}
        assert asked(app, "GET", f"{at}/nothing").status == 404
        pool.resume()


@pytest.mark.parametrize("mount", [in_starlette, in_fastapi, under_root_path, with_trimmed_path])
def test_the_page_is_where_what_it_asks_for_is_beside_it(mount: Callable[[Application, str], App]) -> None:
    app = mount(Application({}), "/pools")
    reply = asked(app, "GET", "/pools")
    assert reply.status == 307
    assert reply.headers["location"].endswith("/pools/")
    page = asked(app, "GET", "/pools/").body.decode()
    for name in ("page.js", "page.css", "icon.svg"):
        assert f'"{name}"' in page
        assert asked(app, "GET", f"/pools/{name}").status == 200


def test_a_path_that_only_looks_like_the_mount_is_not_cut() -> None:
    scope = {**scope_of("GET", "/livez"), "root_path": "/live"}
    seen = asked(_with(scope), "GET", "/livez")
    assert seen.json == {"status": "alive"}


def _with(scope: object) -> App:
    async def app(_, receive, send):  # type: ignore[no-untyped-def]
        await Application({})(scope, receive, send)  # type: ignore[arg-type]

    return app
