"""The rules for Prometheus: `promtool` takes them, and each alert comes when it is to, and not else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.service.configs import POOLS
from workpool.metrics import PoolCollector
from workpool.service.config import load
from workpool.service.rules import ALERTS, rules

SETTINGS = """\
worker_pools:
  mail: {process: tests.service.functions:handle, item_timeout: 2s}
  "odd: |.+\\"\\\\ name": {process: tests.service.functions:handle}
  unseen: {process: tests.service.functions:handle, metrics: false}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules of these settings."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "pools.yaml").write_text(SETTINGS, encoding="utf-8")
    found = folder / "workpool.rules.yml"
    found.write_text(rules(load(str(folder / "pools.yaml"))), encoding="utf-8")
    return found


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts(file: Path) -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
    return [rule for rule in group["rules"] if "alert" in rule]


def test_promtool_takes_them(file: Path, promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "rules", file)


def test_a_pool_without_metrics_has_none(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text("worker_pools: {a: {process: builtins:len, metrics: false}}", encoding="utf-8")
    assert yaml.safe_load(rules(load(str(tmp_path / "pools.yaml")))) == {"groups": []}


class Case(NamedTuple):
    """Series, by what they are of a pool, that make an alert come after a quarter of an hour, and that do not."""

    alert: str
    comes: Mapping[str, str]
    says: str
    """The value, as the summary has it."""
    comes_not: Mapping[str, str]
    own: Mapping[str, str] = {}
    """Labels."""


CASES = [
    Case(
        "WorkpoolQueueNearlyFull",
        {"queue_depth": "90x60", "queue_capacity": "100x60"},
        "90%",
        {"queue_depth": "79x60", "queue_capacity": "100x60"},
    ),
    Case(
        "WorkpoolRefusing",
        {"submitted_total": "0+75x60", 'dropped_total{reason="full"}': "0+25x60"},
        "25%",
        {"submitted_total": "0+1000x60", 'dropped_total{reason="full"}': "0+1x60"},
    ),
    Case(
        "WorkpoolShedding",
        {"submitted_total": "0+100x60", 'shed_total{reason="max_wait"}': "0+10x60"},
        "10%",
        {"submitted_total": "0+1000x60", 'shed_total{reason="max_wait"}': "0+1x60"},
    ),
    Case(
        "WorkpoolFailing",
        {"processed_total": "0+100x60", "failed_total": "0+10x60"},
        "10%",
        {"processed_total": "0+100x60", "failed_total": "0+4x60"},
    ),
    Case(
        "WorkpoolWorkersBusy",
        {"workers": "10x60", "workers_busy": "10x60", "queue_depth": "1x60", "queue_capacity": "100x60"},
        "",
        {"workers": "10x60", "workers_busy": "10x60", "queue_depth": "0x60", "queue_capacity": "100x60"},
    ),
    Case(
        "WorkpoolWorkerStuck",
        {"oldest_running_seconds": "5x60"},
        "",
        {"oldest_running_seconds": "3x60"},
        {"limit": "4 s"},
    ),
    Case("WorkpoolWorkerStuck", {"workers_stuck": "1x60"}, "", {"workers_stuck": "0x60"}, {"limit": "4 s"}),
    Case(
        "WorkpoolNoProgress",
        {"queue_depth": "3x60", "processed_total": "7x60"},
        "",
        {"queue_depth": "3x60", "processed_total": "0+1x60"},
    ),
    Case("WorkpoolLedgerImbalance", {"ledger_imbalance": "2x60"}, "2", {"ledger_imbalance": "0x60"}),
    Case("WorkpoolAbsent", {}, "", {"workers": "10x60"}),
]


def test_each_alert_has_a_case(file: Path) -> None:
    assert {case.alert for case in CASES} == set(ALERTS) == {alert["alert"] for alert in alerts(file)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{next(iter(case.comes), 'nothing')}")
def test_an_alert_comes_when_it_is_to_and_not_else(case: Case, file: Path, promtool: str, tmp_path: Path) -> None:
    tests = {
        "rule_files": [str(file)],
        "evaluation_interval": "1m",
        "tests": [tried(case, file, case.comes, comes=True), tried(case, file, case.comes_not, comes=False)],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    assert "SUCCESS" in run(promtool, "test", "rules", tmp_path / "tests.yml")


def tried(case: Case, file: Path, series: Mapping[str, str], comes: bool) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": series_of(name), "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": "30m",
                "alertname": case.alert,
                "exp_alerts": [expected(case, file, pool) for pool in pools_of(case, comes)],
            }
        ],
    }


def series_of(name: str) -> str:
    """Of the pool mail."""
    family, _, labels = name.partition("{")
    own = f", {labels.rstrip('}')}" if labels else ""
    return f'workpool_{family}{{pool="mail"{own}}}'


def pools_of(case: Case, comes: bool) -> list[str]:
    """Whose alerts are to be there: of the other pool nothing is ever heard."""
    if case.alert == "WorkpoolAbsent":
        return ["mail", 'odd: |.+"\\ name'] if comes else ['odd: |.+"\\ name']
    return ["mail"] if comes else []


def expected(case: Case, file: Path, pool: str) -> dict[str, Any]:
    labels = {**case.own, **({"pool": pool} if case.alert == "WorkpoolAbsent" else {})}
    (rule,) = [
        rule for rule in alerts(file) if rule["alert"] == case.alert and labels.items() <= rule["labels"].items()
    ]
    texts = {
        name: text.replace("{{ $labels.pool }}", pool)
        .replace("{{ $value | humanizePercentage }}", case.says)
        .replace("{{ $value }}", case.says)
        for name, text in rule["annotations"].items()
    }
    return {"exp_labels": {**rule["labels"], "pool": pool}, "exp_annotations": texts}


# -- the commands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["rules", "dashboard"])
def test_the_commands_print_them_always_the_same(command: str, tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS, encoding="utf-8")
    root = Path(__file__).parents[2]
    found = {run(sys.executable, "-m", "workpool", command, tmp_path / "pools.yaml", cwd=root) for _ in range(2)}
    assert len(found) == 1
    assert "message_processor" in found.pop()


@pytest.mark.parametrize("command", ["rules", "dashboard"])
def test_a_wrong_configuration_is_said_as_ever(command: str, tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text("worker_pools: {a: {process: builtins:len, workers: no}}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "workpool", command, "pools.yaml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pools.yaml:1:52: worker_pools.a.workers: must be a whole number")


def test_a_dashboard_asks_only_for_what_is_exported(tmp_path: Path) -> None:
    (tmp_path / "pools.yaml").write_text(POOLS, encoding="utf-8")
    root = Path(__file__).parents[2]
    board = json.loads(run(sys.executable, "-m", "workpool", "dashboard", tmp_path / "pools.yaml", cwd=root))
    graphs = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert all(panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in graphs)
    exported = {name for family in PoolCollector().describe() for name in names_of(family.name, family.type)}
    asked = {word for panel in graphs for target in panel["targets"] for word in words(target["expr"])}
    assert asked
    assert asked <= exported


def names_of(family: str, kind: str) -> list[str]:
    ends = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(kind, [""])
    return [family + end for end in ends]


def words(expression: str) -> set[str]:
    return {word for word in expression.replace("{", " ").replace("(", " ").split() if word.startswith("workpool_")}
