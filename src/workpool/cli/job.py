"""One run: a reader, a pool and a writer, and the main thread, which waits for what they say.

Rules: the main thread does nothing but take events off one queue; signal handlers do nothing but put one
there. Nothing that may block runs in the main thread before everything else has ended: a stop waits in a
thread of its own (two at once are fine for a pool: the later one can only hurry it). The end is always the
same three steps: the reader has ended and the pool has stopped; then the writer is told that nothing comes
any more; then what is still in flight is what was not done.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Final, TypeAlias

from workpool._core.ledger import PoolStats
from workpool._core.report import DrainReport
from workpool.cli.output import Desk, Done, Sink, Writer
from workpool.errors import StopTimeout
from workpool.pool import Pool
from workpool.sources.lines import Line, LineReader, Window

__all__ = ["Job", "Signalled", "signals"]

GRACE: Final = 0.5
"""Seconds that a slow output has after the deadline, for what was finished shortly before it."""

LOOK: Final = 0.2
"""Seconds after which a signal is noticed at the latest, and that the pool has ended by itself."""


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody wants the run to end."""


@dataclass(frozen=True, slots=True)
class ReaderEnded:
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class PoolStopped:
    report: DrainReport[Line]


@dataclass(frozen=True, slots=True)
class SinkLost:
    sink: Sink


@dataclass(frozen=True, slots=True)
class Broken:
    """A line has failed so that no other will do."""

    done: Done


@dataclass(frozen=True, slots=True)
class WriterEnded:
    error: BaseException | None


Event: TypeAlias = Signalled | ReaderEnded | PoolStopped | SinkLost | Broken | WriterEnded

MakePool: TypeAlias = Callable[[Desk], tuple[Pool[Line, Any], Callable[[Line], object]]]
"""Gives the pool, and how to hand it a line."""


