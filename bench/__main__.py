"""`python -m bench [SECTION...]`: the table of the README, beside what each row is to be."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Callable

from bench import cost, http, loops, memory, overload, rules, seats
from bench.rivals import CONTENDERS
from bench.table import Table


def sections() -> dict[str, Callable[[Table], None]]:
    with_metrics = importlib.util.find_spec("prometheus_client") is not None
    names = [name for name in CONTENDERS if name != ("workpool, metrics off" if with_metrics else "workpool")]
    if not with_metrics:
        names = [name for name in names if "prometheus" not in name]
    found: dict[str, Callable[[Table], None]] = {
        "noop": lambda table: cost.nothing_to_do(table, names),
        "compute": lambda table: cost.a_little_to_compute(table, names[0]),
        "wait": lambda table: cost.something_to_wait_for(table, names[0]),
        "pace": cost.at_a_steady_pace,
        "cores": cost.two_cores,
        "workers": memory.idle_workers,
        "queue": memory.a_long_queue,
        "million": memory.a_million_items,
    }
    if with_metrics:
        found["metrics"] = cost.metrics_on_and_off
        found["loop"] = loops.on_a_loop
    found["flood"] = loops.beside_a_flood
    found["many"] = loops.many_that_wait
    found["calls"] = loops.calls
    found["carried"] = loops.carried
    found["executors"] = loops.executors
    found["rules"] = rules.rules_section
    found["overload"] = overload.overload_section
    found["processes"] = seats.processes_section
    if importlib.util.find_spec("uvicorn") is not None:
        found["http"] = http.http_section
    if importlib.util.find_spec("nats") is not None:
        from bench import jetstream

        found["jetstream"] = jetstream.jetstream_section
    return found


def main(wanted: list[str]) -> int:
    all_of_them = sections()
    unknown = [name for name in wanted if name not in all_of_them]
    if unknown:
        print(f"no such section: {unknown[0]}; there are {', '.join(all_of_them)}", file=sys.stderr)
        return 2
    gil = "without a GIL" if cost.FREE_THREADED else "with the GIL"
    print(f"Python {platform.python_version()} {gil}, {os.cpu_count()} cores; medians of {cost.ROUNDS}, interleaved\n")
    table = Table()
    print(table.head(), flush=True)
    for name in wanted or all_of_them:
        all_of_them[name](table)
    print(f"\n{len(table.rows)} rows, {table.missed} not what they are to be")
    return 0


sys.exit(main(sys.argv[1:]))
