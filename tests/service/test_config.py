"""Configurations that are right: what they come to, by file and environment; the schema; and the defaults."""

from __future__ import annotations

import json
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry

from tests.service import functions
from tests.service.configs import EVERYTHING, ORIGINALS, F, config_of, problems_of
from workpool import (
    AdaptiveLifo,
    ByKey,
    CoDel,
    Exponential,
    Fifo,
    Hooks,
    Lanes,
    Pool,
    Processes,
    Rate,
    Retry,
    Transient,
)
from workpool.service import models
from workpool.service.config import Problem, build, load, schema
from workpool.service.durations import seconds_of
from workpool.service.keys import keys

SETTINGS = [model for model in models.__dict__.values() if isinstance(model, type) and hasattr(model, "makes")]


def sized(pool: Pool[Any, Any]) -> tuple[str, int, int]:
    stats = pool.stats()
    return stats.pool, stats.workers, stats.queue_size


def test_the_originals_examples_pass(tmp_path: Path) -> None:
    sizes = [("message_processor", 10, 1000), ("network_io", 50, 5000), ("batch_processor", 5, 100)]
    assert list(map(sized, build(config_of(tmp_path, ORIGINALS[0])).values())) == sizes
    warnings: list[Problem] = []
    path = tmp_path / "second.yaml"
    path.write_text(ORIGINALS[1])
    config = load(path, {}, warnings.append)
    assert list(map(sized, build(config).values())) == sizes
    (warning,) = map(str, warnings)
    assert warning.startswith(
        f"{path}:16:56: metrics.worker_pools.prefixes[2]: warning: there is no pool network_handler"
    )
    assert [config.prefix_of(name) for name in config.worker_pools] == ["message_processor", None, "batch_processor"]
    assert config.metrics.worker_pools.update_interval == 1.0


def test_a_warning_goes_to_the_log_if_nobody_wants_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "second.yaml"
    path.write_text(ORIGINALS[1])
    load(path, {})
    assert "there is no pool network_handler" in caplog.text


def test_every_argument_of_a_pool_can_be_reached(tmp_path: Path) -> None:
    config = config_of(tmp_path, EVERYTHING)
    everything, lanes, threads = (dict(pool.arguments()) for pool in config.worker_pools.values())
    assert everything["process"] is functions.handle
    deadline = functions.within
    assert everything["queue"] == CoDel(
        7, max_wait=90, overflow="drop_oldest", deadline=deadline, target=0.005, interval=0.1
    )
    assert everything["executor"] == Processes(
        start_method="spawn",
        batch=4,
        max_items=1000,
        start_timeout=20,
        initializer=functions.initialize,
        initargs=(1, "two"),
    )
    assert everything["retry"] == Retry(4, (OSError, Transient, functions.Odd), Exponential(0.2, 60, 3), "none", 0.5, 9)
    assert everything["classify"] is functions.classify
    assert everything["key"] == ByKey(functions.handle, "hold")
    assert everything["rate"] == Rate(100, 2, 5)
    assert (everything["item_timeout"], everything["stop_timeout"]) == (1.5, 5)
    assert everything["hooks"] == Hooks(functions.two, functions.two, functions.three, functions.three)
    assert lanes["queue"] == Lanes(functions.lane, [3, AdaptiveLifo(5, after=0.2)], 2)
    assert (lanes["carry_context"], lanes["stop_timeout"], lanes["retry"].budget) == (True, None, None)
    assert lanes["retry"].seconds(3, 1.0) == 2
    assert threads["retry"].backoff is functions.backoff
    assert threads["key"] is functions.handle
    arguments = set(signature(Pool).parameters) - {"clock", "name"}  # the clock is for tests
    assert set(models.PoolSettings.model_fields) - {"source"} == arguments


