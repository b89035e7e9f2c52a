"""The type of a process function's items: what it declares for its parameter, and how that is read from JSON."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter, ValidationError

__all__ = ["adapter_of", "declared", "faults_of", "name_of"]


def declared(parameter: inspect.Parameter, function: Callable[[Any], object]) -> Any:
    """The parameter's type, text resolved; of the others nothing is, they may be for type checkers only.

    Raises whatever a text raises that cannot be resolved at run time.
    """
    inner: Any = inspect.unwrap(getattr(function, "func", function))
    inner = inner.__init__ if inspect.isclass(inner) else inner
    names = getattr(inner, "__globals__", None) or getattr(getattr(inner, "__call__", None), "__globals__", {})  # noqa: B004
    holder: Any = SimpleNamespace(__annotations__={"item": parameter.annotation})
    return typing.get_type_hints(holder, globalns=names, include_extras=True)["item"]


def adapter_of(kind: Any) -> TypeAdapter[Any]:
    """Raises whatever pydantic raises of a type that JSON cannot say."""
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    adapter.validator.title  # noqa: B018 - raises for a model with a field whose type is not defined yet
    return adapter


def name_of(kind: object) -> str:
    return str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))


def faults_of(error: ValidationError, most: int) -> str:
    """Where it is wrong, and what would be right, of the first so many: a list may have a fault for each member."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in faults[:most]]
    if len(faults) > most:
        told.append(f"and {len(faults) - most} more")
    return "; ".join(told)
