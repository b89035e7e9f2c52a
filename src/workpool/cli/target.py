"""`package.module:function`: find it, see what it takes, and read that from lines.

Rules: whatever is wrong is a `Wrong` with one sentence that says what, where, and what would be right.
The function itself is not called here.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Final, NoReturn

from pydantic import TypeAdapter, ValidationError

from workpool.cli.wrong import Wrong
from workpool.workers.choice import is_called_as

__all__ = ["Explained", "Undecodable", "decoder", "encode", "explain", "find", "load"]

Decode = Callable[[bytes], Any]

encode: Final = TypeAdapter[object](object).dump_json
"""Any result to JSON, as its own type says: dataclasses, models, dates, paths, sets, ..."""


class Explained(Exception):
    """Why a line failed: the text is the whole of it."""


class Undecodable(Explained, ValueError):
    """A line is not what the function takes."""


def load(target: str) -> Callable[[Any], object]:
    """The function that `target` names; the current folder is searched first. Raises `Wrong`."""
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise Wrong(f"TARGET {target!r} is not of the form package.module:function")
    if "" not in sys.path[:1] and str(Path.cwd()) not in sys.path[:1]:
        sys.path.insert(0, str(Path.cwd()))
    return find(target)


def find(target: str) -> Callable[[Any], object]:
    """`load`, from where modules are found now."""
    name, _, path = target.partition(":")
    found: Any = _module(name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Wrong(f"TARGET {target!r}: there is no {part!r} in {_where(found, name)}") from None
    if not callable(found):
        raise Wrong(f"TARGET {target!r} is not a function, but a value of type {type(found).__name__}")
    if is_called_as(inspect.isasyncgenfunction, found):
        raise Wrong(
            f"TARGET {target!r} is an async generator: name a function, plain or async, that returns the one result "
            "of a line"
        )
    function: Callable[[Any], object] = found
    return function


def _where(found: object, name: str) -> str:
    file = found.__file__ if isinstance(found, ModuleType) else None
    return f"module {name!r} ({file})" if file else f"{name!r}"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise Wrong(
                f"TARGET: there is no module {missing!r}, neither in the current folder ({Path.cwd()}) nor installed"
            ) from None
        _import_failed(name, error)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _import_failed(name, error)


def _import_failed(name: str, error: BaseException) -> NoReturn:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames[1:] else ""
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}: "
        error = SyntaxError(error.msg)
    raise Wrong(f"TARGET: importing {name!r} failed: {where}{one_line(error)}") from None


def decoder(function: Callable[[Any], object], target: str) -> Decode:
    """How to read a line for `function`. The decoder raises `Undecodable`; this raises `Wrong`.

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
        raise Wrong(
            f"TARGET {target!r}: its parameter {parameter.name!r} is of a type that pydantic cannot read from JSON, "
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
        raise Wrong(
            f"TARGET {target!r} does not say what parameters it has: wrap it in a function with one parameter"
        ) from None
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    takes = [parameter for parameter in parameters if parameter.kind not in kinds]
    if not takes:
        raise Wrong(f"TARGET {target!r} has no parameter to take a line: it needs one")
    several = [p.name for p in parameters if p.default is p.empty and p.kind not in _NOT_REQUIRED]
    if len(several) > (takes[0].name in several):
        raise Wrong(
            f"TARGET {target!r} must be callable with one argument, the line, but requires {', '.join(several)}"
        )
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
        raise Wrong(
            f"TARGET {target!r}: the type of its parameter {parameter.name!r}, {parameter.annotation!r}, "
            f"cannot be resolved at run time: {one_line(error)}"
        ) from None


def explain(error: BaseException) -> str:
    """Why a line failed."""
    return str(error) if isinstance(error, Explained) else one_line(error)


def one_line(error: BaseException) -> str:
    """`ValueError: what it says`, whatever that is, on one line."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(which cannot be printed)"
    return f"{name}: {text}" if text else name
