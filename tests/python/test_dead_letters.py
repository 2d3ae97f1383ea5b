"""Dead letters from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import nats_eventbus as eb
import pytest

from .test_bus import until
from .test_guarantees import ignore


async def reject_all(bus: eb.Bus, topic: str, n: int) -> None:
    """A run of group "g" that rejects the next messages."""
    before = bus.metrics()["dead_letters"]

    async def handle(_: eb.Message) -> None:
        raise eb.Reject("cannot")

    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: bus.metrics()["dead_letters"] == before + n)
    await running


async def test_listed_replayed_discarded(bus: eb.Bus, topic: str) -> None:
    """Consuming: dead letters can be listed, replayed to the group alone, and discarded."""
    p = bus.producer(topic)
    for n in range(3):
        await p.send({"n": 2**60 + n}, id=f"evt-{topic}-{n}", key="doc", headers={"tenant": "t1"})
    await reject_all(bus, topic, 3)
    dlq = bus.dead_letters(topic, group="g")
    letters = [d async for d in dlq]
    assert [d.json() for d in letters] == [{"n": 2**60 + n} for n in range(3)]
    first = letters[0]
    assert (first.topic, first.group, first.sequence, first.attempts) == (topic, "g", 1, 1)
    assert (first.reason, first.key, first.id, first.headers) == ("cannot", "doc", f"evt-{topic}-0", {"tenant": "t1"})
    assert first.stream == f"{topic.replace('.', '_')}_STREAM"
    assert first.truncated is None
    assert datetime.now(UTC) - first.time < timedelta(minutes=1)
    assert "reason='cannot'" in repr(first)
    async with bus.consumer(topic, group="g") as c, bus.consumer(topic, group="other") as other:
        assert len(await other.fetch(3)) == 3
        await first.replay()
        [m] = await c.fetch(1)
        assert (m.topic, m.json(), m.id, m.key, m.attempt) == (topic, {"n": 2**60}, f"evt-{topic}-0", "doc", 1)
        assert m.headers["tenant"] == "t1"
        await m.ack_confirmed()
        assert await other.fetch(1, timeout=0.2) == [], "no other group sees it"
        assert await letters[1].discard()
        assert not await letters[1].discard()
        assert await dlq.replay() == 1
        assert [m.json() for m in await c.fetch(1)] == [{"n": 2**60 + 2}]
        assert [d async for d in dlq] == []
        assert (await dlq.replay(), await dlq.discard()) == (0, 0)


async def test_a_listing_that_replays_ends(bus: eb.Bus, topic: str) -> None:
    """Consuming: what is replayed while it is listed, and fails again, is a letter of the next listing."""

    async def handle(_: eb.Message) -> None:
        raise eb.Reject("cannot")

    await bus.producer(topic).send_many(["1", "2"])
    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: bus.metrics()["dead_letters"] == 2)
        listed = 0
        async for letter in bus.dead_letters(topic, group="g"):
            listed += 1
            await letter.replay()
            await until(lambda n=listed: bus.metrics()["dead_letters"] == 2 + n)
    await running
    assert listed == 2


async def test_dead_letters_need_jetstream(core_bus: eb.Bus) -> None:
    """Errors: Config names what to set."""
    with pytest.raises(eb.ConfigError, match="JetStream"):
        core_bus.dead_letters("t", group="g")
