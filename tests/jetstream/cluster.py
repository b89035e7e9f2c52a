"""Three servers that are one, on the loopback address."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from tests.jetstream.services import until
from workpool.sources.jetstream import JetStreamQueue, NatsServer
from workpool.sources.jetstream.broker import BrokerError, ask

__all__ = ["Cluster"]


class Cluster:
    def __init__(self, folder: Path, count: int) -> None:
        ports = free_ports(2 * count)
        routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports[count:])
        self._servers: dict[str, NatsServer] = {}
        for number, (port, route) in enumerate(zip(ports[:count], ports[count:], strict=True)):
            name = f"n{number}"
            (folder / name).mkdir(parents=True)
            arguments = ["--name", name, "--cluster_name", "tests", "--cluster", f"nats://127.0.0.1:{route}"]
            self._servers[name] = NatsServer(str(folder / name), port=port, arguments=[*arguments, "--routes", routes])

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self._servers.values())

    def __enter__(self) -> Cluster:
        for server in self._servers.values():
            server.start()
        self._await_a_leader()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.kill()

    def restart(self, name: str) -> None:
        """Kill one, and start it again."""
        self._servers[name].kill()
        self._servers[name].start()

    def leader_of(self, queue: JetStreamQueue[Any]) -> str:
        assert queue._connection is not None
        found: list[str] = []

        def known() -> bool:
            assert queue._connection is not None
            try:
                info = queue._thread.submit(ask(queue._connection, f"STREAM.INFO.{queue.name}")).result(20)
            except (BrokerError, OSError):
                return False
            found[:] = [info["cluster"].get("leader") or ""]
            return bool(found[0])

        until(known)
        return found[0]

    def _await_a_leader(self) -> None:
        """Until then no stream can be made."""

        def works() -> bool:
            try:
                with JetStreamQueue[int](self.url, "probe", replicas=len(self._servers), publish_timeout=1):
                    return True
            except (BrokerError, OSError):
                return False

        until(works)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
