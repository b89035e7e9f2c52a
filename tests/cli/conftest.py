"""A folder with two modules of functions, `functions` and `async_functions`, in which the command is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import ASYNC_FUNCTIONS, FUNCTIONS, Nursery


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    (tmp_path / "async_functions.py").write_text(ASYNC_FUNCTIONS)
    return tmp_path


@pytest.fixture(params=["functions", "async_functions"])
def functions(request: pytest.FixtureRequest) -> str:
    """The module of the functions: what it is asked for is so for either."""
    module: str = request.param
    return module


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()
