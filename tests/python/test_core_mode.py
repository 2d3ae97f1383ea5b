"""Core mode: a queue group, and the same code as with JetStream. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until


async def test_core_mode_shares_and_never_redelivers(core_bus: eb.Bus, core: Server, topic: str) -> None:
    """Consuming: core mode is a queue group, without redelivery: each message comes once, to one of the group."""
    async with (
        eb.connect(core.url) as other,
        core_bus.consumer(topic, group="g") as a,
        other.consumer(topic, group="g") as b,
        other.consumer(topic, group="another") as c,
    ):
        p = core_bus.producer(topic)
        await p.send_many([f"{n}" for n in range(400)])
        await p.flush()
        await until(lambda: core_bus.metrics()["received"] + other.metrics()["received"] == 800)
        of_a, of_b = await a.fetch(400, timeout=0.2), await b.fetch(400, timeout=0.2)
        for m in (*of_a, *of_b):
            m.nak()
        assert of_a
        assert of_b
        assert sorted(int(m.text()) for m in (*of_a, *of_b)) == list(range(400))
        assert len(await c.fetch(400)) == 400
        assert await a.fetch(1, timeout=0.2) + await b.fetch(1, timeout=0.1) == []


async def test_settling_is_a_no_op_in_core_mode(core_bus: eb.Bus, topic: str) -> None:
    """Consuming: core mode: every verb of settling is a no-op, so that the same code runs in both modes."""
    async with core_bus.consumer(topic, group="g") as c:
        await core_bus.producer(topic).send_many([b"x"] * 5)
        verbs = ["ack", "nak", "term", "in_progress"]
        for m, verb in zip(await c.fetch(4), verbs, strict=True):
            assert not getattr(m, verb)(), verb
            await m.ack_confirmed()
        [m] = await c.fetch(1)
        assert not m.nak(delay=1)
        assert not m.term("reason")
        assert await c.fetch(1, timeout=0.1) == []
    assert core_bus.metrics()["settled"] == 0


async def test_a_handler_error_in_core_mode_is_logged(
    core_bus: eb.Bus, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Consuming: core mode: a handler's error is counted and logged."""

    async def handle(_: eb.Message) -> None:
        raise ValueError("cannot")

    async with core_bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle))
        await core_bus.producer(topic).send(b"x")
        await until(lambda: core_bus.metrics()["handler_errors"] == 1)
    await running
    [record] = [r for r in caplog.records if r.name == "nats_eventbus"]
    assert topic in record.getMessage()
    assert "ValueError: cannot" in (record.exc_text or caplog.text)
