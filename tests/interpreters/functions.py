"""Process functions at the top level of a module that an interpreter can import."""

from __future__ import annotations

import threading

local = threading.local()


def counted(_: object) -> int:
    local.count = getattr(local, "count", 0) + 1
    return int(local.count)
