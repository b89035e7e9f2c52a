"""What runs in the interpreter of a worker, besides what runs in a process just as well."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, Final

from workpool.workers.child import serve

__all__ = ["MAIN", "lend_main", "live"]

MAIN: Final = "__mp_main__"
"""What a main module is called that runs again, as with `multiprocessing`: there, `__main__` is known by it too."""


def live(sock: int, control: int, memory: memoryview, setup: bytes) -> None:
    """Serve, until the socket ends. Of the file descriptors, which are the caller's, it makes copies."""
    with socket.socket(fileno=os.dup(sock)) as line:
        serve(line, socket.socket(fileno=os.dup(control)), memory, setup)


def lend_main(path: str | None, package: str | None) -> None:
    """Run the main module of the main interpreter again, here, once something of it is wanted, and not before."""
    vars(sys.modules["__main__"])["__getattr__"] = partial(_look_up, partial(_run_main, path, package))


def _look_up(main: Callable[[], ModuleType], name: str) -> Any:
    if name.startswith("__"):  # many look whether there is a `__file__`
        raise AttributeError(f"module '__main__' has no attribute {name!r} in this interpreter", name=name)
    return getattr(main(), name)


def _run_main(path: str | None, package: str | None) -> ModuleType:
    if path is None:
        raise AttributeError("what is defined in a main module that is no file cannot be found in another interpreter")
    module = ModuleType(MAIN)
    vars(module).update(__file__=path, __package__=package)
    sys.modules["__main__"] = sys.modules[MAIN] = module
    code = SourceFileLoader(MAIN, path).get_code(MAIN)
    assert code is not None
    try:
        exec(code, vars(module))
    except BaseException as error:
        error.add_note("The main module ran again for a worker: what is not to goes below `if __name__ == '__main__':`")
        raise
    return module
