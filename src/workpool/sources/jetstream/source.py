"""`JetStreamSource`: the messages of a consumer, as the items of a pool, from their arrival to their fate.

Rules: all state belongs to the loop of the connection, and nothing is asked for that the pool has no room for. What
becomes of a message that is here is seen to in `answering`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from time import monotonic
from typing import Any, Final

from workpool._checked import checked_count, checked_limit
from workpool._core.outcome import Classify, Exponential, Retry
from workpool._named import one_line
from workpool.errors import PoolNotStarted, PoolStopped, QueueFull
from workpool.pool import Pool
from workpool.sources.decoding import Decode, Undecodable, decoding
from workpool.sources.handing import hand_over, home_of, process_of, room_of
from workpool.sources.jetstream.answering import Answers, Rules
from workpool.sources.jetstream.broker import NO_STREAM, BrokerError, checked_name, ensure_consumer, nanoseconds
from workpool.sources.jetstream.connection import Connection, LoopThread, Message, Subscription, connect
from workpool.sources.jetstream.counts import SourceStats
from workpool.sources.jetstream.dead import DeadLetters
from workpool.sources.jetstream.delivery import Delivery
from workpool.sources.jetstream.pull import EXPIRES, HEARTBEAT, Ask, Pull, Status

__all__ = ["JetStreamSource"]

RETRY: Final = Retry(attempts=5, backoff=Exponential(1.0, 60.0), budget=None)
"""What is delivered again, if nothing is said."""

LOOK: Final = 0.25
"""Seconds after which it looks at what is due at the latest."""

ROOM: Final = 0.05
"""Seconds after which a pool that was full is offered a message again."""

ENSURE: Final = 1.0
"""Seconds after which it is seen again whether there is a consumer."""

GRACE: Final = 0.5
"""Seconds over the time in which its thread is to have done something, until that is taken for hanging."""

ENDS: Final = 5.0
"""Seconds in which the broker has to answer when the source ends."""

log = logging.getLogger("workpool")


class JetStreamSource:
    """Pulls messages of a stream of NATS JetStream into `pool`, as many as it has room for; answers each by its fate.

    At least once: an item is acknowledged after it has succeeded, or was discarded. One that fails is delivered again
    by the rule of `retry`, to this service or another; one that is not to be tried again, or was delivered too often,
    or cannot be decoded, goes to the dead letters with the reason, and is done with. What the pool sheds counts as a
    failure. While a message waits or runs in the pool, the broker is told in time that it does.

    `start` connects, makes the consumer if there is none, and pulls in a thread of its own. A connection that is lost,
    a leader that changes, a consumer or stream that is deleted and made again: it goes on when there is one.

    `stop` pulls no more and gives back at once what has not begun; `keep` waits for what runs, acknowledges it, and
    closes the connection. Leaving a `with` block does both, and waits for twice `ack_wait` at most.

    Args:
        pool: which others may submit to as well.
        url: of a NATS server; of several of one cluster, with commas.
        stream: of a `JetStreamQueue` of that name, or any other.
        consumer: the durable consumer; all services with the same share the messages.
        decode: from the bytes of a message to an item; it raises `workpool.Invalid` for what is none. None: as the type
            says that the process function declares.
        retry: which failures are delivered again: `attempts` deliveries in all, with its `backoff`, by the broker. Its
            `budget` and `max_waiting` say nothing here. A retry of the pool's own comes first, and is one delivery.
        classify: of an exception, what it is to be taken for.
        ack_wait: seconds after which the broker delivers a message again of which it has not heard. Of a consumer that
            is there already, its own is taken.
        max_deliver: after so many deliveries a message is dead, whatever came of them: it may be what ends the services
            that have it. Those that were given back count, as the broker counts them.
        max_ack_pending: how many messages all services together may have at a time. The same is said of it.
        dead_letter: a subject with a stream of your own for what has failed for good. None: STREAM.dead, with a stream
            STREAM-dead that is made.
        timeout: seconds in which the server has to answer at the start.
        credentials: the path of a file with the credentials of the account.

    Raises:
        TypeError, ValueError: of a wrong argument; `decode` is needed for a function that says nothing useful.
    """

    def __init__(
        self,
        pool: Pool[Any, Any],
        url: str,
        stream: str,
        *,
        consumer: str = "workpool",
        decode: Decode | None = None,
        retry: Retry = RETRY,
        classify: Classify | None = None,
        ack_wait: float = 30.0,
        max_deliver: int = 20,
        max_ack_pending: int = 20_000,
        dead_letter: str | None = None,
        timeout: float = 5.0,
        credentials: str | None = None,
    ) -> None:
        process = process_of(pool)
        self.stream = checked_name("stream", stream)
        self.consumer = checked_name("consumer", consumer)
        self._pool = pool
        self._home = home_of(pool)
        self._url = url
        self._decode = decode or decoding(process, getattr(process, "__qualname__", repr(process)))
        self._ack_wait = checked_limit("ack_wait", ack_wait) or 30.0
        self._max_deliver = checked_count("max_deliver", max_deliver, 20)
        self._max_ack_pending = checked_count("max_ack_pending", max_ack_pending, 20_000)
        self._dead_letter = dead_letter
        self._timeout = checked_limit("timeout", timeout) or 5.0
        self._credentials = credentials
        self._thread = LoopThread(f"workpool-source-{pool.name}")
        self._begun = False
        self._stats = SourceStats()
        self._pull = Pull(room_of(pool))
        self._waiting: deque[Delivery] = deque()
        """Those for which the pool had no room, because others submit to it."""
        self._answers = Answers(pool.name, Rules(retry, classify, self._timeout), self._pull, self._stats, self._notice)
        self._tell = self._answers.note  # made once: made for each message, it is one object more to go through
        self._is_woken = False
        self._wake = asyncio.Event()
        self._stopping = False
        self._ended = False
        self._running: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._is_ensuring = False

    # -- for whoever starts and stops it -------------------------------------------------------

    def start(self) -> None:
        """Begin to pull.

        A stream that is not there yet is waited for, which `stats` and the log say. Raises ConnectionError if no
        server answers, `BrokerError` if the consumer is none to pull from, RuntimeError if it was started or stopped
        before."""
        if self._begun:
            raise RuntimeError("the source was started or stopped before, and starts only once")
        self._begun = True
        self._thread.start(self._open(), ENDS)

    def stop(self, timeout: float) -> None:
        """Pull no more, and give back what has not begun. What runs goes on. Harmless before the start, and twice."""
        self._begun = True
        if self._connection is None or self._stopping:
            return
        seconds = max(0.1, min(timeout, ENDS))
        try:
            self._thread.submit(self._give_back("stopping", seconds)).result(seconds + GRACE)
        except TimeoutError:
            log.error("the source of pool %r does not answer: it hangs in reading a message", self._pool.name)

    def keep(self, until: float) -> int:
        """Wait for what runs until that time of the monotonic clock, answer it, and close the connection, which may
        take some seconds more if the server does not answer.

        How many messages are left without an answer: the broker delivers them again when `ack_wait` is over. Only after
        `stop`. Harmless before the start, and twice."""
        if self._connection is None:
            return 0
        try:
            return self._thread.submit(self._close(until)).result(max(0.0, until - monotonic()) + ENDS)
        except TimeoutError:
            return len(self._answers.held)
        finally:
            self._connection = None
            self._thread.stop(GRACE)

    def __enter__(self) -> JetStreamSource:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(ENDS)
        self.keep(monotonic() + 2 * self._ack_wait)

    def stats(self) -> SourceStats:
        """What it has done so far, and how it is."""
        return self._stats.copy(in_flight=len(self._answers.held), asked=self._pull.asked)

    def state(self) -> dict[str, Any]:
        """`stats`, as plain values, with the names of what it pulls from."""
        return {"kind": "jetstream", "stream": self.stream, "consumer": self.consumer, **self.stats().as_dict()}

    # -- the connection ------------------------------------------------------------------------

    async def _open(self) -> None:
        connection = await connect(
            self._url, f"{self._pool.name}", self, timeout=self._timeout, credentials=self._credentials
        )
        self._connection = self._answers.connection = connection
        self._stats.connected = True
        try:
            self._inbox = f"{connection.inbox()}."
            self._subscription = await connection.subscribe(f"{self._inbox}*", self._received)
            if not await self._has_consumer(insist=True):
                self._ensure()
        except BaseException:
            self._ended = True
            self._connection = None
            await connection.close()
            self._stats.connected = False
            raise
        self._running = asyncio.ensure_future(self._run_or_close(connection))

    def disconnected(self) -> None:
        self._stats.connected = False
        if not self._ended:
            log.warning("the source of pool %r has lost its connection, and tries again", self._pool.name)

    def reconnected(self) -> None:
        log.warning("the source of pool %r is connected again", self._pool.name)
        self._stats.connected = True
        self._stats.reconnects += 1
        self._pull.forget(monotonic())
        if self._answers.dead is not None:
            self._answers.dead.reconnected()
        self._notice()

    def _ensure(self) -> None:
        """See to it that there is a consumer, and say what is wrong as long as there is none."""
        if not self._is_ensuring:
            self._is_ensuring = True
            self._answers.begin(self._ensure_consumer())

    async def _ensure_consumer(self) -> None:
        try:
            while not (self._stopping or await self._has_consumer()):  # noqa: ASYNC110 - what is waited for is far away
                await asyncio.sleep(ENSURE)
        finally:
            self._is_ensuring = False
            self._pull.forget(monotonic())
            self._notice()

    async def _has_consumer(self, insist: bool = False) -> bool:
        """Have the consumer, and a place for the dead; False if there cannot be one now. Raises `BrokerError` if there
        is another consumer of that name, and one insists."""
        assert self._connection is not None
        try:
            self._ack_wait = await ensure_consumer(
                self._connection,
                self.stream,
                self.consumer,
                ack_wait=self._ack_wait,
                max_ack_pending=self._max_ack_pending,
            )
            if self._answers.dead is None:
                self._answers.dead = await DeadLetters.open(
                    self._connection, self.stream, self.consumer, self._dead_letter
                )
        except (BrokerError, ConnectionError, TimeoutError) as error:
            if insist and not (isinstance(error, BrokerError) and error.code == NO_STREAM):
                raise
            self._be(str(error) or "the server does not answer")
            return False
        self._be("pulling")
        return True

    def _be(self, state: str) -> None:
        before, self._stats.state = self._stats.state, state
        if before != state and (before, state) != ("new", "pulling"):
            log.warning(
                "the source of pool %r, consumer %r of stream %r: %s",
                self._pool.name,
                self.consumer,
                self.stream,
                state,
            )

    # -- the loop ------------------------------------------------------------------------------

    async def _run_or_close(self, connection: Connection) -> None:
        try:
            await self._run(connection)
        except asyncio.CancelledError:  # the thread ends, and nobody else is left to close it
            await connection.close()
            raise

    async def _run(self, connection: Connection) -> None:
        looked = 0.0
        while True:
            ends = self._ended  # before the answers: what was known then is answered
            self._wake.clear()
            self._is_woken = False  # before the looks: what comes after them wakes it again
            try:
                await self._answers.send(connection)
                self._offer_again()
                now = monotonic()
                if now - looked >= self._look_every:
                    looked = now
                    await self._look(connection, now)
                await self._ask(connection, now)
            except ConnectionError as error:  # its buffer is full; it comes again
                log.debug("the source of pool %r: %s", self._pool.name, error)
            except Exception:
                log.exception("the source of pool %r goes on after an error of its own", self._pool.name)
                await asyncio.sleep(LOOK)
            if ends:
                return
            try:
                async with asyncio.timeout(ROOM if self._waiting else self._look_every):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _ask(self, connection: Connection, now: float) -> None:
        if self._stopping or not self._stats.connected or self._is_ensuring:
            return
        if (ask := self._pull.ask(now)) is not None:
            await connection.publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}", _request(ask), f"{self._inbox}{ask.token}"
            )

    async def _look(self, connection: Connection, now: float) -> None:
        """What is due by the clock: how much room there is, who is silent, and whose time is to be extended."""
        self._pull.capacity = room_of(self._pool)
        if self._pull.is_silent(now) and self._stats.connected and not self._stopping:
            self._be("the server says nothing")
            self._ensure()
        await self._answers.extend(connection, now, self._ack_wait / 3)

    @property
    def _look_every(self) -> float:
        """Seconds: so often that an extension, which is due at a third of the time, is sent before half is over."""
        return min(LOOK, self._ack_wait / 6)

    def _notice(self) -> None:
        """Have the loop look. From any thread."""
        if not self._is_woken:
            self._is_woken = True
            self._thread.call(self._wake.set)

    # -- a message comes -----------------------------------------------------------------------

    def _received(self, message: Message) -> None:
        now = monotonic()
        if message.headers is not None and (code := message.headers.get("Status")) is not None:
            self._told(message, code, now)
            return
        try:
            delivery = Delivery(self._home, self._tell, message, now)
        except ValueError as error:
            log.warning("the source of pool %r: %s", self._pool.name, error)
            return
        self._pull.arrived(now)
        self._stats.delivered += 1
        if delivery.attempt > 1:
            self._stats.redelivered += 1
        if not self._answers.hold(delivery, now):
            return
        if self._stopping:
            self._answers.give_back(delivery)
        else:
            self._take(delivery)

    def _told(self, message: Message, code: str, now: float) -> None:
        status = Status(code, (message.headers or {}).get("Description", ""))
        token = message.subject[len(self._inbox) :]
        if code != "100":
            log.debug("the source of pool %r: status %s %s", self._pool.name, code, status.description)
        if self._pull.told(int(token) if token.isdigit() else 0, status, now) and not self._stopping:
            self._ensure()
        self._notice()

    def _take(self, delivery: Delivery) -> None:
        if delivery.attempt > self._max_deliver:  # whoever had it the last time did not live to say so
            self._answers.bury(
                delivery, "deliveries", f"it was delivered {delivery.attempt - 1} times, and is not done"
            )
            return
        try:
            item = self._decode(delivery.data)
        except Undecodable as error:
            self._answers.bury(delivery, "undecodable", str(error))
        except Exception as error:
            self._answers.bury(delivery, "undecodable", one_line(error))
        else:
            self._hand_over(delivery, item)

    def _hand_over(self, delivery: Delivery, item: Any) -> None:
        try:
            hand_over(self._pool, item, delivery)
            delivery.is_handed_over = True
        except (QueueFull, PoolNotStarted):
            delivery.item = item
            self._waiting.append(delivery)
        except PoolStopped:
            self._answers.give_back(delivery)
            if not self._stopping:
                self._stopping = True
                self._answers.begin(self._give_back("the pool has stopped", ENDS))
        except Exception as error:  # of somebody's `priority` or `key`, for this item
            self._answers.bury(delivery, "failed", one_line(error))

    def _offer_again(self) -> None:
        """Hand over what found no room, as long as there is some."""
        for _ in range(len(self._waiting)):
            before = len(self._waiting)
            first = self._waiting.popleft()
            self._hand_over(first, first.item)
            if len(self._waiting) == before:  # it is back, behind those that came after it
                self._waiting.rotate(1)
                return

    # -- the end -------------------------------------------------------------------------------

    async def _give_back(self, state: str, timeout: float) -> None:
        """Pull no more, and hand back what has not begun."""
        self._stopping = True
        self._stats.state = "stopping"
        if self._subscription is not None:
            await self._subscription.drain(timeout)  # what is on its way here comes, and is given back
        while self._waiting:
            self._answers.give_back(self._waiting.popleft())
        for delivery in list(self._answers.held.values()):
            if delivery.is_handed_over:
                delivery.cancel()
        self._stats.state = state
        self._notice()

    async def _close(self, until: float) -> int:
        connection = self._connection
        assert connection is not None
        while self._answers.held and monotonic() < until:
            self._notice()
            await asyncio.sleep(0.005)
        self._ended = True
        self._notice()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=ENDS)
        try:
            await connection.flush(max(0.1, min(ENDS, until - monotonic())))
        except (ConnectionError, TimeoutError) as error:
            log.error(
                "pool %r: the broker may not have heard the last answers of its source: %s", self._pool.name, error
            )
        await connection.close()
        self._stats.connected = False
        self._stats.state = "stopped"
        return len(self._answers.held)


def _request(ask: Ask) -> bytes:
    content = {"batch": ask.batch, "expires": nanoseconds(EXPIRES), "idle_heartbeat": nanoseconds(HEARTBEAT)}
    return json.dumps(content).encode()
