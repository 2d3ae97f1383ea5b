"""One hot path, over a number of messages: ``hot.py WORKLOAD COUNT URL``.

Says ``ready`` when the other side may start.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import nats_eventbus as eb

TOPIC = "budget"
BODY = b"x" * 128
WINDOW = 1000


# The checker is some fifty times slower than what it checks: nothing is to be late, and sent again, for that.
SLOW: Any = {"connect_timeout": 60, "api_timeout": 60}
PATIENT: Any = {"ack_timeout": 100, "delivery_timeout": 110}


async def core_publish(url: str, count: int) -> None:
    """Each send awaited."""
    async with eb.connect(url, **SLOW) as bus:
        p = bus.producer(TOPIC)
        for _ in range(count):
            await p.send(BODY)
        await p.flush()


async def core_receive(url: str, count: int) -> None:
    """By ``async for``."""
    async with eb.connect(url, **SLOW) as bus, bus.consumer(TOPIC, group="g") as c:
        print("ready", flush=True)
        n = 0
        async for _ in c:
            n += 1
            if n == count:
                return


async def js_publish(url: str, count: int) -> None:
    """A window gathered at a time, with ids, as by default."""
    async with eb.connect(url, jetstream=True, **SLOW) as bus:
        p = bus.producer(TOPIC, **PATIENT)
        for _ in range(count // WINDOW):
            await asyncio.gather(*[p.send(BODY) for _ in range(WINDOW)])


async def js_many(url: str, count: int) -> None:
    """The same by ``send_many``."""
    async with eb.connect(url, jetstream=True, **SLOW) as bus:
        p = bus.producer(TOPIC, **PATIENT)
        for _ in range(count // WINDOW):
            await p.send_many([BODY] * WINDOW)


async def js_consume(url: str, count: int) -> None:
    """By ``async for``, each acked."""
    async with eb.connect(url, jetstream=True, **SLOW) as bus, bus.consumer(TOPIC, group="g") as c:
        n = 0
        async for m in c:
            m.ack()
            n += 1
            if n == count:
                return


if __name__ == "__main__":
    asyncio.run(
        {f.__name__: f for f in (core_publish, core_receive, js_publish, js_many, js_consume)}[sys.argv[1]](
            sys.argv[3], int(sys.argv[2])
        )
    )
    # What the interpreter's end costs is no message's.
    os._exit(0)
