"""The SHA-256 of files, one path a line: `find . -type f | workpool run examples.checksums:checksum`.

Threads are enough: hashlib and the disk both leave the interpreter to the others while they work.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def checksum(path: str) -> dict[str, object]:
    """The path, the size in bytes and the SHA-256 of one file, however large it is."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")  # reads in chunks
        return {"path": path, "size": file.tell(), "sha256": digest.hexdigest()}