class Job:
    """Runs `pool` over the lines of `files`: `start`, `run`, then look at what became of them."""

    def __init__(
        self,
        files: tuple[str, ...],
        make_pool: MakePool,
        output: Sink,
        failed: Sink | None,
        *,
        window: Window,
        ordered: bool,
        timeout: float,
        note: Callable[[str], object],
    ) -> None:
        self.events: SimpleQueue[Event] = SimpleQueue()
        self.in_flight: dict[int, Line] = {}
        """Handed over and not done, in input order. The reader adds, the writer takes out."""
        self.tried: set[int] = set()
        """Of these, by `seq`, at least those that were tried and are to be tried again. Workers add, the writer takes
        out."""
        self.writer = Writer(
            output,
            failed,
            self.in_flight,
            self.tried,
            ordered=ordered,
            settled=window.give,
            lost=lambda sink: self.events.put(SinkLost(sink)),
        )
        self.pool, self._submit = make_pool(Desk(self.writer.post, self._tell_broken, self.tried))
        self.reader = LineReader(files, window, self._hand_over)
        self.trouble: list[str] = []
        """Sentences about what went wrong outside of the lines."""
        self.quiet = False
        """Whoever read the output has gone, and wants to hear no more."""
        self._timeout = timeout
        self._note = note
        self._signals = 0
        self._deadline = inf
        self._reading = self._writing = True
        self._finishing = self._broken = False
        self._report: DrainReport[Line] | None = None

    def start(self) -> None:
        """Raises RuntimeError if there are not threads enough; then nothing has been read."""
        self.pool.start()
        _thread("writer", self.writer.run, lambda error: self.events.put(WriterEnded(error)))
        _thread("reader", self.reader.run, lambda error: self.events.put(ReaderEnded(error)))

    def run(self) -> None:
        """Until everything is done, or a stop has given up on the rest."""
        while self._reading or self._report is None or self._writing:
            self._on(self._next())
            if not (self._reading or self._report is None or self._finishing):
                self._finishing = True
                self.writer.finish()
                self._hurry_writer()
        if self.in_flight and self._deadline == inf:  # nobody wanted a stop
            self.trouble.append(_ENDED)

    @property
    def maybe_run(self) -> set[int]:
        """Of those in flight, which were begun: given up or cancelled while they ran, not to be written, or to be tried
        again."""
        return (self._ended_otherwise | self.tried) & self.in_flight.keys()

    @property
    def waited(self) -> int:
        """How many of those waited to be tried again."""
        return len((self.tried - self._ended_otherwise) & self.in_flight.keys())

    @property
    def _ended_otherwise(self) -> set[int]:
        given_up = {item.item.seq for item in self._report.abandoned} if self._report else set[int]()
        return given_up | self.writer.tally.cut | self.writer.tally.unwritten

    @property
    def given_up(self) -> bool:
        """A process function still runs, or did when the pool stopped; or was cancelled while a thread ran for it, as
        that of `asyncio.to_thread` does, which goes on, and for which an orderly exit would wait."""
        return bool(self._report and self._report.abandoned) or bool(self.writer.tally.cut)

    @property
    def stats(self) -> PoolStats:
        return self.pool.stats()

    def close(self) -> None:
        """Give the descriptors back."""
        self.reader.close()
        self.writer.close()

    def _hand_over(self, line: Line) -> None:
        self.in_flight[line.seq] = line  # before it can run: the writer takes it out
        self._submit(line)  # PoolStopped: it stays there, as one that did not run

    def _tell_broken(self, done: Done) -> None:
        self.events.put(Broken(done))

    # -- the main thread's side ----------------------------------------------------------------

    def _next(self) -> Event:
        """In short waits: a signal that comes just before a wait begins does not end that, and no handler runs."""
        while True:
            try:
                return self.events.get(timeout=LOOK)
            except Empty:
                self._notice_the_end()

    def _notice_the_end(self) -> None:
        """An async function may have ended its own pool: nobody gives the reader the room that it may wait for."""
        if self._reading and self.pool.stats().state != "running":
            self.reader.stop()

    def _on(self, event: Event) -> None:
        match event:
            case Signalled():
                self._signals += 1
                self._halt(drain=self._signals == 1)
            case ReaderEnded(error):
                self._reading = False
                if error is not None:
                    self.trouble.append(_reading_failed(error))
                self._stop(None, drain=True)
            case PoolStopped(report):
                self._report = report
            case SinkLost(sink):
                self._lose(sink)
                self._halt(drain=False)
            case Broken(done):
                self._break_off(done)
            case WriterEnded(error):
                self._writing = False
                if error is not None:
                    self.trouble.append(f"writing broke off: {error!r}")
                    self._halt(drain=False)

    def _halt(self, drain: bool) -> None:
        """Read no more, and end within the timeout; without `drain` at once."""
        timeout = self._timeout if drain else 0.0
        self._end_within(timeout, drain)
        if self._signals and not self.quiet:
            self._note(_STOPPING.format(timeout) if drain else "aborting")

    def _break_off(self, done: Done) -> None:
        """The pool has stopped by itself: what runs may end within the timeout, nothing else is begun."""
        if not self._broken:
            self._broken = True
            self.trouble.append(_BROKEN.format(done.line.file, done.line.number, done.error))
            self._end_within(self._timeout, drain=False)

    def _end_within(self, timeout: float, drain: bool) -> None:
        self._deadline = min(self._deadline, monotonic() + timeout)
        self.reader.stop()
        self._stop(timeout, drain)
        self._hurry_writer()

    def _stop(self, timeout: float | None, drain: bool) -> None:
        _thread("stop", partial(self._wait_for_pool, timeout, drain), lambda _: None)

    def _wait_for_pool(self, timeout: float | None, drain: bool) -> None:
        try:
            report = self.pool.stop(timeout, drain)
        except StopTimeout as cut:
            report = cut.report
        self.events.put(PoolStopped(report))

    def _hurry_writer(self) -> None:
        """Only now, when nothing can come that would be worth waiting for longer."""
        if self._finishing and self._deadline < inf:
            self.writer.limit(max(self._deadline, monotonic()) + GRACE)

    def _lose(self, sink: Sink) -> None:
        if isinstance(sink.error, BrokenPipeError):
            self.quiet = True
        elif sink.error is not None:
            self.trouble.append(f"cannot write to {sink.name}: {sink.error.strerror}")
        else:
            self.trouble.append(f"gave up writing to {sink.name}: whoever reads it did not, in time")


_STOPPING: Final = "stopping: what was accepted is finished, for at most {:g} s; once more to abort"

_BROKEN: Final = "{}:{} says that no line will do, and ended the run: {}"

_ENDED: Final = (
    "the workers ended: the function ended its event loop, or the task that called it, or no process could be started; "
    "the lines after that are left"
)


def _reading_failed(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"cannot read {error.filename}: {error.strerror}"
    return f"reading broke off: {error!r}"


def _thread(name: str, run: Callable[[], object], ended: Callable[[BaseException | None], Any]) -> None:
    """Run it, and say how it ended, so that nobody waits for it in vain. Daemons: nothing can hold up an exit."""

    def whole() -> None:
        try:
            run()
        except BaseException as error:
            ended(error)
        else:
            ended(None)

    Thread(target=whole, name=f"workpool-{name}", daemon=True).start()


@contextmanager
def signals(events: SimpleQueue[Event]) -> Generator[None, None, None]:
    """SIGINT, SIGTERM and SIGHUP become events. One that was ignored (nohup, `&` in a script) stays so."""

    def post(_number: int, _frame: object) -> None:
        events.put(Signalled())

    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in wanted if signal.getsignal(number) != signal.SIG_IGN}
    try:
        for number in before:
            signal.signal(number, post)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
