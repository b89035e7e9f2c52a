"""`workpool simulate`: its table, its lines of JSON, its plots; and one sentence for whatever is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.kit import SECONDS, Ended, Nursery, sentences

LOADS = """
from workpool import CoDel, Fifo, Lanes
from workpool.simulate import Bursts, Exponential, Fixed, Poisson, Scenario

print("printed while it is imported")

def wrong_priority(item):
    return 7

def raises(item):
    raise LookupError("no deadline\\nfor that")

def scenario(**policies):
    return Scenario(arrivals=Poisson(200), service=Exponential(0.01), deadline=0.1, critical=0.25, workers=1, seconds=5,
                    policies=policies)

two = scenario(short=Fifo(5), long=Fifo(1000, max_wait=0.03))
bursts = Scenario(arrivals=Bursts([(0, 1), (200, 1)]), service=Fixed(0.01), deadline=0.1, workers=1, seconds=5,
                  policies={"codel": CoDel()})
priority = scenario(good=Fifo(), bad=Lanes(wrong_priority, [1, 1]))
deadline = scenario(bad=Fifo(deadline=raises))
none = scenario()
number = 5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loads.py").write_text(LOADS)
    (tmp_path / "raises.py").write_text("from workpool.simulate import Poisson\nPoisson(0)\n")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery("simulate")
    yield nursery
    nursery.close()


def rows(ended: Ended) -> list[list[str]]:
    """The cells of the table, its head first, its ruler not."""
    lines = [line for line in ended.out.decode().splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1, "aligned"
    assert set(lines[1]) <= set("|-: ")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:1] + lines[2:]]


def records(ended: Ended) -> list[dict[str, object]]:
    return [json.loads(line) for line in ended.out.splitlines()]


def check(ended: Ended, *words: str) -> None:
    """One sentence, and exit code 2. (The module's own print goes there too.)"""
    (sentence,) = [line for line in sentences(ended) if line != "printed while it is imported"]
    assert sentence.startswith("workpool: ")
    assert [word for word in words if word not in sentence] == [], sentence
    assert ended.code == 2


def test_a_table(nursery: Nursery, folder: Path) -> None:
    ended = nursery.run(folder, "loads:two")
    assert (ended.code, ended.err) == (0, "printed while it is imported\n")
    first = ended.out.decode().splitlines()[0]
    assert first == (
        "1 workers, 100 items/s of capacity, 200/s offered for 5 s, useful for 100 ms, 25 % critical, seed 1"
    )
    head, short, long = rows(ended)
    assert head == ["policy", "useful/s", "critical in time", "refused/s", "shed/s (max_wait)", "p50", "p99"]
    assert (short[0], long[0]) == ("short", "long")
    assert 60 < int(long[1]) < 130
    assert int(short[3]) > 50
    assert long[3] == "0"
    assert short[4] == "0"
    assert all(cell.endswith(" ms") for row in (short, long) for cell in row[5:])


def test_lines_of_json(nursery: Nursery, folder: Path) -> None:
    ended = nursery.run(folder, "loads:two", "--json")
    short, long = records(ended)
    assert (short["policy"], long["policy"]) == ("short", "long")
    assert short["offered"] == long["offered"]
    assert short["capacity"] == 100
    assert long["shed"] == {"max_wait": pytest.approx(500, abs=150), "deadline": 0, "codel": 0, "overflow": 0, "key": 0}
    assert nursery.run(folder, "loads:two", "--json").out == ended.out, "the same seed, the same numbers"


def test_options_change_the_scenario(nursery: Nursery, folder: Path) -> None:
    ended = nursery.run(
        folder, "loads:two", "--json", "--seed", 2, "--seconds", 10, "--rate", 50, "--policy", "long"
    )  # fmt: skip
    (record,) = records(ended)
    assert (record["policy"], record["seed"], record["seconds"], record["offered_rate"]) == ("long", 2, 10, 50)
    assert record["offered"] == pytest.approx(500, abs=100)
    both = records(nursery.run(folder, "loads:two", "--json", "--policy", "long", "--policy", "short"))
    assert [record["policy"] for record in both] == ["long", "short"]


