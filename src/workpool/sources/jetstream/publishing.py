"""Publishing with acknowledgements, one at a time or many under way at once. In the loop of its connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from workpool.sources.jetstream.broker import FULL, BrokerError
from workpool.sources.jetstream.connection import NO_RESPONDERS, Connection, Message

__all__ = ["Full", "Letter", "Publisher", "Settle"]

WINDOW: Final = 4096
"""Messages whose acknowledgements may be outstanding when many are published."""

AGAIN: Final = 0.1
"""Seconds until a message is published again that nobody could take: while a stream has no leader."""

UNAVAILABLE: Final = 503
"""The code of errors that pass."""


class Letter(NamedTuple):
    """What is published."""

    data: bytes
    id: str | None
    """By which the stream knows a second one for the same; None: it does not."""
    more: Mapping[str, str] = {}
    """Headers."""

    @property
    def headers(self) -> Mapping[str, str] | None:
        if self.id is None:
            return self.more or None
        return {**self.more, "Nats-Msg-Id": self.id}


class Full(Exception):
    """The stream has as many messages as it may."""


Settle = Callable[[Exception | None], object]
"""Told what became of a letter: None (it is stored), `Full` or `BrokerError`."""


class Pending(NamedTuple):
    letter: Letter
    settle: Settle


class Publisher:
    """Publishes to one subject.

    What is not acknowledged stays pending until whoever published it gives up on it. A letter with an id is published
    again when the connection has come back: the stream knows it.
    """

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection = connection
        self._subject = subject
        self._inbox = f"{connection.inbox()}."
        self._count = 0
        self._pending: dict[str, Pending] = {}
        self._unheard: dict[str, BrokerError] = {}
        """By the token of what nobody took, which is known not to be stored: why."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._connection.subscribe(f"{self._inbox}*", self._answered)

    async def publish(self, letter: Letter, timeout: float) -> None:
        """Return when it is stored. Raises `Full`, `BrokerError`, ConnectionError, ValueError or TimeoutError."""
        done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        def settle(error: Exception | None) -> None:
            if not done.done():
                done.set_result(error)

        token = await self._send(letter, settle)
        try:
            async with asyncio.timeout(timeout):
                error = await done
        except TimeoutError:
            raise self._unheard.get(token) or TimeoutError from None
        finally:
            self._pending.pop(token, None)
            self._unheard.pop(token, None)
        if error is not None:
            raise error

    async def publish_many(self, letters: Iterable[tuple[Letter, Settle]], timeout: float) -> None:
        """Return when all are settled, or none was for `timeout` seconds. Raises ConnectionError or ValueError.

        What is not settled then may be stored or not.
        """
        crowd = _Crowd()
        try:
            for letter, settle in letters:
                if len(crowd.tokens) >= WINDOW and not await crowd.until(WINDOW // 2, timeout):
                    return
                self._count += 1
                token = str(self._count)
                self._pending[token] = Pending(letter, crowd.settling(token, settle))
                await self._post(token, letter)
            await crowd.until(0, timeout)
        finally:
            for token in crowd.tokens:
                self._pending.pop(token, None)
                self._unheard.pop(token, None)

    def reconnected(self) -> None:
        """What was published may have gone with the connection, or its acknowledgement."""
        for token, pending in self._pending.items():
            if pending.letter.id is not None:
                self._later(0.0, token)

    async def _send(self, letter: Letter, settle: Settle) -> str:
        self._count += 1
        token = str(self._count)
        self._pending[token] = Pending(letter, settle)
        try:
            await self._post(token, letter)
        except BaseException:
            self._pending.pop(token, None)
            raise
        return token

    async def _post(self, token: str, letter: Letter) -> None:
        await self._connection.publish(self._subject, letter.data, self._inbox + token, letter.headers)

    def _answered(self, message: Message) -> None:
        token = message.subject[len(self._inbox) :]
        pending = self._pending.get(token)
        if pending is None:
            return
        if message.headers and message.headers.get("Status") == NO_RESPONDERS:
            self._unheard[token] = BrokerError(f"no stream takes what is published to {self._subject!r}")
            self._later(AGAIN, token)
            return
        self._unheard.pop(token, None)
        if b'"error"' not in message.data:
            del self._pending[token]
            pending.settle(None)
            return
        error: dict[str, Any] = json.loads(message.data).get("error", {})
        if error.get("code") == UNAVAILABLE and error.get("err_code") != FULL:
            self._later(AGAIN, token)
            return
        del self._pending[token]
        pending.settle(_refusal(error, self._subject))

    def _later(self, seconds: float, token: str) -> None:
        async def again() -> None:
            await asyncio.sleep(seconds)
            if (pending := self._pending.get(token)) is not None:
                try:
                    await self._post(token, pending.letter)
                except ConnectionError:  # it comes here again when there is one
                    pass

        task = asyncio.ensure_future(again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Crowd:
    """Letters that are under way together."""

    def __init__(self) -> None:
        self.tokens: set[str] = set()
        self._settled = asyncio.Event()

    def settling(self, token: str, settle: Settle) -> Settle:
        self.tokens.add(token)

        def settled(error: Exception | None) -> None:
            self.tokens.discard(token)
            settle(error)
            self._settled.set()

        return settled

    async def until(self, most: int, timeout: float) -> bool:
        """Wait until no more are under way; False if none was settled for so many seconds."""
        while len(self.tokens) > most:
            self._settled.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._settled.wait()
            except TimeoutError:
                return False
        return True


def _refusal(error: dict[str, Any], subject: str) -> Exception:
    if error.get("err_code") == FULL:
        return Full()
    return BrokerError(f"{subject}: {error.get('description', 'refused')}", int(error.get("err_code", 0)))
