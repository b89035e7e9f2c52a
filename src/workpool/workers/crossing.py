"""What goes to another process or interpreter and comes back: pickled, or with one clear sentence why it is not."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterator
from typing import Any, Final, TypeGuard

from workpool.errors import NotPicklable

__all__ = ["Refused", "dumps", "dumps_error", "is_raw", "loads_error"]

PROTOCOL: Final = pickle.HIGHEST_PROTOCOL

LARGE: Final = 1 << 16
"""Bytes from which on a `bytes` crosses as it is: pickling it would copy it, and writing to what grows costs most of
all."""

DEPTH: Final = 5
"""How far into an object the culprit is looked for."""


class Refused:
    """What is sent in the place of an item that does not pickle: so it fails at its turn."""

    def __init__(self, why: str) -> None:
        self.why = why


class ChildTraceback(Exception):
    """The cause of an exception that came back: where it was raised."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def is_raw(value: object) -> TypeGuard[bytes]:
    """Whether it is to cross as it is."""
    return type(value) is bytes and len(value) >= LARGE


def dumps(what: str, value: object) -> bytes:
    """Pickle `value`. Raises `NotPicklable`, which names the type and, if it can be found, the attribute."""
    try:
        return pickle.dumps(value, PROTOCOL)
    except BaseException as error:
        where, culprit = _found(value)
        at = f": {where} (of type {type(culprit).__qualname__}) does not pickle" if where else ""
        raise NotPicklable(
            f"the {what}, of type {type(value).__qualname__}, cannot be sent to another process or interpreter{at}: "
            f"{error}"
        ) from error


def _found(value: Any) -> tuple[str, object]:
    try:
        return _culprit(value, DEPTH)
    except BaseException:  # of somebody's `__getattr__` or `__repr__`
        return "", value


def _culprit(value: Any, depth: int) -> tuple[str, object]:
    """The way to the innermost part that does not pickle, and that part."""
    for name, part in _parts(value) if depth else ():
        if not _pickles(part):
            inner, culprit = _culprit(part, depth - 1)
            return f"{name}{inner and f' > {inner}'}", culprit
    return "", value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kinds: tuple[type[Any], ...] = type(value).__mro__
    if dict in kinds:
        for key in value:
            yield f"the key {key!r}", value[key]
    elif {list, tuple, set, frozenset} & {*kinds}:
        for number, part in enumerate(value):
            yield f"element {number}", part
    names: list[str] = [*getattr(value, "__dict__", ())]
    names += [slot for kind in kinds for slot in getattr(kind, "__slots__", ()) if hasattr(value, slot)]
    for name in names:
        yield f"its attribute {name!r}", getattr(value, name, None)


def _pickles(value: object) -> bool:
    try:
        pickle.dumps(value, PROTOCOL)
    except Exception:
        return False
    return True


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:  # of its `__str__`
        return f"{type(error).__qualname__}, which cannot be printed"


def dumps_error(error: BaseException) -> bytes:
    """An exception with its traceback. In place of one that does not come through, a `NotPicklable` that quotes it."""
    text = _traceback(error)
    try:
        data = pickle.dumps((error, text), PROTOCOL)
        pickle.loads(data)
    except BaseException as why:
        raised = text.rstrip().rpartition("\n")[2]
        said = f"the process function raised {raised}; it does not come through pickle: {type(why).__qualname__}: {why}"
        data = pickle.dumps((NotPicklable(said), text), PROTOCOL)
    return data


def loads_error(data: Any) -> BaseException:
    """What `dumps_error` packed; its cause is the traceback of there."""
    error: BaseException
    error, text = pickle.loads(data)
    error.__cause__ = ChildTraceback(text)
    return error