def test_the_rate_of_bursts_is_their_mean(nursery: Nursery, folder: Path) -> None:
    (record,) = records(nursery.run(folder, "loads:bursts", "--json", "--rate", 400, "--seconds", 20))
    assert record["offered"] == pytest.approx(8000, rel=0.05)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("loads", ["TARGET 'loads'", "package.module:name"]),
        ("loads:", ["package.module:name"]),
        ("not_there:s", ["no module 'not_there'", "current folder"]),
        ("raises:s", ["importing 'raises' failed", "rate must be more than 0"]),
        ("loads:not_there", ["no 'not_there' in module 'loads'"]),
        ("loads:number", ["TARGET 'loads:number' is not a Scenario", "int"]),
        ("loads:none", ["TARGET 'loads:none' has no policies", "policies={name: discipline, ...}"]),
        ("loads:scenario", ["is not a Scenario", "function"]),
        ("loads:priority", ["policy 'bad'", "priority gave 7", "0 to 1"]),
        ("loads:deadline", ["policy 'bad'", "its rule failed", "LookupError: no deadline for that"]),
    ],
)
def test_wrong_targets(nursery: Nursery, folder: Path, target: str, words: list[str]) -> None:
    ended = nursery.run(folder, target)
    check(ended, *words)
    assert ended.out == b""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--policy middle", ["--policy 'middle'", "no such policy", "'short', 'long'"]),
        ("--seconds 0", ["--seconds", "x>0", "workpool simulate --help"]),
        ("--seconds inf", ["--seconds must be a finite number"]),
        ("--rate nan", ["--rate must be a finite number"]),
        ("--rate -1", ["--rate"]),
        ("--seed one", ["--seed", "'one'"]),
        ("--plot plot.pdf", ["--plot 'plot.pdf'", ".png or .svg"]),
        ("--plot plot", ["--plot 'plot'", ".png or .svg"]),
        ("--plot no/plot.svg", ["--plot 'no/plot.svg'", "no folder", "make it first"]),
        ("--plot loads.py/plot.svg", ["--plot", "Not a directory"]),
        ("--plot folder.svg", ["--plot 'folder.svg'", "is a folder"]),
    ],
)
def test_wrong_options(nursery: Nursery, folder: Path, options: str, words: list[str]) -> None:
    (folder / "folder.svg").mkdir()
    before = sorted(folder.iterdir())
    ended = nursery.run(folder, "loads:two", *options.split())
    check(ended, *words)
    assert ended.out == b""
    assert sorted(path for path in folder.iterdir() if path.name != "__pycache__") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_plot_without_permission(nursery: Nursery, folder: Path) -> None:
    (folder / "plot.svg").touch(mode=0o400)
    check(nursery.run(folder, "loads:two", "--plot", "plot.svg"), "--plot 'plot.svg'", "Permission denied")


def test_no_target(nursery: Nursery, folder: Path) -> None:
    check(nursery.run(folder), "TARGET", "workpool simulate --help")


@pytest.mark.parametrize("name", ["plot.png", "plot.svg"])
def test_a_plot(nursery: Nursery, folder: Path, name: str) -> None:
    ended = nursery.run(folder, "loads:two", "--seconds", 1, "--plot", name)
    assert ended.code == 0
    assert len(rows(ended)) == 3
    data = (folder / name).read_bytes()
    if name.endswith(".png"):
        assert data.startswith(b"\x89PNG\r\n\x1a\n")
        assert data.endswith(b"IEND\xaeB`\x82")
    else:
        check_svg(data)
        nursery.run(folder, "loads:two", "--seconds", 1, "--plot", name)
        assert (folder / name).read_bytes() == data, "the same numbers, the same bytes"


def check_svg(data: bytes) -> None:
    root = ElementTree.fromstring(data)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"short", "long", "Goodput", "Latency", "capacity, 100/s", "deadline", "offered load (items/s)"} <= texts
    assert "useful items/s (done within 100 ms)" in texts


def test_a_plot_needs_matplotlib(folder: Path) -> None:
    program = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from workpool.cli import main
sys.exit(main(["simulate", "loads:two", *sys.argv[1:]]))
"""
    plain, plotting = [
        subprocess.run([sys.executable, "-c", program, *more], cwd=folder, capture_output=True, timeout=SECONDS)
        for more in ([], ["--plot", "plot.svg"])
    ]
    assert plain.returncode == 0
    check(Ended(plotting.returncode, plotting.stdout, plotting.stderr.decode()), "pip install 'workpool[plot]'")
    assert not (folder / "plot.svg").exists()


def test_a_terminal_sees_what_is_simulated(folder: Path) -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "workpool", "simulate", "loads:two"],
        cwd=folder, stdout=subprocess.PIPE, stderr=theirs, timeout=SECONDS,
    )  # fmt: skip
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    shown = [said.index(f"\rworkpool: simulating {what}\x1b[K") for what in ("1 of 2: short", "2 of 2: long")]
    assert all(before < after for before, after in pairwise(shown))
    assert said.endswith("\r\x1b[K"), "nothing of it stays"


def test_whoever_reads_may_go(folder: Path) -> None:
    command = f"{sys.executable} -m workpool simulate loads:two --json | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr


def test_the_help_names_the_options(nursery: Nursery, folder: Path) -> None:
    ended = nursery.run(folder, "--help")
    assert (ended.code, ended.err) == (0, "")
    for option in ("--seed", "--seconds", "--rate", "--policy", "--json", "--plot", "Exit codes:"):
        assert option in ended.out.decode()
