"""Leaving: by closing, by the end of a loop, by cancelling; from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_consuming import reaches, state
from .test_outcomes import stream_of


class Gate:
    """A handler that waits inside, until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go = asyncio.Event(), asyncio.Event()
        self.seen: list[str] = []
        self.finished: list[str] = []

    async def __call__(self, m: eb.Message) -> None:
        self.seen.append(m.text())
        self.entered.set()
        await self.go.wait()
        self.finished.append(m.text())


async def others_get(server: Server, topic: str, count: int) -> float:
    """Seconds until another worker has what was given back."""
    async with eb.connect(server.url, jetstream=True) as other, other.consumer(topic, group="g") as c:
        started = time.monotonic()
        got = await c.fetch(count, timeout=10)
        took = time.monotonic() - started
        assert len(got) == count
        for m in got:
            m.ack()
    return took


@pytest.mark.parametrize("way", ["leaving the loop", "closing the consumer", "closing the bus"])
async def test_acks_are_flushed(jetstream: Server, topic: str, way: str) -> None:
    """Leaving: acks are flushed before the connection is closed: what was acked last is acked."""
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send_many([b"x"] * 300)
        c = await bus.consumer(topic, group="g")
        if way == "leaving the loop":
            n = 0
            async with c:
                async for m in c:
                    m.ack()
                    n += 1
                    if n == 300:
                        break
        else:
            got = list[eb.Message]()
            while len(got) < 300:
                got += await c.fetch(300 - len(got))
            for m in got:
                m.ack()
            if way == "closing the consumer":
                await c.close()
    await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)


async def test_a_durable_is_never_deleted(jetstream: Server, topic: str) -> None:
    """Leaving: a durable is never deleted, whichever way one leaves, and the next worker goes on where it is."""
    gate = Gate()
    gate.go.set()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send_many(["1", "2", "3"])
        async with bus.consumer(topic, group="g") as c:
            async for m in c:
                await m.ack_confirmed()
                break
        born = (await state(jetstream, topic))["created"]
        bus.on(topic, group="g")(gate)
        running = asyncio.create_task(bus.run())
        await until(lambda: sorted(gate.finished) == ["2", "3"])
        await bus.close()
        await running
    await reaches(jetstream, topic, created=born, num_ack_pending=0)
    assert (await state(jetstream, topic))["ack_floor"]["stream_seq"] == 3


@pytest.mark.parametrize("runs", ["bus.run", "consumer.run"])
async def test_closing_lets_running_handlers_finish(jetstream: Server, topic: str, runs: str) -> None:
    """Leaving: closing the bus lets a running handler finish, and its message is acked; the buffered go to others."""
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send_many([f"{n}" for n in range(10)])
        if runs == "bus.run":
            bus.on(topic, group="g", prefetch=10)(gate)
            running = asyncio.create_task(bus.run())
        else:
            running = asyncio.create_task((await bus.consumer(topic, group="g", prefetch=10)).run(gate))
        await gate.entered.wait()
        await until(lambda: bus.metrics()["received"] == 10)
        closing = asyncio.create_task(bus.close())
        assert await others_get(jetstream, topic, 9) < 8, "at once, and not after the ack wait"
        assert not closing.done()
        gate.go.set()
        await asyncio.gather(closing, running)
    assert gate.finished == ["0"]
    await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)


async def test_a_cancelled_run_drains(jetstream: Server, topic: str) -> None:
    """Leaving: task cancellation: the running handler finishes, what is buffered goes to another worker at once."""
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send_many([f"{n}" for n in range(10)])
        bus.on(topic, group="g", prefetch=10)(gate)
        running = asyncio.create_task(bus.run())
        await gate.entered.wait()
        await until(lambda: bus.metrics()["received"] == 10)
        running.cancel()
        assert await others_get(jetstream, topic, 9) < 8
        gate.go.set()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert gate.finished == ["0"]
    await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)


async def test_a_cancelled_loop_gives_back(jetstream: Server, topic: str) -> None:
    """Leaving: task cancellation inside `async with`: what is buffered goes to another worker at once."""
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send_many([b"x"] * 20)

        async def loop() -> None:
            async with bus.consumer(topic, group="g", prefetch=20) as c:
                async for m in c:
                    m.ack()
                    await asyncio.Event().wait()

        looping = asyncio.create_task(loop())
        await until(lambda: bus.metrics()["received"] == 20)
        looping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looping
        assert await others_get(jetstream, topic, 19) < 8


@pytest.mark.parametrize("runs", ["bus.run", "consumer.run"])
async def test_drain_timeout_bounds_the_wait_for_handlers(jetstream: Server, topic: str, runs: str) -> None:
    """Leaving: running handlers have up to `drain_timeout`; the message of one that takes longer is not lost."""
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True, drain_timeout=0.5) as bus:
        await bus.producer(topic).send(b"x")
        running: asyncio.Task[Any]
        if runs == "bus.run":
            bus.on(topic, group="g", ack_wait=1)(gate)
            running = asyncio.create_task(bus.run())
        else:
            running = asyncio.create_task((await bus.consumer(topic, group="g", ack_wait=1)).run(gate))
        await gate.entered.wait()
        started = time.monotonic()
        await bus.close()
        assert 0.4 < time.monotonic() - started < 10
        done, _ = await asyncio.wait([running], timeout=10)
        assert done, "the handler was not told"
    assert gate.finished == []
    await others_get(jetstream, topic, 1)


async def test_drain_timeout_bounds_the_wait_for_sends(topic: str) -> None:
    """Leaving: closing waits for unsettled sends up to `drain_timeout`; then each has its outcome all the same."""
    with Server("-js") as server:
        bus = await eb.connect(server.url, jetstream=True, drain_timeout=0.7)
        p = bus.producer(topic)
        await p.send(b"x")
        server.pause()
        sends = [asyncio.create_task(p.send(b"x")) for _ in range(3)]
        await asyncio.sleep(0)
        started = time.monotonic()
        await asyncio.wait_for(bus.close(), 10)
        assert 0.6 < time.monotonic() - started < 10
        for e in await asyncio.gather(*sends, return_exceptions=True):
            assert isinstance(e, eb.PublishUnknown), e
        server.resume()


async def test_closing_waits_for_sends(topic: str) -> None:
    """Leaving: what was sent is acked before the connection is closed."""
    with Server("-js") as server:
        bus = await eb.connect(server.url, jetstream=True)
        p = bus.producer(topic)
        sends = [asyncio.create_task(p.send(b"x")) for _ in range(500)]
        for _ in range(100):
            p.send_nowait(b"x")
        await bus.close()
        acks = await asyncio.gather(*sends)
        assert len({a.sequence for a in acks if a}) == 500
        info = await server.api(f"STREAM.INFO.{stream_of(topic)}")
        assert info["state"]["messages"] == 600
