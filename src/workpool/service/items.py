"""Items from JSON, as the type says that a process function declares for its parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from workpool._named import one_line
from workpool.service.http import Refusal
from workpool.sources.itemtype import adapter_of, declared, faults_of, name_of

__all__ = ["Reader"]

TOLD: Final = 10
"""Faults of an item that are told."""


class Reader:
    """How to read the items of one process function; what declares no type takes any JSON."""

    def __init__(self, process: Callable[[Any], object]) -> None:
        kind: Any = Any
        self._adapter: TypeAdapter[Any] | None = None
        try:
            kind = _declared(process)
            self._adapter = adapter_of(kind)
            self._why_not = ""
        except Exception as error:
            why = one_line(error)
            self._why_not = f"the items of this pool are of a type that JSON cannot say, {name_of(kind)} ({why})"
        self._kind = name_of(kind)

    def read(self, text: bytes) -> Any:
        """Raises `Refusal`: 400 for what is no JSON, 422 for another type, 501 where JSON cannot say the type."""
        if self._adapter is None:
            raise Refusal(501, "no_items", self._why_not)
        try:
            return self._adapter.validate_json(text, strict=True)  # as the schema says: "12" is no number, nor is true
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


def _refused(error: ValidationError, name: str) -> Refusal:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "not_json", f"not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    return Refusal(422, "not_an_item", f"not {name}: {faults_of(error, TOLD)}")


def _declared(process: Callable[[Any], object]) -> Any:
    """The type of the first parameter; nothing declared is anything."""
    try:
        parameters = inspect.signature(process).parameters.values()
    except ValueError:  # many that are written in C do not say
        return Any
    first = next((each for each in parameters if each.kind is not inspect.Parameter.KEYWORD_ONLY), None)
    return Any if first is None or first.annotation is first.empty else declared(first, process)
