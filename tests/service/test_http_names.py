"""By which names a server may be asked for: a page of another site cannot have the browser take that site for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.service.asking import SOON
from workpool import Pool
from workpool.service.application import Application
from workpool.service.server import Server


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    pool: Pool[int, int] = Pool(abs, name="magnitudes")
    with pool:
        yield Application({"magnitudes": pool})


@pytest.fixture(scope="module")
def server(application: Application) -> Iterator[Server]:
    with Server(application, names=["pools.example.org"]) as server:
        yield server


def status(server: Server, host: str, method: str = "GET") -> int:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=SOON)) as connection:
        connection.putrequest(method, "/api/pools", skip_host=True)
        if host:
            connection.putheader("Host", host)
        connection.endheaders()
        response = connection.getresponse()
        response.read()
        return response.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:9090",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]:9090",
        "192.0.2.7",
        "pools.example.org",
        "Pools.Example.org:443",
    ],
)
def test_its_names_and_all_addresses_are_answered(host: str, server: Server) -> None:
    assert status(server, host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "pools.example.org.evil.example", "localhost.evil.example:9090", "127.0.0.1.evil.example"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_any_other_name_is_not(host: str, method: str, server: Server) -> None:
    assert status(server, host, method) == 421


def test_what_is_no_name_is_not_answered_and_does_no_harm(server: Server) -> None:
    for host in ("[::1", "[", "@", "a b", "\xe9"):
        assert status(server, host) in (400, 421)
    assert status(server, "localhost") == 200


def test_on_another_address_all_names_are_answered(application: Application) -> None:
    with Server(application, host="0.0.0.0") as server:
        assert status(server, "pod-7.pools.svc") == 200
