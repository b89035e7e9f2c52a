"""Items from lines: read as the type says that a process function declares for its parameter."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from workpool._named import one_line
from workpool.errors import Invalid

__all__ = ["Decode", "Explained", "Undecodable", "Unreadable", "decoding"]

Decode = Callable[[bytes], Any]


class Explained(Exception):
    """Why a line failed: the text is the whole of it."""


class Undecodable(Explained, Invalid):
    """A line is not what the function takes, and will not be the next time."""


class Unreadable(ValueError):
    """What a function takes cannot be read from lines. The text is the whole of what the user sees."""


def decoding(function: Callable[[Any], object], target: str) -> Decode:
    """How to read a line for `function`. The decoder raises `Undecodable`; this raises `Unreadable`.

    `str` and `bytes` are the line itself, nothing declared is `str`; anything else is JSON.
    """
    parameter = _parameter(function, target)
    kind = _declared(parameter, function, target)
    if kind is str:
        return _text
    if kind is bytes:
        return bytes
    name = str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        adapter.validator.title  # noqa: B018 - raises for a model with a field whose type is not defined yet
    except Exception as error:
        raise Unreadable(
            f"{target!r}: its parameter {parameter.name!r} is of a type that pydantic cannot read from JSON, "
            f"{name} ({one_line(error)}); str, bytes, builtins, dataclasses, TypedDicts and pydantic models would do"
        ) from None
    read = adapter.validate_json

    def decode(text: bytes) -> Any:
        try:
            return read(text)
        except ValidationError as error:
            raise Undecodable(f"not {name} in JSON: {_faults(error)}") from None

    return decode


def _text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(
            f"not UTF-8: {error.reason} at byte {error.start} (0x{text[error.start]:02x}); "
            "a parameter of type bytes takes any line"
        ) from None


def _faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"]))) for fault in faults[:3])


def _parameter(function: Callable[[Any], object], target: str) -> inspect.Parameter:
    """The first one, if `function` can be called with that alone."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise Unreadable(
            f"{target!r} does not say what parameters it has: wrap it in a function with one parameter"
        ) from None
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = [parameter for parameter in parameters if parameter.kind not in kinds]
    if not takes:
        raise Unreadable(f"{target!r} has no parameter to take a line: it needs one")
    several = [p.name for p in parameters if p.default is p.empty and p.kind not in _NOT_REQUIRED]
    if len(several) > (takes[0].name in several):
        raise Unreadable(f"{target!r} must be callable with one argument, the line, but requires {', '.join(several)}")
    return takes[0]


_NOT_REQUIRED: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _declared(parameter: inspect.Parameter, function: Any, target: str) -> Any:
    """The parameter's type, text resolved; of the others nothing is resolved, they may be for type checkers only."""
    if parameter.annotation is parameter.empty:
        return str
    inner: Any = inspect.unwrap(getattr(function, "func", function))
    inner = inner.__init__ if inspect.isclass(inner) else inner
    names = getattr(inner, "__globals__", None) or getattr(getattr(inner, "__call__", None), "__globals__", {})  # noqa: B004
    holder: Any = SimpleNamespace(__annotations__={"item": parameter.annotation})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["item"]
    except Exception as error:
        raise Unreadable(
            f"{target!r}: the type of its parameter {parameter.name!r}, {parameter.annotation!r}, "
            f"cannot be resolved at run time: {one_line(error)}"
        ) from None
