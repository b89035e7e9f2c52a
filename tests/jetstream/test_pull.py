"""What a source asks for: laws, without a server and without a clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workpool.sources.jetstream.pull import HEARTBEAT, Ask, Pull, Status


class Broker:
    """Answers requests as a server does: the oldest first."""

    def __init__(self, pull: Pull) -> None:
        self.pull = pull
        self.requests: list[list[int]] = []
        self.now = 0.0

    def look(self) -> None:
        if (ask := self.pull.ask(self.now)) is not None:
            self.requests.append(list(ask))

    def send(self) -> None:
        if self.requests:
            self.requests[0][1] -= 1
            if not self.requests[0][1]:
                del self.requests[0]
            self.pull.arrived(self.now)

    def expire(self) -> None:
        if self.requests:
            token, _ = self.requests.pop(0)
            self.pull.told(token, Status("408", "Request Timeout"), self.now)

    def settle(self) -> None:
        if self.pull.held:
            self.pull.settled()

    @property
    def may_send(self) -> int:
        return sum(left for _, left in self.requests)


STEPS = st.lists(st.sampled_from(["look", "send", "expire", "settle"]), max_size=200)


@given(capacity=st.integers(1, 20), steps=STEPS)
def test_never_more_than_there_is_room_for(capacity: int, steps: list[str]) -> None:
    pull = Pull(capacity)
    broker = Broker(pull)
    for step in steps:
        getattr(broker, step)()
        assert pull.asked == broker.may_send
        assert pull.held + broker.may_send <= capacity


@given(capacity=st.integers(1, 20), steps=STEPS)
def test_what_is_free_is_asked_for_in_the_end(capacity: int, steps: list[str]) -> None:
    pull = Pull(capacity)
    broker = Broker(pull)
    for step in steps:
        getattr(broker, step)()
    while pull.held:
        broker.settle()
    broker.look()
    assert broker.may_send > capacity // 2


def test_a_request_is_renewed_at_half_and_not_before() -> None:
    pull = Pull(10)
    assert pull.ask(0.0) == Ask(1, 10)
    for _ in range(4):
        pull.arrived(0.0)
        pull.settled()
        assert pull.ask(0.0) is None
    pull.arrived(0.0)
    pull.settled()
    assert pull.ask(0.0) == Ask(2, 5)


def test_a_heartbeat_ends_nothing_and_silence_is_noticed() -> None:
    pull = Pull(10)
    pull.ask(0.0)
    pull.told(1, Status("100", "Idle Heartbeat"), 10.0)
    assert pull.asked == 10
    assert not pull.is_silent(10.0 + 2 * HEARTBEAT)
    assert pull.is_silent(10.0 + 3 * HEARTBEAT)
    pull.forget(17.0)
    assert pull.ask(17.0) == Ask(2, 10)
    assert not pull.is_silent(17.0)


def test_a_source_that_asks_for_nothing_is_not_told_of_silence() -> None:
    assert not Pull(1).is_silent(1e9)


def test_what_is_refused_is_not_asked_for_again_at_once() -> None:
    pull = Pull(10)
    pull.ask(0.0)
    assert pull.told(1, Status("409", "Exceeded MaxWaiting"), 1.0) is False
    assert pull.ask(1.1) is None
    assert pull.ask(2.0) == Ask(2, 10)


def test_what_says_that_there_is_no_consumer() -> None:
    for status in (Status("503", ""), Status("409", "Consumer Deleted")):
        pull = Pull(10)
        pull.ask(0.0)
        assert pull.told(1, status, 1.0)


def test_the_end_of_a_request_that_is_long_over_changes_nothing() -> None:
    pull = Pull(10)
    pull.ask(0.0)
    pull.forget(1.0)
    pull.ask(1.0)
    assert pull.told(1, Status("408", "Request Timeout"), 2.0) is False
    assert pull.asked == 10
