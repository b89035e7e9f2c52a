"""What is answered where, as an OpenAPI document: for programs that write clients, and for those that find faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from workpool.service.api import MOST_WORKERS
from workpool.service.http import Answer, Handler, Request, as_json
from workpool.service.items import Reader

__all__ = ["serving"]

Document = dict[str, Any]

OBJECT: Final[Document] = {"type": "object"}

ERROR: Final[Document] = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {"type": "string", "description": "A word for programs."},
        "detail": {"type": "string", "description": "A sentence for people."},
        "retry_after": {"type": "number", "description": "With 429: seconds."},
    },
}

SAYS: Final = {
    200: "It is so.",
    202: "Accepted.",
    400: "That is no JSON, or no request.",
    401: "The token is wrong, or was not sent.",
    403: "A page of another site asks.",
    404: "There is no such pool.",
    408: "The body did not come in time.",
    409: "The pool does not run.",
    411: "The body has no length.",
    413: "The body is too large.",
    422: "That is JSON, but of another type.",
    429: "The queue is full.",
    503: "Not now.",
}

BODY: Final = (400, 408, 411, 413, 422)
"""What may be wrong with a body."""


def serving(readers: Mapping[str, Reader], *, has_control: bool) -> Handler:
    made: list[Document] = []

    async def serve(_: Request) -> Answer:
        if not made:  # few ask for it, and it takes a while
            made.append(document(readers, has_control=has_control))
        return as_json(made[0])

    return serve


def document(readers: Mapping[str, Reader], *, has_control: bool) -> Document:
    schemas: Document = {"Error": ERROR}
    paths: Document = {
        "/livez": {"get": _operation("Whether the service lives.", _answers(200))},
        "/readyz": {"get": _operation("Whether it should be sent anything.", _answers(200, 503))},
        "/metrics": {"get": _operation("For Prometheus.", _of_kinds("text/plain", "application/openmetrics-text"))},
        "/api/pools": {"get": _operation("All pools.", _answers(200))},
        "/api/pools/{name}": {
            "get": _operation("One pool and its workers.", _answers(200, 404)) | {"parameters": [_name(readers)]}
        },
        "/api/events": {"get": _operation("All pools, each second.", _of_kinds("text/event-stream") | _answers(503))},
    }
    for number, (name, reader) in enumerate(readers.items()):
        schema = reader.schema(f"#/components/schemas/{number}.{{model}}")
        if schema is not None:
            schemas |= {f"{number}.{model}": what for model, what in schema.pop("$defs", {}).items()}
            answers = _answers(202, 403, 429, 503, *BODY)
            answers["429"]["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
            operation = _operation(f"An item for {name!r}.", answers) | {"requestBody": _body(schema)}
            paths[f"/api/pools/{quote(name, safe='')}/items"] = {"post": operation}
    if has_control:
        paths |= {f"/api/pools/{{name}}/{action}": {"post": what} for action, what in _control(readers).items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "workpool", "version": "1", "description": "Worker pools over HTTP."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _control(readers: Mapping[str, Reader]) -> dict[str, Document]:
    steered: Document = {"parameters": [_name(readers)], "security": [{"token": []}]}
    workers = {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}
    size = {"type": "object", "required": ["workers"], "properties": {"workers": workers}}
    return {
        "pause": _operation("Let no worker take another item.", _answers(200, 401, 404, 409)) | steered,
        "resume": _operation("End a pause.", _answers(200, 401, 404)) | steered,
        "drain": _operation("Accept nothing more, and finish the rest.", _answers(202, 401, 404)) | steered,
        "resize": _operation("Change the number of workers.", _answers(200, 401, 404, 409, *BODY))
        | steered
        | {"requestBody": _body(size)},
    }


def _name(readers: Mapping[str, Reader]) -> Document:
    return {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": list(readers)}}


def _operation(summary: str, responses: Document) -> Document:
    return {"summary": summary, "responses": responses}


def _body(schema: Document) -> Document:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answers(*statuses: int) -> Document:
    return {str(status): _answer(status) for status in sorted(statuses)}


def _answer(status: int) -> Document:
    schema = OBJECT if status < 400 else {"$ref": "#/components/schemas/Error"}
    return {"description": SAYS[status], "content": {"application/json": {"schema": schema}}}


def _of_kinds(*kinds: str) -> Document:
    return {"200": {"description": SAYS[200], "content": {kind: {"schema": {"type": "string"}} for kind in kinds}}}
