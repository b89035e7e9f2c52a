"""The server over real sockets: it starts, answers, and ends, whatever its clients do."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.core.kit import in_thread, until
from tests.service.asking import SOON
from workpool import Pool
from workpool.service import connection as connection_module
from workpool.service.application import Application
from workpool.service.http import Limits
from workpool.service.server import Server

LONG = 60.0
"""Seconds for a stop that a test would not wait for."""


def echo(number: int) -> int:
    return number


@pytest.fixture
def pool() -> Iterator[Pool[int, int]]:
    with Pool(echo, workers=2, queue_size=5, name="echo") as pool:
        yield pool


@pytest.fixture
def server(pool: Pool[int, int]) -> Iterator[Server]:
    with Server(Application({"echo": pool}, token="s3cret", interval=0.001)) as server:
        yield server


@pytest.fixture(scope="module")
def standing() -> Iterator[Server]:
    """One for all tests that do not stop it."""
    with Pool(echo, name="echo") as pool, Server(Application({"echo": pool})) as server:
        yield server


def connect(server: Server, receive_buffer: int | None = None) -> socket.socket:
    made = socket.socket()
    made.settimeout(SOON)
    if receive_buffer is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        made.connect((server.host, server.port))
    except BaseException:
        made.close()
        raise
    return made


def ask(server: Server, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    with closing(HTTPConnection(server.host, server.port, timeout=SOON)) as connection:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def say(server: Server, words: bytes) -> bytes:
    """What comes back until the server hangs up."""
    with connect(server) as client:
        client.sendall(words)
        return read_all(client)


def read_all(client: socket.socket) -> bytes:
    came = b""
    while piece := client.recv(1 << 16):
        came += piece
    return came


def ends_early(server: Server) -> None:
    """Stop, and be done long before the time for that is up."""
    in_thread(lambda: server.stop(LONG)).result()
    with pytest.raises(ConnectionRefusedError):
        connect(server)


# -- start and stop ------------------------------------------------------------------------------------------


def test_when_it_has_started_it_answers(standing: Server) -> None:
    assert standing.url == f"http://127.0.0.1:{standing.port}"
    assert standing.port > 0
    assert ask(standing, "GET", "/livez") == (200, {"status": "alive"})


def test_it_serves_in_a_thread_of_its_own_and_leaves_the_signals_alone() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.enumerate()
    with Server(Application({})):
        (own,) = set(threading.enumerate()) - set(threads)
        assert own.name == "workpool-http"
        assert own.daemon
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    assert not own.is_alive()


def test_it_changes_no_logger() -> None:
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "workpool")]
    before = [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers]
    with Server(Application({})):
        pass
    assert [(logger.level, list(logger.handlers), logger.propagate) for logger in loggers] == before


def test_a_port_that_is_taken_is_one_sentence(standing: Server) -> None:
    other = Server(Application({}), port=standing.port)
    with pytest.raises(OSError, match=f"cannot serve on 127.0.0.1 port {standing.port}: Address already in use$"):
        other.start()
    other.stop()


@pytest.mark.parametrize(
    ("host", "port"), [("192.0.2.1", 0), ("no.such.host.invalid", 0), ("127.0.0.1", 65536), ("127.0.0.1", -1)]
)
def test_an_address_that_cannot_be_had_is_one_sentence(host: str, port: int) -> None:
    with pytest.raises(OSError, match=f"cannot serve on {host} port {port}: ."):
        Server(Application({}), host, port).start()


def test_it_starts_once_and_stops_as_often_as_it_is_told() -> None:
    server = Server(Application({}))
    server.stop()
    with pytest.raises(RuntimeError, match="only once"):
        server.start()
    server = Server(Application({}))
    server.start()
    with pytest.raises(RuntimeError, match="only once"):
        server.start()
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="only once"):
        server.start()


def test_its_port_is_free_again_and_its_application_can_be_served_again(pool: Pool[int, int]) -> None:
    application = Application({"echo": pool})
    with Server(application) as first:
        port = first.port
    with Server(application, port=port) as second:
        assert ask(second, "GET", "/livez")[0] == 200


def test_it_serves_on_ipv6() -> None:
    try:
        with Server(Application({}), "::1") as server:
            assert server.url == f"http://[::1]:{server.port}"
            assert ask(server, "GET", "/livez")[0] == 200
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")


def test_no_answer_waits_for_the_client_to_confirm_its_beginning(standing: Server) -> None:
    with connect(standing) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(100)
        for connection in list(standing._uvicorn.server_state.connections):
            there = connection.transport.get_extra_info("socket")
            assert there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# -- whatever clients do -------------------------------------------------------------------------------------


def test_items_over_one_connection(server: Server, pool: Pool[int, int]) -> None:
    with closing(HTTPConnection(server.host, server.port, timeout=SOON)) as connection:
        for _ in range(20):
            connection.request("POST", "/api/pools/echo/items", b"1")
            response = connection.getresponse()
            response.read()
            assert response.status in (202, 429)
    pool.join(20)
    stats = pool.stats()
    assert stats.offered == 20
    assert stats.succeeded == stats.submitted


STREAM = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_an_open_stream_ends_with_the_server_and_delays_it_not(server: Server) -> None:
    with connect(server) as one, connect(server) as other:
        for client in (one, other):
            client.sendall(STREAM)
            assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
        ends_early(server)
        for client in (one, other):
            assert read_all(client).endswith(b"\n\n\r\n12\r\nevent: end\ndata:\n\n\r\n0\r\n\r\n")  # in chunks


@pytest.fixture
def wordy(pool: Pool[int, int]) -> Server:
    """Each of its events fills what a connection may hold."""
    return Server(Application({str(number): pool for number in range(200)}, registry=CollectorRegistry(), interval=0.0))


def is_held_up(server: Server) -> bool:
    connections: list[Any] = list(server._uvicorn.server_state.connections)
    return any(each.flow is not None and each.flow.write_paused for each in connections)


def test_a_client_that_reads_nothing_delays_the_end_not(wordy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "LAST_PATIENCE", 0.01)
    with wordy, connect(wordy, receive_buffer=4096) as client:
        client.sendall(STREAM)
        until(lambda: is_held_up(wordy))
        assert ask(wordy, "GET", "/livez")[0] == 200
        ends_early(wordy)


def test_a_client_that_reads_nothing_for_long_is_cut_off(wordy: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE", 0.01)
    with wordy, connect(wordy, receive_buffer=4096) as client:
        client.sendall(STREAM)
        until(lambda: is_held_up(wordy))
        until(lambda: not wordy._uvicorn.server_state.connections)


def test_a_client_that_asks_for_nothing_is_hung_up_on(pool: Pool[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "PATIENCE", 0.01)
    with Server(Application({"echo": pool})) as server:
        assert say(server, b"") == b""
        assert say(server, b"GET /livez HT") == b""
        assert say(server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b'{"status":"alive"}')


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST /api/pools/echo/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1"]
)
def test_a_half_sent_request_is_cut_off_in_time(sent: bytes, server: Server) -> None:
    with connect(server) as client:
        client.sendall(sent)
        until(lambda: bool(server._uvicorn.server_state.connections))
        in_thread(lambda: server.stop(0.01)).result()
        try:
            assert read_all(client) == b""
        except ConnectionResetError:
            pass


def test_many_who_send_half_a_request_hold_up_neither_others_nor_the_end(server: Server) -> None:
    with ExitStack() as connections:
        for _ in range(300):
            connections.enter_context(connect(server)).sendall(b"GET /livez HT")
        until(lambda: len(server._uvicorn.server_state.connections) == 300)
        assert ask(server, "GET", "/livez")[0] == 200
        server.stop(SOON)
    assert not server._thread.is_alive()


@pytest.mark.parametrize(
    "body", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"9" * 5000, b'"\\ud800"']
)
def test_json_that_is_hard_on_whoever_reads_it_is_refused(body: bytes, server: Server) -> None:
    assert ask(server, "POST", "/api/pools/echo/items", body)[0] in {400, 422}
    assert ask(server, "GET", "/livez")[0] == 200


def test_a_body_that_does_not_come_is_waited_for_no_longer(pool: Pool[int, int]) -> None:
    limits = Limits(body_seconds=0.01)
    with Server(Application({"echo": pool}, limits=limits)) as server:
        answer = say(server, b"POST /api/pools/echo/items HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
    assert answer.startswith(b"HTTP/1.1 408 ")


MALFORMED = [
    b"\r\n\r\n\r\nx\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),  # a TLS hello
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: nonsense\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2_000_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 2_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
LENIENT = [  # of uvicorn's two parsers one says no
    b"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: y\r\nConnection: close\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"POST /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n1\r\n",
]


@pytest.mark.parametrize("words", MALFORMED + LENIENT, ids=range(len(MALFORMED + LENIENT)))
def test_what_is_no_request_is_refused_and_does_no_harm(words: bytes, standing: Server) -> None:
    try:
        answer = say(standing, words)
    except (ConnectionResetError, BrokenPipeError):  # it did not read all of it
        answer = b""
    assert answer.startswith(b"HTTP/1.1 4") or answer == b"" or words in LENIENT
    assert ask(standing, "GET", "/livez")[0] == 200


def test_a_body_without_its_length_is_refused(standing: Server) -> None:
    words = b"POST /api/pools/echo/items HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert say(standing, words).startswith(b"HTTP/1.1 411 ")


def test_a_body_that_is_too_large_is_refused_before_it_comes(standing: Server) -> None:
    head = b"POST /api/pools/echo/items HTTP/1.1\r\nHost: localhost\r\n"
    words = head + b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n"
    assert say(standing, words).startswith(b"HTTP/1.1 413 ")
    expecting = words.replace(b"Host: localhost", b"Host: localhost\r\nExpect: 100-continue")
    assert say(standing, expecting).startswith(b"HTTP/1.1 413 ")


def test_several_requests_at_once_over_one_connection_are_answered_in_turn(standing: Server) -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = say(standing, one * 5 + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 5
    assert answer.count(b"HTTP/1.1 404 Not Found") == 1


def test_a_websocket_is_not_to_be_had(standing: Server) -> None:
    words = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with connect(standing) as client:
        client.sendall(words)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")  # it is served as if it had not been asked for


def test_a_failure_of_the_server_is_raised_where_it_is_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(Application({}))

    def unlucky(sockets: object) -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(server._uvicorn, "run", unlucky)
    with pytest.raises(RuntimeError, match="did not start") as raised:
        server.start()
    assert isinstance(raised.value.__cause__, MemoryError)
    assert "none left" in caplog.text
