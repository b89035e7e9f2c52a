"""The messages between a worker's process and its parent: a head and a body, over a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["HEAD", "Kind", "Message", "Reader", "parts", "receive", "send"]

HEAD: Final = Struct("<BIQ")


class Kind(IntEnum):
    """What a message says."""

    ITEMS = 1
    """To the child: a batch, pickled as one list."""
    PICKLES = 2
    """To the child: a batch, as a list of items that are pickled each."""
    READY = 3
    """It has set itself up."""
    UNFIT = 4
    """It could not set itself up: why."""
    POST = 5
    """A result or exception, for which the board has no room."""
    END = 6
    """It is through with the batch."""
    LOG = 7
    """A log record."""
    STACK = 8
    """Where it is."""


class Message(NamedTuple):
    kind: int
    number: int
    body: bytearray


def parts(kind: Kind, number: int, *bodies: bytes) -> list[memoryview]:
    """A message, as what is to be sent."""
    head = HEAD.pack(kind, number, sum(map(len, bodies)))
    return [memoryview(part) for part in (head, *bodies) if part]


def send(sock: socket.socket, views: list[memoryview]) -> list[memoryview]:
    """Send what the socket takes, and give what is left: nothing if it blocks until all is sent."""
    while views:
        try:
            sent = sock.sendmsg(views[:64])
        except BlockingIOError:
            return views
        views = _after(views, sent)
    return []


def _after(views: list[memoryview], sent: int) -> list[memoryview]:
    for number, view in enumerate(views):
        if sent < len(view):
            return [view[sent:], *views[number + 1 :]]
        sent -= len(view)
    return []


class Reader:
    """Messages from a socket, as they come in; what has come of one that is not complete is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._head = bytearray(HEAD.size)
        self._body: bytearray | None = None
        self._have = 0
        self.ended = False
        """The other side is gone. What it had sent was read before."""

    def read(self) -> Message | None:
        """The next message; None: it is not complete yet, or never will be."""
        if self._body is None:
            if not self._fill(self._head):
                return None
            self._body = bytearray(HEAD.unpack(self._head)[2])
            self._have = 0
        if not self._fill(self._body):
            return None
        kind, number, _ = HEAD.unpack(self._head)
        body, self._body, self._have = self._body, None, 0
        return Message(kind, number, body)

    def _fill(self, buffer: bytearray) -> bool:
        view = memoryview(buffer)
        while self._have < len(buffer):
            try:
                got = self._sock.recv_into(view[self._have :])
            except BlockingIOError:
                return False
            except OSError:  # reset, by a child that was killed before it had read everything
                got = 0
            if not got:
                self.ended = True
                return False
            self._have += got
        return True


def receive(reader: Reader) -> Iterable[Message]:
    """All that comes, through a socket that blocks, until the other side is gone."""
    while (message := reader.read()) is not None:
        yield message
