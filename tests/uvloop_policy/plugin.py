"""A pytest plugin: every event loop that is made is uvloop's."""

import asyncio

import uvloop

asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # type: ignore[deprecated]
