"""`package.module:function`: find it, see what it takes, and read that from lines.

Rules: whatever is wrong is a `Wrong` with one sentence that says what, where, and what would be right.
The function itself is not called here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from pydantic import TypeAdapter

from workpool._named import Unnamed, look_here, named, one_line
from workpool.cli.wrong import Wrong
from workpool.errors import Invalid
from workpool.sources.decoding import Decode, Explained, Undecodable, Unreadable, decoding
from workpool.workers.choice import is_called_as

__all__ = [
    "Decode",
    "Explained",
    "Undecodable",
    "Unwritable",
    "decoder",
    "encode",
    "encoded",
    "explain",
    "find",
    "load",
    "load_value",
]

encode: Final = TypeAdapter[object](object).dump_json
"""Any result to JSON, as its own type says: dataclasses, models, dates, paths, sets, ..."""


class Unwritable(Explained, Invalid):
    """The function has done its work, but its result is not for JSON: to do the work again would not help."""


def encoded(result: object) -> bytes | None:
    """A result as its line of the output; None: it has none. Raises `Unwritable`."""
    if result is None:
        return None
    try:
        return encode(result) + b"\n"
    except Exception as error:
        raise Unwritable(one_line(error)) from error


def load(target: str) -> Callable[[Any], object]:
    """The function that `target` names; the current folder is searched first. Raises `Wrong`."""
    look_here()
    return find(target)


def load_value(target: str) -> object:
    """Whatever `target` names, found in the same way. Raises `Wrong`."""
    look_here()
    return _found(target, "name")


def find(target: str) -> Callable[[Any], object]:
    """`load`, from where modules are found now."""
    found = _found(target, "function")
    if not callable(found):
        raise Wrong(f"TARGET {target!r} is not a function, but a value of type {type(found).__name__}")
    if is_called_as(inspect.isasyncgenfunction, found):
        raise Wrong(
            f"TARGET {target!r} is an async generator: name a function, plain or async, that returns the one result "
            "of a line"
        )
    function: Callable[[Any], object] = found
    return function


def _found(target: str, what: str) -> Any:
    try:
        return named(target, what)
    except Unnamed as error:
        raise Wrong(f"TARGET {error}") from None


def decoder(function: Callable[[Any], object], target: str) -> Decode:
    """How to read a line for `function`. The decoder raises `Undecodable`; this raises `Wrong`."""
    try:
        return decoding(function, target)
    except Unreadable as error:
        raise Wrong(f"TARGET {error}") from None


def explain(error: BaseException) -> str:
    """Why a line failed."""
    return str(error) if isinstance(error, Explained) else one_line(error)
