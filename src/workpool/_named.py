"""What `package.module:name` stands for: a function, a class or a value that a user names in text.

Rules: whatever is wrong is an `Unnamed` with one sentence that says what, where, and what would be right. Whatever
a module raises while it is imported, SystemExit included, is such a sentence too.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["Unnamed", "look_here", "named", "one_line"]


class Unnamed(Exception):
    """There is nothing of that name. The text is the whole of what the user sees."""


def look_here() -> None:
    """Have modules be found in the current folder, as `python -m` does."""
    if "" not in sys.path[:1] and str(Path.cwd()) not in sys.path[:1]:
        sys.path.insert(0, str(Path.cwd()))


def named(target: str, what: str = "name") -> Any:
    """What `target` names, found where modules are found now. Raises `Unnamed`.

    `what` is the word for it in the sentence about a target that is not of the form.
    """
    name, colon, path = target.partition(":")
    if not (name and colon and path):
        raise Unnamed(f"{target!r} is not of the form package.module:{what}")
    found: Any = _module(name)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Unnamed(f"{target!r}: there is no {part!r} in {_where(found, name)}") from None
    return found


def _where(found: object, name: str) -> str:
    file = found.__file__ if isinstance(found, ModuleType) else None
    return f"module {name!r} ({file})" if file else f"{name!r}"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise Unnamed(
                f"there is no module {missing!r}, neither in the current folder ({Path.cwd()}) nor installed"
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
    raise Unnamed(f"importing {name!r} failed: {where}{one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """`ValueError: what it says`, whatever that is, on one line."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "(which cannot be printed)"
    return f"{name}: {text}" if text else name
