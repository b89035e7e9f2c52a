"""Streams of events: what they say, and that each of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.service.asking import SOON, App, Listener, Message, ask, scope_of
from workpool import Pool
from workpool.service import events
from workpool.service.application import Application


def echo(number: int) -> int:
    return number


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(SOON):
            await test()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(bounded())


async def begun(listener: Listener) -> None:
    start = await listener.next()
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert (b"content-type", b"text/event-stream") in start["headers"]
    assert b"content-length" not in dict(start["headers"])


async def ended(listener: Listener) -> None:
    """Read to the end of the stream."""
    message: Message = {"more_body": True}
    while message["more_body"]:
        message = await listener.next()
    assert message["body"] == b"event: end\ndata:\n\n"
    await listener.end()


def test_it_says_what_the_pools_are_at_once_and_then_again_and_again() -> None:
    with Pool(echo, name="echo") as pool:

        async def test() -> None:
            application = Application({"echo": pool}, interval=0.0)
            listener = Listener(application)
            await begun(listener)
            first = await listener.event()
            assert first["pools"] == {"echo": pool.stats().as_dict()}
            assert first["paused"] == []
            pool.submit(1)
            assert pool.join(20)
            while (await listener.event())["pools"]["echo"]["succeeded"] != 1:
                pass
            application.close()
            await ended(listener)

        run(test)


def test_open_streams_end_when_the_application_is_closed_from_any_thread_and_no_new_ones_begin() -> None:
    async def test() -> None:
        application = Application({}, interval=3600.0)
        listeners = [Listener(application) for _ in range(3)]
        for listener in listeners:
            await begun(listener)
            await listener.event()
        await asyncio.to_thread(application.close)
        for listener in listeners:
            await ended(listener)
        refused = Listener(application)
        assert (await refused.next())["status"] == 503
        await refused.end()
        application.reopen()
        again = Listener(application)
        await begun(again)
        application.close()
        await ended(again)

    run(test)


def test_a_stream_whose_client_goes_away_ends() -> None:
    async def test() -> None:
        listener = Listener(Application({}, interval=3600.0))
        await begun(listener)
        listener.leave()
        await listener.end()

    run(test)


@pytest.mark.parametrize("leaves", [True, False])
def test_a_client_that_reads_nothing_holds_nothing_up(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LAST", 0.01)

    async def test() -> None:
        application = Application({}, interval=0.0)
        listener = Listener(application)
        await begun(listener)
        listener.reads.clear()
        if leaves:
            listener.leave()
        else:
            application.close()
        await listener.end()

    run(test)


def test_a_stream_that_is_cancelled_leaves_nothing_behind() -> None:
    async def test() -> None:
        application = Application({}, interval=3600.0)
        listener = Listener(application)
        await begun(listener)
        listener.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listener.end()
        application.close()

    run(test)


def test_so_many_are_open_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST", 1)

    async def test() -> None:
        application = Application({}, interval=3600.0)
        one = Listener(application)
        await begun(one)
        other = Listener(application)
        assert (await other.next())["status"] == 503
        await other.end()
        one.leave()
        await one.end()
        third = Listener(application)
        await begun(third)
        application.close()
        await ended(third)

    run(test)


def test_head_of_a_stream_is_its_head() -> None:
    reply = ask(Application({}, interval=3600.0), "HEAD", "/api/events")
    assert reply is not None
    assert (reply.status, reply.headers["content-type"], reply.body) == (200, "text/event-stream", b"")


def test_a_lifespan_opens_and_closes() -> None:
    async def test() -> None:
        application = Application({}, interval=3600.0)
        application.close()
        comes: asyncio.Queue[Message] = asyncio.Queue()
        said: asyncio.Queue[Message] = asyncio.Queue()
        life = asyncio.ensure_future(application({"type": "lifespan"}, comes.get, said.put))
        comes.put_nowait({"type": "lifespan.startup"})
        assert await said.get() == {"type": "lifespan.startup.complete"}
        listener = Listener(application)
        await begun(listener)
        comes.put_nowait({"type": "lifespan.shutdown"})
        assert await said.get() == {"type": "lifespan.shutdown.complete"}
        await life
        await ended(listener)

    run(test)


def test_a_websocket_is_refused() -> None:
    async def test() -> None:
        said: asyncio.Queue[Message] = asyncio.Queue()
        app: App = Application({})
        await app({**scope_of("GET", "/"), "type": "websocket"}, asyncio.Queue[Message]().get, said.put)
        assert (await said.get())["type"] == "websocket.close"

    run(test)
