"""A configuration: from a YAML file and the environment to a model, and from that to pools.

Either the model is right, or there is one `ConfigError` with everything that is wrong. Nothing is started.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from collections.abc import Mapping as AnyMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from workpool.pool import Pool
from workpool.service.complaints import Found, complaint, find, nearest
from workpool.service.environment import POOLS, alike, override
from workpool.service.models import Config, Reading
from workpool.service.problems import ConfigError, Place, Problem, step
from workpool.service.tree import Mapping, Node, Scalar, Sequence, read

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from pydantic_core import ErrorDetails

__all__ = ["Config", "ConfigError", "Problem", "build", "load", "schema"]

log = logging.getLogger("workpool")


def load(
    path: str | Path,
    environ: AnyMapping[str, str] | None = None,
    warn: Callable[[Problem], object] = lambda problem: log.warning("%s", problem),
) -> Config:
    """The configuration of a file, with what variables of `environ` (None: the process's) say over it.

    Raises `ConfigError` with all that is wrong. `warn` is called with each thing that is right, but odd.
    """
    problems: list[Problem] = []
    tree = read(str(path), _content(Path(path)), problems)
    if isinstance(tree, Mapping):
        texts = override(tree, os.environ if environ is None else environ, problems)
        config = _checked(tree, texts, problems)
        if config is not None and not problems:
            for problem in _odd(tree, config):
                warn(problem)
            return config
    elif tree is not None:
        problems.append(
            Problem(
                tree.place, "", "it must be a mapping, such as worker_pools: {NAME: {process: package.module:function}}"
            )
        )
    raise ConfigError(problems)


def build(config: Config, registry: CollectorRegistry | None = None) -> dict[str, Pool[Any, Any]]:
    """The pools by their names, constructed and not started. `registry` is for their metrics; None: the default."""
    return {
        name: settings.pool(
            name,
            metrics=settings.metrics and (registry or True),
            prefix=config.prefix_of(name) if settings.metrics else None,
        )
        for name, settings in config.worker_pools.items()
    }


def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            [Problem(Place(0, 0, str(path)), "", "there is no such file; name one that is there")]
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Problem(Place(0, 0, str(path)), "", f"it cannot be read: {reason}; name a file")]) from None


def _checked(tree: Mapping, texts: dict[int, str], problems: list[Problem]) -> Config | None:
    """The model; or None, and what is wrong is added."""
    known = {(problem.place, problem.path) for problem in problems}
    problems += _clashes(tree)
    reading = _Reading(tree)
    errors = reading.errors()
    wants_text = [find(tree, at["loc"]).node for at in errors if at["type"] == "string_type"]
    if any(id(node) in texts for node in wants_text):
        _as_text(tree, {id(node): texts[id(node)] for node in wants_text if id(node) in texts})
        reading = _Reading(tree)
        errors = reading.errors()
    found = (complaint(at, tree, reading.model_of) for at in errors)
    problems += [problem for problem in found if (problem.place, problem.path) not in known]
    return reading.config


class _Reading:
    """A tree that is read by the models."""

    def __init__(self, tree: Mapping) -> None:
        self.config: Config | None = None
        self._noted = Reading()
        self._nodes: dict[int, int] = {}
        """Which node each mapping was, both by their `id`."""
        self._data = self._plain(tree)

    def errors(self) -> list[ErrorDetails]:
        """What is wrong; if nothing is, there is a `config`."""
        try:
            self.config = Config.model_validate(self._data, context=self._noted)
        except ValidationError as error:
            return error.errors(include_url=False, include_input=False)
        return []

    def model_of(self, found: Found) -> type[BaseModel] | None:
        """Which model a mapping was given to."""
        models = {self._nodes[at]: model for at, model in self._noted.models.items() if at in self._nodes}
        return models.get(id(found.node))

    def _plain(self, node: Node) -> Any:
        if isinstance(node, Scalar):
            return node.value
        if isinstance(node, Sequence):
            return list(map(self._plain, node.items))
        data = {key: self._plain(inner) for key, inner in node.items.items()}
        self._nodes[id(data)] = id(node)
        return data


def _as_text(node: Node, texts: AnyMapping[int, str]) -> None:
    """Take variables for the text that they are, where text is wanted: there are no quotes that would say so."""
    if isinstance(node, Mapping):
        for key, inner in node.items.items():
            if id(inner) in texts:
                node.items[key] = Scalar(inner.place, texts[id(inner)], texts[id(inner)])
            else:
                _as_text(inner, texts)


def _clashes(tree: Mapping) -> Iterator[Problem]:
    """What two pools cannot both have. Looked for in the tree, so that it is seen beside whatever else is wrong."""
    pools = tree.items.get(POOLS)
    if not isinstance(pools, Mapping):
        return
    names: dict[str, str] = {}
    for name, place in pools.keys.items():
        other = names.setdefault(alike(name), name)
        if other != name:
            yield Problem(
                place,
                step(POOLS, name),
                f"two pools with one name: {other} on line {pools.keys[other].line} is the same in an environment "
                "variable, without case and with - as _; rename one of them",
            )
    for keys, what in ((("metrics_prefix",), "prefix"), (("source", "path"), "source")):
        yield from _twice(pools, keys, what)


def _twice(pools: Mapping, keys: tuple[str, ...], what: str) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, pool in pools.items.items():
        found = find(pool, keys)
        if isinstance(found.node, Scalar) and isinstance(found.node.value, str):
            other = seen.setdefault(found.node.value, name)
            if other != name:
                yield Problem(
                    found.place, f"{step(POOLS, name)}.{found.path}", f"pool {other} has this {what}; give each its own"
                )


def _odd(tree: Mapping, config: Config) -> Iterator[Problem]:
    """What may be a mistake."""
    known = set(config.worker_pools) | {pool.metrics_prefix for pool in config.worker_pools.values()}
    for at, prefix in enumerate(config.metrics.worker_pools.prefixes):
        if prefix not in known:
            found = find(tree, ("metrics", "worker_pools", "prefixes", at))
            yield Problem(
                found.place, found.path, f"warning: there is no pool {prefix}; {nearest(prefix, config.worker_pools)}"
            )
