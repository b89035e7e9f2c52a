"""`LineSource`: the lines of a file or a pipe, as the items of a pool that is not theirs alone.

Rules: a line is in flight from before it is handed over until its item has met its fate; what then still is, and what
was not read, is what is left. It never takes more than the pool's queue has slots, and waits for room: others submit
to the same pool.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from functools import partial
from itertools import chain
from time import monotonic
from typing import Any, Final

from workpool._future import ItemFuture
from workpool.errors import ItemAbandoned, PoolStopped, QueueFull, Shed
from workpool.pool import Pool
from workpool.sources.decoding import Decode, Undecodable
from workpool.sources.lines import STDIN, Line, LineReader, Window, joined

__all__ = ["LineSource"]

LOOK: Final = 0.1
"""Seconds after which a full queue is asked again at the latest, whatever it says of when there will be room."""

SOON: Final = 0.5
"""Seconds that the thread always has to end: it is woken, and takes no longer unless it is stuck in reading an item."""

Failed = Callable[[Any, BaseException], object]


class LineSource:
    """Reads `path` in a thread of its own, and submits each line, as `decode` reads it, to `pool`.

    Args:
        unprocessed: the file to which what is left is added.
        failed: called with an item that has failed and its exception, as the pool's `hooks.error`, which is not: the
            items have futures.
    """

    def __init__(
        self, pool: Pool[Any, Any], path: str, decode: Decode, *, unprocessed: str, failed: Failed | None = None
    ) -> None:
        self.unprocessed = os.path.abspath(unprocessed)  # noqa: PTH100 - keeps links; a function may change the folder
        self.unreadable = 0
        """Lines that were not what the function takes; they are done with."""
        self._pool = pool
        self._path = path
        self._decode = decode
        self._failed = failed
        self._in_flight: dict[int, Line] = {}
        """By `seq`, in the order of the input. The thread adds, whoever settles an item takes out."""
        self._stopping = threading.Event()
        size = pool.stats().queue_size
        self._window = Window(size, max(1, size // 2))
        self._log = logging.LoggerAdapter(logging.getLogger("workpool"), {"pool": pool.name})
        self._lock = threading.Lock()
        """Held while it is started: whoever stops it then finds all of it there, or nothing."""
        self._begun = False
        self._reader: LineReader | None = None
        self._thread = threading.Thread(target=self._read, name=f"workpool-source-{pool.name}", daemon=True)

    def start(self) -> None:
        """Start to read. Raises OSError for a file that is not there, RuntimeError if there are no more threads, or if
        it was started or stopped before."""
        if self._path != STDIN:
            os.stat(self._path)  # noqa: PTH116 - its error names the path
        with self._lock:
            if self._begun or self._stopping.is_set():
                raise RuntimeError("the source was started or stopped before, and starts only once")
            self._begun = True
            self._reader = LineReader((self._path,), self._window, self._hand_over)
            try:
                self._thread.start()
            except BaseException:
                self._reader.close()
                self._reader = None
                raise

    def stop(self, timeout: float) -> None:
        """Read no more. Harmless before the start, and twice."""
        with self._lock:
            self._stopping.set()
            reader = self._reader
        if reader is not None:
            reader.stop()
            self._thread.join(max(timeout, SOON))

    def keep(self, until: float) -> int:
        """Add what is left to the file; how many lines that were. Only after `stop`, and when the pool has stopped.

        Of a pipe to which somebody still writes, it takes what comes until that time at most.
        """
        reader, self._reader = self._reader, None
        if reader is None:
            return 0
        if self._thread.is_alive():
            self._log.error(
                "pool %r: the thread that reads %s did not end; what it has is lost", self._pool.name, self._path
            )
            return _add(self.unprocessed, joined([self._raw()]))
        try:
            return _add(self.unprocessed, self._left(reader, until))
        finally:
            reader.close()

    def state(self) -> dict[str, Any]:
        """What it does, as plain values."""
        reads = self._thread.is_alive() and not self._stopping.is_set()
        return {
            "kind": "lines",
            "path": self._path,
            "state": "reading" if reads else "ended" if self._begun else "new",
            "in_flight": len(self._in_flight),
            "unreadable": self.unreadable,
        }

    def _left(self, reader: LineReader, until: float) -> Iterator[bytes]:
        def groups() -> Iterator[Iterable[bytes]]:
            yield self._raw()
            yield from reader.rest(self._complain, max(0.0, until - monotonic()))

        yield from joined(groups())
        if reader.cut_off:
            self._log.error(
                "pool %r: %s was cut off in the middle of a line: %.200r", self._pool.name, self._path, reader.cut_off
            )

    def _raw(self) -> list[bytes]:
        """What is in flight, in its order."""
        return [line.raw for _, line in sorted(self._in_flight.items())]

    def _complain(self, error: OSError) -> None:
        self._log.error("pool %r: cannot read %s: %s", self._pool.name, self._path, error.strerror)

    # -- the thread's side ---------------------------------------------------------------------

    def _read(self) -> None:
        assert self._reader is not None
        try:
            self._reader.run()
        except OSError as error:
            self._log.error("pool %r: cannot read %s: %s", self._pool.name, error.filename, error.strerror)
        except BaseException:
            self._log.exception("pool %r: reading %s broke off", self._pool.name, self._path)

    def _hand_over(self, line: Line) -> None:
        """Raises `PoolStopped`: the line stays in flight, as one that did not run."""
        try:
            item = self._decode(line.text)
        except Undecodable as error:
            self.unreadable += 1
            self._window.give(1)
            self._log.error("pool %r: %s:%d: %s", self._pool.name, line.file, line.number, error)
            return
        self._in_flight[line.seq] = line
        self._call(item).add_done_callback(partial(self._settled, line.seq, item))

    def _call(self, item: object) -> Future[Any]:
        """Wait for room, unless it is to stop."""
        while True:
            try:
                return self._pool.call(item)
            except QueueFull as full:
                if self._stopping.wait(min(full.retry_after, LOOK)):
                    raise PoolStopped(f"the source of pool {self._pool.name!r} was stopped") from None

    def _settled(self, seq: int, item: object, future: Future[Any]) -> None:
        """An item has met its fate, or was handed back."""
        error = None if future.cancelled() else future.exception()
        if not (future.cancelled() or isinstance(error, ItemAbandoned)):
            line = self._in_flight.pop(seq)
            if error is not None and not (isinstance(error, Shed) or _is_discarded(future)):  # which need no word
                self._tell(line, item, error)
        self._window.give(1)

    def _tell(self, line: Line, item: object, error: BaseException) -> None:
        self._log.error("pool %r: %s:%d failed", self._pool.name, line.file, line.number, exc_info=error)
        if self._failed is not None:
            try:
                self._failed(item, error)
            except Exception:
                self._log.exception("pool %r: hooks.error failed", self._pool.name)


def _is_discarded(future: Future[Any]) -> bool:
    """Also where `classify` takes the error for a `Discard`."""
    return isinstance(future, ItemFuture) and future.is_discarded


def _add(path: str, chunks: Iterable[bytes]) -> int:
    """Add lines to a file, which is not made for none; how many. What was left there before is not written over."""
    lines, last = 0, b"\n"
    chunks = filter(None, chunks)
    first = next(chunks, None)
    if first is None:
        return 0
    with open(path, "ab") as file:  # noqa: PTH123 - as it was named
        for chunk in chain((first,), chunks):
            file.write(chunk)
            lines += chunk.count(b"\n")
            last = chunk[-1:]
        if last != b"\n":
            file.write(b"\n")
            lines += 1
        file.flush()
        os.fsync(file.fileno())
    return lines
