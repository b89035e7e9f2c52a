"""ARCHITECTURE.md is true: its diagram is the table's, and its list of modules is complete."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT, blocks, page, rows, section
from workpool import _state
from workpool._core import lifecycle
from workpool._interpreter import GIL
from workpool._stopping import GRACE

ARCHITECTURE = page("ARCHITECTURE.md")
PACKAGE = ROOT / "src" / "workpool"


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert blocks(ARCHITECTURE, "mermaid") == [lifecycle.diagram() + "\n"]


def listed() -> list[str]:
    return [name for cells in rows(section(ARCHITECTURE, "The house")) for name in re.findall(r"`(\w+)`", cells[0])]


def modules(folder: Path) -> set[str]:
    found = {path.stem for path in folder.glob("*.py")}
    return found | {path.parent.name for path in folder.glob("*/__init__.py")}


def test_every_module_is_in_the_house_and_no_other() -> None:
    assert set(listed()) == modules(PACKAGE)
    assert len(listed()) == len(set(listed()))


def test_the_parts_of_packages_are_named() -> None:
    about = {name: cells[1] for cells in rows(section(ARCHITECTURE, "The house")) for name in [cells[0].strip("`")]}
    for name in ("_core", "service", "simulate", "sources", "workers"):
        parts = modules(PACKAGE / name) - {"__init__"}
        assert parts <= set(re.findall(r"`(\w+)`", about[name])), name


def test_the_order_is_that_of_the_contract() -> None:
    """Who imports whom is checked from the contract; the page must not say otherwise."""
    layers = page("pyproject.toml").partition("layers = [")[2].partition("]")[0]
    rank = {name: level for level, line in enumerate(layers.splitlines()) for name in re.findall(r"\((\w+)\)", line)}
    levels = [rank[name] for name in listed() if name in rank]
    assert levels == sorted(levels)
    assert set(listed()) - set(rank) == {"__init__"}


def test_the_numbers_are_those_of_the_code() -> None:
    assert len(_state.PAUSES) == 39
    assert "some forty times and longer each time" in ARCHITECTURE
    assert (0 if GIL else 100) == _state.TRIES
    assert "it asks a hundred times" in ARCHITECTURE
    assert GRACE == 0.5
    assert "half a second" in ARCHITECTURE


def test_it_can_be_read_in_one_sitting() -> None:
    assert len(ARCHITECTURE.splitlines()) < 200
