"""The bus from Python, on real servers. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import time
from collections.abc import Callable
from typing import Any

import nats
import nats.errors
import nats_eventbus as eb
import pydantic
import pytest

from tests.support.server import Server

BIG = 2**60 + 1


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Waits for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.005)


async def test_acked_means_stored(bus: eb.Bus, topic: str) -> None:
    """Publishing: acked, PubAck(stream, sequence, duplicate)."""
    p = bus.producer(topic)
    ack = await p.send({"id": BIG, "name": "知识"}, key="doc-7", id="evt-1", headers={"tenant": "t1"})
    assert ack is not None
    assert (ack.stream, ack.sequence, ack.duplicate) == (f"{topic.replace('.', '_')}_STREAM", 1, False)
    again = await p.send(b"", id="evt-1")
    assert again is not None
    assert again.duplicate
    async with bus.consumer(topic, group="g") as c:
        async for m in c:
            assert m.json() == {"id": BIG, "name": "知识"}
            assert (m.key, m.id, m.attempt, m.sequence, m.stream) == ("doc-7", "evt-1", 1, 1, ack.stream)
            assert (m.topic, m.group, m.headers["tenant"]) == (topic, "g", "t1")
            assert m.timestamp is not None
            assert abs(m.timestamp.timestamp() - time.time()) < 60
            await m.ack_confirmed()
            with pytest.raises(eb.ConflictError):
                await m.ack_confirmed()
            break


async def test_bodies_of_every_kind(bus: eb.Bus, topic: str) -> None:
    """Bodies: bytes-like as is, str as UTF-8, anything else as JSON, exact integers."""

    @dataclasses.dataclass
    class Point:
        x: int

    class Model(pydantic.BaseModel):
        y: int

    bodies = [b"a", bytearray(b"b"), memoryview(b"c"), "ü", {"n": [BIG, None]}, Point(1), [Model(y=2)], 3]
    want = [b"a", b"b", b"c", "ü".encode(), b'{"n":[%d,null]}' % BIG, b'{"x":1}', b'[{"y":2}]', b"3"]
    results = await bus.producer(topic).send_many(bodies)
    assert all(isinstance(r, eb.PubAck) for r in results)
    c = await bus.consumer(topic, group="g")
    assert [m.body for m in await c.fetch(len(bodies))] == want
    with pytest.raises(eb.ConfigError, match="object has no JSON form"):
        await bus.producer(topic).send(object())


async def test_send_many_reports_each(bus: eb.Bus, topic: str) -> None:
    """Publishing: `send_many` reports per message."""
    results = await bus.producer(topic).send_many([b"ok", b"x" * 2_000_000, b"ok"])
    assert isinstance(results[0], eb.PubAck)
    assert isinstance(results[1], eb.TooLarge)
    assert isinstance(results[2], eb.PubAck)


async def test_window_backpressure_and_flush(topic: str) -> None:
    """Publishing: at most max_in_flight; Backpressure; not_sent; flush raises what failed, once."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, drain_timeout=1) as bus:
            p = bus.producer(topic, max_in_flight=3, delivery_timeout=2)
            await p.send(b"first")
            server.kill()
            await until(lambda: bus.state == "disconnected")
            for _ in range(3):
                p.send_nowait(b"x")
            with pytest.raises(eb.Backpressure):
                p.send_nowait(b"x")
            waiting = [p.send(b"y") for _ in range(3)]
            with pytest.raises(eb.NotSent) as caught:
                await p.flush()
            assert len(caught.value.failures) == 3
            assert all(isinstance(e, eb.NotSent) for e in await asyncio.gather(*waiting, return_exceptions=True))
            await p.flush()


