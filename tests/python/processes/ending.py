"""Processes that end with everything live. Arguments: the server's address, a topic, how to end."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import nats_eventbus as eb
import uvloop

kept: list[Any] = []
"""What is still referred to when the interpreter ends."""


async def busy(url: str, topic: str, handler: Callable[[eb.Message], Any] | None = None) -> None:
    """Makes one of everything live, and returns in the middle of it."""
    bus = await eb.connect(url, jetstream=True)
    producer = bus.producer(topic, max_in_flight=2000)
    group = f"g{os.getpid()}-{threading.get_ident()}"
    iterated, handled = await bus.consumer(topic, group=group), await bus.consumer(topic, group=f"{group}-run")
    flowing = asyncio.Event()

    async def iterate() -> None:
        async for m in iterated:
            kept.append(m)
            flowing.set()

    async def handle(m: eb.Message) -> None:
        await asyncio.sleep(0.001)

    async def answer(m: eb.Message) -> bytes:
        return b"yes"

    bus.on_event(lambda e: None)
    await bus.respond(f"{topic}.ask", answer)
    tasks = [asyncio.create_task(iterate()), asyncio.create_task(handled.run(handler or handle))]
    sends = [producer.send(b"x") for _ in range(500)]
    producer.send_nowait(b"x")
    asks = [asyncio.create_task(bus.request(f"{topic}.ask")) for _ in range(20)]
    kept.extend([bus, producer, iterated, handled, tasks, sends, asks, bus.events()])
    await flowing.wait()
    if handler:
        await asyncio.Event().wait()


def live(url: str, topic: str) -> None:
    """The loop is closed, the objects are live."""
    asyncio.run(busy(url, topic))


def live_uvloop(url: str, topic: str) -> None:
    """The same on uvloop."""
    uvloop.run(busy(url, topic))


def loop_open(url: str, topic: str) -> None:
    """Not even the loop is closed."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(busy(url, topic))
    kept.append(loop)


def at_exit(url: str, topic: str) -> None:
    """Objects are used, and closed, when the interpreter is about to end."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(busy(url, topic))
    bus = kept[0]

    async def end() -> None:
        await bus.producer(topic).send(b"last")
        await bus.close()
        sys.stdout.write(bus.state)

    def last() -> None:
        loop.run_until_complete(end())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()

    atexit.register(last)


def in_a_handler(url: str, topic: str) -> None:
    """`sys.exit` in a handler ends the program with its code."""

    async def handler(m: eb.Message) -> None:
        sys.exit(7)

    asyncio.run(busy(url, topic, handler))


def in_a_plain_handler(url: str, topic: str) -> None:
    """The same in a handler that runs in a thread."""
    asyncio.run(busy(url, topic, lambda m: sys.exit(7)))


def in_a_run(url: str, topic: str) -> None:
    """The same under `bus.run`, inside `async with`."""

    async def main() -> None:
        async with eb.connect(url, jetstream=True) as bus:
            await bus.producer(topic).send(b"x")

            @bus.on(topic, group=f"g{os.getpid()}")
            async def _(m: eb.Message) -> None:
                sys.exit(7)

            await bus.run()

    asyncio.run(main())


def daemons(url: str, topic: str) -> None:
    """Loops on daemon threads, in traffic, which the interpreter's end stops wherever they are."""
    flows = [threading.Event() for _ in range(2)]

    async def flow(n: int) -> None:
        bus = await eb.connect(url, jetstream=True)
        producer, consumer = bus.producer(topic, max_in_flight=200), await bus.consumer(topic, group=f"d{os.getpid()}")

        async def send() -> None:
            while True:
                await asyncio.gather(*(producer.send(b"x") for _ in range(50)))

        kept.append(asyncio.create_task(send()))
        async for m in consumer:
            m.ack()
            flows[n].set()

    threading.Thread(target=lambda: asyncio.run(flow(0)), daemon=True).start()
    threading.Thread(target=lambda: uvloop.run(flow(1)), daemon=True).start()
    for e in flows:
        assert e.wait(20)


def raising(url: str, topic: str) -> None:
    """An exception that nobody catches is told, and nothing else."""
    asyncio.run(busy(url, topic))
    sys.exit("the end")


def interrupted(url: str, topic: str) -> None:
    """SIGINT where nobody watches it."""

    async def handler(m: eb.Message) -> None:
        if m.sequence == 1:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.001)

    try:
        asyncio.run(busy(url, topic, handler))
    except KeyboardInterrupt:
        sys.exit(9)


CASES: dict[str, Callable[[str, str], None]] = {
    "live": live,
    "live on uvloop": live_uvloop,
    "loop open": loop_open,
    "atexit": at_exit,
    "sys.exit in a handler": in_a_handler,
    "sys.exit in a plain handler": in_a_plain_handler,
    "sys.exit in a run": in_a_run,
    "daemon threads": daemons,
    "an exception": raising,
    "SIGINT": interrupted,
}

if __name__ == "__main__":
    CASES[sys.argv[3]](sys.argv[1], sys.argv[2])
