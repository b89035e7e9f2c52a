"""The README is true: its programs run and print what it says, and what it names is there."""

from __future__ import annotations

import builtins
import os
import queue
import re
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import workpool
import workpool.simulate
import workpool.testing
import workpool.testing.plugin
from tests.docs.pages import ROOT, blocks, headings, page, prose, rows, section, slug
from workpool import Context, DrainReport, Pool, PoolStats
from workpool import pool as pool_module
from workpool.service.keys import keys
from workpool.sources import jetstream

README = page("README.md")
PROGRAMS = blocks(README, "python")
OUTPUT = re.compile(r"print\(.*\) +# (.+)$")


@pytest.mark.parametrize("program", PROGRAMS, ids=range(1, len(PROGRAMS) + 1))
def test_each_program_runs_alone_and_prints_what_stands_beside_it(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=50, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    says = [found[1] for line in program.splitlines() if (found := OUTPUT.search(line))]
    lines = done.stdout.splitlines()
    # What has nothing beside it may print what it likes, or nothing.
    assert [line for line in lines if line in says] == says


def test_most_programs_print_something_that_is_checked() -> None:
    assert len(PROGRAMS) >= 8
    assert all(OUTPUT.search(program, re.MULTILINE) or "# " in program for program in PROGRAMS)
    assert sum("print(" in program for program in PROGRAMS) == len(PROGRAMS)


def series() -> list[list[str]]:
    between = re.search(r"<!-- series -->(.*)<!-- /series -->", README, re.DOTALL)
    assert between
    return rows(between[1])


def test_the_table_of_series_is_what_a_pool_exports() -> None:
    registry = CollectorRegistry()
    with Pool(str, metrics=registry) as pool:
        pool.call(1).result(10)
        families = {family.name: family for family in registry.collect()}
    exported = {name + ("_total" if family.type == "counter" else ""): family for name, family in families.items()}
    table = {cells[0].strip("`"): cells for cells in series()}
    assert list(table) == list(exported)
    for name, family in exported.items():
        _, kind, labels, _ = table[name]
        assert kind == family.type, name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(re.findall(r"`(\w+)`", labels)), name


def test_the_reasons_and_statuses_are_those_exported() -> None:
    registry = CollectorRegistry()
    with Pool(abs, metrics=registry):
        samples = [sample for family in registry.collect() for sample in family.samples]
    reasons = {
        family: {sample.labels["reason"] for sample in samples if sample.name == family}
        for family in ("workpool_dropped_total", "workpool_shed_total", "workpool_dead_total")
    }
    statuses = {sample.labels["status"] for sample in samples if "status" in sample.labels}
    about = {cells[0].strip("`"): cells[3] for cells in series()}
    for family, there in reasons.items():
        assert set(re.findall(r"`(\w+)`", about[family])) == there
    assert set(re.findall(r"`(\w+)`", about["workpool_run_seconds"])) - {"status"} == statuses


def test_the_expressions_name_series_that_there_are() -> None:
    registry = CollectorRegistry()
    with Pool(abs, metrics=registry):
        names = {sample.name for family in registry.collect() for sample in family.samples}
    named = set(re.findall(r"\bworkpool_\w+", "\n".join(blocks(README, "promql"))))
    assert len(named) > 8
    assert named <= names


def test_the_seven_series_of_a_prefix_are_those_exported() -> None:
    registry = CollectorRegistry()
    with Pool(abs, metrics=registry, metrics_prefix="message_processor"):
        exported = {
            family.name + ("_total" if family.type == "counter" else "")
            for family in registry.collect()
            if family.name.startswith("message_processor")
        }
    go = section(README, "From the Go package")
    listed = re.findall(r"^\| `(message_processor_\w+)(?:\{status\})?`", go, re.MULTILINE)
    assert len(listed) == 7
    assert set(listed) == exported


def test_everything_public_is_told_of() -> None:
    methods = {name for name in vars(Pool) if not name.startswith("_")}
    context = {name for name in vars(Context) if not name.startswith("_")} - {"is_here"}
    report = set(DrainReport.__dataclass_fields__) | {"clean"}
    words = set(re.findall(r"\w+", prose(README)))
    untold = set(workpool.__all__) - words
    assert untold <= {"Context", "Histogram"}  # told of by what they say
    assert methods | context | (report - {"pool"}) <= words


ELSEWHERE = {
    "ThreadPoolExecutor",
    "PoolError",
    "ConfigError",
    *workpool.testing.__all__,
    *workpool.simulate.__all__,
    *jetstream.__all__,
}
"""Names in the text that are not the package's façade, and are so on purpose."""


def test_what_is_named_exists() -> None:
    """Class-like names and calls in code spans, but for the columns of the Go package."""
    text = re.sub(r"^\| .*?\|", "|", prose(README), flags=re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", text)
    classes = {found[1] for span in spans if (found := re.match(r"([A-Z][a-z]+(?:[A-Z][a-z]+)*)\b(?![./-])", span))}
    go = {"Stop", "Submit", "Retry", "Stats"}  # in the prose about the original
    http = {"Application", "Server"}  # of workpool.service
    assert classes - go - http - ELSEWHERE - {"SystemExit", "Pool"} <= set(workpool.__all__)
    calls = {found[1] for span in spans if (found := re.match(r"(?:pool\.)?([a-z_]+)\(", span))}
    owners = (Pool, workpool.PoolExecutor, Future, jetstream.JetStreamQueue, jetstream.JetStreamSource)
    known = {name for owner in owners for name in dir(owner)}
    assert calls - {"call", "current", "process", *workpool.testing.__all__, *workpool.testing.plugin.__all__} <= known
    asked = {found[1] for span in spans if (found := re.match(r"current\(\)\.(\w+)", span))}
    assert asked <= set(dir(Context))


def test_the_report_table_has_each_field() -> None:
    table = rows(section(README, "Stopping"))
    named = {name for cells in table for name in re.findall(r"`(\w+)`", cells[0])}
    assert named == set(DrainReport.__dataclass_fields__) - {"pool"} | {"clean"}


def test_the_defaults_are_those_of_the_code() -> None:
    numbers = (pool_module.DEFAULT_WORKERS, pool_module.DEFAULT_QUEUE_SIZE)
    assert "the default ({}, {})".format(*numbers) in README
    assert "`Pool(process, workers={}, queue_size={}, ...)`".format(*numbers) in README
    assert f"`Pool(stop_timeout={pool_module.DEFAULT_STOP_TIMEOUT})`" in README
    with pytest.raises(ValueError, match="default of 10"):
        Pool(abs, workers=0)


def test_the_errors_are_what_the_table_says() -> None:
    go = section(README, "From the Go package")
    said = re.findall(r"^\| `Err\w+` \| `(\w+)`, an? `?([\w.]+)`?", go, re.MULTILINE)
    assert len(said) == 5
    for name, base in said:
        kind = {"queue.Full": queue.Full}.get(base) or getattr(builtins, base)
        assert issubclass(getattr(workpool, name), kind)
        assert issubclass(getattr(workpool, name), workpool.PoolError)


def test_the_json_names_are_in_the_originals_order() -> None:
    go = section(README, "From the Go package")
    fields = re.findall(r"^\| `[A-Z]\w+` \| `(\w+)` \| `(\w+)` \|", go, re.MULTILINE)
    assert len(fields) == 7
    stats = Pool(abs).stats()
    assert list(stats.as_dict())[:7] == [json for json, _ in fields]
    assert list(PoolStats.__dataclass_fields__)[:7] == [name for _, name in fields]


def test_the_contents_list_every_section() -> None:
    listed = re.findall(r"^- \[(.*)\]\(#(.*)\)$", README, re.MULTILINE)
    sections = re.findall(r"^## (.*)$", prose(README), re.MULTILINE)
    assert [title for title, _ in listed] == sections
    assert [anchor for _, anchor in listed] == [slug(title) for title in sections]


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = page(name)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if target.startswith("#"):
            assert target[1:] in map(slug, headings(text)), target
        else:
            assert (ROOT / target).exists(), target


def test_the_make_targets_exist() -> None:
    wanted = set(re.findall(r"\bmake ([a-z]+)\b(?=`| +#)", README))
    assert {"demo", "test", "bench"} <= wanted
    targets = set(re.findall(r"^([a-z-]+):", page("Makefile"), re.MULTILINE))
    assert wanted <= targets


def test_the_extras_exist() -> None:
    extras = set(re.findall(r"workpool\[([\w-]+)\]", README))
    declared = page("pyproject.toml").partition("[project.optional-dependencies]")[2].partition("\n\n")[0]
    assert extras == set(re.findall(r"^([\w-]+) = \[", declared, re.MULTILINE))


def test_the_commands_options_exist() -> None:
    pytest.importorskip("workpool.cli.commands")
    help_text = subprocess.run(
        [sys.executable, "-m", "workpool", "run", "--help"], capture_output=True, text=True, timeout=50
    ).stdout
    text = section(README, "The command line")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help"}
    assert len(options) >= 9
    assert options <= set(re.findall(r"--[a-z-]+", help_text))


def test_the_table_of_keys_is_that_of_the_models() -> None:
    between = re.search(r"<!-- keys -->(.*)<!-- /keys -->", README, re.DOTALL)
    assert between
    assert rows(between[1]) == [[f"`{key.path}`", *key[1:]] for key in keys()]


def test_what_is_said_of_the_configuration_is_what_is_printed(tmp_path: Path) -> None:
    text = section(README, "Configuration")
    example = ROOT / "examples" / "service.yaml"
    assert blocks(text, "yaml") == [example.read_text(encoding="utf-8")]
    broken = example.read_text(encoding="utf-8").replace("process\n    workers: 5", "proces\n    workers: no")
    (tmp_path / "broken.yaml").write_text(broken.replace("queue_size: 100\n", "queue_size: 1:30\n"), encoding="utf-8")
    for shown in blocks(text, ""):
        prompt, _, output = shown.partition("\n")
        program, command, file = prompt.removeprefix("$ ").split()
        done = subprocess.run(
            [sys.executable, "-m", program, command, file],
            capture_output=True,
            text=True,
            timeout=50,
            cwd=ROOT if file.startswith("examples/") else tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert (done.stdout, done.stderr) == (output, "")
