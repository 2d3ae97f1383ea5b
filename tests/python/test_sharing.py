"""Fair shares, bounded bytes, and when a message is kept from redelivery. Contract lines are in the docstrings."""

from __future__ import annotations

import asyncio
import time

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_consuming import reaches


async def test_workers_of_slow_jobs_share_them(jetstream: Server, topic: str) -> None:
    """Consuming: without a `prefetch` setting four equal workers of slow jobs differ by at most two."""
    done = [0] * 4
    buses = [await eb.connect(jetstream.url, jetstream=True) for _ in done]
    await buses[0].producer(topic).send_many([f"{n}" for n in range(40)])
    runs: list[asyncio.Task[None]] = []
    for n, bus in enumerate(buses):

        async def job(_: eb.Message, n: int = n) -> None:
            await asyncio.sleep(0.1)
            done[n] += 1

        runs.append(asyncio.create_task((await bus.consumer(topic, group="g")).run(job)))
    await until(lambda: sum(done) == 40)
    for bus in buses:
        await bus.close()
    await asyncio.gather(*runs)
    assert max(done) - min(done) <= 2, done


async def test_large_bodies_come_a_few_at_a_time(jetstream: Server, topic: str) -> None:
    """Consuming: prefetch is by credit, in bytes as well: a backlog of large bodies costs no connection."""
    body = b"x" * (1023 * 1024)
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        for _ in range(6):
            await bus.producer(topic).send_many([body] * 10)
        events = bus.events()
        async with bus.consumer(topic, group="g", prefetch=60) as c:
            for _ in range(60):
                m = await anext(aiter(c))
                assert (m.attempt, len(m.body)) == (1, len(body))
                m.ack()
        assert bus.metrics()["reconnects"] == 0
    assert [e.kind async for e in events] == ["closed"]


async def test_the_clock_of_max_processing_starts_with_the_handler(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: what waits here for longer than `max_processing` is handled once, as it is."""
    await bus.producer(topic).send_many([f"{n}" for n in range(8)])
    seen: list[tuple[str, int]] = []

    async def job(m: eb.Message) -> None:
        seen.append((m.text(), m.attempt))
        await asyncio.sleep(0.25)

    async with bus.consumer(topic, group="g", prefetch=8, max_processing=1, ack_wait=0.6) as c:
        running = asyncio.create_task(c.run(job))
        await until(lambda: len(seen) == 8)
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)
    await running
    assert seen == [(f"{n}", 1) for n in range(8)]


@pytest.mark.parametrize("way", ["raised", "fetched"])
async def test_closing_ends_every_extension(bus: eb.Bus, topic: str, way: str) -> None:
    """Consuming: what was taken and not settled comes again after its ack wait, once its consumer is closed."""
    await bus.producer(topic).send(b"x")
    kept: list[eb.Message] = []

    async def leave() -> None:
        async with bus.consumer(topic, group="g", ack_wait=0.8) as c:
            if way == "fetched":
                kept.extend(await c.fetch(10, timeout=0.2))
                raise RuntimeError("boom")
            async for m in c:
                kept.append(m)
                raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await leave()
    closed = time.monotonic()
    async with bus.consumer(topic, group="g") as c:
        [again] = await c.fetch(1, timeout=6)
    assert again.attempt >= 2
    assert time.monotonic() - closed < 5
    assert len(kept) == 1


async def test_a_loop_that_is_left_gives_back_what_is_buffered(jetstream: Server, bus: eb.Bus, topic: str) -> None:
    """Consuming: where nothing is taken for an ack wait, others get what is buffered; the next take goes on."""
    p = bus.producer(topic)
    await p.send_many([f"{n}" for n in range(20)])
    left = await bus.consumer(topic, group="g", ack_wait=0.8, prefetch=30)
    async for m in left:
        m.ack()
        break
    await until(lambda: bus.metrics()["received"] == 20)
    async with eb.connect(jetstream.url, jetstream=True) as other, other.consumer(topic, group="g") as c:
        got: list[eb.Message] = []
        async with asyncio.timeout(10):
            while len(got) < 19:
                got += await c.fetch(19 - len(got), timeout=5)
        assert min(m.attempt for m in got) >= 2
        for m in got:
            assert m.ack()
    await p.send("again")
    async with asyncio.timeout(10):
        m = await anext(aiter(left))
    assert m.text() == "again"
    m.ack()
    await left.close()
