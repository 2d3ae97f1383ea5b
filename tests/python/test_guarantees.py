"""Order, prefetch, durables and failures nobody waits for, from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import defaultdict

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_handlers import FAST


def ignore(_: Exception, __: eb.Message) -> None:
    """These failures are meant."""


async def test_order_by_key_through_retries(bus: eb.Bus, topic: str) -> None:
    """Consuming: `order="key"` runs N lanes and keeps each key in order through retries."""
    p = bus.producer(topic)
    await asyncio.gather(*(p.send({"n": n}, key=f"k{n % 7}") for n in range(210)))
    done: dict[str, list[int]] = defaultdict(list)
    running_now: set[str] = set()
    overlapped: list[str] = []
    most = 0
    chance = random.Random(7)

    async def handle(m: eb.Message) -> None:
        nonlocal most
        assert m.key
        overlapped.extend(running_now & {m.key})
        running_now.add(m.key)
        most = max(most, len(running_now))
        try:
            await asyncio.sleep(chance.random() / 500)
            if m.attempt == 1 and chance.random() < 0.2:
                raise RuntimeError("once")
            done[m.key].append(m.json()["n"])
        finally:
            running_now.remove(m.key)

    async with bus.consumer(topic, group="g", order="key", concurrency=4, prefetch=32, backoff=FAST) as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: sum(map(len, done.values())) == 210)
    await running
    assert overlapped == []
    assert most == 4
    for numbers in done.values():
        assert numbers == sorted(numbers)


async def test_order_of_the_stream(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: `order="stream"` keeps the whole group, all its processes, in order (max ack pending 1)."""
    await bus.producer(topic).send_many([f"{n}" for n in range(20)])
    done: list[int] = []

    async def handle(m: eb.Message) -> None:
        if m.attempt == 1 and int(m.text()) % 5 == 0:
            raise RuntimeError("once")
        done.append(int(m.text()))

    async with eb.connect(jetstream.url, jetstream=True) as second:
        consumers = [await b.consumer(topic, group="g", order="stream", backoff=FAST) for b in (bus, second)]
        running = [asyncio.create_task(c.run(handle, on_error=ignore)) for c in consumers]
        await until(lambda: len(done) == 20)
        for c, r in zip(consumers, running, strict=True):
            await c.close()
            await r
    assert done == list(range(20))


async def test_in_flight_is_at_most_the_prefetch(bus: eb.Bus, topic: str) -> None:
    """Consuming: prefetch by credit: a slow handler with a backlog never holds more than it."""
    await bus.producer(topic).send_many([b"x"] * 400)
    seen: list[int] = []

    async def handle(_: eb.Message) -> None:
        await asyncio.sleep(0.001)
        metrics = bus.metrics()
        seen.append(metrics["received"] - metrics["settled"])

    async with bus.consumer(topic, group="g", prefetch=10) as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: len(seen) >= 60)
    await running
    assert 5 <= max(seen) <= 10


async def test_an_existing_durable_is_bound_as_it_is(bus: eb.Bus, topic: str) -> None:
    """Consuming: settings given that differ are an error naming each field, or updated, if asked."""
    async with bus.consumer(topic, group="g", ack_wait=20, max_ack_pending=5):
        pass
    async with bus.consumer(topic, group="g"):
        pass
    with pytest.raises(eb.ConflictError) as caught:
        await bus.consumer(topic, group="g", ack_wait="30s", max_ack_pending=6, deliver="new")
    for field in ("ack_wait is 20s and not 30s", "max_ack_pending is 5 and not 6", "deliver_policy"):
        assert field in str(caught.value)
    assert (caught.value.group, caught.value.topic) == ("g", topic)
    async with bus.consumer(topic, group="g", ack_wait=30, max_ack_pending=6, update=True):
        pass
    async with bus.consumer(topic, group="g", ack_wait=30, max_ack_pending=6):
        pass


