"""Every test of the core leaves no thread and no imbalance behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.core.kit import examples

settings.register_profile("some", max_examples=examples(100))
settings.load_profile("some")


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), f"{thread.name} was left behind"


@pytest.fixture
def quiet() -> Iterator[None]:
    """Failures are part of the test, and are not to be logged ten thousand times."""
    log = logging.getLogger("workpool")
    log.disabled = True
    yield
    log.disabled = False
