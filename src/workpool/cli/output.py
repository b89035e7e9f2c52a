"""The one thread that writes: it decides what became of each line.

Rules: workers post what they have to `Writer.post`, and do nothing else; a result that is posted after
`finish` is never looked at. So each line is claimed in one place, without a lock: it is done once its
bytes are out (or there are none), and then it leaves `in_flight`; whatever is left there at the end is
unprocessed. A slot of the window is given back when its line leaves, so a slow output, or a slow first
line of an ordered one, holds the reader back and memory stays bounded. Every wait can be ended, by `limit`.
"""

from __future__ import annotations

import json
import os
import select
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Final, NamedTuple

from workpool.sources.lines import Line

__all__ = ["Desk", "Done", "Sink", "Tally", "Writer", "failure"]

BATCH: Final = 1000
"""Results that are written together at most, so that the first of them does not wait for long."""

FIRST_ERRORS: Final = 3
"""Failures that the summary shows: enough to see whether they are alike."""


class Done(NamedTuple):
    """What a worker has to say of a line: its result as JSON (None: nothing to write), or why it failed."""

    line: Line
    result: bytes | None
    error: str | None
    cut: bool = False
    """Neither: it was begun, and a stop cancelled it."""
    attempts: int = 1
    """How often it was tried, if it failed."""
    discarded: bool = False
    """Its function says that nothing is to be done about it, and that this is no failure."""
    fatal: bool = False
    """It failed, and its function says that no other line will do."""


class Desk(NamedTuple):
    """Where workers say what became of their lines."""

    post: Callable[[Done], object]
    broken: Callable[[Done], object]
    """For one, besides, that has failed so that no other line will do."""
    tried: set[int]
    """The lines, by `seq`, that were begun and may be tried again, to add to."""

    def post_failure(self, done: Done) -> None:
        """Say that a line has failed for good, or is discarded."""
        self.post(done)
        if done.fatal:
            self.broken(done)


@dataclass(slots=True)
class Tally:
    """What became of the lines. Written by the writer's thread; others may read it at any time."""

    succeeded: int = 0
    failed: int = 0
    discarded: int = 0
    bytes: int = 0
    """How much of the input that was."""
    first_errors: list[Done] = field(default_factory=list[Done])
    unwritten: set[int] = field(default_factory=set[int])
    """The lines, by `seq`, that were run but whose result could not be written: they are still in flight."""
    cut: set[int] = field(default_factory=set[int])
    """The lines, by `seq`, that a stop cancelled while they ran: they are still in flight too."""

    @property
    def done(self) -> int:
        """How many lines are done with."""
        return self.succeeded + self.failed + self.discarded


class Sink:
    """A file descriptor to write lines to, without being held up by whoever reads them for longer than wanted."""

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self.error: OSError | None = None
        """Why nothing can be written any more."""
        self._fd = fd
        self._mode = os.fstat(fd).st_mode
        self._regular = stat.S_ISREG(self._mode)
        # A pipe that polls as writable takes this much without blocking.
        self._piece = CHUNK if self._regular else select.PIPE_BUF
        self._limit: float | None = None
        self._gave_up = False
        self._wake_read, self._wake_write = os.pipe()

    @property
    def lost(self) -> bool:
        """Nothing can be written any more."""
        return self._gave_up or self.error is not None

    def limit(self, until: float) -> None:
        """Wait for a slow reader until this time (of `monotonic`) only. From any thread."""
        self._limit = until
        os.write(self._wake_write, b"!")

    def write(self, lines: Sequence[bytes]) -> int:
        """Write the lines; how many of them are out, whole."""
        if self.lost:
            return 0
        data = memoryview(b"".join(lines))
        sent = 0
        try:
            while sent < len(data) and self._room():
                with suppress(BlockingIOError):  # it is non-blocking for somebody else, who was faster
                    sent += os.write(self._fd, data[sent : sent + self._piece])
        except OSError as error:
            self.error = error
        if sent == len(data):
            return len(lines)
        ends = [0, *accumulate(map(len, lines))]
        whole = sum(end <= sent for end in ends) - 1
        self._take_back(sent - ends[whole])
        return whole

    def close(self) -> None:
        """Give the descriptors back, except standard output."""
        os.close(self._wake_read)
        os.close(self._wake_write)
        if self._fd > 2:
            os.close(self._fd)

    def _room(self) -> bool:
        """Wait until a piece can be written; False (for good) when the time for that is over."""
        if self._regular:
            return True
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(self._wake_read, select.POLLIN)
        while True:
            left = None if self._limit is None else max(0.0, self._limit - monotonic())
            ready = dict(poll.poll(None if left is None else min(left * 1000, LONGEST)))
            if self._fd in ready:
                return True
            if self._wake_read in ready:
                os.read(self._wake_read, 1)
            elif left == 0:
                self._gave_up = True
                return False

    def _take_back(self, part: int) -> None:
        """Rid a file whose disk is full of the part of a line at its end: what is there stays valid."""
        if self._regular and part:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - part)
            except OSError as error:
                self.error = self.error or error


