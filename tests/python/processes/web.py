"""A web application with a bus: ``web.py URL TOPIC KIND``. Needs uvicorn. The run is a task of the lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator
from typing import Any

import nats_eventbus as eb
import uvicorn  # pyright: ignore[reportMissingImports]

URL, TOPIC, KIND = sys.argv[1:]


def say(*words: object) -> None:
    print(*words, flush=True)


@contextlib.asynccontextmanager
async def lifespan() -> AsyncGenerator[None]:
    async with eb.connect(URL, jetstream=True) as bus:

        @bus.on(TOPIC, group="g")
        async def handle(m: eb.Message) -> None:
            say("handling", m.text())
            # Until no more messages come: the run drains.
            while (await bus.health()).consumers:
                pass
            say("handled", m.text())

        # With signals=False the server's own shutdown, the end of the lifespan, is what closes the bus.
        task = asyncio.create_task(bus.run(signals=KIND == "signals taken"))
        yield
        await bus.close()
        await task
        say("closed", bus.state)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The protocol of web servers, without a framework."""
    assert scope["type"] == "lifespan"
    await receive()
    async with lifespan():
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=0, log_level="error", lifespan="on")  # pyright: ignore
