"""The example `rpc`: it refuses calls that it has no room for, and answers those that it has accepted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import grpc
import pytest

from examples.rpc import ROOM, WORKERS, Message, method
from tests.examples.kit import SOON, Printer, Server, serving

if TYPE_CHECKING:
    from grpc import _CallFuture


@contextmanager
def connected(server: Server) -> Iterator[grpc.Channel]:
    port = server.await_said("serving on", on="stdout").rpartition(":")[2]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


@pytest.fixture
def printer() -> Iterator[Printer]:
    with Printer() as printer:
        yield printer


def fill(channel: grpc.Channel, printer: Printer) -> dict[str, _CallFuture[Message]]:
    """As many calls as the server has room for. That it has refused one more says that it has accepted them."""
    ended: SimpleQueue[str] = SimpleQueue()
    call = method(channel, "Print")
    calls: dict[str, _CallFuture[Message]] = {}
    for number in range(ROOM + 1):
        text = f"label {number}"
        calls[text] = call.future({"text": text}, timeout=SOON)
        calls[text].add_done_callback(partial(_put, ended, text))
    refused = calls.pop(ended.get(timeout=SOON))
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(printer.await_labels(WORKERS)) < calls.keys()
    return calls


def _put(ended: SimpleQueue[str], text: str, _: object) -> None:
    ended.put(text)


def test_a_call_too_many_is_refused_and_the_others_are_answered(printer: Printer) -> None:
    with serving("examples.rpc", "--port", "0", printer=printer.port) as server, connected(server) as channel:
        calls = fill(channel, printer)
        printer.may_print.set()
        assert {text: call.result(SOON) for text, call in calls.items()} == {
            text: {"answer": f"printed {text}"} for text in calls
        }


def test_what_cannot_be_printed() -> None:
    with Printer() as printer:
        gone = printer.port
    with serving("examples.rpc", "--port", "0", printer=gone) as server, connected(server) as channel:
        call = method(channel, "Print")
        assert call.future({"text": "fragile"}, timeout=SOON).code() is grpc.StatusCode.UNAVAILABLE
        assert call.future({"text": "two\nlines"}, timeout=SOON).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert call.future({}, timeout=SOON).code() is grpc.StatusCode.INVALID_ARGUMENT
        stats = method(channel, "Stats")({}, timeout=SOON)
        assert (stats["pool"], stats["submitted"]) == ("labels", 4)


def test_whatever_was_accepted_is_answered_after_sigterm(printer: Printer) -> None:
    with serving("examples.rpc", "--port", "0", printer=printer.port) as server, connected(server) as channel:
        calls = fill(channel, printer)
        server.terminate()
        server.await_said("stopping", on="stdout")
        too_late = method(channel, "Print").future({"text": "too late"}, timeout=SOON)
        # CANCELLED if it meets the server's goodbye on its way.
        assert too_late.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

        printer.may_print.set()
        for text, call in calls.items():
            assert call.result(SOON) == {"answer": f"printed {text}"}
        ended = server.end()
        assert (ended.code, ended.err) == (0, "")
        assert re.search(r"^pool 'labels' stopped in .* 0 unprocessed, 0 abandoned$", ended.out, re.MULTILINE)
        assert f"\n{ROOM} accepted, {ROOM} done\n" in ended.out
