"""What goes between a process and its parent, and what a worker takes to be sent there, part by part."""

from __future__ import annotations

import pickle
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from time import perf_counter

import pytest

from tests.core.kit import Puppet, Stage
from workpool import Fifo, Hooks
from workpool._worker import SUCCEEDED, Worker
from workpool.workers import child
from workpool.workers.board import BEGUN, BYTES, ITEMS, LIMIT, NOTHING, POSTED, RESULT, SLOTS, Board
from workpool.workers.channel import LONGEST, Channel
from workpool.workers.distant import DistantSeat
from workpool.workers.doorbell import Doorbell
from workpool.workers.seats import Chair, Hand, Plan, SeatUnfit
from workpool.workers.wire import Kind, Reader, note, parts, send


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.setblocking(False)
        theirs.setblocking(False)
        yield mine, theirs


def test_messages_of_all_sizes_come_whole_and_in_order_however_they_are_cut(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    chance = random.Random(7)
    sizes = [0, 1, 10, 16_000, 17_000, 65_000, 65_515, 65_516, 70_000, 500_000, 3, 0, *range(100)]
    chance.shuffle(sizes)
    wire = b"".join(
        bytes(part)
        for number, size in enumerate(sizes)
        for part in parts(Kind.POST, b"x" * (size // 2), b"y" * (size - size // 2), number=number, items=size)
    )
    reader = Reader(ends[1])
    got: list[tuple[int, int, int]] = []
    while wire:
        sent = ends[0].send(wire[: chance.choice([1, 7, 21, 30, 5_000, 100_000])])
        wire = wire[sent:]
        while (message := reader.read()) is not None:
            assert message.body == b"x" * (message.items // 2) + b"y" * (message.items - message.items // 2)
            got.append((message.kind, message.number, message.items))
    assert got == [(Kind.POST, number, size) for number, size in enumerate(sizes)]
    assert not reader.has_more
    ends[0].close()
    assert reader.read() is None
    assert reader.ended


def test_what_the_socket_does_not_take_is_left_to_be_sent(ends: tuple[socket.socket, socket.socket]) -> None:
    views = send(ends[0], parts(Kind.ITEMS, b"x" * 1_000_000))
    assert views
    reader = Reader(ends[1])
    while (message := reader.read()) is None:
        views = send(ends[0], views)
    assert len(message.body) == 1_000_000


def board() -> Board:
    return Board(bytearray(BYTES))


def test_a_board_keeps_the_results_of_two_batches_however_many_there_were() -> None:
    one = board()
    one.lift()
    expected: deque[tuple[int, bytes]] = deque()
    number = seen = 0
    for size in (1, ITEMS, ITEMS, 3, ITEMS, ITEMS, 17, 200):
        assert one.turn(number)
        for _ in range(size):
            assert one.begin(number)
            data = b"%d" % number
            one.write(number, data)
            one.end(number, RESULT, number / 8)
            expected.append((number, data))
            number += 1
        assert number - seen <= SLOTS
        if len(expected) > ITEMS:
            for status, seconds in zip(*one.read(seen, number, ()), strict=True):
                was, data = expected.popleft()
                assert (seen, status, seconds) == (was, RESULT, seen / 8)
                assert bytes(one.written(seen)) == data
                seen += 1
    assert one.done == number


def test_of_what_is_cut_the_child_begins_nothing_in_this_batch_or_the_next() -> None:
    one = board()
    one.lift()
    assert one.turn(0)
    assert one.begin(0)
    one.end(0, NOTHING, 0.0)
    assert one.begin(1)
    assert one.cut(1) == (2, 2)
    one.end(1, NOTHING, 0.0)
    assert not one.begin(2)
    assert not one.turn(10)
    assert (one.begun, one.done) == (2, 2)
    assert one.cut(8) == (2, 2)
    one.lift()
    assert one.turn(20)
    assert one.begin(20)


def test_a_child_whose_parent_saw_on_the_board_that_all_is_done_and_closed_ends_without_a_word(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mine, theirs = ends
    theirs.setblocking(True)
    shared = board()
    shared.lift()
    shared.announce(1)
    send(mine, parts(Kind.ITEMS, bytes([note(False, 1)]), pickle.dumps(["item"]), number=0, items=1))
    child._Bench(child._Line(theirs), shared, lambda _: mine.close(), child._Me()).work(Reader(theirs))
    assert shared.done == 1


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("more", [False, True])
def test_a_result_that_somebody_waits_for_is_looked_for_within_a_millisecond_and_others_when_their_batch_is_over(
    ends: tuple[socket.socket, socket.socket], awaited: bool, more: bool
) -> None:
    scene = Scene(ends)
    for number in range(4):
        assert scene.stage.queue.offer(str(number), None)
    if awaited:
        scene.stage.call("4")
    else:
        assert scene.stage.queue.offer("4", None)
    scene.take(4)
    scene.hand.expected = 0.0009
    scene.seat._open()
    scene.seat._dispatch(scene.hand, 0)

    def take_more() -> bool:
        assert scene.stage.queue.offer("next", None)
        scene.stage.queue.take_ahead(scene.worker, 1, 0.0)
        return True

    before = perf_counter()
    until = scene.seat._send_ahead(scene.hand, take_more if more else lambda: False)
    if awaited:
        assert before + LONGEST <= until <= perf_counter() + LONGEST < scene.seat._due
    else:
        assert until == scene.seat._due
    assert scene.hand.left == 5 + more


def test_whoever_has_nothing_in_hand_takes_nothing_ahead() -> None:
    stage = Stage(size=10)
    puppet = Puppet(stage.queue)
    puppet.worker.ahead = deque()
    for number in range(5):
        assert stage.queue.offer(number, None)
    stage.queue.take_ahead(puppet.worker, 3, 0.0)
    assert not puppet.worker.ahead
    assert puppet.comes() == 0
    stage.queue.take_ahead(puppet.worker, 2, 0.0)
    stage.queue.take_ahead(puppet.worker, 1, 0.0)
    assert [entry[0] for entry in puppet.worker.ahead] == [1, 2, 3]
    stage.queue.settle_untold(puppet.worker, SUCCEEDED, 3)
    assert puppet.worker.entry is not None
    assert (puppet.worker.entry[0], puppet.worker.passed, stage.queue.ledger.running) == (3, 3, 1)
    assert stage.balanced()


def test_items_are_sent_ahead_that_are_known_to_be_quick_unless_it_was_said_how_many_are_sent_at_once() -> None:
    assert Plan(None, ITEMS).sends_ahead(0.001, 0.0015)
    assert not Plan(None, ITEMS).sends_ahead(0.01, 0.0015)
    assert not Plan(None, ITEMS).sends_ahead(0.0, 0.0015)
    assert not Plan(1, ITEMS).sends_ahead(0.001, 0.0015)


class Stepped:
    """A child that the test steps by hand."""

    kind = "process"
    life = None
    kill: Callable[[], None] | None = None

    def __init__(self, sock: socket.socket, memory: bytearray) -> None:
        self.sock = sock
        self.reader = Reader(sock)
        self.board = Board(memory)

    def tell(self, word: bytes, _: None = None) -> None: ...

    def end(self, _: float) -> str:
        return "was killed"

    def unfit(self, _: float) -> SeatUnfit:
        raise AssertionError


class Scene:
    """A seat, its child, and what the worker has in hand."""

    def __init__(self, ends: tuple[socket.socket, socket.socket]) -> None:
        self.stage = Stage(size=10)
        bell = Doorbell()
        self.worker: Worker[str] = Worker("worker", bell.ring)
        self.worker.ahead = deque()
        assert self.stage.queue.enlist(self.worker)
        assert self.stage.queue.arrive(self.worker, 0)
        memory = bytearray(BYTES)
        self.distant = Stepped(ends[0], memory)
        self.child = Board(memory)
        self.socket = ends[1]
        self.seat = DistantSeat(self.stage.queue, self.worker, self.distant, Channel(self.distant, bell))
        self.hand = Hand(self.stage.queue, self.worker, Hooks())

    def take(self, more: int) -> None:
        assert next(self.stage.queue.takes(self.worker)) is not None
        self.stage.queue.take_ahead(self.worker, more, 0.0)


def test_an_item_of_which_the_child_has_yet_to_see_that_it_was_taken_back_does_not_say_that_it_runs(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    scene = Scene(ends)
    first, second = scene.stage.call("first"), scene.stage.call("second")
    scene.take(1)
    scene.child.turn(0)
    assert scene.child.begin(0)
    board = scene.seat._board
    cut = board.cut

    def cut_while_it_begins(least: int) -> tuple[int, int]:
        board._counters[LIMIT] = min(board._counters[LIMIT], max(least, board.begun))
        scene.child.end(0, NOTHING, 0.002)
        scene.child._counters[BEGUN] = 2  # it has said so, and does not go on until the next look
        return cut(least)

    look = scene.seat._look_whether_it_runs

    def look_and_go_on(hand: Hand[str]) -> float | None:
        until = look(hand)
        assert not second.running()
        scene.child._counters[BEGUN] = 1
        send(scene.socket, parts(Kind.END, number=2))
        return until

    board.cut = cut_while_it_begins  # type: ignore[method-assign]
    scene.seat._look_whether_it_runs = look_and_go_on  # type: ignore[method-assign]
    scene.seat.run(scene.hand, lambda: False)
    assert first.result(20) is None
    assert scene.stage.queued() == ["second"]
    assert second.cancel()
    assert second.done()


def test_what_was_done_when_its_seat_had_to_go_is_not_run_again(ends: tuple[socket.socket, socket.socket]) -> None:
    scene = Scene(ends)
    future = scene.stage.call("large")
    for item in ("second", "third", "not begun"):
        assert scene.stage.queue.offer(item, None)
    scene.take(3)
    scene.seat._open()
    scene.seat._dispatch(scene.hand, 0)
    scene.child.turn(0)
    assert scene.child.begin(0)
    send(scene.socket, parts(Kind.POST, pickle.dumps("result"), number=0))
    scene.child.end(0, RESULT + POSTED, 0.1)
    for number in (1, 2):
        assert scene.child.begin(number)
        scene.child.end(number, NOTHING, 0.1)
    scene.distant.kill = lambda: None
    scene.seat.abort(scene.hand)
    assert future.result(20) == "result"
    assert scene.stage.queued() == ["not begun"]
    assert scene.stage.queue.ledger.succeeded == 3
    assert scene.stage.balanced()


def test_who_waits_for_room_gets_that_of_what_was_shed_before_it_was_sent() -> None:
    stage = Stage(rule=Fifo(3, max_wait=1.0))
    worker: Worker[int] = Worker("worker", lambda _: None)
    assert stage.queue.enlist(worker)
    assert stage.queue.arrive(worker, 0)
    woken: list[list[None]] = []

    class Seat:
        gone = False

        def run(self, hand: Hand[int], take_more: Callable[[], bool]) -> None:
            hand.begin()
            hand.sent()
            for number in (1, 2, 3):
                assert stage.queue.offer(number, None)
            woken.append(stage.waits()[1])
            stage.now = 2.0
            assert not take_more()
            assert woken == [[None]]
            hand.ended([(True, 0.0001, None)] * hand.left)

        def abort(self, hand: Hand[int]) -> None: ...

        def rest(self) -> None:
            worker.leaving = True

        def close(self) -> None: ...

    chair = Chair(stage.queue, worker, Hooks(), Plan(None, 100), Seat)
    chair._hand.expected, chair._hand._known = 0.0001, 1
    assert stage.queue.offer(0, None)
    chair.run()
    assert stage.queue.ledger.shed[1] == 3
