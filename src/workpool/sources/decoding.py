"""Items from lines: read as the type says that a process function declares for its parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from pydantic import ValidationError

from workpool._named import one_line
from workpool.errors import Invalid
from workpool.sources.itemtype import adapter_of, declared, faults_of, name_of

__all__ = ["Decode", "Explained", "Undecodable", "Unreadable", "decoding"]

Decode = Callable[[bytes], Any]

TOLD: Final = 3
"""Faults of a line that are told."""


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
    name = name_of(kind)
    try:
        read = adapter_of(kind).validate_json
    except Exception as error:
        raise Unreadable(
            f"{target!r}: its parameter {parameter.name!r} is of a type that pydantic cannot read from JSON, "
            f"{name} ({one_line(error)}); str, bytes, builtins, dataclasses, TypedDicts and pydantic models would do"
        ) from None

    def decode(text: bytes) -> Any:
        try:
            return read(text)
        except ValidationError as error:
            raise Undecodable(f"not {name} in JSON: {faults_of(error, TOLD)}") from None

    return decode


def _text(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Undecodable(
            f"not UTF-8: {error.reason} at byte {error.start} (0x{text[error.start]:02x}); "
            "a parameter of type bytes takes any line"
        ) from None


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
    """The parameter's type; nothing declared is `str`."""
    if parameter.annotation is parameter.empty:
        return str
    try:
        return declared(parameter, function)
    except Exception as error:
        raise Unreadable(
            f"{target!r}: the type of its parameter {parameter.name!r}, {parameter.annotation!r}, "
            f"cannot be resolved at run time: {one_line(error)}"
        ) from None
