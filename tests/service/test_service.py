"""`Service`: the order of its start and stop, what is undone, and what becomes of every line of a source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry

from tests.core.kit import until
from tests.service.configs import config_of
from workpool.errors import Discard, PoolStopped
from workpool.service.service import Service

SECONDS = 20.0
"""The longest that anything is waited for."""

MODULE = "tests.service.test_service"

seen: SimpleQueue[object] = SimpleQueue()
"""What process functions and hooks were called with."""

gate = threading.Event()
"""Closed while items are to be held."""


def note(number: int) -> None:
    seen.put(number)


def odd(number: int) -> None:
    seen.put(number)
    if number % 2 == 0:
        raise ValueError("even")


def gated(number: int) -> None:
    seen.put(number)
    assert gate.wait(SECONDS)


def on_error(item: object, error: BaseException) -> None:
    seen.put((item, str(error)))


def on_shed(_: object, reason: str) -> None:
    seen.put(reason)


def drop(number: int) -> None:
    seen.put(number)
    raise Discard("not today")


def odd_in_time(number: int) -> float:
    return 60.0 if number % 2 else -1.0


class Recorder:
    """A part that says what is done to it."""

    def __init__(self, done: list[str], raises: BaseException | None = None) -> None:
        self._done = done
        self._raises = raises

    def start(self) -> None:
        self._done.append("start")
        if self._raises is not None:
            raise self._raises

    def stop(self, _: float) -> None:
        self._done.append("stop")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    gate.clear()
    while not seen.empty():
        seen.get()
    yield
    gate.set()


def take(count: int) -> list[object]:
    return [seen.get(timeout=SECONDS) for _ in range(count)]


def lines(numbers: range) -> str:
    return "".join(f"{number}\n" for number in numbers)


Make = Callable[..., Service]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.chdir(tmp_path)

    def made(function: str, settings: str = "", *, before: list[Recorder] | None = None) -> Service:
        text = (
            f"worker_pools:\n  a: {{process: '{MODULE}:{function}', source: {{kind: lines, path: in.txt}}{settings}}}\n"
            f"  b: {{process: '{MODULE}:{function}'}}\n"
        )
        return Service(config_of(tmp_path, text), CollectorRegistry(), before or [])

    return made


def test_lines_become_items_and_a_source_at_its_end_leaves_the_pools_running(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(lines(range(30)))
    service = make("note")
    service.start()
    assert sorted(map(int, map(str, take(30)))) == list(range(30))
    service.pools["a"].submit(30)
    service.pools["b"].submit(31)
    assert sorted(map(int, map(str, take(2)))) == [30, 31]
    stopped = service.stop(SECONDS)
    assert stopped.clean
    assert [report.stats.succeeded for report in stopped.reports] == [31, 1]
    assert stopped.kept == {"a": 0}
    assert not (tmp_path / "a.unprocessed").exists()
    assert "pool 'a' stopped" in str(stopped)
    assert "31 submitted, 31 succeeded" in str(stopped)


def test_every_line_is_done_or_kept(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(lines(range(100))[:-1])
    (tmp_path / "a.unprocessed").write_text("from before\n")
    service = make("gated", ", workers: 2, queue_size: 5")
    service.start()
    begun = take(2)
    assert begun == [0, 1]
    stopper = threading.Thread(target=service.stop, args=(SECONDS,), daemon=True)
    stopper.start()
    service.abort()
    gate.set()
    stopper.join(SECONDS)
    stopped = service.stop(0)
    done = set(begun) | set(take(seen.qsize()))
    before, *left = (tmp_path / "a.unprocessed").read_text().splitlines()
    assert before == "from before"
    assert sorted(left, key=int) == left
    kept = set(map(int, left))
    assert kept | {int(str(number)) for number in done} == set(range(100))
    assert len(kept) + len(done) == 100 + len(stopped.reports[0].abandoned)  # those may have run, and are kept
    assert stopped.kept == {"a": len(left)}
    assert not stopped.clean
    assert f"{len(left)} items of its source are left" in str(stopped)


def test_what_fails_is_told_as_the_pool_would_and_what_cannot_be_read_is_done_with(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in.txt").write_text("1\n2\nthree\n")
    service = make("odd", f", workers: 1, hooks: {{error: '{MODULE}:on_error'}}")
    service.start()
    assert take(3) == [1, 2, (2, "even")]
    stopped = service.stop(SECONDS)
    assert stopped.clean
    assert (stopped.reports[0].stats.succeeded, stopped.reports[0].stats.failed) == (1, 1)
    assert "in.txt:2 failed" in caplog.text
    assert "in.txt:3: not int in JSON" in caplog.text


def test_what_is_shed_or_discarded_is_done_with_and_no_failure(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in.txt").write_text(lines(range(20)))
    hooks = f"hooks: {{error: '{MODULE}:on_error', shed: '{MODULE}:on_shed'}}"
    service = make("drop", f", workers: 1, queue: {{kind: fifo, deadline: '{MODULE}:odd_in_time'}}, {hooks}")
    service.start()
    assert sorted(map(str, take(20))) == sorted([*map(str, range(1, 20, 2)), *(["deadline"] * 10)])
    stopped = service.stop(SECONDS)
    assert stopped.clean
    assert "10 discarded, 10 shed" in str(stopped)
    assert "failed" not in caplog.text


def test_a_start_that_fails_undoes_what_it_began(make: Make) -> None:
    done: list[str] = []
    service = make("note", before=[Recorder(done)])  # and there is no in.txt
    with pytest.raises(FileNotFoundError):
        service.start()
    assert done == ["start", "stop"]
    for pool in service.pools.values():
        with pytest.raises(PoolStopped):
            pool.submit(1)


def test_what_comes_first_and_fails_is_all_that_was_tried(make: Make) -> None:
    done: list[str] = []
    service = make("note", before=[Recorder(done), Recorder(done, OSError("taken"))])
    with pytest.raises(OSError, match="taken"):
        service.start()
    assert done == ["start", "start", "stop"]
    assert {pool.stats().state for pool in service.pools.values()} == {"new"}


def test_what_starts_first_stops_last_and_once(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("")
    done: list[str] = []
    service = make("note", before=[Recorder(done)])
    service.start()
    assert done == ["start"]
    assert service.stop(SECONDS) is service.stop(SECONDS)
    assert done == ["start", "stop"]
    assert {pool.stats().state for pool in service.pools.values()} == {"stopped"}


def test_a_service_that_was_not_started_can_be_stopped(make: Make) -> None:
    stopped = make("note").stop(0)
    assert stopped.clean
    assert stopped.kept == {"a": 0}


def test_a_file_for_what_is_left_that_cannot_be_written(make: Make, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text(lines(range(50)))
    (tmp_path / "a.unprocessed").mkdir()
    service = make("gated", ", workers: 1, queue_size: 1")
    service.start()
    take(1)
    threading.Thread(target=service.stop, args=(SECONDS,), daemon=True).start()
    service.abort()
    gate.set()
    stopped = service.stop(0)
    assert not stopped.clean
    assert "is lost" in str(stopped)


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(url, timeout=SECONDS) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        return refused.code, refused.read()


def test_a_server_answers_from_the_start_to_the_end_of_the_stop(tmp_path: Path) -> None:
    text = f"worker_pools:\n  a: {{process: {MODULE}:gated}}\nserver: {{port: 0}}\n"
    service = Service(config_of(tmp_path, text), CollectorRegistry())
    assert service.server is not None
    gate.clear()
    service.start()
    url = service.server.url
    assert ask(f"{url}/readyz")[0] == 200
    service.pools["a"].submit(1)
    assert seen.get(timeout=SECONDS) == 1
    stopping = threading.Thread(target=service.stop, args=(SECONDS,))
    stopping.start()
    until(lambda: service.pools["a"].stats().state != "running")
    status, why = ask(f"{url}/readyz")
    assert (status, b"it stops" in why) == (503, True)
    assert b'workpool_running{pool="a"} 1.0' in ask(f"{url}/metrics")[1]
    gate.set()
    stopping.join(SECONDS)
    with pytest.raises(URLError):
        ask(f"{url}/readyz")


def test_a_port_that_is_taken_leaves_nothing_started(tmp_path: Path) -> None:
    text = f"worker_pools:\n  a: {{process: {MODULE}:note}}\nserver: {{port: 0}}\n"
    first = Service(config_of(tmp_path, text), CollectorRegistry())
    first.start()
    assert first.server is not None
    text = text.replace("port: 0", f"port: {first.server.port}")
    second = Service(config_of(tmp_path, text), CollectorRegistry())
    with pytest.raises(OSError, match=r"cannot serve on 127\.0\.0\.1 port"):
        second.start()
    assert second.pools["a"].stats().state == "new"
    assert first.stop(SECONDS).clean


def test_without_a_server_in_the_file_there_is_none(tmp_path: Path) -> None:
    text = f"worker_pools:\n  a: {{process: {MODULE}:note}}\n"
    assert Service(config_of(tmp_path, text), CollectorRegistry()).server is None
