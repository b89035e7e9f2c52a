"""Functions and exceptions that a configuration names, as types of its models."""

from __future__ import annotations

import builtins
import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Final

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from workpool import errors
from workpool._named import Unnamed, named
from workpool.workers.choice import is_called_as

__all__ = ["ExceptionName", "FunctionOf1", "FunctionOf2", "FunctionOf3", "Initializer", "Named"]

FORM: Final = r"^[^:\s]+:[^:\s]+$"


@dataclass(frozen=True, slots=True)
class Named:
    """What a name stands for."""

    name: str
    value: Any = field(repr=False)


def _function(arguments: int | None, name: object) -> Named:
    """A function that can be called with so many arguments; None: with any number. Raises ValueError."""
    found = name if isinstance(name, Named) else _found(name, "function", "package.module:function")
    if not callable(found.value):
        raise ValueError(  # noqa: TRY004 - pydantic wants a ValueError
            f"{found.name} is not a function, but a value of type {type(found.value).__name__}; name a function"
        )
    if is_called_as(inspect.isasyncgenfunction, found.value):
        raise ValueError(f"{found.name} is an async generator; name a function, plain or async")
    if arguments is not None and not _takes(found.value, arguments):
        count = "one argument" if arguments == 1 else f"{arguments} arguments"
        raise ValueError(f"{found.name} cannot be called with {count}, as it will be; name a function of {count}")
    return found


def _found(name: object, what: str, form: str) -> Named:
    if not isinstance(name, str):
        raise ValueError(f"must be text of the form {form}")  # noqa: TRY004 - pydantic wants a ValueError
    try:
        return Named(name, named(name, what))
    except Unnamed as error:
        raise ValueError(f"{error}; name it as {form}") from None


def _takes(function: Any, arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # it does not say: some that are written in C
        return True
    return True


def _exception(name: object) -> Named:
    """A class of exceptions: a builtin or one of workpool's by its name alone. Raises ValueError."""
    if isinstance(name, str) and ":" not in name:
        value = getattr(builtins, name, None) or getattr(errors, name, None)
        if not _is_exception(value):
            raise ValueError(
                f"there is no exception {name!r} in Python or in workpool; name another as package.module:Class"
            )
        return Named(name, value)
    found = name if isinstance(name, Named) else _found(name, "Class", "package.module:Class")
    if not _is_exception(found.value):
        raise ValueError(
            f"{found.name} is not a class of exceptions; name one, such as OSError or package.module:Class"
        )
    return found


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _name_of(found: Named) -> str:
    return found.name


_AS_TEXT: Final = PlainSerializer(_name_of)
_SCHEMA: Final = WithJsonSchema({"type": "string", "pattern": FORM, "examples": ["package.module:function"]})

FunctionOf1 = Annotated[Named, PlainValidator(partial(_function, 1)), _AS_TEXT, _SCHEMA]
FunctionOf2 = Annotated[Named, PlainValidator(partial(_function, 2)), _AS_TEXT, _SCHEMA]
FunctionOf3 = Annotated[Named, PlainValidator(partial(_function, 3)), _AS_TEXT, _SCHEMA]
Initializer = Annotated[Named, PlainValidator(partial(_function, None)), _AS_TEXT, _SCHEMA]

ExceptionName = Annotated[
    Named,
    PlainValidator(_exception),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "examples": ["OSError", "Transient", "package.module:Class"]}),
]
