"""Items from JSON, as the type says that a process function declares for its parameter."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from workpool.service.http import Refusal

__all__ = ["Reader"]

TOLD: Final = 10
"""Faults of an item that are told; a list may have a fault for each of its thousand members."""


class Reader:
    """How to read the items of one process function; what declares no type takes any JSON."""

    def __init__(self, process: Callable[[Any], object]) -> None:
        kind: Any = Any
        self._adapter: TypeAdapter[Any] | None = None
        try:
            kind = _declared(process)
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
            adapter.validator.title  # noqa: B018 - raises for a model with a field whose type is not defined yet
            self._adapter = adapter
            self._why_not = ""
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            self._why_not = f"the items of this pool are of a type that JSON cannot say, {_name(kind)} ({why})"
        self._kind = _name(kind)

    def read(self, text: bytes) -> Any:
        """Raises `Refusal`: 400 for what is no JSON, 422 for another type, 501 where JSON cannot say the type."""
        if self._adapter is None:
            raise Refusal(501, "no_items", self._why_not)
        try:
            return self._adapter.validate_json(text)
        except ValidationError as error:
            raise _refused(error, self._kind) from None

    def schema(self, ref_template: str) -> dict[str, Any] | None:
        """What it reads, as a JSON Schema; None: nothing. Whatever cannot be described is anything."""
        if self._adapter is None:
            return None
        try:
            return self._adapter.json_schema(ref_template=ref_template)
        except PydanticInvalidForJsonSchema:
            return {}


def _name(kind: object) -> str:
    return str(kind) if typing.get_origin(kind) else getattr(kind, "__name__", str(kind))


def _refused(error: ValidationError, name: str) -> Refusal:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return Refusal(400, "not_json", f"not JSON: {faults[0]['msg'].removeprefix('Invalid JSON: ')}")
    told = [": ".join(filter(None, (".".join(map(str, each["loc"])), each["msg"]))) for each in faults[:TOLD]]
    if len(faults) > TOLD:
        told.append(f"and {len(faults) - TOLD} more")
    return Refusal(422, "not_an_item", f"not {name}: {'; '.join(told)}")


def _declared(process: Callable[[Any], object]) -> Any:
    """The type of the first parameter, text resolved; of the others nothing is, they may be for type checkers only."""
    try:
        parameters = inspect.signature(process).parameters.values()
    except ValueError:  # many that are written in C do not say
        return Any
    first = next((each for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY), None)
    if first is None or first.annotation is first.empty:
        return Any
    inner: Any = inspect.unwrap(getattr(process, "func", process))
    inner = inner.__init__ if inspect.isclass(inner) else inner
    names = getattr(inner, "__globals__", None) or getattr(getattr(inner, "__call__", None), "__globals__", {})  # noqa: B004
    holder: Any = SimpleNamespace(__annotations__={"item": first.annotation})
    return typing.get_type_hints(holder, globalns=names, include_extras=True)["item"]
