"""Sends three messages and receives them, on an embedded server: ``python quickstart.py [local://DIR]``."""

import asyncio
import sys

import nats_eventbus as eb

TOPIC = eb.topic("coze", "workflow", "42", "done")
COUNT = 3


async def main(server: str) -> None:
    """Starts, or joins, the server in the folder, and leaves it when done."""
    async with eb.connect(server, jetstream=True, name="quickstart") as bus:
        producer = bus.producer(TOPIC)
        for n in range(COUNT):
            ack = await producer.send({"title": "你好", "n": n}, key="doc-7")
            print("stored", ack)

        async with bus.consumer(TOPIC, group="quickstart") as consumer:
            for m in await consumer.fetch(COUNT):
                print("received", m.json(), "key", m.key, "attempt", m.attempt)
                m.ack()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "local://./data"))
