"""Configurations for tests, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workpool.service.config import Config, ConfigError, Problem, load

F: Final = "tests.service.functions"

POOLS: Final = f"""\
worker_pools:
  message_processor:
    process: {F}:handle
    workers: 10
    queue_size: 1000
  network_io:
    process: {F}:handle
    workers: 50
    queue_size: 5000
  batch_processor:
    process: {F}:handle
    workers: 5
    queue_size: 100
"""

ORIGINALS: Final = (
    POOLS,
    POOLS
    + """\
metrics:
  worker_pools:
    prefixes: ["message_processor", "batch_processor", "network_handler"]
    update_interval: "1s"
""",
)
"""The two examples of the original, with `process:` added."""

EVERYTHING: Final = f"""\
worker_pools:
  all:
    process: {F}:handle
    workers: 3
    queue:
      kind: codel
      size: 7
      max_wait: 1m30s
      overflow: drop_oldest
      deadline: {F}:within
      target: 5ms
      interval: 100ms
    executor:
      kind: process
      start_method: spawn
      batch: 4
      max_items: 1000
      start_timeout: 20
      initializer: {F}:initialize
      initargs: [1, "two"]
    retry:
      attempts: 4
      on: [OSError, Transient, "{F}:Odd"]
      backoff:
        first: 200ms
        most: 1m
        factor: 3
      jitter: none
      budget: 0.5
      max_waiting: 9
    classify: {F}:classify
    key:
      key: {F}:handle
      on_dead: hold
    rate:
      limit: 100
      per: 2s
      burst: 5
    item_timeout: 1.5
    stop_timeout: 5s
    hooks:
      error: {F}:two
      shed: {F}:two
      dead: {F}:three
      stuck: {F}:three
    metrics: true
    metrics_prefix: everything
    source:
      kind: lines
      path: items.jsonl
      unprocessed: rest.jsonl
  few-lanes:
    process: {F}:handle_async
    queue:
      kind: lanes
      priority: {F}:lane
      max_wait: 2
      lanes:
        - 3
        - kind: adaptive_lifo
          size: 5
          after: 200ms
    carry_context: true
    stop_timeout: null
    retry:
      backoff: 2s
      budget: null
  threads:
    process: {F}:handle
    queue_size: 20
    executor: thread
    retry:
      backoff: {F}:backoff
    key: {F}:handle
metrics:
  worker_pools:
    prefixes: [threads]
    update_interval: 500ms
server:
  host: "::1"
  port: 0
  token: secret
shutdown:
  grace: 25s
"""
"""Every key there is."""


def config_of(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration; raises `ConfigError`, and fails for a warning."""
    warnings: list[Problem] = []
    path = folder / "pools.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    config = load(path, environ or {}, warnings.append)
    assert warnings == []
    return config


def problems_of(folder: Path, text: str | bytes, environ: Mapping[str, str] | None = None) -> list[Problem]:
    """What is wrong with it; none if nothing is."""
    try:
        config_of(folder, text, environ)
    except ConfigError as error:
        return list(error.problems)
    return []
