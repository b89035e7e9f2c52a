"""Messages that are here, from their arrival to the answer that the broker gets, which is by the fate of their items.

Rules: all state belongs to the loop of the connection. Whoever settles an item, in whatever thread, only notes that.
A message is answered once, when the fate of its item is known; until then the broker is told in time that it is being
worked on.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import random
from typing import Any, Final, NamedTuple

from workpool._core.outcome import DEATHS, FATAL, Again, Classify, Discarded, Failures, Retry
from workpool._named import one_line
from workpool.errors import ItemAbandoned, Shed
from workpool.sources.jetstream.connection import Connection
from workpool.sources.jetstream.counts import SourceStats
from workpool.sources.jetstream.dead import DeadLetters, NotPut
from workpool.sources.jetstream.delivery import ACK, IN_PROGRESS, TERM, Delivery, nak
from workpool.sources.jetstream.pull import Pull

__all__ = ["Answers", "Rules"]

AGAIN: Final = 5.0
"""Seconds until a message is delivered again that could not be put among the dead letters."""

ACKNOWLEDGE: Final = ACK, "acknowledged"

AT_ONCE: Final = 256
"""Acknowledgements, at most, that are sent at once."""

REMEMBERED: Final = 10_000
"""Messages, at least, whose acknowledgement is repeated if they are delivered again, because the first was lost."""

log = logging.getLogger("workpool")


class Rules(NamedTuple):
    """What a failure is answered."""

    retry: Retry
    classify: Classify | None
    timeout: float
    """Seconds in which a dead letter is to be stored."""


class Answers:
    """The messages of one source that have no answer yet."""

    connection: Connection | None = None
    dead: DeadLetters | None = None
    """None: there is no place for them yet, nor a consumer to pull from."""

    def __init__(self, name: str, rules: Rules, pull: Pull, counts: SourceStats, notice: Callable[[], object]) -> None:
        """`notice` has the loop look, and so call `send`; from any thread, and at little cost if it is to look."""
        self._name = name
        self._failures = Failures(rules.retry, rules.classify)
        self._sheds = Failures(replace(rules.retry, on=Shed), None)
        """What was shed is tried again as often as what fails, whatever is to be tried again of that."""
        self._timeout = rules.timeout
        self._pull = pull
        self._counts = counts
        self._notice = notice
        self.held: dict[str, Delivery] = {}
        self._done: dict[str, None] = {}
        """Those that were acknowledged last, in their order."""
        self._settled: deque[Delivery] = deque()
        """Those whose fate is known. Whoever settles an item adds, the loop takes out."""
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self, delivery: Delivery, now: float) -> bool:
        """Whether the message is to be seen to. Not if it is here already, or was acknowledged, of which the broker has
        not heard."""
        identity = delivery.identity
        known = self.held.setdefault(identity, delivery)
        if known is not delivery:  # its time was over, or its answer is under way
            known.reply, known.extended = delivery.reply, now
            self._pull.settled()
            self._counts.repeated += 1
            self._notice()  # there may be room to ask for more
            return False
        if identity in self._done:  # its acknowledgement was lost
            delivery.is_repeated = True
            self.note(delivery)
            return False
        return True

    def note(self, delivery: Delivery) -> None:
        """An item has met its fate, in whatever thread."""
        self._settled.append(delivery)
        self._notice()

    def give_back(self, delivery: Delivery) -> None:
        """The message is for somebody else, at once."""
        delivery.is_given_back = True
        self.note(delivery)

    def bury(self, delivery: Delivery, reason: str, text: str) -> None:
        """Put it among the dead letters; only when it is there, end it."""
        self.begin(self._bury(delivery, reason, text))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Have that run, in the loop."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself would let it go
        task.add_done_callback(self._tasks.discard)

    async def extend(self, connection: Connection, now: float, after: float) -> None:
        """Tell the broker of what is worked on, if it has not heard of that for so many seconds."""
        for delivery in list(self.held.values()):
            if now - delivery.extended >= after:
                delivery.extended = now
                await connection.publish(delivery.reply, IN_PROGRESS)

    async def send(self, connection: Connection) -> None:
        """Answer those whose fate is known."""
        settled, counts = self._settled, self._counts
        while settled:
            if succeeded := self._succeeded():
                await self._acknowledge(connection, succeeded)
                continue
            delivery = settled[0]
            if self.held.get(delivery.identity) is not delivery:  # it was answered
                settled.popleft()
                continue
            found = self._answer_to(delivery)
            if found is None:
                settled.popleft()
                continue
            answer, count = found
            if answer:
                await connection.publish(delivery.reply, answer)
            settled.popleft()  # after it was sent: else it comes again
            if answer is ACK:
                self._remember(delivery.identity)
            setattr(counts, count, getattr(counts, count) + 1)
            self._forget(delivery)

    def _succeeded(self) -> list[Delivery]:
        """Take out what has succeeded, as most have, up to the first that has not."""
        settled, held = self._settled, self.held
        succeeded: list[Delivery] = []
        while settled and len(succeeded) < AT_ONCE:
            delivery = settled[0]
            if not delivery.has_succeeded or held.get(delivery.identity) is not delivery:
                break
            succeeded.append(settled.popleft())
        return succeeded

    async def _acknowledge(self, connection: Connection, succeeded: list[Delivery]) -> None:
        try:
            await connection.publish_to([delivery.reply for delivery in succeeded], ACK)
        except BaseException:  # they come again
            self._settled.extendleft(reversed(succeeded))
            raise
        identities = [delivery.identity for delivery in succeeded]
        self._remember(*identities)
        for identity in identities:
            del self.held[identity]
        self._pull.settled(len(succeeded))
        self._counts.acknowledged += len(succeeded)

    def _answer_to(self, delivery: Delivery) -> tuple[bytes, str] | None:
        """What the broker is to be told (nothing, if that is empty), and what counts it; None: that comes later."""
        if delivery.is_repeated:
            return ACK, "repeated"
        if delivery.is_given_back or delivery.cancelled():
            return nak(0.0), "given_back"
        if delivery.is_discarded:
            return ACKNOWLEDGE
        error = delivery.exception()
        if isinstance(error, ItemAbandoned):  # it may still run here: not at the same time somewhere else
            return b"", "left"
        assert error is not None  # what has succeeded is answered elsewhere
        return self._answer_to_failure(delivery, error)

    def _answer_to_failure(self, delivery: Delivery, error: BaseException) -> tuple[bytes, str] | None:
        failures = self._sheds if isinstance(error, Shed) else self._failures
        verdict = failures.of(error, delivery.attempt, random())
        if isinstance(verdict, Again):
            return nak(verdict.seconds), "retried"
        if isinstance(verdict, Discarded):
            return ACKNOWLEDGE
        if verdict.why == FATAL:  # nothing is wrong with the item, but with this service, which stops
            return nak(AGAIN), "retried"
        self.bury(
            delivery, f"shed: {error.reason}" if isinstance(error, Shed) else DEATHS[verdict.why], one_line(error)
        )
        return None

    def _remember(self, *identities: str) -> None:
        done = self._done
        for identity in identities:
            done[identity] = None
        if len(done) > 2 * REMEMBERED:  # many at once: to find the first of a dict takes the longer the more are gone
            self._done = dict.fromkeys([*done][-REMEMBERED:])

    def _forget(self, delivery: Delivery) -> None:
        del self.held[delivery.identity]
        self._pull.settled()

    async def _bury(self, delivery: Delivery, reason: str, text: str) -> None:
        assert self.connection is not None
        assert self.dead is not None
        try:
            await self.dead.put(delivery, reason, text, self._timeout)
        except NotPut as error:
            log.error("pool %r: a message could not be put among the dead letters: %s", self._name, error)
            self._counts.retried += 1
            answer = nak(AGAIN)
        else:
            log.error("pool %r: message %s is dead (%s): %s", self._name, delivery.sequence, reason, text)
            self._counts.dead[reason] = self._counts.dead.get(reason, 0) + 1
            self._remember(delivery.identity)
            answer = TERM
        try:
            await self.connection.publish(delivery.reply, answer)
        except ConnectionError:  # it is delivered again, and known
            pass
        self._forget(delivery)
        self._notice()
