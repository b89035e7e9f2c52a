"""A gRPC server whose calls run on a `PoolExecutor`: labels for a printer that is slower than they come.

    python -m examples.rpc

It shows the executor in the place of a `ThreadPoolExecutor`, a server that refuses what it has no room for, and a
SIGTERM after which every call that was accepted is still answered. Requests and replies are JSON, so that there is
nothing to compile.

PRINTER=HOST:PORT names a printer, which takes a label as one line and answers with one; without it, a printer is
pretended.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, cast

import grpc

from workpool import PoolExecutor, StopTimeout, current

SERVICE = "workpool.examples.Labels"
WORKERS = 2
ROOM = 6
"""Calls that are running or queued."""
GRACE = 20.0
"""Seconds from SIGTERM until calls are cut off."""

Message = dict[str, Any]


def encode(message: Message) -> bytes:
    return json.dumps(message).encode()


def decode(data: bytes) -> Message:
    """Raises ValueError or TypeError for what is no object; its sender is then told INTERNAL."""
    return dict(json.loads(data))


# -- the work, in the threads of the executor ----------------------------------------------------------------


def send(label: str) -> str:
    """What the printer answers. Raises OSError if it does not."""
    printer = os.environ.get("PRINTER")
    if printer is None:
        current().sleep(0.5)  # ends early if the executor has to stop
        return f"pretended {label}"
    host, _, port = printer.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=GRACE) as connection, connection.makefile("rw") as lines:
        lines.write(f"{label}\n")
        lines.flush()
        answer = lines.readline()
    if not answer:
        raise ConnectionError(f"printer {printer} hung up")
    return answer.strip()


def print_label(request: Message, context: grpc.ServicerContext) -> Message:
    label = request.get("text")
    if not isinstance(label, str) or len(label.splitlines()) != 1:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "text must be one line")
    try:
        return {"answer": send(label)}
    except OSError as error:
        context.abort(grpc.StatusCode.UNAVAILABLE, f"no answer from the printer: {error}")


# -- the server ----------------------------------------------------------------------------------------------


def make_server(executor: PoolExecutor) -> grpc.Server:
    def stats(_: Message, __: grpc.ServicerContext) -> Message:
        return executor.stats().as_dict()

    methods = {"Print": print_label, "Stats": stats}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method, request_deserializer=decode, response_serializer=encode)
        for name, method in methods.items()
    }
    # The server has to refuse before the executor does: an executor that raises ends the thread that serves, for good.
    # And it is typed for the standard executor only, of which it wants no more than `submit`.
    server = grpc.server(cast(ThreadPoolExecutor, executor), maximum_concurrent_rpcs=ROOM)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return server


def method(channel: grpc.Channel, name: str) -> grpc.UnaryUnaryMultiCallable[Message, Message]:
    """For clients: what calls `Print` or `Stats` through a channel."""
    return channel.unary_unary(f"/{SERVICE}/{name}", request_serializer=encode, response_deserializer=decode)


def main() -> int:
    parser = argparse.ArgumentParser(description="A gRPC server on a worker pool.")
    parser.add_argument("--port", type=int, default=50051, help="0 takes any that is free (default 50051)")
    port: int = parser.parse_args().port

    told = Event()

    def tell(*_: object) -> None:
        told.set()

    signal.signal(signal.SIGTERM, tell)
    signal.signal(signal.SIGINT, tell)

    # The queue has room for all calls that the server lets in: they may come faster than idle workers take them.
    executor = PoolExecutor(WORKERS, queue_size=ROOM, name="labels")
    server = make_server(executor)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)

    told.wait()
    stopped = server.stop(GRACE)  # no new calls from here on
    print("stopping: no new calls", flush=True)
    stopped.wait()
    try:
        report = executor.stop(timeout=5.0)
    except StopTimeout as late:
        report = late.report
    print(f"{report}\n{report.stats.submitted} accepted, {report.stats.succeeded} done", flush=True)
    return 0 if report.clean else 1


if __name__ == "__main__":
    raise SystemExit(main())
