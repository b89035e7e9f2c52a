"""The parts by themselves, where a process would be too slow or too kind: reading, claiming, keeping."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workpool.cli import leftover
from workpool.cli.job import Event, Signalled, signals
from workpool.cli.output import Done, Sink, Writer
from workpool.errors import PoolStopped
from workpool.sources import lines
from workpool.sources.lines import Line, LineReader, Window, joined

CONTENTS = st.lists(st.binary(max_size=30) | st.text("ab\r\n", max_size=30).map(str.encode), min_size=1, max_size=4)


def as_one(contents: list[bytes]) -> bytes:
    """What several files are as one: a missing last line ending is put in, where something follows."""
    whole = b""
    for content in contents:
        whole += b"\n" * bool(content and whole and not whole.endswith(b"\n")) + content
    return whole


def read(names: list[str], hand_over: Callable[[LineReader, Line], None]) -> tuple[list[Line], bytes]:
    """The lines that were handed over, and the rest."""
    came: list[Line] = []

    def collect(line: Line) -> None:
        came.append(line)
        hand_over(reader, line)

    reader = LineReader(names, Window(10_000, 1), collect)
    reader.run()
    troubles: list[OSError] = []
    rest = list(joined([*([line.raw] for line in came), *map(list, reader.rest(troubles.append))]))
    assert not troubles
    reader.close()
    return came, b"".join(rest)


@settings(deadline=None)  # files on a busy machine
@given(
    contents=CONTENTS, stop_at=st.integers(0, 12), refuse=st.booleans(), pipe=st.booleans(), chunk=st.integers(1, 40)
)
def test_lines_handed_over_and_rest_are_the_input(
    contents: list[bytes], stop_at: int, refuse: bool, pipe: bool, chunk: int
) -> None:
    def hand_over(reader: LineReader, line: Line) -> None:
        if line.seq == stop_at:
            if refuse:
                raise PoolStopped
            reader.stop()

    with TemporaryDirectory() as folder, patch.object(lines, "CHUNK", chunk):
        names = [f"{folder}/{number}" for number in range(len(contents))]
        for name, content in zip(names, contents, strict=True):
            Path(name).write_bytes(content)
        ours, theirs = os.pipe()
        if pipe:
            os.write(theirs, contents[-1])
            names[-1] = f"/dev/fd/{ours}"
        os.close(theirs)
        came, whole = read(names, hand_over)
        os.close(ours)
    assert whole == as_one(contents)
    assert [line.seq for line in came] == list(range(len(came)))
    expected = [
        (name, number, raw)
        for name, content in zip(names, contents, strict=True)
        for number, raw in enumerate(content.split(b"\n"), 1)
        if raw or number <= content.count(b"\n")
    ]
    for line, (name, number, raw) in zip(came, expected, strict=False):
        assert (line.file, line.number) == (name, number)
        assert line.text == (raw.removesuffix(b"\r") if line.raw.endswith(b"\n") else raw)
    if len(expected) <= stop_at:
        assert len(came) == len(expected)


def test_a_window_gives_no_more_than_it_has_and_ends_the_wait_for_it() -> None:
    window = Window(5, 2)
    assert [window.take(3), window.take(3)] == [3, 2]
    window.give(2)
    assert window.take(9) == 2
    taken: SimpleQueue[int] = SimpleQueue()
    thread = threading.Thread(target=lambda: taken.put(window.take(1)))
    thread.start()
    window.close()
    thread.join()
    assert taken.get() == 0


def test_a_result_that_comes_after_the_end_is_not_written() -> None:
    """A function that was given up may return at any time."""
    flight = {seq: Line(seq, "-", seq + 1, b"x\n") for seq in range(4)}
    ours, theirs = os.pipe()
    settled: list[int] = []
    writer = Writer(Sink(theirs, "a pipe"), None, flight, set(), ordered=True, settled=settled.append, lost=print)
    writer.post(Done(flight[3], b"3\n", None))
    writer.post(Done(flight[1], None, "ValueError"))
    writer.finish()
    writer.post(Done(flight[0], b"0\n", None))
    writer.post(Done(flight[2], None, "ValueError"))
    writer.run()
    writer.close()
    assert os.read(ours, 100) == b"3\n"
    os.close(ours)
    assert sorted(flight) == [0, 2]
    assert (writer.tally.succeeded, writer.tally.failed, settled) == (1, 1, [1, 1])


def test_a_line_that_a_stop_cancelled_is_left_and_holds_up_no_other() -> None:
    flight = {seq: Line(seq, "-", seq + 1, b"x\n") for seq in range(3)}
    ours, theirs = os.pipe()
    writer = Writer(Sink(theirs, "a pipe"), None, flight, set(), ordered=True, settled=lambda _: None, lost=print)
    for seq, cut in ((2, False), (0, False), (1, True)):
        writer.post(Done(flight[seq], None if cut else b"%d\n" % seq, None, cut))
    writer.finish()
    writer.run()
    writer.close()
    assert os.read(ours, 100) == b"0\n2\n"
    os.close(ours)
    assert sorted(flight) == [1]
    assert (writer.tally.succeeded, writer.tally.failed, writer.tally.cut) == (2, 0, {1})


def test_what_is_kept_replaces_the_file_behind_a_link_or_leaves_it_alone(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(place)

    def failing() -> list[bytes]:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        leftover.save(str(link), (chunk for _ in range(1) for chunk in failing()))
    assert place.read_bytes() == b"old"
    assert leftover.save(str(link), [b"a\nb", b"\nc"]) == leftover.Left(3)
    assert link.is_symlink()
    assert place.read_bytes() == b"a\nb\nc"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "place"]


def test_signals_only_post_and_are_what_they_were_afterwards() -> None:
    events: SimpleQueue[Event] = SimpleQueue()
    before = signal.getsignal(signal.SIGTERM)
    with signals(events):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert [events.get(timeout=5), events.get(timeout=5)] == [Signalled(), Signalled()]
    assert signal.getsignal(signal.SIGTERM) is before
