"""`metrics.serve`: a registry of its own, over HTTP."""

from __future__ import annotations

import socket
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.metrics.scraping import SOON, parse
from workpool import Pool, metrics


def test_a_pool_is_served_until_the_end() -> None:
    registry, port, end = metrics.serve(0)
    url = f"http://127.0.0.1:{port}/metrics"
    try:
        with Pool(str, name="tasks", metrics=registry) as pool:
            pool.call(1).result(SOON)
            assert pool.join(SOON)
            page = urlopen(url, timeout=SOON).read().decode()
            assert 'workpool_processed_total{pool="tasks"} 1.0\n' in page
            negotiated = Request(url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
            page = urlopen(negotiated, timeout=SOON).read().decode()
            assert page.endswith("# EOF\n")
            names = parse(page).families
            assert "workpool_processed" in names
            assert not any(name.startswith("python_") for name in names)  # nothing but pools
    finally:
        end()
    with pytest.raises(URLError):
        urlopen(url, timeout=SOON)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError):
            metrics.serve(taken.getsockname()[1])
