"""Messages taken by `fetch`. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio

import nats_eventbus as eb
import pytest

from .test_bus import until


async def test_fetch_gives_what_there_is(bus: eb.Bus, topic: str) -> None:
    """Consuming: fetch ends by its timeout with what it has; a cancelled one gives it back."""
    p = bus.producer(topic)
    await p.send_many([b"x"] * 10)
    c = await bus.consumer(topic, group="g", prefetch=20)
    assert len(await c.fetch(4)) == 4
    await until(lambda: bus.metrics()["received"] == 10)
    got = await c.fetch(100, timeout=0.2)
    assert len(got) == 6
    await p.send(b"kept")
    waiting = asyncio.create_task(c.fetch(100, timeout=30))
    await until(lambda: bus.metrics()["received"] == 11)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [m.body for m in await c.fetch(1)] == [b"kept"]


async def test_a_fetch_that_is_cut_short(bus: eb.Bus, topic: str) -> None:
    """Consuming: a fetch that is cut short by a close gives what it has; with nothing it fails with the reason."""
    await bus.producer(topic).send_many([b"1", b"2"])
    async with bus.consumer(topic, group="g") as c:
        before = bus.metrics()["received"]
        fetching = asyncio.create_task(c.fetch(5, timeout=30))
        await until(lambda: bus.metrics()["received"] == before + 2)
        await asyncio.sleep(0.02)  # what is received is buffered: now it is taken
        await c.close()
        assert [m.text() for m in await fetching] == ["1", "2"]
        with pytest.raises(eb.ClosedError):
            await c.fetch(1, timeout=30)