def test_the_pools_are_built_and_not_started(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    pools = build(config_of(tmp_path, EVERYTHING), registry)
    assert list(map(sized, pools.values())) == [("all", 3, 7), ("few-lanes", 10, 8), ("threads", 10, 20)]
    assert {pool.stats().state for pool in pools.values()} == {"new"}
    with pools["threads"] as pool:
        assert pool.call(5).result(10) == 5
        names = {family.name for family in registry.collect()}
        assert {"workpool_queue_depth", "threads_queue_depth"} <= names


def test_a_pool_may_have_no_metrics(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    text = (
        f"worker_pools: {{a: {{process: {F}:handle, metrics: false}}}}\nmetrics: {{worker_pools: {{prefixes: [a]}}}}\n"
    )
    with build(config_of(tmp_path, text), registry)["a"]:
        assert list(registry.collect()) == []


ELSEWHERE: dict[type[models.Settings], set[str]] = {
    models.AttemptsSettings: {"budget", "max_waiting"},  # of what waits in the pool
    models.JetStreamSettings: {"pool", "decode", "classify", "timeout"},  # the pool's
}
"""Arguments that are no settings of the model."""


@pytest.mark.parametrize("model", SETTINGS, ids=lambda model: model.__name__)
def test_a_model_has_the_arguments_and_the_defaults_of_what_it_makes(model: type[models.Settings]) -> None:
    made = signature(model.makes).parameters
    fields = {name: field for name, field in model.model_fields.items() if name != "kind"}
    assert set(fields) | ELSEWHERE.get(model, set()) == set(made)
    for name, field in fields.items():
        if (model, name) == (models.JetStreamSettings, "url"):  # it may be the service's
            continue
        assert field.is_required() == (made[name].default is made[name].empty), name
    if not any(field.is_required() for field in fields.values()):
        kind = {"kind": model.model_fields["kind"].annotation.__args__[0]} if "kind" in model.model_fields else {}  # type: ignore[union-attr]
        if model is not models.InterpretersSettings:  # which this Python may not have
            assert model(**kind).made() == model.makes()


def test_a_pool_with_nothing_said_has_the_defaults(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"worker_pools: {{a: {{process: {F}:handle}}}}")
    defaults = {name: parameter.default for name, parameter in signature(Pool).parameters.items()}
    for name, value in config.worker_pools["a"].arguments():
        if defaults[name] is not None and name not in ("process", "metrics"):
            assert value == defaults[name], name
    assert sized(build(config)["a"]) == ("a", *sized(Pool(functions.handle))[1:])
    assert (config.server.host, config.server.token) == ("127.0.0.1", None)


@pytest.mark.parametrize("text", [*ORIGINALS[:1], EVERYTHING])
def test_what_was_read_can_be_written_and_read_again(tmp_path: Path, text: str) -> None:
    config = config_of(tmp_path, text)
    again = yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True))
    assert config_of(tmp_path, again) == config
    again = json.dumps(config.model_dump(mode="json", exclude_unset=True))  # which is YAML too
    assert config_of(tmp_path, again) == config


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1m30s", 90),
        ("25s", 25),
        ("1.5h", 5400),
        ("1d", 86400),
        ("10us", 1e-5),
        (3, 3),
        (0, 0),
        ("0s", 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert seconds_of(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "1 s", "s", "30s1m", "1m1m", "-1s", "1.s", "1ss", "1S", -1, True, None, [], float("inf"), float("nan")],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        seconds_of(text)


# -- YAML ------------------------------------------------------------------------------------------


def test_anchors_and_merged_mappings(tmp_path: Path) -> None:
    text = f"""\
worker_pools:
  one: &one
    process: {F}:handle
    workers: 3
    retry: &retry {{attempts: 2}}
  other:
    <<: *one
    workers: 4
    retry: *retry
  third: {{<<: [*one], queue_size: 3}}
"""
    config = config_of(tmp_path, text)
    assert [pool.workers for pool in config.worker_pools.values()] == [3, 4, 3]
    assert {pool.retry.attempts for pool in config.worker_pools.values() if pool.retry} == {2}


def test_flags_as_yaml_has_them_and_keys_as_they_are_written(tmp_path: Path) -> None:
    text = f"""\
worker_pools:
  no: {{process: {F}:handle, carry_context: yes, retry: {{on: [OSError]}}}}
  1:30: {{process: {F}:handle, workers: 0x10, queue_size: 1_000}}
  2026-01-01: {{process: !!str {F}:handle, metrics: off}}
"""
    config = config_of(tmp_path, text)
    assert list(config.worker_pools) == ["no", "1:30", "2026-01-01"]
    assert config.worker_pools["no"].carry_context
    assert config.worker_pools["1:30"].workers == 16


def test_a_byte_order_mark_and_other_line_ends(tmp_path: Path) -> None:
    assert config_of(tmp_path, b"\xef\xbb\xbf" + ORIGINALS[0].replace("\n", "\r\n").encode()).worker_pools


# -- the environment -------------------------------------------------------------------------------


def test_variables_stand_over_the_file(tmp_path: Path) -> None:
    environ = {
        "WORKPOOL__WORKER_POOLS__ALL__WORKERS": "20",
        "WORKPOOL__WORKER_POOLS__ALL__RETRY__ON": "[ValueError]",
        "WORKPOOL__WORKER_POOLS__ALL__RETRY__BACKOFF__FIRST": "1s",
        "WORKPOOL__WORKER_POOLS__FEW_LANES__QUEUE__SIZE": "9",
        "WORKPOOL__WORKER_POOLS__FEW_LANES__QUEUE": "{kind: fifo}",
        "WORKPOOL__WORKER_POOLS__THREADS__HOOKS__DEAD": f"{F}:three",
        "workpool__server__port": "8080",
        "WORKPOOL__SHUTDOWN__GRACE": "1m",
        "WORKPOOL_OTHER": "x",
        "HOME": "/",
    }
    config = config_of(tmp_path, EVERYTHING, environ)
    everything, lanes, threads = (dict(pool.arguments()) for pool in config.worker_pools.values())
    assert everything["workers"] == 20
    assert everything["retry"].on == (ValueError,)
    assert everything["retry"].backoff == Exponential(1, 60, 3)
    assert lanes["queue"] == Fifo(9)
    assert threads["hooks"] == Hooks(dead=functions.three)
    assert (config.server.port, config.shutdown.grace) == (8080, 60)
    assert config.server.token == "secret"


@pytest.mark.parametrize("token", ["12345", "no", "1:30", "a: b", "[", "*x", "!y", "{a", "x # y", '"q"'])
def test_a_variable_that_is_to_be_text_is_text_whatever_yaml_makes_of_it(tmp_path: Path, token: str) -> None:
    assert config_of(tmp_path, EVERYTHING, {"WORKPOOL__SERVER__TOKEN": token}).server.token == token


def test_null_takes_a_setting_away(tmp_path: Path) -> None:
    assert config_of(tmp_path, EVERYTHING, {"WORKPOOL__SERVER__TOKEN": "null"}).server.token is None


def test_a_pools_name_may_have_two_underscores(tmp_path: Path) -> None:
    text = f"worker_pools: {{a: {{process: {F}:handle}}, a__b: {{process: {F}:handle}}}}"
    config = config_of(tmp_path, text, {"WORKPOOL__WORKER_POOLS__A__B__WORKERS": "2"})
    assert [pool.workers for pool in config.worker_pools.values()] == [10, 2]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WORKPOOL__WORKER_POOLS__ALL__WORKER", "3", ["worker_pools.all.worker", "no such key", "workers"]),
        ("WORKPOOL__WORKER_POOLS__OTHER__WORKERS", "3", ["no pool other", "all, few-lanes, threads"]),
        ("WORKPOOL__WORKER_POOLS__ALL__WORKERS", "3x", ["worker_pools.all.workers", "whole number", "3x"]),
        ("WORKPOOL__WORKER_POOLS__ALL__WORKERS", "", ["worker_pools.all.workers", "whole number", "nothing"]),
        ("WORKPOOL__SERVER", "3", ["server", "must be a mapping, with host, port, token"]),
        ("WORKPOOL__SERVER__PORT__X", "3", ["server.port", "whole number", "a mapping"]),
        ("WORKPOOL__SERVR__PORT", "3", ["servr", "did you mean server"]),
        ("WORKPOOL__", "3", ["names no setting"]),
        ("WORKPOOL__SERVER__", "3", ["names no setting"]),
        ("WORKPOOL__SHUTDOWN__GRACE", "1:30", ["shutdown.grace", "duration"]),
        ("WORKPOOL__SERVER__TOKEN", "\udcff", ["server.token", "UTF-8"]),
    ],
)
def test_a_variable_that_is_wrong_is_named(tmp_path: Path, name: str, value: str, words: list[str]) -> None:
    (problem,) = problems_of(tmp_path, EVERYTHING, {name: value})
    assert str(problem).startswith(f"{name}: ")
    for word in words:
        assert word in str(problem)


