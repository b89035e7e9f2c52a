"""One contract: pool, source, server and service start once and stop as often as they are told, whoever does it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workpool import Pool
from workpool.errors import PoolError
from workpool.service.application import Application
from workpool.service.config import load
from workpool.service.lines import LineSource
from workpool.service.server import Server
from workpool.service.service import Part, Service
from workpool.service.statistics import Statistics

THREADS = 10
"""At once; every second of them stops it."""


FED: list[Pool[str, None]] = []
"""The pools of sources, which stop only those themselves."""


def nothing(_: object) -> None:
    """Done at once."""


def source(folder: Path) -> Part:
    path = folder / "lines"
    path.write_text("1\n2\n")
    pool = Pool[str, None](nothing, workers=1)
    pool.start()
    FED.append(pool)
    return LineSource(pool, str(path), bytes.decode, unprocessed=str(folder / "left"))


def server(_: Path) -> Part:
    return Server(Application({}))


def pool(_: Path) -> Part:
    return Pool(nothing, workers=2)


def statistics(_: Path) -> Part:
    return Statistics({}, 0.001, 1.0)


def service(folder: Path) -> Part:
    from prometheus_client import CollectorRegistry

    path = folder / "pools.yaml"
    lines = folder / "lines"
    lines.write_text("1\n2\n")
    path.write_text(
        f"worker_pools:\n  a: {{process: 'tests.service.functions:handle', workers: 1, "
        f"source: {{kind: lines, path: {lines}, unprocessed: {folder / 'left'}}}}}\n"
        "server: {port: 0}\n"
    )
    return Service(load(str(path), {}, lambda _: None), CollectorRegistry())


PARTS = [pool, source, server, statistics, service]


@pytest.fixture(params=PARTS, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Part]]:
    yield request.param
    while FED:
        FED.pop().stop(5.0)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith("pytest")}


def test_a_second_start_is_refused_and_harms_nothing(make: Callable[[Path], Part], tmp_path: Path) -> None:
    part = make(tmp_path)
    part.start()
    with pytest.raises((RuntimeError, PoolError)):
        part.start()
    part.stop(5.0)
    part.stop(5.0)
    with pytest.raises((RuntimeError, PoolError)):
        part.start()


def test_a_stop_before_the_start_is_harmless(make: Callable[[Path], Part], tmp_path: Path) -> None:
    part = make(tmp_path)
    part.stop(5.0)
    part.stop(5.0)


@pytest.mark.parametrize("round_", range(5))
def test_many_start_and_stop_it_at_once(make: Callable[[Path], Part], tmp_path: Path, round_: int) -> None:
    """One start at most comes through, every stop returns, and no thread is left."""
    before = threads()
    part = make(tmp_path)
    together = threading.Barrier(THREADS)
    started: list[object] = []
    wrong: list[BaseException] = []

    def act(number: int) -> None:
        together.wait()
        try:
            if (number + round_) % 2:
                part.stop(5.0)
            else:
                part.start()
                started.append(part)
        except (RuntimeError, PoolError):
            pass  # it was started, or stopped, by another
        except BaseException as error:
            wrong.append(error)

    acting = [threading.Thread(target=act, args=[number]) for number in range(THREADS)]
    for thread in acting:
        thread.start()
    for thread in acting:
        thread.join(60)
        assert not thread.is_alive()
    part.stop(5.0)
    assert wrong == []
    assert len(started) <= 1
    while FED:
        FED.pop().stop(5.0)
    for thread in threads() - before:
        thread.join(30)
        assert not thread.is_alive(), thread
