"""The OpenAPI document is true: Schemathesis asks all that it says, and much that it does not allow."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest

from workpool import Pool, QueueFull
from workpool.service.application import Application
from workpool.service.http import Refusal
from workpool.service.items import Reader
from workpool.service.server import Server

CONFIG = """
[checks]
# A pool that does not run is no fault of the server, and what is said of it is in the document.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]
"""


@dataclass
class Point:
    x: int
    y: float = 0.0


class Order(TypedDict):
    id: int
    lines: list[str]


def number(_: int) -> None: ...
def point(_: Point) -> None: ...
def order(_: Order) -> None: ...
def text(_: str) -> None: ...
def numbers(_: list[int]) -> None: ...
def perhaps(_: int | None) -> None: ...
def anything(_: Any) -> None: ...


FUNCTIONS: tuple[Callable[[Any], None], ...] = (number, point, order, text, numbers, perhaps, anything)


@pytest.fixture
def pools() -> Iterator[dict[str, Pool[Any, Any]]]:
    """One for each type, one that is full, one that is paused, one that is stopped and one that was not started."""
    gate = threading.Event()

    def hold(_: int) -> None:
        gate.wait()

    made: dict[str, Pool[Any, Any]] = {each.__name__: Pool(each, workers=1, name=each.__name__) for each in FUNCTIONS}
    made |= {name: Pool(hold, workers=1, queue_size=1, name=name) for name in ("full", "paused", "stopped", "new")}
    for name, pool in made.items():
        if name != "new":
            pool.start()
    made["paused"].pause()
    made["stopped"].stop()
    for name in ("full", "paused"):
        with pytest.raises(QueueFull):
            while True:
                made[name].submit(1)
    yield made
    gate.set()
    for name, pool in made.items():
        if name != "new":
            pool.stop()


def ask(server: Server, folder: Path, *options: str) -> str:
    """Run Schemathesis; what it says, if it found nothing."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", "schemathesis.toml", "run", f"{server.url}/openapi.json"),
        *("--exclude-path", "/api/events"),  # has no end
        *("--max-examples", "15", "--generation-deterministic", "--no-color", "--request-timeout", "30"),
        *options,
    ]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    return done.stdout


def passed(said: str) -> int:
    found = re.search(r"(\d+) generated, (\d+) passed", said)
    assert found is not None, said
    assert found[1] == found[2]
    return int(found[1])


def test_without_the_token(pools: dict[str, Pool[Any, Any]], tmp_path: Path) -> None:
    with Server(Application(pools, token="secret")) as server:
        said = ask(server, tmp_path)
    assert passed(said) > 100
    assert not pools["number"].stats().balance()


def test_with_the_token(pools: dict[str, Pool[Any, Any]], tmp_path: Path) -> None:
    with Server(Application(pools, token="secret")) as server:
        # It leaves the header that it is given where it means to leave the token out: the other test is for that.
        said = ask(server, tmp_path, "-H", "authorization: bearer secret", "--exclude-checks", "ignored_auth")
    assert passed(said) > 100


@pytest.mark.parametrize(
    ("function", "body", "is_one"),
    [
        (number, b"1", True),
        (number, b'"1"', False),
        (number, b"true", False),
        (point, b'{"x": 1, "y": 2}', True),
        (point, b'{"x": 1, "y": false}', False),
        (text, b"1", False),
        (numbers, b"[1, 2]", True),
        (perhaps, b"null", True),
    ],
)
def test_an_item_is_of_the_type_that_the_document_says(
    function: Callable[[Any], None], body: bytes, is_one: bool
) -> None:
    reader = Reader(function)
    if is_one:
        reader.read(body)
    else:
        with pytest.raises(Refusal):
            reader.read(body)
