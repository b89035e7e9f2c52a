"""All keys of a configuration, as rows for people: read from the schema, which is made of the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from workpool.service.config import schema
from workpool.service.durations import DURATION
from workpool.service.targets import FORM

__all__ = ["Key", "keys"]

Schema = dict[str, Any]


class Key(NamedTuple):
    """One key."""

    path: str
    """`*` stands for a name that is yours."""
    type: str
    default: str
    about: str


class _Choice(NamedTuple):
    """What may stand for a key: a model, maybe only one of several kinds."""

    model: Schema
    kind: str


WORDS: Final = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def keys() -> list[Key]:
    """In the order of the models. What several kinds of a mapping have alike is one row."""
    root = schema()
    found = list(_of(root, root["$defs"], "", ""))
    rows: dict[Key, list[str]] = {}
    for key, kind in found:
        rows.setdefault(key, []).append(kind)
    kinds = {key.path: [kind for other, kind in found if other.path == key.path] for key in rows}
    return [_row(key, of, set(kinds[_parent(key.path) + ".kind"]) if of != [""] else {""}) for key, of in rows.items()]


def _row(key: Key, of: list[str], all_kinds: set[str]) -> Key:
    """Which kinds have it is said, if not all have."""
    if set(of) == all_kinds or key.path.endswith(".kind"):
        return key
    return key._replace(about=f"({', '.join(of)}) {key.about}")


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _of(model: Schema, models: Schema, path: str, kind: str) -> Iterator[tuple[Key, str]]:
    required = model.get("required", ())
    for name, about in sorted(model["properties"].items(), key=lambda each: each[0] != "kind"):
        here = f"{path}.{name}".lstrip(".")
        default = "required" if name in required else _default(about.get("default"))
        if name == "kind":
            text = ", ".join(f"`{each}`" for each in about.get("enum", [about.get("const")]))
            yield Key(here, text, default, model["description"]), kind
            continue
        yield Key(here, _type(about, models), default, _about(about, models)), kind
        for choice in _models(about, models):
            yield from _of(choice.model, models, here, choice.kind)
        inner: Schema = about.get("additionalProperties") or {}
        for choice in _models(inner, models):
            yield from _of(choice.model, models, f"{here}.*", choice.kind)


def _about(about: Schema, models: Schema) -> str:
    """The sentence of the key, or of what it is for."""
    sentences = [about, *(choice.model for choice in _models(about, models))]
    return next((each["description"] for each in sentences if "description" in each), "")


def _default(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


def _alternatives(about: Schema) -> list[Schema]:
    """What may stand there, but for null."""
    for word in ("anyOf", "oneOf"):
        if word in about and not _is_duration(about):
            return [inner for each in about[word] for inner in _alternatives(each)]
    return [] if about.get("type") == "null" else [about]


def _is_duration(about: Schema) -> bool:
    return any(each.get("pattern") == DURATION for each in about.get("anyOf", ()))


def _models(about: Schema, models: Schema) -> Iterator[_Choice]:
    for each in _alternatives(about):
        if "$ref" in each:
            model = models[each["$ref"].rpartition("/")[2]]
            yield _Choice(model, model["properties"].get("kind", {}).get("const", ""))


def _type(about: Schema, models: Schema) -> str:
    return " or ".join(dict.fromkeys(_word(each, models) for each in _alternatives(about)))


def _word(about: Schema, models: Schema) -> str:
    if "$ref" in about or about.get("type") == "object":
        return "mapping"
    if _is_duration(about):
        return "duration"
    if about.get("pattern") == FORM:
        return "function"
    if "enum" in about:
        return ", ".join(f"`{each}`" for each in about["enum"])
    if about.get("type") == "array":
        inner = _type(about["items"], models) if about["items"] else ""
        return f"list of {inner}" if inner else "list"
    return WORDS[about["type"]]
