"""The messages between a worker's process and its parent: a head and a body, over a socket."""

from __future__ import annotations

import socket
from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

__all__ = ["WANTED", "Kind", "Message", "Reader", "attempt_in", "note", "parts", "send", "socket_pair"]

HEAD: Final = Struct("<BQIQ")

SMALL: Final = 1 << 14
"""Bytes up to which a message is put together before it is sent: that is less than what several parts cost."""

ROOM: Final = 1 << 16
"""Bytes that are asked for at once: of a small message all, and often of several."""


BUFFER: Final = 1 << 20
"""Bytes that a socket may hold: of twice as many the time for 10 MB is the same."""

WANTED: Final = 1
"""In the note of an item: somebody wants its result."""

MOST_ATTEMPTS: Final = 127
"""A note tells no more of them."""


def note(wanted: bool, attempt: int) -> int:
    """What goes with an item, in one byte."""
    return min(attempt, MOST_ATTEMPTS) << 1 | wanted


def attempt_in(note: int) -> int:
    """Which attempt of its item that is."""
    return note >> 1


class Kind(IntEnum):
    """What a message says."""

    ITEMS = 1
    """To the child: a batch, pickled as one list."""
    PICKLES = 2
    """To the child: a batch, as a list of items that are pickled each."""
    RAW = 3
    """To the child: one item, which is these bytes."""
    READY = 4
    """It has set itself up."""
    UNFIT = 5
    """It could not set itself up: why."""
    POST = 6
    """A result or exception, for which the board has no room."""
    END = 7
    """It is through with all items before that number."""
    LOG = 8
    """A log record."""
    STACK = 9
    """Where it is."""


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """What messages go over. Its buffers, which take memory only while something is in them, are as large as the system
    allows, up to a point: what is large goes through in a few pieces, each of which wakes the other side."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return ends


class Message(NamedTuple):
    kind: int
    number: int
    """Of the item, or the first of several."""
    items: int
    """How many items."""
    body: bytes | bytearray


def parts(kind: Kind, *bodies: bytes, number: int = 0, items: int = 0) -> list[memoryview]:
    """A message, as what is to be sent."""
    length = sum(map(len, bodies))
    head = HEAD.pack(kind, number, items, length)
    if length <= SMALL:
        return [memoryview(b"".join((head, *bodies)))]
    return [memoryview(part) for part in (head, *bodies) if part]


def send(sock: socket.socket, views: list[memoryview]) -> list[memoryview]:
    """Send what the socket takes, and give what is left: nothing if it blocks until all is sent."""
    while views:
        try:
            sent = sock.send(views[0]) if len(views) == 1 else sock.sendmsg(views[:64])
        except BlockingIOError:
            return views
        if len(views) == 1 and sent == len(views[0]):
            return []
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
        self._room = memoryview(bytearray(ROOM))
        self._at: int = 0
        self._end: int = 0
        """Where in there what was not read yet begins, and ends."""
        self._large: bytearray | None = None
        """The body of a message that does not fit in there."""
        self._have: int = 0
        """How much of it has come."""
        self.ended = False
        """The other side is gone. What it had sent was read before."""

    @property
    def has_more(self) -> bool:
        """Something has come that was not read."""
        return self._at < self._end

    @property
    def has_message(self) -> bool:
        """A whole message has come that was not read: nothing that waits for the socket tells of it."""
        left = self._end - self._at - HEAD.size
        if self._large is not None or left < 0:
            return False
        length: int = HEAD.unpack_from(self._room, self._at)[3]
        return length <= left

    def read(self) -> Message | None:
        """The next message; None: it is not complete yet, or never will be."""
        while True:
            left = self._end - self._at
            if left >= HEAD.size:
                head: tuple[int, int, int, int] = HEAD.unpack_from(self._room, self._at)
                kind, number, items, length = head
                body = self._body(length)
                if body is not None:
                    return Message(kind, number, items, body)
            if not self._fill():
                return None

    def _body(self, length: int) -> bytes | bytearray | None:
        """Of the message whose head is the next to be read, if it is complete; then it was read."""
        begin = self._at + HEAD.size
        if HEAD.size + length <= ROOM:
            if begin + length > self._end:
                return None
            self._at = begin + length
            return self._room[begin : self._at].tobytes()
        if self._large is None:
            self._large = bytearray(length)
            self._have = self._end - begin
            self._large[: self._have] = self._room[begin : self._end]
            self._end = begin
        if self._have < length:
            return None
        whole, self._large = self._large, None
        self._at = begin
        return whole

    def _fill(self) -> bool:
        """Take what has come. False: nothing has."""
        if self._large is not None:
            got = self._receive(memoryview(self._large)[self._have :])
            self._have += got
            return got > 0
        if self._at:  # what is left moves to the front
            left = self._end - self._at
            self._room[:left] = self._room[self._at : self._end]
            self._at, self._end = 0, left
        got = self._receive(self._room[self._end :])
        self._end += got
        return got > 0

    def _receive(self, into: memoryview) -> int:
        try:
            got = self._sock.recv_into(into)
        except BlockingIOError:
            return 0
        except OSError:  # reset, by a child that was killed before it had read everything
            got = 0
        if not got:
            self.ended = True
        return got
