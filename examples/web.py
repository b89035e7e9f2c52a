"""A web service: requests to print labels, in front of a printer that is slower than they come.

    python -m examples.web          # or: uvicorn examples.web:app
    curl --json '{"text": "fragile"}' http://127.0.0.1:8000/labels

It shows a pool that lives as long as its application, and on the same event loop; 503 with `Retry-After` when the queue
is full; a request that waits for its result; and a SIGTERM after which every label that was accepted is still printed.

PRINTER=HOST:PORT names a printer, which takes a label as one line and answers with one; without it, a printer is
pretended.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from math import ceil
from typing import Annotated, Any

import uvicorn
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from workpool import Pool, QueueFull

WORKERS = 2
QUEUE_SIZE = 4
STOP_TIMEOUT = 20.0  # less than the operator's patience between SIGTERM and SIGKILL


# -- the work ------------------------------------------------------------------------------------------------


async def print_label(text: str) -> str:
    """The process function: what the printer answers. Raises OSError if it does not."""
    printer = os.environ.get("PRINTER")
    if printer is None:
        await asyncio.sleep(0.5)
        return f"pretended {text}"
    host, _, port = printer.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"{text}\n".encode())
        answer = await reader.readline()
    finally:
        writer.close()
    if not answer:
        raise ConnectionError(f"printer {printer} hung up")
    return answer.decode().strip()


# -- the application -----------------------------------------------------------------------------------------


class Label(BaseModel):
    text: str = Field(min_length=1, max_length=80, pattern=r"^[^\r\n]*$")


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[dict[str, object], None]:
    """Everything before `yield` is done before the first request; everything after it, after the last answer."""
    pool = Pool(print_label, workers=WORKERS, queue_size=QUEUE_SIZE, name="labels", stop_timeout=STOP_TIMEOUT)
    async with pool:
        yield {"pool": pool}
        stats = pool.stats()
        print(f"draining: {stats.running} running, {stats.queue_depth} queued", flush=True)
        # Leaving the block would do the same, but without a report to print.
        report = await pool.astop(STOP_TIMEOUT)
        print(f"{report}\n{report.stats.submitted} accepted, {report.stats.succeeded} printed", flush=True)


app = FastAPI(title="labels", lifespan=lifespan)


def _pool(request: Request) -> Pool[str, str]:
    pool: Pool[str, str] = request.state.pool
    return pool


Printing = Annotated[Pool[str, str], Depends(_pool)]


@app.exception_handler(QueueFull)
async def come_back(_: Request, error: Exception) -> JSONResponse:
    """Nothing was accepted, so whoever asked may ask again; and is told when."""
    assert isinstance(error, QueueFull)
    seconds = max(1, ceil(error.retry_after))  # the header has no room for less than a second
    return JSONResponse({"detail": "too many labels"}, 503, {"Retry-After": str(seconds)})


@app.exception_handler(OSError)
async def no_printer(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": f"no answer from the printer: {error}"}, 502)


@app.post("/labels", status_code=202)
async def accept(label: Label, pool: Printing) -> dict[str, str]:
    """Hand a label over, and answer at once."""
    pool.submit(label.text)
    return {"accepted": label.text}


@app.post("/labels/now")
async def wait(label: Label, pool: Printing) -> dict[str, str]:
    """Answer when the label is printed."""
    return {"answer": await pool.acall(label.text)}


@app.get("/stats")
async def stats(pool: Printing) -> dict[str, Any]:
    return pool.stats().as_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description="A web service on a worker pool.")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default 8000)")
    port: int = parser.parse_args().port

    def end(*_: object) -> None:
        sys.exit(0)

    # uvicorn raises the signal again when all is done, which would end this with the code of a failure.
    signal.signal(signal.SIGTERM, end)
    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False)


if __name__ == "__main__":
    main()
