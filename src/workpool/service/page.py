"""The page: files of this package, served as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

from workpool.service.http import Response

__all__ = ["FILES", "file"]

_SCRIPTS = ("page", "cells", "control", "elements", "history", "measures", "numbers", "pool", "pools", "workers")

FILES: Final[Mapping[str, tuple[str, str]]] = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{f"/{script}.js": (f"{script}.js", "text/javascript; charset=utf-8") for script in _SCRIPTS},
}


@cache
def file(path: str) -> Response:
    name, kind = FILES[path]
    return Response(200, kind, (files(__package__ or "") / "static" / name).read_bytes())
