"""The example `webhooks`: nothing is lost or accepted twice, customers' events keep their order, retries are few."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from examples import webhooks
from examples.webhooks import (
    CUT,
    GONE,
    OUTAGE,
    RETRY,
    Event,
    Letters,
    Receiver,
    Sender,
    classify,
    customer,
    make_events,
    make_pool,
    read_letters,
    wrongs,
)
from tests.core.kit import until
from workpool import ByKey, DrainReport, Hooks, Pool, StopTimeout
from workpool.testing.clock import ManualClock

ROOT = Path(__file__).parents[2]
ALL_IS_WELL = "Nothing is lost, nothing came twice, and each customer's events came in their order."
AT_ONCE = replace(RETRY, backoff=0.0, budget=None)
DOWN = 1_000_000
"""More requests than a test makes."""

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Each dead letter is logged."""
    caplog.set_level("CRITICAL", "workpool")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One without mishaps, to which nobody is gone."""
    with Receiver(gone=()) as receiver:
        yield receiver


def paid(customer: str, *numbers: int) -> list[Event]:
    return [Event(customer, number, '{"paid": 1}') for number in numbers]


# -- as a user runs it ---------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.webhooks", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.endswith(f"{ALL_IS_WELL}\n")
    return done.stdout


def count(name: str, output: str) -> int:
    """What is said of it: `delivered   482`, or `budget 73`."""
    found = re.search(rf"\b{name} +(\d+)", output)
    return int(found[1]) if found else 0


def finished(output: str) -> int:
    return count("delivered", output) + count("discarded", output) + count("dead", output)


def letters_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_counts_add_up_and_the_dead_letters_can_be_sent_again(tmp_path: Path) -> None:
    events, file = make_events(1), tmp_path / "dead.jsonl"
    malformed = {event for event in events if event.customer != GONE and not event.payload.endswith("}")}
    output = run("--dead", file)
    assert count("handed over", output) == len(events) == finished(output)
    assert count("discarded", output) == sum(event.customer == GONE for event in events) > 0
    assert count("dead", output) == sum(count(why, output) for why in ("attempts", "budget", "invalid"))
    assert count("invalid", output) == len(malformed) > 0
    assert f" {OUTAGE} met the outage" in output
    later = re.search(r"and (\d+) times told to come later", output)
    assert later
    assert count("requests", output) == finished(output) + count("retries", output) + int(later[1])

    letters = letters_in(file)
    assert len(letters) == count("dead", output)
    assert {letter["attempts"] for letter in letters if letter["reason"] == "Refused: 400 Bad Request"} == {1}
    assert all(1 <= letter["attempts"] <= RETRY.attempts for letter in letters)

    again = run("--again", file)
    assert count("handed over", again) == len(letters)
    assert count("dead", again) == count("invalid", again) == len(malformed)
    assert count("delivered", again) == len(letters) - len(malformed)


def test_what_a_stop_leaves_is_in_the_letters(tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    output = run("--stop-timeout", "0", "--dead", file)
    left = [letter for letter in letters_in(file) if letter["attempts"] is None]
    assert {letter["reason"] for letter in left} <= {"the sender was stopped"}
    assert finished(output) + len(left) == len(make_events(1))
    again = run("--again", file)
    assert count("handed over", again) == finished(again) == len(letters_in(file))


def test_a_seed_chooses_the_events() -> None:
    assert make_events(3) == make_events(3) != make_events(4)
    for seed in range(5):
        of_one = [event.number for event in make_events(seed) if event.customer == "customer-1"]
        assert of_one == list(range(1, len(of_one) + 1))


# -- what an answer means ------------------------------------------------------------------------------------


def test_a_bad_payload_is_dead_at_once_and_holds_nobody_up(receiver: Receiver, tmp_path: Path) -> None:
    letters = Letters(tmp_path / "dead.jsonl")
    bad = Event("a", 2, '{"paid": ')
    with make_pool(receiver.port, letters) as pool:
        for event in (*paid("a", 1), bad, *paid("a", 3), *paid("b", 1)):
            pool.submit(event)
    stats = pool.stats()
    assert (receiver.accepted, letters.events) == ({"a": [1, 3], "b": [1]}, [bad])
    assert receiver.answers == {HTTPStatus.OK: 3, HTTPStatus.BAD_REQUEST: 1}
    assert (stats.succeeded, stats.retries, stats.dead["invalid"], stats.balance()) == (3, 0, 1, 0)
    [letter] = letters_in(tmp_path / "dead.jsonl")
    assert letter == {
        "customer": "a", "number": 2, "payload": '{"paid": ', "reason": "Refused: 400 Bad Request", "attempts": 1
    }  # fmt: skip
    assert read_letters(tmp_path / "dead.jsonl") == [bad]


def test_what_is_for_a_customer_who_is_gone_is_discarded() -> None:
    letters = Letters()
    with Receiver(gone=["a"]) as receiver, make_pool(receiver.port, letters) as pool:
        for event in (*paid("a", 1, 2), *paid("b", 1)):
            pool.submit(event)
    stats = pool.stats()
    assert (receiver.accepted, letters.events) == ({"b": [1]}, [])
    assert (stats.discarded, stats.succeeded, stats.failed, stats.balance()) == (2, 1, 0, 0)


@pytest.mark.parametrize(
    ("mishap", "answer", "retries", "snoozes"),
    [
        pytest.param("cut", CUT, 6, 0, id="cut: tried again"),
        pytest.param("lost", CUT, 6, 0, id="lost: tried again and accepted once"),
        pytest.param("busy", HTTPStatus.TOO_MANY_REQUESTS, 0, 6, id="busy: comes later, which is no attempt"),
    ],
)
def test_a_mishap_is_made_good_in_order(
    mishap: str, answer: int, retries: int, snoozes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MISHAPS", {mishap: 1})
    letters = Letters()
    with Receiver(seed=1, gone=()) as receiver, make_pool(receiver.port, letters, AT_ONCE) as pool:
        receiver.retry_after = 0
        for event in (*paid("a", 1, 2, 3), *paid("b", 1, 2, 3)):
            pool.submit(event)
    stats = pool.stats()
    assert (receiver.accepted, letters.events) == ({"a": [1, 2, 3], "b": [1, 2, 3]}, [])
    assert receiver.answers == {answer: 6, HTTPStatus.OK: 6}
    assert (stats.succeeded, stats.retries, stats.snoozes, stats.balance()) == (6, retries, snoozes, 0)


def test_what_breaks_the_receiver_is_dead_after_all_attempts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(webhooks, "MISHAPS", {"broken": 1})
    letters = Letters(tmp_path / "dead.jsonl")
    with Receiver(seed=1) as receiver, make_pool(receiver.port, letters, AT_ONCE) as pool:
        for event in paid("a", 1, 2):
            pool.submit(event)
    assert pool.stats().dead["attempts"] == 2
    assert receiver.answers == {HTTPStatus.INTERNAL_SERVER_ERROR: 2 * RETRY.attempts}
    found = [(letter["number"], letter["attempts"], letter["reason"]) for letter in letters_in(tmp_path / "dead.jsonl")]
    assert found == [(number, RETRY.attempts, "Refused: 500 Internal Server Error") for number in (1, 2)]


def test_all_mishaps_and_an_outage_together() -> None:
    events, letters = make_events(7), Letters()
    with Receiver(7, outage_at=len(events) // 2) as receiver, make_pool(receiver.port, letters, AT_ONCE) as pool:
        receiver.retry_after = 0
        for event in events:
            pool.submit_wait(event)
        report = pool.stop(None)
    assert wrongs(events, receiver, letters, report) == []
    stats = report.stats
    arrived = sum(map(len, receiver.accepted.values()))
    assert stats.succeeded <= arrived <= stats.succeeded + stats.failed  # of what is dead, an answer may have been lost
    assert stats.discarded == sum(event.customer == GONE for event in events)
    assert receiver.answers[HTTPStatus.SERVICE_UNAVAILABLE] == OUTAGE
    assert receiver.answers.total() == stats.submitted + stats.retries + stats.snoozes


# -- an outage, and a stop -----------------------------------------------------------------------------------


def in_order(events: list[Event]) -> dict[str, list[int]]:
    """Each customer's, by their numbers."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for event in events:
        found[event.customer].append(event.number)
    return found