async def test_expected_sequences(bus: eb.Bus, topic: str) -> None:
    """Publishing: rejected: an expected sequence that does not match; the error names the message's id."""
    p = bus.producer(topic)
    first = await p.send(b"1", expected_last_sequence=0)
    assert first
    assert first.sequence == 1
    await p.send(b"2", expected_last_subject_sequence=1)
    with pytest.raises(eb.WrongSequence) as caught:
        await p.send(b"3", expected_last_sequence=1, id="evt-3")
    assert (caught.value.id, caught.value.topic) == ("evt-3", topic)
    with pytest.raises(eb.WrongSequence) as caught:
        await p.send(b"3", expected_last_subject_sequence=1)
    assert caught.value.id, "a generated one, too"


async def test_on_error_is_told_what_nobody_waits_for(
    bus: eb.Bus, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing: failures of sends nobody waits for reach `on_error`, once, instead of flush."""
    told: list[eb.EventBusError] = []

    def on_error(e: eb.EventBusError) -> None:
        told.append(e)
        if len(told) == 2:
            raise RuntimeError("a listener that fails harms nothing")

    p = bus.producer(topic, on_error=on_error)
    for n in range(3):
        p.send_nowait(b"x", id=f"evt-{n}", expected_last_sequence=9)
    with caplog.at_level(logging.CRITICAL, logger="nats_eventbus"):
        await p.flush()
        await until(lambda: len(told) == 3)
    assert [e.id for e in told] == ["evt-0", "evt-1", "evt-2"]
    assert all(isinstance(e, eb.WrongSequence) for e in told)
    with pytest.raises(eb.WrongSequence):
        await p.send(b"x", expected_last_sequence=9)
    cancelled = asyncio.create_task(p.send(b"x", id="evt-4", expected_last_sequence=9))
    await asyncio.sleep(0)
    cancelled.cancel()
    await p.flush()
    await until(lambda: len(told) == 4)
    assert told[-1].id == "evt-4", "a cancelled send still counts"
    p.send_nowait(b"x", id="evt-5", expected_last_sequence=9)
    del p
    gc.collect()
    await until(lambda: len(told) == 5)


async def test_a_handler_error_in_core_mode_is_counted_and_told(core_bus: eb.Bus, topic: str) -> None:
    """Consuming: core mode: a handler's error is counted, logged and passed to `on_error`; no redelivery."""
    told: list[str] = []

    async def handle(m: eb.Message) -> None:
        if m.text() == "bad":
            raise ValueError("cannot")
        if m.text() == "later":
            raise eb.RetryAfter(1)

    async with core_bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle, on_error=lambda e, m: told.append(f"{m.text()}: {e}")))
        p = core_bus.producer(topic)
        for body in ("good", "bad", "later", "good"):
            await p.send(body)
        await until(lambda: core_bus.metrics()["handler_errors"] == 2)
    await running
    assert told == ["bad: cannot", "later: retry after 1"]


async def test_an_unknown_outcome_names_its_id(topic: str) -> None:
    """Publishing: unknown: the deadline passed, it may be stored: the error carries the id to send again with."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            p = bus.producer(topic, delivery_timeout=3, ack_timeout=0.3)
            await p.send(b"1")
            server.pause()
            with pytest.raises(eb.PublishUnknown) as caught:
                await p.send(b"2")
            server.resume()
            assert caught.value.id
            ack = await p.send(b"2", id=caught.value.id)
            assert ack
            assert ack.duplicate, "the first attempt had arrived after all"
            assert (await bus.streams())[0].messages == 2


async def test_a_loop_that_always_finds_messages_lets_others_have_their_turn(bus: eb.Bus, topic: str) -> None:
    """Consuming: iteration is fair to the loop: timers run while messages are always there."""
    p = bus.producer(topic, max_in_flight=50_000)
    for _ in range(30_000):
        p.send_nowait(b"x")
    await p.flush()
    late: list[float] = []

    async def clock() -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            late.append(loop.time() - before - 0.01)

    n = 0
    async with bus.consumer(topic, group="g", prefetch=10_000) as c:
        ticking = asyncio.create_task(clock())
        async for m in c:
            m.ack()
            n += 1
            if n == 30_000:
                break
        ticking.cancel()
    assert late
    assert sorted(late)[len(late) // 2] < 0.05
