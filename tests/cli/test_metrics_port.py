"""`--metrics-port`: the pool's series over HTTP, while it runs."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

from tests.cli.kit import SECONDS, Child, numbers


def test_the_series_are_served_while_it_runs(folder: Path, functions: str) -> None:
    (folder / "in.txt").write_bytes(numbers(100))
    with Child(folder, f"{functions}:gated", "in.txt", "--workers", 3, "--metrics-port", 0) as child:
        child.await_calls(3)
        said = child.await_said("metrics at")
        url = said.removeprefix("workpool: metrics at ")
        assert url.startswith("http://127.0.0.1:")
        with urlopen(url, timeout=SECONDS) as response:
            series = response.read().decode().splitlines()
        child.open_gate()
        assert child.end().code == 0
    for expected in (
        'workpool_workers{pool="gated"} 3.0',
        'workpool_workers_busy{pool="gated"} 3.0',
        'workpool_queue_capacity{pool="gated"} 1000.0',
        'workpool_ledger_imbalance{pool="gated"} 0.0',
    ):
        assert expected in series
