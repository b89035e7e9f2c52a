"""What pydantic says is wrong, as sentences about places in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel

from workpool.metrics import PREFIX
from workpool.service.models import Settings
from workpool.service.problems import Place, Problem, shown, step
from workpool.service.tree import Mapping, Node, Scalar, Sequence
from workpool.sources.jetstream.broker import NAME

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Found", "complaint", "find", "nearest"]


SECRET: Final = "server.token"
"""What stands there is not shown."""


class Found(NamedTuple):
    """The node that an error is about, and what is known of it."""

    path: str
    node: Node
    place: Place
    """Of the node."""
    key: Place
    """Of its key, if it has one."""


def find(tree: Node, loc: Iterable[str | int]) -> Found:
    """Follow pydantic's `loc`, in which there are also tags of unions, and keys that are missing."""
    found = Found("", tree, tree.place, tree.place)
    for part in loc:
        here = found.node
        if isinstance(here, Mapping) and isinstance(part, str) and part in here.items:
            inner, key = here.items[part], here.keys[part]
        elif isinstance(here, Sequence) and isinstance(part, int) and part < len(here.items):
            inner, key = here.items[part], here.items[part].place
        else:
            continue
        found = Found(step(found.path, part), inner, inner.place, key)
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean that?` and what there is."""
    words = list(known)
    close = get_close_matches(word.lower().replace("-", "_"), words, 1, 0.6)
    listed = ", ".join(words)
    return f"did you mean {close[0]}? There is {listed}" if close else f"there is {listed}"


def complaint(error: ErrorDetails, tree: Node, model_of: Callable[[Found], type[BaseModel] | None]) -> Problem:
    """One error of pydantic as a problem."""
    kind, loc = error["type"], error["loc"]
    if kind == "extra_forbidden":
        return _unknown_key(tree, loc, model_of)
    if kind == "missing":
        return _missing(tree, loc, model_of)
    found = find(tree, loc)
    text = _text(error, found)
    if loc and loc[-1] == "[key]":
        return Problem(found.key, found.path, "a name must not be empty; give it one")
    if kind == "value_error":
        return _said(text, found)
    if found.path == SECRET and isinstance(found.node, Scalar):
        return Problem(found.place, found.path, f"{text.partition(', not ')[0]}, in quotes")
    if kind == "union_tag_invalid":
        found = find(tree, (*loc, "kind"))
    return Problem(found.place, found.path, f"{text}{_trap(found.node)}")


def _unknown_key(
    tree: Node, loc: tuple[str | int, ...], model_of: Callable[[Found], type[BaseModel] | None]
) -> Problem:
    found, within = find(tree, loc), find(tree, loc[:-1])
    model = model_of(within)
    known = [] if model is None else list(model.model_fields)
    return Problem(found.key, found.path, f"there is no such key; {nearest(str(loc[-1]), known)}")


def _missing(tree: Node, loc: tuple[str | int, ...], model_of: Callable[[Found], type[BaseModel] | None]) -> Problem:
    within = find(tree, loc[:-1])
    name = str(loc[-1])
    model = model_of(within)
    about = "" if model is None else model.model_fields[name].description or ""
    return Problem(within.key, within.path, f"{name} is missing; add it: {about[:1].lower()}{about[1:].rstrip('.')}")


def _said(text: str, found: Found) -> Problem:
    """What a pool or another value says itself: about the argument with which the sentence begins, or is about."""
    path, node, place, key = found
    if isinstance(node, Mapping):
        for word in re.findall(r"\w+", text.partition(";")[0]):
            if word in node.items:
                return Problem(node.items[word].place, step(path, word), text)
        return Problem(key, path, text)
    has_value = text.startswith("must be")
    return Problem(place, path, f"{text}, not {written(node)}{_trap(node)}" if has_value else text)


def written(node: Node) -> str:
    """What stands there."""
    if isinstance(node, Scalar):
        if not node.plain:
            return json.dumps(shown(node.written), ensure_ascii=False)
        return shown(node.written) or "nothing"
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _trap(node: Node) -> str:
    """What YAML takes for something else than it looks like."""
    if not isinstance(node, Scalar) or not node.plain or not node.written:
        return ""
    word = shown(node.written)
    if isinstance(node.value, bool) and word.lower() not in ("true", "false"):
        return f' ({word} is {str(node.value).lower()} to YAML; write "{word}" in quotes for text)'
    return ""


COMPARED: Final = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}

MUST: Final = {
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text that can be written as UTF-8",
    "list_type": "must be a list, such as [a, b]",
    "dict_type": "must be a mapping, such as {name: ...}",
    "finite_number": "must be a number that ends",
    "float_type": "must be a number",
}

PATTERNS: Final = {
    PREFIX.pattern: "must be a name for metrics: letters, digits and _ only, and no digit first",
    NAME.pattern: "must be a name for NATS: letters, digits, _ and - only",
}
"""What is said of text that does not match."""


def _text(error: ErrorDetails, found: Found) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _choice(str(context.get("expected_tags", "")), found)
    close = _close(found.node, re.findall(r"'(.*?)'", context["expected"])) if kind == "literal_error" else ""
    return f"{_must(kind, context, error['msg'])}, not {written(found.node)}{close}"


def _must(kind: str, context: dict[str, Any], message: str) -> str:
    if kind in COMPARED:
        words, key = COMPARED[kind]
        return f"must be {words} {context[key]:g}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), '')}"
    if kind in ("model_type", "model_attributes_type"):
        model = _models().get(context.get("class_name", ""))
        return f"must be a mapping, with {', '.join(model.model_fields if model else ())}"
    if kind == "string_pattern_mismatch":
        return PATTERNS[context["pattern"].strip("^$")]
    return MUST.get(kind, message[:1].lower() + message[1:])


def _models() -> dict[str, type[BaseModel]]:
    return {model.__name__: model for model in _below(Settings)}


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for inner in model.__subclasses__():
        yield inner
        yield from _below(inner)


def _choice(tags: str, found: Found) -> str:
    """A mapping that is of no kind that there is, or something else where a mapping would be right."""
    kinds = re.findall(r"kind: (\w+)", tags)
    would_be = f"{{kind: {kinds[0]}}}" if kinds else "a mapping"
    if not isinstance(found.node, Mapping):
        return f"must be a mapping such as {would_be}, not {written(found.node)}"
    kind = found.node.items.get("kind")
    if kind is None:
        return f"kind is missing; add it: {', '.join(kinds)}"
    return f"kind must be one of {', '.join(kinds)}, not {written(kind)}{_close(kind, kinds)}"


def _close(node: Node, known: list[str]) -> str:
    close = get_close_matches(node.written.lower(), known, 1, 0.5) if isinstance(node, Scalar) else []
    return f"; did you mean {close[0]}?" if close else ""