def test_an_outage_does_not_bring_more_than_a_tenth_more_and_is_got_over(receiver: Receiver) -> None:
    events = [event for event in make_events(1, 1100) if event.payload.endswith("}")]
    letters = Letters()
    # Time stands still, so this all is within the ten seconds that the budget looks back.
    pool: Pool[Event, None] = Pool(
        Sender(receiver.port).deliver,
        workers=8,
        key=ByKey(customer),
        retry=replace(RETRY, backoff=0.0),
        classify=classify,
        hooks=Hooks(dead=letters.dead),
        clock=ManualClock().clock,
    )
    receiver.refusals_left = DOWN
    with pool:
        for event in events:
            pool.submit_wait(event)
        assert pool.join()
        down, requests = pool.stats(), receiver.answers.total()
        assert set(receiver.answers) == {HTTPStatus.SERVICE_UNAVAILABLE}
        assert len(events) < requests <= 1.1 * len(events)  # five times as many without a budget
        assert (down.failed, down.dead["budget"] > 0, receiver.accepted) == (len(events), True, {})

        receiver.refusals_left = 0
        for event in list(letters.events):
            pool.submit_wait(event)
    stats = pool.stats()
    assert receiver.accepted == in_order(events)
    assert (stats.succeeded, stats.failed, stats.balance()) == (len(events), len(events), 0)


