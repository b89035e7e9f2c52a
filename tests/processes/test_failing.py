"""Items that fail in processes: tried again, in their order, and each ends once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from random import Random

import pytest

from tests.core.kit import until
from tests.processes import functions
from tests.processes.functions import Job
from workpool import (
    ByKey,
    Discard,
    Exponential,
    Fatal,
    Hooks,
    Invalid,
    ItemTimeout,
    Pool,
    PoolStopped,
    Rate,
    Retry,
    StopTimeout,
    WorkerDied,
)
from workpool.testing import ManualClock

pytestmark = pytest.mark.usefixtures("quiet", "no_thread_left")

STEPS = ["ok", "ok", "fails", "fails", "transient", "snooze", "discard", "invalid"]
ENDS: dict[type[BaseException], str] = {Discard: "discard", Invalid: "dead", OSError: "dead", WorkerDied: "dead"}


def end_of(future: Future[int]) -> str:
    if future.cancelled():
        return "cancelled"
    error = future.exception(20)
    return "ok" if error is None else next((end for kind, end in ENDS.items() if isinstance(error, kind)), "dead")


def check_attempts(path: Path, count: int) -> None:
    """By what the processes wrote: each attempt knew its number."""
    attempts = [1] * count
    for line in path.read_text().splitlines():
        word, number, *more = line.split()
        if word == "begin":
            assert int(more[0]) == attempts[int(number)]
            attempts[int(number)] += more[1] in ("fails", "transient", "dies")


def check_order(path: Path, jobs: list[Job]) -> None:
    """Of a key one ran at a time, and in order."""
    running: dict[str, int] = {}
    last: dict[str, int] = {}
    for line in path.read_text().splitlines():
        word, text, *more = line.split()
        number = int(text)
        key = jobs[number].key
        if word == "end":
            assert running.pop(key) == number
            continue
        assert key not in running
        assert last.setdefault(key, number) <= number
        last[key] = number
        if more[1] != "dies":  # which writes no end
            running[key] = number
    assert not running


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_each_item_ends_once_and_in_its_order_whatever_its_attempts_do(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    path = tmp_path / "notes"
    scripts = [tuple(random.choices(STEPS, k=random.randrange(5))) for _ in range(120)]
    scripts[random.randrange(120)] = ("fails", "dies")
    jobs = [Job(str(path), number, random.choice("abcd"), script) for number, script in enumerate(scripts)]
    dead: list[Job] = []
    pool: Pool[Job, int] = Pool(
        functions.follow_script,
        workers=3,
        executor="process",
        retry=Retry(attempts=3, on=(OSError, WorkerDied), backoff=Exponential(0.001, 0.004), budget=None),
        key=ByKey(functions.key_of) if seed != 3 else None,
        rate=Rate(2000, burst=10) if seed == 2 else None,
        hooks=Hooks(dead=lambda job, *_: dead.append(job)),
    )
    with pool:
        futures = [pool.call(job) for job in jobs]
        for future in random.sample(futures, 10):
            future.cancel()
        assert pool.join(20)
        ends = Counter(map(end_of, futures))
    stats = pool.stats()
    assert (stats.succeeded, stats.discarded, stats.cancelled) == (ends["ok"], ends["discard"], ends["cancelled"])
    assert stats.failed == ends["dead"] == len(dead) == sum(stats.dead.values())
    assert (sum(ends.values()), stats.balance()) == (120, 0)
    check_attempts(path, 120)
    if seed != 3:
        check_order(path, jobs)


def test_a_stop_amid_failures_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    jobs = [Job(str(path), number, str(number % 7), ("fails",) * (number % 4)) for number in range(60)]
    backoff = 60.0  # what has failed still waits when it is looked at, however slow the machine is
    retry = Retry(attempts=3, backoff=backoff, jitter="none", budget=None)
    pool: Pool[Job, int] = Pool(functions.follow_script, workers=2, executor="process", retry=retry)
    pool.start()
    futures = [pool.call(job) for job in jobs]
    until(lambda: pool.stats().waiting > 10)
    try:
        report = pool.stop(0)
    except StopTimeout as cut:
        report = cut.report
    ends = Counter(map(end_of, futures))
    assert sum(ends.values()) == 60
    assert ends["cancelled"] == len(report.unprocessed) == report.stats.cancelled > 0
    assert report.stats.balance() == 0


def test_a_process_that_dies_is_tried_again_only_if_that_is_named() -> None:
    with Pool(functions.attempt_to_die, workers=1, executor="process", retry=Retry(backoff=0)) as pool:
        assert isinstance(pool.call("").exception(20), WorkerDied)
    assert pool.stats().dead["not_retried"] == 1
    with Pool(functions.attempt_to_die, workers=1, executor="process", retry=Retry(on=WorkerDied, backoff=0)) as pool:
        assert pool.call("").result(20) == 2


def test_what_takes_too_long_is_killed_and_tried_again(tmp_path: Path) -> None:
    marker, clock = tmp_path / "begun", ManualClock()
    retry = Retry(on=ItemTimeout, backoff=0)
    pool: Pool[str, int] = Pool(
        functions.attempt_to_hang, workers=1, executor="process", item_timeout=5, retry=retry, clock=clock.clock
    )
    with pool:
        future = pool.call(str(marker))
        until(marker.exists)
        clock.wait_for_sleepers()
        clock.advance(5)
        assert future.result(20) == 2


def test_an_item_knows_which_attempt_it_is_also_in_a_batch() -> None:
    with Pool(functions.third_attempt, workers=2, executor="process", retry=Retry(backoff=0, budget=None)) as pool:
        assert list(pool.map(range(200))) == [3] * 200
    assert pool.stats().retries == 400


def test_what_nothing_will_mend_stops_the_pool() -> None:
    pool: Pool[int, None] = Pool(functions.fatal, workers=1, executor="process")
    pool.start()
    assert isinstance(pool.call(1).exception(20), Fatal)
    until(lambda: pool.stats().state != "running")
    with pytest.raises(PoolStopped, match="stopped by itself: an item failed with Fatal"):
        pool.submit(2)
    pool.stop(20)