def test_without_an_environment_it_is_that_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text(ORIGINALS[0])
    monkeypatch.setenv("WORKPOOL__SERVER__PORT", "81")
    assert load(path).server.port == 81


# -- the schema and the table ----------------------------------------------------------------------


@cache
def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema())
    return Draft202012Validator(schema())


@pytest.mark.parametrize("text", [*ORIGINALS, EVERYTHING])
def test_the_schema_takes_what_is_right(text: str) -> None:
    validator().validate(yaml.safe_load(text.replace(" on: ", ' "on": ')))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("workers: 3", "worker: 3"),
        ("workers: 3", "workers: 0"),
        ("workers: 3", "workers: three"),
        ("size: 7", "size: many"),
        ("kind: codel", "kind: code"),
        ("kind: lines", "kind: line"),
        ("grace: 25s", "grace: 25 s"),
        ("first: 200ms", "frist: 200ms"),
        ("jitter: none", "jitter: some"),
        ("executor: thread", "executor: threads"),
        (f"process: {F}:handle\n", f"process: {F}\n"),
    ],
)
def test_the_schema_refuses_what_is_wrong(old: str, new: str) -> None:
    assert old in EVERYTHING
    assert list(validator().iter_errors(yaml.safe_load(EVERYTHING.replace(old, new, 1))))


def objects(node: Any) -> list[dict[str, Any]]:
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    found = [each for value in inner for each in objects(value)]
    return [*found, node] if isinstance(node, dict) and "properties" in node else found


def test_the_schema_describes_each_key_and_allows_no_other() -> None:
    models_of_it = objects(schema())
    assert len(models_of_it) >= 15
    assert all(model["additionalProperties"] is False and model["description"] for model in models_of_it)
    assert all(key.about.endswith(".") for key in keys())
    assert len({key.path for key in keys()}) >= 60


def test_a_description_is_one_sentence() -> None:
    assert [key.about for key in keys() if ". " in key.about] == []
