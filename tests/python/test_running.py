"""`bus.run`: how it ends, and what it leaves. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_consuming import reaches
from .test_leaving import Gate, others_get
from .test_outcomes import stream_of

each_concurrency = pytest.mark.parametrize("concurrency", [1, 4])


async def nothing(_: eb.Message) -> None: ...


async def test_stop_drains_and_closes(jetstream: Server, topic: str) -> None:
    """Leaving: `stop()` asks `run()` to end: running handlers finish, the buffered go to others, the bus is closed."""
    gate = Gate()
    bus = await eb.connect(jetstream.url, jetstream=True)
    await bus.producer(topic).send_many([f"{n}" for n in range(10)])
    bus.on(topic, group="g", prefetch=10)(gate)
    running = asyncio.create_task(bus.run())
    await gate.entered.wait()
    await until(lambda: bus.metrics()["received"] == 10)
    bus.stop()
    assert await others_get(jetstream, topic, 9) < 8, "at once, and not after the ack wait"
    assert not running.done()
    gate.go.set()
    await running
    assert gate.finished == ["0"]
    assert bus.state == "closed"
    bus.stop()
    await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)


@each_concurrency
@pytest.mark.parametrize(
    ("runs", "kind"),
    [
        ("bus.run", "stop"),
        ("bus.run", "stop in a thread"),
        ("bus.run", "close"),
        ("bus.run", "close in a task"),
        ("consumer.run", "close"),
        ("consumer.run", "close in a task"),
    ],
)
def test_a_handler_ends_its_own_run(
    jetstream: Server, topic: str, run: Callable[[Any], Any], runs: str, kind: str, concurrency: int
) -> None:
    """Leaving: `stop()` and `close()` inside a handler begin the end and do not wait for that handler; it is acked."""
    finished: list[str] = []

    async def main() -> None:
        bus = await eb.connect(jetstream.url, jetstream=True)

        def plain(m: eb.Message) -> None:
            bus.stop()
            finished.append(m.text())

        async def handle(m: eb.Message) -> None:
            if kind == "stop":
                bus.stop()
            elif kind == "close":
                await bus.close()
            else:
                await asyncio.create_task(bus.close())
            assert bus.state == "connected"
            await asyncio.sleep(0.01)
            finished.append(m.text())

        await bus.producer(topic).send("x")
        handler: Any = plain if kind == "stop in a thread" else handle
        settings: dict[str, Any] = {"group": "g", "concurrency": concurrency, "ack_wait": 60}
        if runs == "bus.run":
            bus.on(topic, **settings)(handler)
            await asyncio.wait_for(bus.run(), 10)
        else:
            consumer = await bus.consumer(topic, **settings)
            await asyncio.wait_for(consumer.run(handler), 10)
        assert bus.state == "closed"
        assert bus.metrics()["settled"] == 1
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []
        await bus.close()
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)

    run(main())
    assert finished == ["x"]


async def test_a_handler_of_another_bus_waits_for_the_end(jetstream: Server, topic: str) -> None:
    """Leaving: `close()` of another bus than the handler's own is waited for."""
    states: list[str] = []
    other = await eb.connect(jetstream.url, jetstream=True)
    async with eb.connect(jetstream.url, jetstream=True) as bus:

        @bus.on(topic, group="g")
        async def _(_: eb.Message) -> None:
            await other.close()
            states.append(other.state)
            bus.stop()

        await bus.producer(topic).send("x")
        await bus.run()
    assert states == ["closed"]


async def test_one_run_at_a_time(bus: eb.Bus, topic: str) -> None:
    """Errors: a second `run()` of a bus that runs is a ConfigError, and harms nothing; afterwards it may run again."""
    seen: list[str] = []

    @bus.on(topic, group="g")
    async def _(m: eb.Message) -> None:
        seen.append(m.text())

    running = asyncio.create_task(bus.run())
    await bus.producer(topic).send("1")
    await until(lambda: seen == ["1"])
    with pytest.raises(eb.ConfigError, match="the bus runs already"):
        await bus.run()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert bus.state == "connected"
    running = asyncio.create_task(bus.run())
    await bus.producer(topic).send("2")
    await until(lambda: seen == ["1", "2"])
    bus.stop()
    await running


