"""Each kind of error is told of at its line and column, with what would be right; and all of them at once."""

# ruff: noqa: E501 - a case is a line
from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.service.configs import EVERYTHING, F, problems_of
from workpool.service.config import ConfigError, load

HERE = "«"
"""Stands before what is wrong."""

GOOD = f"{{process: {F}:handle}}"


def pool(settings: str) -> str:
    """One pool with those settings, from the third line on."""
    lines = [f"    {line}\n" for line in settings.splitlines()]
    return f"worker_pools:\n  a:\n{''.join(lines)}    process: {F}:handle\n"


CASES: list[tuple[str, str, str, list[str]]] = [
    # what it is about, the text, the path of the setting, words of the sentence
    ("unknown key", pool("«worker: 3"), "worker_pools.a.worker", ["no such key", "did you mean workers?"]),
    ("unknown key, dashes", pool("«queue-size: 3"), "worker_pools.a.queue-size", ["did you mean queue_size?"]),
    ("unknown key at the top", f"a: 1\n«worker_pool: {{a: {GOOD}}}".replace("a: 1\n", ""), "worker_pool", []),
    ("unknown key within", pool("retry:\n  «attempt: 3"), "worker_pools.a.retry.attempt", ["did you mean attempts?"]),
    ("unknown key in a kind", pool("queue: {kind: fifo, «target: 1s}"), "worker_pools.a.queue.target", ["size"]),
    ("wrong type", pool("workers: «ten"), "worker_pools.a.workers", ["must be a whole number, not ten"]),
    ("a number in quotes", pool('workers: «"10"'), "worker_pools.a.workers", ['not "10"']),
    ("a fraction", pool("workers: «1.5"), "worker_pools.a.workers", ["whole number", "1.5"]),
    ("a list for a number", pool("workers: «[1]"), "worker_pools.a.workers", ["whole number, not a list"]),
    ("nothing", pool("workers:« "), "worker_pools.a.workers", ["whole number, not nothing"]),
    ("too small", pool("workers: «0"), "worker_pools.a.workers", ["at least 1, not 0"]),
    ("too large", f"worker_pools: {{a: {GOOD}}}\nserver:\n  port: «70000", "server.port", ["at most 65535"]),
    ("no mapping", f"worker_pools: {{a: {GOOD}}}\nserver: «9090", "server", ["mapping, with host, port, token"]),
    ("no list", pool("retry: {on: «OSError}"), "worker_pools.a.retry.on", ["must be a list", "not OSError"]),
    ("no text", f"worker_pools: {{a: {GOOD}}}\nserver: {{host: «1}}", "server.host", ["must be text, not 1"]),
    ("no flag", pool('carry_context: «"yes"'), "worker_pools.a.carry_context", ["true or false"]),
    ("no such word", pool("executor: «proces"), "worker_pools.a.executor", ["thread", "did you mean process?"]),
    ("no such kind", pool("queue: {kind: «lifo}"), "worker_pools.a.queue.kind", ["codel", "not lifo", "did you mean"]),
    ("no kind", pool("«queue: {size: 3}").replace("«", ""), "worker_pools.a.queue", ["kind is missing", "fifo"]),
    ("no kind but a word", pool("queue: «fifo"), "worker_pools.a.queue", ["{kind: fifo}", "not fifo"]),
    ("a list in place of a kind", pool("queue: {kind: «[fifo]}"), "worker_pools.a.queue.kind", ["not a list"]),
    ("a lane", pool(f"queue: {{kind: lanes, priority: '{F}:lane', lanes: [3, «x]}}"), "worker_pools.a.queue.lanes[1]", []),
    ("lanes of lanes", pool(f"queue: {{kind: lanes, priority: '{F}:lane', lanes: [{{kind: «lanes}}]}}"), "worker_pools.a.queue.lanes[0].kind", ["codel"]),
    ("no lanes", pool(f"queue: {{kind: lanes, priority: '{F}:lane', lanes: «[]}}"), "worker_pools.a.queue.lanes", ["empty"]),
    ("missing", "worker_pools:\n  «a:\n    workers: 3", "worker_pools.a", ["process is missing", "function"]),
    ("missing within", pool("«rate: {}"), "worker_pools.a.rate", ["limit is missing"]),
    ("no pools", "«worker_pools: {}".replace("«", "") + "", "worker_pools", ["must not be empty"]),
    ("a pool without a name", f'worker_pools: {{«"": {GOOD}}}', "worker_pools['']", ["must not be empty"]),
    ("no duration", pool("item_timeout: «5 s"), "worker_pools.a.item_timeout", ["250ms", "1m30s", "not 5 s"]),
    ("a duration of nothing", pool("item_timeout: «0s"), "worker_pools.a.item_timeout", ["more than 0"]),
    ("a negative duration", pool("item_timeout: «-3"), "worker_pools.a.item_timeout", ["0 seconds or more", "-3"]),
    ("a duration without an end", pool("stop_timeout: «.inf"), "worker_pools.a.stop_timeout", ["without an end"]),
    ("no prefix", pool('metrics_prefix: «"a-b"'), "worker_pools.a.metrics_prefix", ["letters, digits and _"]),
    # YAML's traps
    ("base 60", pool("item_timeout: «1:30"), "worker_pools.a.item_timeout", ["number 90", "base 60", "1m30s", '"1:30"']),
    ("base 60, three", pool("item_timeout: «1:00:00"), "worker_pools.a.item_timeout", ["3600s"]),
    ("base 60, a fraction", pool("item_timeout: «1:30.5"), "worker_pools.a.item_timeout", ["90.5", "1m30.5s"]),
    ("base 8", pool("workers: «010"), "worker_pools.a.workers", ["010 is 8", "without the 0"]),
    ("no for a word", pool("queue: {kind: fifo, overflow: «no}"), "worker_pools.a.queue.overflow", ["no is false", '"no"']),
    ("no for text", f"worker_pools: {{a: {GOOD}}}\nserver: {{host: «no}}", "server.host", ["no is false", '"no"']),
    ("no for a number", pool("workers: «no"), "worker_pools.a.workers", ["no is false"]),
    ("off for a duration", pool("item_timeout: «off"), "worker_pools.a.item_timeout", ["off is false"]),
    ("a second key", pool("workers: 3\nqueue_size: 3\n«workers: 4"), "worker_pools.a.workers", ["second key", "line 3"]),
    ("a second pool", f"worker_pools:\n  a: {GOOD}\n  «a: {GOOD}", "worker_pools.a", ["second key", "line 2"]),
    ("two pools, one name", f"worker_pools:\n  a-b: {GOOD}\n  «A_b: {GOOD}", "worker_pools.A_b", ["two pools with one name", "line 2"]),
    ("a tag", pool("workers: «!mine 3"), "worker_pools.a.workers", ["tag !mine", "leave it out"]),
    ("a tag of Python", pool("workers: «!!python/object/apply:os.abort []"), "worker_pools.a.workers", ["!!python/object"]),
    ("a tag on a mapping", pool("retry: «!x {attempts: 3}"), "worker_pools.a.retry", ["tag !x"]),
    ("a set", pool("retry: «!!set {}"), "worker_pools.a.retry", ["tag !!set"]),
    ("a tag that does not fit", pool("workers: «!!int x"), "worker_pools.a.workers", ["not of the type"]),
    ("no key", pool("retry:\n  ?\n  : 3"), "worker_pools.a.retry", ["without a key"]),
    ("a list as a key", pool("retry:\n  ? «[a]\n  : 3"), "worker_pools.a.retry", ["a key must be a word"]),
    ("itself", pool("retry: «&x {attempts: *x}"), "worker_pools.a.retry.attempts", ["contains itself"]),
    ("merged", pool("<<: «3"), "worker_pools.a", ["<< takes in a mapping"]),
    # what is named
    ("no form", "worker_pools:\n  a: {process: «handle}", "worker_pools.a.process", ["package.module:function"]),
    ("no module", "worker_pools:\n  a: {process: «nowhere:f}", "worker_pools.a.process", ["no module 'nowhere'"]),
    ("no function", f"worker_pools:\n  a: {{process: «{F}:f}}", "worker_pools.a.process", ["no 'f' in module"]),
    ("a number", f"worker_pools:\n  a: {{process: «{F}:number}}", "worker_pools.a.process", ["not a function", "int"]),
    ("a generator", f"worker_pools:\n  a: {{process: «{F}:generate}}", "worker_pools.a.process", ["async generator"]),
    ("two arguments", f"worker_pools:\n  a: {{process: «{F}:two}}", "worker_pools.a.process", ["with one argument"]),
    ("a hook", pool(f"hooks: {{dead: «{F}:two}}"), "worker_pools.a.hooks.dead", ["with 3 arguments"]),
    ("no name", "worker_pools:\n  a: {process: «3}", "worker_pools.a.process", ["must be text of the form", "not 3"]),
    ("no exception", pool("retry: {on: [OSError, «OSEror]}"), "worker_pools.a.retry.on[1]", ["no exception 'OSEror'"]),
    ("a builtin", pool("retry: {on: [«print]}"), "worker_pools.a.retry.on[0]", ["no exception 'print'"]),
    ("another class", pool(f"retry: {{on: [«{F}:handle]}}"), "worker_pools.a.retry.on[0]", ["not a class of exceptions"]),
    # what does not go together
    ("two sizes", pool("queue_size: «3\nqueue: {kind: fifo}"), "worker_pools.a.queue_size", ["leave one out"]),
    ("an order", pool(f"key: «{F}:handle\nqueue: {{kind: adaptive_lifo}}"), "worker_pools.a.key", ["AdaptiveLifo"]),
    ("context", pool("carry_context: «true\nexecutor: process"), "worker_pools.a.carry_context", ["process"]),
    ("async in a process", f"worker_pools:\n  a:\n    process: {F}:handle_async\n    executor: «process", "worker_pools.a.executor", ["async"]),
    ("one prefix for two", f"worker_pools:\n  a: {{process: {F}:handle, metrics_prefix: x}}\n  b: {{process: {F}:handle, metrics_prefix: «x}}", "worker_pools.b.metrics_prefix", ["pool a has this prefix"]),
    ("one source for two", f"worker_pools:\n  a: {{process: {F}:handle, source: {{kind: lines, path: '-'}}}}\n  b: {{process: {F}:handle, source: {{kind: lines, path: «'-'}}}}", "worker_pools.b.source.path", ["pool a has this source"]),
    ("a type that no line is", f"worker_pools:\n  a: {{source: {{kind: lines, path: '-'}}, process: «{F}:handle_opaque}}", "worker_pools.a.process", ["Opaque", "a source has text"]),
    ("left where it came from", pool("source: {kind: lines, path: x, unprocessed: «x}"), "worker_pools.a.source.unprocessed", ["another file"]),
    # what is no YAML
    ("a tab", "worker_pools:\n«\ta: 3", "", ["not YAML", "spaces, not with tabs"]),
    ("a bracket", "worker_pools: {a: 1«\n".replace("«", "") , "", ["not YAML", "close"]),
    ("a quote", 'worker_pools: "a\n', "", ["not YAML", "close"]),
    ("two colons", "worker_pools: a«: b", "", ["not YAML", "quotes"]),
    ("an alias", "worker_pools: «*other", "", ["not YAML", "undefined alias", "&name"]),
    ("two documents", f"worker_pools: {{a: {GOOD}}}\n«---\na: 1", "", ["not YAML", "---"]),
    ("a sign", "worker_pools: «@x", "", ["not YAML", "quotes"]),
    ("indentation", "worker_pools:\n    a: 1\n  «b: 2", "", ["not YAML", "indentation"]),
    ("an escape", 'worker_pools: "\\U99999999"', "", ["not YAML"]),
    ("NUL", "worker_pools:\n  a«\0: 3", "", ["a NUL byte"]),
    ("a bell", "worker_pools:\n  a: «\7", "", ["U+0007"]),
    ("empty", "", "", ["empty", "worker_pools"]),
    ("comments alone", "# nothing\n\n", "", ["empty"]),
    ("a word", "«word", "", ["must be a mapping", "worker_pools"]),
    ("a list", "«- a", "", ["must be a mapping"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "path", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_error_is_at_its_place_and_says_what_would_be_right(
    tmp_path: Path, text: str, path: str, words: list[str]
) -> None:
    before, marked, _ = text.partition(HERE)
    problems = problems_of(tmp_path, text.replace(HERE, ""))
    assert len(problems) == 1 or path == "worker_pool"  # of which worker_pools is missing too
    problem = problems[-1]
    if marked:
        lines = before.split("\n")
        assert (problem.place.line, problem.place.column) == (len(lines), len(lines[-1]) + 1), str(problem)
    assert 1 <= problem.place.line <= max(1, len(text.splitlines()))
    assert problem.path == path
    for word in words:
        assert word in problem.text, str(problem)
    assert str(problem).startswith(f"{tmp_path / 'pools.yaml'}:{problem.place.line}:{problem.place.column}: ")
    assert "\n" not in str(problem)


def test_all_errors_are_told_of_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = f"""\
worker_pools:
  a:
    process: nowhere:f
    workers: 0
    queue_sise: 3
    queue: {{kind: fifo, size: x}}
    item_timeout: 1:30
    workers: 2
  b:
    retry: {{attempts: none, backoff: {{first: 1 s, mots: 3}}}}
    hooks: {{error: {F}:three}}
  A: {GOOD}
metrics: {{worker_pools: {{update_interval: no}}}}
servers: {{}}
"""
    found = [(problem.place.line, problem.path) for problem in problems_of(tmp_path, text, {"WORKPOOL__X": "1"})]
    assert found == [
        (3, "worker_pools.a.process"),
        (5, "worker_pools.a.queue_sise"),
        (6, "worker_pools.a.queue.size"),
        (7, "worker_pools.a.item_timeout"),
        (8, "worker_pools.a.workers"),
        (9, "worker_pools.b"),
        (10, "worker_pools.b.retry.attempts"),
        (10, "worker_pools.b.retry.backoff.first"),
        (10, "worker_pools.b.retry.backoff.mots"),
        (11, "worker_pools.b.hooks.error"),
        (12, "worker_pools.A"),
        (13, "metrics.worker_pools.update_interval"),
        (14, "servers"),
        (0, "x"),
    ]


def test_bytes_that_are_not_utf_8(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, b"worker_pools:\n  \xc3\xa9: \xff\n")
    assert (problem.place.line, problem.place.column) == (2, 6)
    assert "byte 0xff is not UTF-8" in problem.text
    (problem,) = problems_of(tmp_path, "worker_pools:".encode("utf-16"))
    assert "UTF-8" in problem.text


def test_aliases_of_aliases_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)]
    (problem,) = problems_of(tmp_path, "\n".join(lines))
    assert "more than 20000 values" in problem.text


@pytest.mark.parametrize("text", ["[" * 800, "{a: " * 800, "- " * 800, "a: &x [*x]\n"])
def test_what_is_nested_too_deeply_or_in_itself(tmp_path: Path, text: str) -> None:
    problems = problems_of(tmp_path, text)
    assert problems
    assert {problem.place.line for problem in problems} == {1}


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    there = tmp_path / "there"
    text = f'worker_pools: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["{there}"]]\n'
    assert len(problems_of(tmp_path, text)) >= 2
    assert not there.exists()


def test_what_a_module_raises_when_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "leaves_at_once.py").write_text("import sys\nsys.exit('bye')\n")
    (tmp_path / "not_python.py").write_text("def f(:\n")
    text = "worker_pools:\n  a: {process: leaves_at_once:f}\n  b: {process: not_python:f}\n  c: {process: .x:f}\n"
    first, second, third = problems_of(tmp_path, text)
    assert "SystemExit: bye" in first.text
    assert "not_python.py:1" in second.text
    assert "importing '.x' failed" in third.text


def test_a_token_is_not_shown(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, f"worker_pools: {{a: {GOOD}}}\nserver: {{token: 123456}}\n")
    assert problem.text == "must be text, in quotes"


def test_long_and_strange_values_are_cut_and_escaped(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, pool(f"workers: {'x' * 500}"))
    assert len(str(problem)) < len(str(tmp_path)) + 200
    (problem,) = problems_of(tmp_path, pool('"wor\\nk\\eers": 3'))
    assert str(problem).isprintable()
    (problem,) = problems_of(tmp_path, pool('metrics_prefix: "\\ud800"'))
    str(problem).encode()


@pytest.mark.parametrize("name", ["missing.yaml", ".", "nul\0.yaml"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(os.path.join(tmp_path, name), {})  # noqa: PTH118 - a Path would lose the dot
    (problem,) = caught.value.problems
    assert not problem.place.line
    assert "no such file" in str(problem) or "cannot be read" in str(problem)


def test_everything_is_right_before_it_is_made_wrong(tmp_path: Path) -> None:
    assert problems_of(tmp_path, EVERYTHING) == []
    assert problems_of(tmp_path, pool("workers: 3")) == []
