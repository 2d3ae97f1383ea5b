"""Attempts are handlers' attempts: what counts towards a dead letter. Contract lines are in the docstrings."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import nats
import nats_eventbus as eb

from tests.support.server import Server

from .test_bus import until
from .test_consuming import reaches

QUICK = eb.Backoff(initial=0.02, max=0.02)


async def letters(bus: eb.Bus, topic: str) -> list[eb.DeadLetter]:
    return [letter async for letter in bus.dead_letters(topic, group="g")]


async def test_deploys_make_no_dead_letters(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: deliveries that no handler began do not count: ten graceful restarts over a waiting backlog."""
    await bus.producer(topic).send_many([f"{n}" for n in range(20)])
    for _ in range(10):
        async with (
            eb.connect(jetstream.url, jetstream=True) as worker,
            worker.consumer(topic, group="g", prefetch=20),
        ):
            await until(lambda w=worker: w.metrics()["received"] == 20)
    seen: list[tuple[bool, int]] = []

    async def handle(m: eb.Message) -> None:
        seen.append((m.attempt > 10, m.failures))

    async with bus.consumer(topic, group="g", concurrency=8) as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: len(seen) == 20)
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)
    await running
    assert seen == [(True, 0)] * 20
    assert await letters(bus, topic) == []


async def test_failures_count_across_workers(jetstream: Server, topic: str) -> None:
    """Consuming: a dead letter after `max_deliver` failures, whichever worker failed; it has them."""
    seen: list[int] = []
    for n in range(3):
        async with eb.connect(jetstream.url, jetstream=True) as worker:
            if n == 0:
                await worker.producer(topic).send(b"x")
            failed = asyncio.Event()

            async def handle(m: eb.Message, n: int = n, failed: asyncio.Event = failed) -> None:
                seen.append(m.failures)
                failed.set()
                raise ValueError(f"failure {n}")

            async with worker.consumer(topic, group="g", backoff=eb.Backoff(initial=0.5, max=0.5)) as c:
                running = asyncio.create_task(c.run(handle))
                async with asyncio.timeout(10):
                    await failed.wait()
            await running
            if n == 2:
                await until(lambda w=worker: w.metrics()["dead_letters"] == 1)
                [letter] = await letters(worker, topic)
                assert (letter.failures, letter.reason) == (3, "ValueError: failure 2")
                assert letter.attempts >= 3
    assert seen == [0, 1, 2]


async def test_deliveries_that_others_gave_back_do_not_count(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: deliveries that another client gave back do not count, however many."""
    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g"):
        pass
    other = await nats.connect(jetstream.url)  # pyright: ignore[reportUnknownMemberType]
    js: Any = other.jetstream()  # pyright: ignore[reportUnknownMemberType]
    sub = await js.pull_subscribe_bind("g", f"{topic.replace('.', '_')}_STREAM")
    for _ in range(7):
        [got] = await sub.fetch(1, timeout=10)
        await got.nak()
    await other.flush()
    await other.close()
    seen: list[int] = []
    attempts: list[int] = []

    async def handle(m: eb.Message) -> None:
        seen.append(m.failures)
        attempts.append(m.attempt)
        raise ValueError("boom")

    async with bus.consumer(topic, group="g", backoff=QUICK) as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: bus.metrics()["dead_letters"] == 1)
    await running
    assert seen == [0, 1, 2]
    assert attempts[0] > 7
    [letter] = await letters(bus, topic)
    assert letter.failures == 3
    assert letter.attempts > 9


KILLED = """
import asyncio, os, sys
import nats_eventbus as eb

async def main():
    async with eb.connect(sys.argv[1], jetstream=True) as bus:
        @bus.on(sys.argv[2], group="g", ack_wait=0.5, concurrency=4)
        async def handle(m):
            if m.text() == "killer":
                os._exit(137)
            await asyncio.sleep(0.05)

        await bus.run()

asyncio.run(main())
"""


async def test_a_message_that_kills_its_process_is_the_only_dead_letter(
    bus: eb.Bus, jetstream: Server, topic: str, tmp_path: Path
) -> None:
    """Consuming: a message that handlers died with `max_deliver` times becomes a dead letter; others do not."""
    await bus.producer(topic).send_many(["killer", *(f"{n}" for n in range(10))])
    script = tmp_path / "worker.py"
    script.write_text(KILLED)
    starts = 0
    while not await letters(bus, topic):
        starts += 1
        assert starts <= 8, "it is never found out"
        worker = await asyncio.create_subprocess_exec(sys.executable, str(script), jetstream.url, topic)
        try:
            died = asyncio.create_task(worker.wait())
            while not died.done() and not await letters(bus, topic):
                await asyncio.wait([died], timeout=0.1)
        finally:
            if worker.returncode is None:
                worker.terminate()
            await worker.wait()
    async with bus.consumer(topic, group="g", concurrency=4) as c:
        running = asyncio.create_task(c.run(lambda m: None))
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)
    await running
    [letter] = await letters(bus, topic)
    assert (letter.text(), letter.failures) == ("killer", 3)
    assert "its process died 3 times" in letter.reason


async def test_a_handlers_own_settling_stands(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a message that its handler settled by itself stays so, whatever the handler raises afterwards."""
    await bus.producer(topic).send(b"x")
    told: list[BaseException] = []

    async def handle(m: eb.Message) -> None:
        m.ack()
        raise ValueError("after the ack")

    async with bus.consumer(topic, group="g", max_deliver=1) as c:
        running = asyncio.create_task(c.run(handle, on_error=lambda e, _: told.append(e)))
        await until(lambda: len(told) == 1)
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)
    await running
    assert await letters(bus, topic) == []
