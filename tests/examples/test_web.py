"""The example `web`: it refuses with a time to come back, and prints whatever it has accepted, a SIGTERM or not."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any, NamedTuple

import pytest

from examples.web import QUEUE_SIZE, WORKERS
from tests.examples.kit import SOON, Printer, Server, serving

MODULE = ("examples.web", "--port", "0")
UVICORN = ("uvicorn", "examples.web:app", "--port", "0")


class Answer(NamedTuple):
    code: int
    retry_after: str | None
    body: Any


class Client:
    def __init__(self, server: Server) -> None:
        running = server.await_said("Uvicorn running on", on="stderr")
        found = re.search(r"http://127\.0\.0\.1:(\d+)", running)
        assert found, running
        self._port = int(found[1])

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=SOON)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return Answer(response.status, response.getheader("Retry-After"), json.load(response))
        finally:
            connection.close()

    def print_label(self, text: object, path: str = "/labels") -> Answer:
        return self.ask("POST", path, {"text": text})

    def stats(self) -> Any:
        return self.ask("GET", "/stats").body


@pytest.fixture
def printer() -> Iterator[Printer]:
    with Printer() as printer:
        yield printer


def fill(client: Client, printer: Printer) -> list[str]:
    """Labels for all workers, which the printer keeps, and for the whole queue."""
    running = [f"running {number}" for number in range(WORKERS)]
    queued = [f"queued {number}" for number in range(QUEUE_SIZE)]
    for label in running:
        assert client.print_label(label) == (202, None, {"accepted": label})
    assert printer.await_labels(WORKERS) == running
    for label in queued:
        assert client.print_label(label) == (202, None, {"accepted": label})
    return queued


def test_a_full_queue_refuses_and_says_when_to_come_back(printer: Printer) -> None:
    with serving(*MODULE, printer=printer.port) as server:
        client = Client(server)
        queued = fill(client, printer)
        for path in ("/labels", "/labels/now"):
            refused = client.print_label("one too many", path)
            assert (refused.code, refused.body) == (503, {"detail": "too many labels"})
            assert refused.retry_after is not None
            assert int(refused.retry_after) >= 1
        stats = client.stats()
        assert (stats["running"], stats["queue_depth"], stats["dropped"]) == (WORKERS, QUEUE_SIZE, 2)

        printer.may_print.set()
        assert printer.await_labels(QUEUE_SIZE) == queued
        assert client.print_label("later").code == 202  # there is room again
        assert printer.await_labels(1) == ["later"]


def test_a_request_can_wait_for_its_result(printer: Printer) -> None:
    printer.may_print.set()
    with serving(*MODULE, printer=printer.port) as server:
        client = Client(server)
        assert client.print_label("fragile", "/labels/now") == (200, None, {"answer": "printed fragile"})
        stats = client.stats()
        assert (stats["pool"], stats["state"], stats["submitted"], stats["succeeded"]) == ("labels", "running", 1, 1)


def test_what_cannot_be_printed() -> None:
    with Printer() as printer:
        gone = printer.port
    with serving(*MODULE, printer=gone) as server:
        client = Client(server)
        assert client.print_label("fragile", "/labels/now").code == 502
        assert client.print_label("two\nlines").code == 422
        assert client.print_label(None).code == 422
        stats = client.stats()
        assert (stats["submitted"], stats["failed"]) == (1, 1)


@pytest.mark.parametrize(
    ("command", "code"),
    [(MODULE, 0), (UVICORN, -signal.SIGTERM)],  # uvicorn's own command ends as the signal would have ended it
    ids=["module", "uvicorn"],
)
def test_whatever_was_accepted_is_printed_after_sigterm(printer: Printer, command: tuple[str, ...], code: int) -> None:
    with serving(*command, printer=printer.port) as server:
        queued = fill(Client(server), printer)
        server.terminate()
        draining = server.await_said("draining", on="stdout")
        assert draining == f"draining: {WORKERS} running, {QUEUE_SIZE} queued"

        printer.may_print.set()
        ended = server.end()
        count = WORKERS + QUEUE_SIZE
        assert ended.code == code, ended
        assert f": {count} drained, 0 unprocessed, 0 abandoned\n" in ended.out
        assert f"\n{count} accepted, {count} printed\n" in ended.out
        assert printer.await_labels(QUEUE_SIZE) == queued