async def test_a_cancelled_send_still_counts_in_flush(topic: str) -> None:
    """Publishing: cancellation stops the wait, not the message."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, drain_timeout=1) as bus:
            p = bus.producer(topic, delivery_timeout=2)
            await p.send(b"first")
            server.kill()
            await until(lambda: bus.state == "disconnected")
            task = asyncio.create_task(p.send(b"cancelled"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(eb.NotSent):
                await p.flush()
            await p.flush()


async def test_a_cancelled_wait_loses_no_message(bus: eb.Bus, topic: str) -> None:
    """Consuming: a cancelled anext loses no message."""
    p = bus.producer(topic)
    async with bus.consumer(topic, group="g") as c:
        messages = aiter(c)
        for n in range(50):
            waiting = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0)
            sent = asyncio.ensure_future(p.send(f"{n}"))
            if n % 2:
                await sent
            waiting.cancel()
            (got,) = await asyncio.gather(waiting, return_exceptions=True)
            await sent
            m = got if isinstance(got, eb.Message) else await asyncio.wait_for(anext(messages), 5)
            assert m.text() == f"{n}"
            m.ack()


async def test_a_wait_cancelled_before_it_began_loses_no_message(bus: eb.Bus, topic: str) -> None:
    """Consuming: a cancelled anext loses no message, also when its message was there and the task never ran."""
    await bus.producer(topic).send_many(["0", "1", "2"])
    async with bus.consumer(topic, group="g") as c:
        messages = aiter(c)
        assert (await anext(messages)).text() == "0"
        wait: Any = anext(messages)
        task: asyncio.Task[Any] = asyncio.create_task(wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        del task, wait
        gc.collect()
        assert (await anext(messages)).text() == "1"
        wait = anext(messages)
        wait.close()
        assert (await anext(messages)).text() == "2"


async def test_settling(bus: eb.Bus, topic: str) -> None:
    """Consuming: nak with delay is redelivered, term is not, attempt counts."""
    await bus.producer(topic).send_many([b"again", b"never"])
    async with bus.consumer(topic, group="g") as c:
        again, never = await c.fetch(2)
        started = time.monotonic()
        assert again.nak(delay=0.3)
        assert never.term("poison")
        assert not never.ack(), "settled once"
        (m,) = await c.fetch(1)
        assert (m.body, m.attempt) == (b"again", 2)
        assert time.monotonic() - started >= 0.25
        m.in_progress()
        m.ack()


async def test_closing_gives_back_what_is_buffered(jetstream: Server, topic: str) -> None:
    """Leaving: what is buffered goes to another worker now, and not after ack wait; the durable stays."""
    async with (
        eb.connect(jetstream.url, jetstream=True) as one,
        eb.connect(jetstream.url, jetstream=True) as two,
    ):
        await one.producer(topic).send_many([b"x"] * 200)
        async with one.consumer(topic, group="g", prefetch=256) as a:
            async for m in a:
                await until(lambda: one.metrics()["received"] == 200)
                m.ack()
                break
        async with two.consumer(topic, group="g") as b:
            started = time.monotonic()
            got = await b.fetch(199, timeout=10)
            assert len(got) == 199
            assert time.monotonic() - started < 5


async def test_core_mode(core_bus: eb.Bus, topic: str) -> None:
    """Core mode: send gives None, settling is a no-op, flush is a round trip."""
    async with core_bus.consumer(topic, group="g") as c:
        p = core_bus.producer(topic)
        assert await p.send(b"x", key="k") is None
        assert await p.send_many([b"y", b"z"]) == [None, None]
        p.send_nowait(b"w")
        await p.flush()
        got = await c.fetch(4)
        assert [m.body for m in got] == [b"x", b"y", b"z", b"w"]
        assert (got[0].key, got[0].attempt, got[0].sequence) == ("k", 1, None)
        assert not got[0].ack()
        await got[0].ack_confirmed()


async def test_requests(core_bus: eb.Bus, topic: str) -> None:
    """Request and reply: a reply, NoResponders at once, Timeout, a responder's error as RequestFailed."""
    started = time.monotonic()
    with pytest.raises(eb.NoResponders):
        await core_bus.request(topic, b"?", timeout=10)
    assert time.monotonic() - started < 5
    release = asyncio.Event()

    async def answer(m: eb.Message) -> Any:
        if m.body == b"fail":
            raise LookupError("no such agent")
        if m.body == b"slow":
            await release.wait()
        return {"echo": m.text()}

    responder = await core_bus.respond(topic, answer, group="agents")
    assert (await core_bus.request(topic, "hi")).json() == {"echo": "hi"}
    with pytest.raises(eb.RequestFailed) as failed:
        await core_bus.request(topic, b"fail")
    assert failed.value.server == "LookupError: no such agent"
    with pytest.raises(eb.Timeout):
        await core_bus.request(topic, b"slow", timeout=0.1)
    running = asyncio.create_task(core_bus.request(topic, b"slow", timeout=5))
    await until(lambda: len(responder._running) == 2)
    closing = asyncio.create_task(responder.close())
    release.set()
    assert (await running).json() == {"echo": "slow"}, "closing lets running requests finish"
    await closing


