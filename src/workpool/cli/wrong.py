"""How the command says that it was used wrongly: one sentence, and exit code 2."""

from __future__ import annotations

__all__ = ["Wrong"]


class Wrong(Exception):
    """The command cannot start. The text is the whole of what the user sees."""
