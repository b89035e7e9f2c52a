"""What a service logs, on stderr: a readable line, or an object of JSON. Each says which pool and worker it is about.

What a process function logs is its worker's, because it runs there, and so is most of what the pool says of an item.
What a worker's process has logged comes here with both written on it.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from workpool._context import current

__all__ = ["log_to_stderr"]

QUIET: Final = ("uvicorn", "asyncio")
"""Whose information is of no use to whoever runs a service."""

REST: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "pool", "worker", "taskName"}
"""What every record has; whatever else is on one, whoever logged it has put there."""


def log_to_stderr(as_json: bool) -> None:
    """Have everything from INFO on logged there, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_place)
    handler.setFormatter(_AsJson() if as_json else _Readable())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _place(record: logging.LogRecord) -> bool:
    """Write on the record which pool and worker it is about, unless that is there already."""
    fields = vars(record)
    if "pool" not in fields:
        try:
            context = current()
        except LookupError:
            fields["pool"] = fields["worker"] = None
        else:
            fields["pool"], fields["worker"] = context.pool, context.worker
    fields.setdefault("worker", None)
    return True


class _Readable(logging.Formatter):
    """`2026-01-02 03:04:05.678 WARNING pool/worker: text`, by local time."""

    def format(self, record: logging.LogRecord) -> str:
        fields = vars(record)
        at = datetime.fromtimestamp(record.created).astimezone()
        place = fields["worker"] or fields["pool"] or record.name
        text = f"{at:%Y-%m-%d %H:%M:%S}.{record.msecs:03.0f} {record.levelname} {place}: {record.getMessage()}"
        return "\n".join([text, *_details(self, record)])


class _AsJson(logging.Formatter):
    """One object a line, of fields that are always there, and of those that whoever logged it has put on it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = vars(record)
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pool": fields["pool"],
            "worker": fields["worker"],
            "message": record.getMessage(),
        }
        details = _details(self, record)
        if details:
            content["exception"] = "\n".join(details)
        content.update({name: value for name, value in fields.items() if name not in REST and name not in content})
        return json.dumps(content, default=repr, ensure_ascii=False)


def _details(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The traceback, which a record from a worker's process has as text already, and the stack."""
    exception = record.exc_text or (formatter.formatException(record.exc_info) if record.exc_info else "")
    return [text for text in (exception, record.stack_info) if text]
