"""What a spawned process does: a module of its own, which it imports."""

from __future__ import annotations

import asyncio

import nats_eventbus as eb


def send_and_receive(url: str, topic: str) -> list[str]:
    """Connects, sends, and receives what it sent."""

    async def work() -> list[str]:
        async with eb.connect(url, jetstream=True) as bus:
            await bus.producer(topic).send_many([f"{n}" for n in range(10)])
            async with bus.consumer(topic, group="g") as c:
                got = list[eb.Message]()
                while len(got) < 10:
                    got += await c.fetch(10)
                for m in got:
                    m.ack()
                return [m.text() for m in got]

    return asyncio.run(work())
