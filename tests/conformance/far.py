"""A double of this process that a process function calls from another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

__all__ = ["Far", "FarCall"]

_connections: dict[str, Connection] = {}


class FarCall:
    """The process function: asks the double, and does as that does."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, item: Any) -> Any:
        if self.address not in _connections:
            _connections[self.address] = Client(self.address)
        connection = _connections[self.address]
        connection.send(item)
        succeeded, value = connection.recv()
        if not succeeded:
            raise value
        return value


class Far:
    """Answers such calls, with a thread for each process that calls."""

    def __init__(self, process: Callable[[Any], Any]) -> None:
        self._process = process
        self._listener = Listener(backlog=32)
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        self.call = FarCall(self._listener.address)

    def _accept(self) -> None:
        while True:
            connection = self._listener.accept()
            try:
                first = connection.recv()
            except EOFError:
                continue
            if first is self.__class__:
                return
            thread = threading.Thread(target=self._answer, args=(connection, first), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: Connection, item: Any) -> None:
        try:
            while True:
                try:
                    answer = True, self._process(item)
                except BaseException as error:
                    answer = False, error
                connection.send(answer)
                item = connection.recv()
        except (EOFError, OSError):
            connection.close()

    def close(self) -> None:
        with Client(self._listener.address) as client:
            client.send(self.__class__)
        for thread in self._threads:
            thread.join(20)
        self._listener.close()
