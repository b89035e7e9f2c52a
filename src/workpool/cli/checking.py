"""`workpool check`, `schema`, `rules` and `dashboard`: what is said of a configuration without starting anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from workpool._named import look_here
from workpool.pool import Pool
from workpool.service.config import Config, ConfigError, Problem, build, load, schema
from workpool.service.dashboard import dashboard
from workpool.service.models import PoolSettings
from workpool.service.rules import rules
from workpool.workers.choice import is_async

__all__ = ["check_command", "dashboard_command", "rules_command", "schema_command"]

WORKERS: Final = {
    "thread": "thread",
    "asyncio": "task",
    "process": "process",
    "interpreter": "subinterpreter",
    "inline": "worker inline",
}


def check_command(file: str) -> int:
    """Check a configuration; the exit code."""
    look_here()
    try:
        config = load(file, os.environ, _warn)
        pools = build(config)
    except ConfigError as error:
        sys.stdout.write(f"{error}\n")
        return 2
    for name, pool in pools.items():
        sys.stdout.write(f"{_line(name, config, pool)}\n")
    return 0


def schema_command() -> int:
    """Print the schema; the exit code."""
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
    return 0


def rules_command(file: str) -> int:
    """Print rules for Prometheus; the exit code."""
    return _print_of(file, rules)


def dashboard_command(file: str) -> int:
    """Print a dashboard for Grafana; the exit code."""
    return _print_of(file, dashboard)


def _print_of(file: str, what: Callable[[Config], str]) -> int:
    look_here()
    try:
        config = load(file, os.environ, _warn)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(what(config))
    return 0


def _warn(problem: Problem) -> None:
    sys.stderr.write(f"{problem}\n")


def _line(name: str, config: Config, pool: Pool[Any, Any]) -> str:
    """What a pool would be."""
    settings, stats = config.worker_pools[name], pool.stats()
    parts = [
        settings.process.name,
        _counted(stats.workers, _worker(settings)),
        f"{'fifo' if settings.queue is None else settings.queue.kind} queue of {stats.queue_size}",
    ]
    if settings.retry is not None:
        parts.append(f"up to {_counted(settings.retry.attempts, 'attempt')}")
    if settings.source is not None:
        parts.append(f"{settings.source.kind} of {settings.source.of}")
    prefix = config.prefix_of(name)
    if prefix is not None:
        parts.append(f"metrics also as {prefix}_*")
    return f"{name}: {', '.join(parts)}"


def _worker(settings: PoolSettings) -> str:
    executor = settings.executor
    if executor is None:
        return WORKERS["asyncio" if is_async(settings.process.value) else "thread"]
    return WORKERS[executor if isinstance(executor, str) else executor.kind]


def _counted(number: int, word: str) -> str:
    plural = f"{word}es" if word.endswith("s") else f"{word}s"
    return f"{number} {word if number == 1 else plural}"
