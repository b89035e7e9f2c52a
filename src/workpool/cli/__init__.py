"""The command `workpool`.

Rules: nothing of the extra `cli` is imported before `main` has seen that it is there; whatever the user
did wrong is one sentence on stderr, and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]

NEEDED = ("click", "pydantic", "rich", "prometheus_client")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code. 0: all done, 1: some failed, 2: wrong use, 3: not all processed."""
    if sys.stderr is None:  # closed (`2>&-`): a file that is opened now must not become it
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    missing = [name for name in NEEDED if not _there(name)]
    if missing:
        sys.stderr.write(
            f"workpool: the command needs {', '.join(missing)}, not installed here: pip install 'workpool[cli]'\n"
        )
        return 2
    from workpool.cli.commands import run_command

    return run_command(sys.argv[1:] if arguments is None else arguments)


def _there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # blocked on purpose, or half imported
        return False
