"""The lines of files and pipes, read by a thread that a stop can always end, and the rest of them kept.

Rules: a line is handed over with the bytes it came with, its ending included; only `\\n` ends one. What
was read and not handed over is never lost: `rest` gives it back, followed by what was not read, so that
lines handed over and rest together are the input, byte for byte. The thread waits in three places, and
each can be ended from outside: for bytes (the wake pipe), for room in the window (`Window.close`), and in
`hand_over` (which raises `PoolStopped`). No descriptor that others share is made non-blocking.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from threading import Condition
from time import monotonic
from typing import Final, NamedTuple

from workpool.errors import PoolStopped

__all__ = ["STDIN", "Line", "LineReader", "Window", "joined", "total_bytes"]

STDIN: Final = "-"
"""The name of standard input among files."""

CHUNK: Final = 256 * 1024
"""Bytes read at once: some thousand lines, so that a read costs nothing for each, and no memory to speak of."""

PAUSE: Final = 0.25
"""Seconds without a byte after which whoever writes to a pipe is taken to pause: an idle input holds up no end."""

ENOUGH: Final = 5.0
"""Seconds for which `rest` follows a pipe at most: whoever writes to it may never end."""


class Line(NamedTuple):
    """One line of the input."""

    seq: int
    """Its place in the whole input, from 0."""
    file: str
    number: int
    """Its place in `file`, from 1."""
    raw: bytes

    @property
    def text(self) -> bytes:
        """Without its ending, which is `\\n` or `\\r\\n`."""
        raw = self.raw
        if raw.endswith(b"\n"):
            return raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
        return raw


class Window:
    """How many lines may be in flight: handed over, and not yet done with."""

    def __init__(self, size: int, low: int) -> None:
        """Whoever found it empty is woken when `low` slots are free again: a wake for each costs more than a line."""
        self._free = size
        self._low = low
        self._closed = False
        self._changed = Condition()

    def take(self, most: int) -> int:
        """Wait for a slot, and take up to `most`. 0: closed."""
        with self._changed:
            if not self._free:
                self._changed.wait_for(lambda: self._closed or self._free >= self._low)
            if self._closed:
                return 0
            taken = min(most, self._free)
            self._free -= taken
            return taken

    def give(self, slots: int) -> None:
        """Put slots back."""
        with self._changed:
            self._free += slots
            if self._free >= self._low:
                self._changed.notify()

    def close(self) -> None:
        """Give no more slots, and wake whoever waits for one."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class LineReader:
    """Reads `files` one after the other and hands their lines over. `run` belongs to a thread of its own."""

    def __init__(self, files: Sequence[str], window: Window, hand_over: Callable[[Line], object]) -> None:
        self._files = files
        self._window = window
        self._hand_over = hand_over
        self._wake_read, self._wake_write = os.pipe()
        self._stopped = False
        """Written by whoever stops, read by the thread."""
        # What follows belongs to the thread until `run` has returned, and to `rest` after it.
        self._seq = 0
        self._number = 0
        self._next = 0
        """The file that is opened next."""
        self._fd: int | None = None
        """The file that is being read."""
        self._lines: list[bytes] = []
        """Whole lines that were read and not handed over."""
        self._pieces: list[bytes] = []
        """What was read of a line whose end was not."""
        self.cut_off: bytes | None = None
        """Of a pipe that was still open when `rest` left it, the beginning of a line; it is in no group, because
        nobody must take it for a line."""

    def run(self) -> None:
        """Hand over every line of every file; return at the end of the last, or when stopped.

        Raises OSError, with the file's name, for one that cannot be read.
        """
        while self._next < len(self._files) and not self._stopped:
            name = self._files[self._next]
            self._next += 1
            try:
                self._fd = _open(name)
                if not self._read(name, self._fd):
                    return
            except OSError as error:
                error.filename = error.filename or name
                raise
            self._close()

    def stop(self) -> None:
        """Have `run` return soon, whatever it waits for. From any thread, and more than once."""
        self._stopped = True
        self._window.close()
        os.write(self._wake_write, b"!")

    def rest(self, complain: Callable[[OSError], object], enough: float = ENOUGH) -> Iterator[Iterable[bytes]]:
        """What was not handed over, one group of chunks for each file. Only after `run`.

        Of a pipe, what arrives until it ends or pauses, for `enough` seconds at most, in whole lines; see `cut_off`. A
        file that cannot be read is complained of and left out.
        """
        yield self._rest_of_current(complain, enough)
        for name in self._files[self._next :]:
            try:
                self._fd = _open(name)
            except OSError as error:
                complain(error)
                continue
            yield self._rest_of_current(complain, enough)

    def close(self) -> None:
        """Give the descriptors back. Only after `run` and `rest`, and when nobody calls `stop` any more."""
        self._close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- the thread's side ---------------------------------------------------------------------

    def _read(self, name: str, fd: int) -> bool:
        """Hand over the lines of one file; False when stopped before its end."""
        self._number = 0
        waits = not _is_regular(fd)
        while self._ready(fd) if waits else not self._stopped:
            try:
                chunk = os.read(fd, CHUNK)
            except BlockingIOError:
                continue
            if chunk:
                self._split(chunk)
            else:
                self._lines = [b"".join(self._pieces)] if self._pieces else []
                self._pieces = []
            if not self._hand_over_lines(name):
                return False
            if not chunk:
                return True
        return False

    def _ready(self, fd: int) -> bool:
        """Wait until there is something to read; False when stopped."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        ready = poll.poll()
        return not any(at == self._wake_read for at, _ in ready)

    def _split(self, chunk: bytes) -> None:
        """Cut into lines; the last one waits for its end, in pieces: joining it again and again is quadratic."""
        if b"\n" not in chunk:
            self._pieces.append(chunk)
            return
        if self._pieces:
            chunk = b"".join((*self._pieces, chunk))
        lines = BytesIO(chunk).readlines()  # unlike bytes.splitlines, this leaves a lone \r alone
        self._pieces = [] if lines[-1].endswith(b"\n") else [lines.pop()]
        self._lines = lines

    def _hand_over_lines(self, name: str) -> bool:
        """Hand over what `_split` found; False when stopped, with `_lines` those that were not handed over."""
        lines, self._lines = self._lines, []
        at = 0
        while at < len(lines):
            slots = self._window.take(len(lines) - at)
            if not slots:
                self._lines = lines[at:]
                return False
            for raw in lines[at : at + slots]:
                at += 1
                self._number += 1
                line = Line(self._seq, name, self._number, raw)
                self._seq += 1
                try:
                    self._hand_over(line)
                except PoolStopped:
                    self._lines = lines[at:]  # without this one: it is whose `hand_over` it is
                    return False
        return True

    # -- what is left --------------------------------------------------------------------------

    def _rest_of_current(self, complain: Callable[[OSError], object], enough: float) -> Iterator[bytes]:
        pieces, lines = self._pieces, self._lines
        self._lines, self._pieces = [], []
        yield from lines
        try:
            if self._fd is None or _is_regular(self._fd):
                yield from pieces
                yield from () if self._fd is None else _until_end(self._fd)
            else:
                yield from self._arriving(self._fd, b"".join(pieces), enough)
        except OSError as error:
            complain(error)
        self._close()

    def _arriving(self, fd: int, held: bytes, enough: float) -> Iterator[bytes]:
        """Whole lines, until whoever writes has closed the pipe, or pauses, or goes on for too long."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        until = monotonic() + enough
        is_over = False
        while not is_over:
            is_over = monotonic() >= until  # what is there by then is taken all the same
            if not poll.poll(0 if is_over else PAUSE * 1000):
                break
            try:
                chunk = os.read(fd, CHUNK)
            except BlockingIOError:
                continue
            if not chunk:
                if held:
                    yield held
                return
            whole, newline, held = (held + chunk).rpartition(b"\n")
            if newline:
                yield whole + newline
        self.cut_off = held

    def _close(self) -> None:
        if self._fd:  # 0 is standard input, which is not ours to close
            os.close(self._fd)
        self._fd = None


def joined(groups: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """The groups one after the other. A last line without an ending gets one, if another group follows it."""
    ended = True
    for group in groups:
        first = True
        for chunk in group:
            if first and not ended:
                yield b"\n"
            first = False
            ended = chunk.endswith(b"\n")
            yield chunk


def total_bytes(files: Iterable[str]) -> int | None:
    """How much there is to read; None if one of the files does not say."""
    total = 0
    for name in files:
        status = os.fstat(0) if name == STDIN else Path(name).stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size - (os.lseek(0, 0, os.SEEK_CUR) if name == STDIN else 0)
    return total


def _open(name: str) -> int:
    """Non-blocking, so that a FIFO to which nobody writes yet is opened at once; for ours alone, not for stdin."""
    return 0 if name == STDIN else os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def _is_regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)


def _until_end(fd: int) -> Iterator[bytes]:
    while chunk := os.read(fd, CHUNK):
        yield chunk
