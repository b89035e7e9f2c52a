"""Environment variables that stand over a file: `WORKPOOL__WORKER_POOLS__MAIL__WORKERS=20`.

A variable is put into the tree where its name says, and is checked there with all the rest: one that names what there
is not is an unknown key like any other. Names of pools are compared without case, and with `-` as `_`.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Final

from workpool.service.problems import Place, Problem, shown
from workpool.service.tree import Mapping, Node, reading_text

__all__ = ["POOLS", "PREFIX", "alike", "override"]

PREFIX: Final = "WORKPOOL__"
POOLS: Final = "worker_pools"


def alike(name: str) -> str:
    """What is the same for names that mean one pool in a variable."""
    return name.lower().replace("-", "_")


def override(tree: Mapping, environ: AnyMapping[str, str], problems: list[Problem]) -> dict[int, str]:
    """Put what variables say into the tree. The result: the text of each node that came from one, by its `id`."""
    texts: dict[int, str] = {}
    # The shorter first, so that the parts of a setting stand over the whole of it.
    for name in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        try:
            node = reading_text(name, environ[name])
            _put(tree, name, node)
            texts[id(node)] = environ[name]
        except LookupError as error:
            problems.append(Problem(Place(0, 0, name), "", str(error.args[0])))
    return texts


def _put(tree: Mapping, name: str, node: Node) -> None:
    """Put a node where a variable's name says. Raises LookupError with a sentence if there is no such place."""
    place = Place(0, 0, name)
    parts = name[len(PREFIX) :].lower().split("__")
    if not all(parts):
        raise LookupError(f"it names no setting; {PREFIX}SERVER__PORT would, or {PREFIX}WORKER_POOLS__NAME__WORKERS")
    here, keys = tree, [POOLS, *_pool(tree, parts[1:])] if parts[0] == POOLS and parts[1:] else parts
    for key in keys[:-1]:
        inner = here.items.get(key)
        if not isinstance(inner, Mapping):
            inner = Mapping(place)
            here.items[key], here.keys[key] = inner, place
        here = inner
    here.items[keys[-1]], here.keys[keys[-1]] = node, place


def _pool(tree: Mapping, parts: list[str]) -> list[str]:
    """The pool that is meant, and the rest; a pool's name may have `__` in it itself."""
    pools = tree.items.get(POOLS)
    names = {alike(name): name for name in pools.items} if isinstance(pools, Mapping) else {}
    for count in range(len(parts), 0, -1):
        name = names.get("__".join(parts[:count]))
        if name is not None:
            return [name, *parts[count:]]
    there = ", ".join(sorted(map(shown, names.values()))) or "none"
    raise LookupError(
        f"there is no pool {parts[0]} in the file, which has {there}; a variable changes a pool of the file"
    )