async def test_shares_a_durable_with_the_platform(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """The platform: nats-py `pull_subscribe`, fetch(1) and ours on one durable; each event handled by exactly one."""
    await bus.producer(topic).send_many([f"{n}" for n in range(500)])
    client = await nats.connect(jetstream.url)  # pyright: ignore[reportUnknownMemberType]
    subscription = await client.jetstream().pull_subscribe(topic, durable="cg")  # pyright: ignore[reportUnknownMemberType]
    theirs: list[int] = []
    ours: list[int] = []

    async def platform() -> None:
        while len(theirs) + len(ours) < 500:
            try:
                (m,) = await subscription.fetch(1, timeout=0.5)
            except (nats.errors.TimeoutError, TimeoutError):
                continue
            theirs.append(int(m.data))
            await m.ack()

    async def us() -> None:
        async with bus.consumer(topic, group="cg", prefetch=8) as c:
            while len(theirs) + len(ours) < 500:
                for m in await c.fetch(1, timeout=0.5):
                    ours.append(int(m.body))
                    m.ack()

    await asyncio.wait_for(asyncio.gather(platform(), us()), 30)
    await client.close()
    assert sorted(theirs + ours) == list(range(500))
    assert theirs
    assert ours


async def test_streams_and_durables_are_the_platforms(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Streams: declared as the platform declares them, durables as its PullSubscribe makes them."""
    await bus.producer(topic).send(b"x")
    await (await bus.consumer(topic, group="cg")).close()
    client = await nats.connect(jetstream.url)  # pyright: ignore[reportUnknownMemberType]
    js = client.jetstream()  # pyright: ignore[reportUnknownMemberType]
    stream = (await js.stream_info(f"{topic.replace('.', '_')}_STREAM")).config
    assert (stream.subjects, stream.storage, stream.retention) == ([topic], "file", "limits")
    assert (stream.max_age, stream.max_msgs, stream.max_bytes) == (86_400, 1_000_000, 1 << 30)
    assert (stream.num_replicas, stream.duplicate_window) == (1, 120)
    assert stream.name
    durable = (await js.consumer_info(stream.name, "cg")).config
    assert (durable.durable_name, durable.filter_subject, durable.ack_policy) == ("cg", topic, "explicit")
    assert (durable.ack_wait, durable.max_deliver, durable.max_ack_pending) == (30, -1, 65536)
    assert (durable.deliver_policy, durable.replay_policy) == ("all", "instant")
    await client.close()


async def test_a_kill_loses_nothing(topic: str) -> None:
    """Nothing acked is lost, every id is stored once, the consumer pulls again after a restart."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            p = bus.producer(topic)
            sends = asyncio.gather(*[p.send(f"{n}") for n in range(5000)])
            seen: set[str] = set()
            async with bus.consumer(topic, group="g") as c:
                async for m in c:
                    seen.add(m.text())
                    m.ack()
                    if len(seen) == 1000:
                        server.kill()
                        server.start()
                    if len(seen) == 5000:
                        break
            assert len({a.sequence for a in await sends if a}) == 5000
            info = await bus.stream(f"{topic.replace('.', '_')}_STREAM").info()
            assert info.messages == 5000


async def test_host_wakeups_are_far_fewer_than_messages(core_bus: eb.Bus, bus: eb.Bus, topic: str) -> None:
    """The bridge: no wake-up per message on send, receive or ack, under load, by its own counters."""
    for b, count in ((core_bus, 100_000), (bus, 100_000)):
        native = b._native
        async with b.consumer(topic, group="g") as c:
            p = b.producer(topic)
            before = native.bridge_counts()[1]
            got = 0

            async def send(p: eb.Producer = p, count: int = count) -> None:
                for start in range(0, count, 1000):
                    await asyncio.gather(*[p.send(b"x" * 64) for _ in range(start, start + 1000)])

            sending = asyncio.create_task(send())
            async for m in c:
                m.ack()
                got += 1
                if got == count:
                    break
            await sending
            wakes = native.bridge_counts()[1] - before
            assert wakes < 2 * count / 10, f"{wakes} wake-ups for {count} sent and {count} received"


def test_any_loop_and_several_of_them(run: Callable[[Any], Any], jetstream: Server, topic: str) -> None:
    """Python objects work from any event loop, also a second one, under asyncio and uvloop."""

    async def first() -> eb.Bus:
        b = await eb.connect(jetstream.url, jetstream=True)
        await b.producer(topic).send(b"one")
        return b

    async def second(b: eb.Bus) -> list[bytes]:
        await b.producer(topic).send(b"two")
        c = await b.consumer(topic, group="g")
        got = [m.body for m in await c.fetch(2)]
        await b.close()
        return got

    bus = run(first())
    assert run(second(bus)) == [b"one", b"two"]
    del bus
    gc.collect()


async def test_useful_reprs(bus: eb.Bus, topic: str) -> None:
    """Everything has a useful repr; Jupyter gets small cards."""
    assert "connected to 127.0.0.1" in repr(bus)
    assert bus.server.version in bus._repr_html_()
    p = bus.producer(topic)
    ack = await p.send(b"x")
    assert topic in repr(p)
    assert "sequence=1" in repr(ack)
    info = await bus.stream(f"{topic.replace('.', '_')}_STREAM").info()
    assert info.name in info._repr_html_()
    async with bus.consumer(topic, group="g") as c:
        (m,) = await c.fetch(1)
        assert topic in repr(c)
        assert topic in repr(m)
        m.ack()


async def test_what_calls_return_suits_all_of_asyncio(bus: eb.Bus, topic: str) -> None:
    """API: what `send` returns can be awaited, gathered, shielded, timed, made a task; cancelled, it still counts."""
    p = bus.producer(topic)
    acks = await asyncio.gather(*(p.send(b"x") for _ in range(10)), asyncio.create_task(p.send(b"x")))
    assert sorted(a.sequence for a in acks if a) == list(range(1, 12))
    assert await asyncio.wait_for(p.send(b"x"), 5)
    assert await asyncio.shield(p.send(b"x"))
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(p.send(b"x"))
    assert one.result()
    failed = await asyncio.gather(p.send(b"x", expected_last_sequence=1), p.send(b"x"), return_exceptions=True)
    assert isinstance(failed[0], eb.WrongSequence)
    assert isinstance(failed[1], eb.PubAck)
    gathered = asyncio.gather(p.send(b"x"), p.send(b"x", expected_last_sequence=1))
    gathered.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathered
    with pytest.raises(eb.WrongSequence):
        await p.flush()