CHUNK: Final = 1 << 24
LONGEST: Final = 1 << 30
"""Milliseconds that `poll` can wait."""


class Writer:
    """Collects what workers post, and writes it: results to `output`, failures to `failed`, if there is one."""

    def __init__(
        self,
        output: Sink,
        failed: Sink | None,
        in_flight: dict[int, Line],
        tried: set[int],
        *,
        ordered: bool,
        settled: Callable[[int], object],
        lost: Callable[[Sink], object],
    ) -> None:
        """`settled(n)`: n lines are done. `lost(sink)`: it takes no more; told once for each."""
        self.tally = Tally()
        self._output = output
        self._failed = failed
        self._in_flight = in_flight
        self._tried = tried
        self._ordered = ordered
        self._settled = settled
        self._lost = lost
        self._inbox: SimpleQueue[Done | None] = SimpleQueue()
        self.post: Callable[[Done | None], None] = self._inbox.put
        self._told: set[Sink] = set()
        # Of an ordered output:
        self._turn = 0
        self._early: dict[int, Done] = {}
        """Done before its turn. No more than the window has slots."""

    def finish(self) -> None:
        """Have `run` return when it has written what was posted before this."""
        self.post(None)

    def limit(self, until: float) -> None:
        """Wait for slow readers until this time (of `monotonic`) only."""
        for sink in self._sinks():
            sink.limit(until)

    def run(self) -> None:
        """The thread."""
        last = False
        while not last:
            batch, last = self._batch()
            if self._ordered:
                batch = self._in_turn(batch, last)
            self.tally.cut.update(done.line.seq for done in batch if done.cut)
            self._write([done for done in batch if done.error is None and not done.cut])
            self._write_failures([done for done in batch if done.error is not None])
            for sink in self._sinks():
                if sink.lost and sink not in self._told:
                    self._told.add(sink)
                    self._lost(sink)

    def close(self) -> None:
        """Give the descriptors back. Only after `run`."""
        for sink in self._sinks():
            sink.close()

    def _sinks(self) -> list[Sink]:
        return [self._output] if self._failed is None else [self._output, self._failed]

    def _batch(self) -> tuple[list[Done], bool]:
        """Wait for something, and take what else is there. True: that was the last."""
        batch: list[Done] = []
        done = self._inbox.get()
        try:
            while done is not None:
                batch.append(done)
                if len(batch) == BATCH:
                    return batch, False
                done = self._inbox.get_nowait()
        except Empty:
            return batch, False
        return batch, True

    def _in_turn(self, batch: list[Done], last: bool) -> list[Done]:
        """Those whose turn it is. At the end all that are left: the lines between them will not come."""
        early = self._early
        early.update((done.line.seq, done) for done in batch)
        ready: list[Done] = []
        while (done := early.pop(self._turn, None)) is not None:
            ready.append(done)
            self._turn += 1
        if last:
            ready += [early[seq] for seq in sorted(early)]
        return ready

    def _write(self, batch: list[Done]) -> None:
        """Results. A line that has none is done, whatever became of the output."""
        results = [done for done in batch if done.result is not None]
        out = self._output.write([done.result or b"" for done in results])
        lost = {done.line.seq for done in results[out:]}
        self.tally.unwritten |= lost
        discarded = sum(done.discarded for done in batch) if len(results) < len(batch) else 0
        self.tally.discarded += discarded
        self.tally.succeeded += len(batch) - len(lost) - discarded
        self._settle([done.line for done in batch if done.line.seq not in lost])

    def _write_failures(self, batch: list[Done]) -> None:
        if not batch:
            return
        tally = self.tally
        out = len(batch)
        if self._failed is not None:
            out = self._failed.write([failure(done) for done in batch])
            tally.unwritten.update(done.line.seq for done in batch[out:])
        tally.failed += out
        tally.first_errors += batch[: min(out, FIRST_ERRORS - len(tally.first_errors))]
        self._settle([done.line for done in batch[:out]])

    def _settle(self, lines: list[Line]) -> None:
        for line in lines:
            del self._in_flight[line.seq]
        if self._tried:
            self._tried.difference_update([line.seq for line in lines])
        self.tally.bytes += sum(len(line.raw) for line in lines)
        if lines:
            self._settled(len(lines))


def failure(done: Done) -> bytes:
    """A line of the file of failures. Bytes that are no UTF-8 become lone surrogates, as in `os.fsdecode`:
    `json.loads(...)["input"].encode(errors="surrogateescape")` is the line again."""
    line = done.line
    record = {
        "file": line.file,
        "line": line.number,
        "input": line.text.decode(errors="surrogateescape"),
        "error": done.error,
        "attempts": done.attempts,
    }
    return json.dumps(record).encode() + b"\n"