async def test_a_late_handler_starts_at_once(bus: eb.Bus, topic: str) -> None:
    """Consuming: a handler registered during a run starts at once, also by a handler; its failure ends the run."""
    seen: list[str] = []

    @bus.on(f"{topic}.a", group="g")
    async def _(m: eb.Message) -> None:
        seen.append(m.topic)

        @bus.on(f"{topic}.b", group="g")
        async def _(m: eb.Message) -> None:
            seen.append(m.topic)

    running = asyncio.create_task(bus.run())
    await bus.producer(f"{topic}.a").send("x")
    await bus.producer(f"{topic}.b").send("x")
    await until(lambda: seen == [f"{topic}.a", f"{topic}.b"])
    bus.on(f"{topic}.c", group="g", declare=False)(nothing)
    with pytest.raises(eb.NotFoundError):
        await asyncio.wait_for(running, 10)
    assert bus.state == "connected"


async def test_a_cancelled_run_leaves_no_task(jetstream: Server, topic: str) -> None:
    """Leaving: a run that is cancelled leaves nothing behind."""
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        bus.on(topic, group="g")(nothing)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bus.run(), 0.2)
        assert bus.state == "connected"
    assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []


async def test_a_run_cancelled_twice_waits_for_no_handler(jetstream: Server, topic: str) -> None:
    """Leaving: a run that is cancelled again while it drains gives up its handlers; their messages go to others."""
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        await bus.producer(topic).send("x")
        bus.on(topic, group="g", ack_wait=60)(gate)
        running = asyncio.create_task(bus.run())
        await gate.entered.wait()
        running.cancel()
        done, _ = await asyncio.wait([running], timeout=0.1)
        assert not done
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 10)
        assert await others_get(jetstream, topic, 1) < 8
    assert gate.finished == []


async def test_a_handler_that_cannot_be_cancelled_holds_up_nothing(jetstream: Server, topic: str) -> None:
    """Leaving: `run()` and `close()` end also where a handler ignores that it is cancelled."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def stubborn(_: eb.Message) -> None:
        entered.set()
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    bus = await eb.connect(jetstream.url, jetstream=True, drain_timeout=0.2)
    await bus.producer(topic).send("x")
    bus.on(topic, group="g")(stubborn)
    running = asyncio.create_task(bus.run())
    await entered.wait()
    started = time.monotonic()
    await asyncio.wait_for(bus.close(), 10)
    await asyncio.wait_for(running, 10)
    assert time.monotonic() - started < 5
    assert bus.state == "closed"
    go.set()


@pytest.mark.parametrize("runs", ["bus.run", "consumer.run"])
async def test_a_failed_consumer_stays_in_health(topic: str, runs: str) -> None:
    """Consuming: a consumer that cannot go on stays a problem in `health()`, also when its run has ended."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            bus.on(topic, group="g")(nothing)
            bus.on(f"{topic}.other", group="g")(nothing)
            consumer = await bus.consumer(topic, group="g")
            running = asyncio.create_task(bus.run() if runs == "bus.run" else consumer.run(nothing))
            if runs == "bus.run":
                await consumer.close()
                end = time.monotonic() + 10
                while len((await bus.health()).consumers) < 2:
                    assert time.monotonic() < end
            await server.api(f"STREAM.DELETE.{stream_of(topic)}")
            with pytest.raises(eb.NotFoundError):
                await asyncio.wait_for(running, 10)
            health = await bus.health()
            assert not health.ok
            assert not health.alive
            assert [(c.topic, c.code) for c in health.consumers] == [(topic, "not_found")]
            if runs == "bus.run":
                running = asyncio.create_task(bus.run())
                end = time.monotonic() + 10
                while not (health := await bus.health()).ok or len(health.consumers) < 2:
                    assert time.monotonic() < end, health
                bus.stop()
                await running


async def test_stop_while_a_consumer_opens(topic: str) -> None:
    """Leaving: `stop()` also ends a run whose consumers are still being opened."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, drain_timeout=0.5, api_timeout=20) as bus:
            bus.on(topic, group="g")(nothing)
            server.pause()
            try:
                running = asyncio.create_task(bus.run())
                await asyncio.sleep(0)
                bus.stop()
                await asyncio.wait_for(running, 10)
            finally:
                server.resume()
