"""A FastAPI service that publishes from an endpoint and handles events in the background.

    uvicorn fastapi_app:app

The web server takes SIGTERM and SIGINT. The end of the lifespan closes the bus: running handlers finish, and what waits
goes to other workers. Settings come from the platform's environment (NATS_SERVER_URL …).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from typing import Any

import nats_eventbus as eb
from fastapi import FastAPI, Response

TOPIC = os.environ.get("TOPIC", "coze.workflow.42.done")


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with eb.connect(jetstream=True) as bus:

        @bus.on(TOPIC, group="indexer")
        async def index(m: eb.Message) -> None:
            print("begun", m.text(), flush=True)
            await asyncio.sleep(float(os.environ.get("WORK", "0.1")))
            print("done", m.text(), flush=True)

        app.state.bus = bus
        # signals=False: the web server has them.
        handlers = asyncio.create_task(bus.run(signals=False))
        yield
        await bus.close()
        await handlers


app = FastAPI(lifespan=lifespan)


@app.post("/events")
async def publish(event: dict[str, Any]) -> dict[str, int]:
    """Resolves once the event is stored."""
    ack = await app.state.bus.producer(TOPIC).send(event)
    return {"sequence": ack.sequence}


@app.get("/readyz")
async def ready(response: Response) -> dict[str, Any]:
    health = await app.state.bus.health()
    response.status_code = 200 if health.ok else 503
    return {"problems": health.problems}


@app.get("/livez")
async def live(response: Response) -> None:
    response.status_code = 200 if (await app.state.bus.health()).alive else 503