def test_a_small_outage_costs_at_most_ten_retries_a_second(receiver: Receiver) -> None:
    """Of few events a tenth is next to nothing: ten a second there may be always, a hundred in ten seconds."""
    receiver.refusals_left = 100
    letters = Letters()
    with make_pool(receiver.port, letters, replace(RETRY, attempts=1000, backoff=0.0)) as pool:
        for event in paid("a", 1, 2, 3):
            pool.submit(event)
    assert (receiver.accepted, letters.events) == ({"a": [1, 2, 3]}, [])
    assert pool.stats().retries == 100


@pytest.mark.parametrize("drain", [True, False], ids=["drain", "no drain"])
def test_a_stop_in_the_middle_loses_nothing(drain: bool, tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    events, letters = make_events(2, 200), Letters(file)
    much_later = replace(AT_ONCE, backoff=3600.0, jitter="none")
    with Receiver(seed=2) as receiver:
        receiver.retry_after = 0
        pool = make_pool(receiver.port, letters, much_later)
        pool.start()
        for event in events:
            pool.submit(event)
        until(lambda: pool.stats().waiting >= 3)  # and their customers' other events behind them
        report = stop(pool, 0 if drain else None, drain)
        assert len(report.unprocessed) >= 3
        letters.undone(report)
        assert wrongs(events, receiver, letters, report) == []
        stats = report.stats
        done = stats.succeeded + stats.failed + stats.discarded
        assert len(events) == done + len(report.unprocessed) + len(report.abandoned)

        again = Letters()
        with make_pool(receiver.port, again, AT_ONCE) as pool:
            for event in read_letters(file):
                pool.submit(event)
        assert wrongs(events, receiver, again, pool.stop()) == []
        dead = [event for event in again.events if event.customer not in receiver.gone]
        well = [event for event in events if event not in dead and event.customer not in receiver.gone]
        assert receiver.accepted == in_order(well)


def stop(pool: Pool[Event, None], timeout: float | None, drain: bool) -> DrainReport[Event]:
    try:
        return pool.stop(timeout, drain)
    except StopTimeout as cut:
        return cut.report
