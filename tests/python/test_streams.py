"""Streams, requests and topics from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_outcomes import make, stored, stream_of


async def test_an_operators_stream_is_used(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Streams: found by subject first, so an operator's stream covering the topic is used, and none is declared."""
    wide = {"name": stream_of(topic) + "_WIDE", "subjects": [f"{topic}.>"]}
    assert "error" not in await jetstream.api(f"STREAM.CREATE.{wide['name']}", wide)
    ack = await bus.producer(f"{topic}.42.done").send(b"x")
    assert ack
    assert ack.stream == wide["name"]
    async with bus.consumer(f"{topic}.*.done", group="g") as c:
        assert c.stream == wide["name"]
        [m] = await c.fetch(1)
        assert (m.topic, m.stream) == (f"{topic}.42.done", wide["name"])
    assert [s.name for s in await bus.streams() if any(topic in t for t in s.subjects)] == [wide["name"]]


async def test_declared_with_the_replicas_of_the_environment(
    jetstream: Server, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams: declared with `NATS_STREAM_REPLICAS`: one server alone refuses 3, in its own words."""
    monkeypatch.setenv("NATS_STREAM_REPLICAS", "3")
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        with pytest.raises(eb.EventBusError) as caught:
            await bus.producer(topic).send(b"x")
        assert "replicas" in (caught.value.server or "")
        with pytest.raises(eb.EventBusError, match="replicas"):
            await bus.consumer(topic, group="g")
    async with eb.connect(jetstream.url, jetstream=True, replicas=1) as bus:
        assert await bus.producer(topic).send(b"x"), "explicit beats environment"


@pytest.mark.parametrize("way", ["here", "connection"])
async def test_without_declaring_absence_is_an_error(jetstream: Server, topic: str, way: str) -> None:
    """Streams: `declare=False` makes a stream's absence an error, for one handle or the whole connection."""
    here = False if way == "here" else None
    async with eb.connect(jetstream.url, jetstream=True, declare=None if way == "here" else False) as bus:
        with pytest.raises(eb.NotFoundError, match="declare") as caught:
            await bus.producer(topic, declare=here).send(b"x")
        assert caught.value.topic == topic
        with pytest.raises(eb.NotFoundError) as caught:
            await bus.consumer(topic, group="g", declare=here)
        assert caught.value.topic == topic
        assert not [s for s in await bus.streams() if topic in s.subjects]
        await make(jetstream, topic)
        assert await bus.producer(topic, declare=here).send(b"x"), "one that is there is used"


async def test_a_name_collision_names_both(bus: eb.Bus, topic: str) -> None:
    """Streams: a name collision (`a.b`, `a_b`) is an error naming both topics and the stream."""
    other = topic.replace(".", "_")
    await bus.producer(topic).send(b"x")
    for failing in (bus.producer(other).send(b"x"), bus.consumer(other, group="g")):
        with pytest.raises(eb.ConflictError) as caught:
            await failing
        assert topic in str(caught.value)
        assert other in str(caught.value)
        assert (caught.value.topic, caught.value.stream) == (other, stream_of(topic))


async def test_a_stream_is_never_altered(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Streams: a stream is never altered unless asked: sending, consuming and declaring leave an odd one as it is."""
    odd = {"max_msgs": 17, "storage": "memory", "duplicate_window": 40_000_000_000, "description": "theirs"}
    await make(jetstream, topic, **odd)
    before = (await jetstream.api(f"STREAM.INFO.{stream_of(topic)}"))["config"]
    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g") as c:
        [m] = await c.fetch(1)
        await m.ack_confirmed()
    assert (await bus.declare_stream(stream_of(topic), [topic])).name == stream_of(topic)
    with pytest.raises(eb.ConflictError):
        await bus.declare_stream(stream_of(topic), [topic, f"{topic}.more"])
    assert (await jetstream.api(f"STREAM.INFO.{stream_of(topic)}"))["config"] == before
    assert await stored(jetstream, topic) == 1


async def test_responders_share(core_bus: eb.Bus, core: Server, topic: str) -> None:
    """Request and reply: responders of one group share the load: each request is answered by exactly one."""
    answered: list[str] = []

    def answers(name: str) -> Any:
        async def answer(m: eb.Message) -> str:
            answered.append(f"{name}{m.text()}")
            return name

        return answer

    async with eb.connect(core.url) as other:
        for bus, name in ((core_bus, "a"), (other, "b")):
            await bus.respond(topic, answers(name), group="agents")
        replies = [m.text() for m in await asyncio.gather(*[core_bus.request(topic, f"{n}") for n in range(200)])]
    assert {"a", "b"} == set(replies)
    assert sorted(int(a[1:]) for a in answered) == list(range(200))


async def test_closing_a_responder_lets_running_requests_finish(core_bus: eb.Bus, core: Server, topic: str) -> None:
    """Request and reply: closing one lets its running requests finish, and leaves new ones to the others at once."""
    running, release = 0, asyncio.Event()

    async def slow(_: eb.Message) -> str:
        nonlocal running
        running += 1
        await release.wait()
        return "slow"

    async def quick(_: eb.Message) -> str:
        return "quick"

    responder = await core_bus.respond(topic, slow)
    early = [asyncio.create_task(core_bus.request(topic, b"x")) for _ in range(5)]
    await until(lambda: running == 5)
    closing = asyncio.create_task(responder.close())
    await until(responder._serving.done)
    async with eb.connect(core.url) as other:
        await other.respond(topic, quick)
        replies = {(await core_bus.request(topic, b"x")).text() for _ in range(20)}
        assert replies == {"quick"}
        assert not closing.done()
        release.set()
        assert {m.text() for m in await asyncio.gather(*early)} == {"slow"}
        await closing


@pytest.mark.parametrize("topic", ["$SYS.REQ.x", "$JS.API.INFO", "$KV.agents.k", "_INBOX.abc", "_INBOX"])
async def test_the_servers_own_roots_are_refused(core_bus: eb.Bus, topic: str) -> None:
    """Topics: `$`-prefixed and `_INBOX` roots are refused for publishing, requesting and building."""
    with pytest.raises(eb.InvalidTopic):
        core_bus.producer(topic)
    with pytest.raises(eb.InvalidTopic):
        await core_bus.request(topic, b"x")
    with pytest.raises(eb.InvalidTopic):
        eb.topic(*topic.split("."))


@pytest.mark.parametrize("bad", ["", ".", "a.b", "*", ">", "a*", "a b", "a\t", "a\r\nPUB x", "\0", "\x7f", "\u2003"])
def test_a_bad_token_is_an_error_and_not_escaped(bad: str) -> None:
    """Topics: a token with `.`, `*`, `>`, white space or control characters is an error, not an escape."""
    with pytest.raises(eb.InvalidTopic, match="token 2"):
        eb.topic("coze", bad, "done")


async def test_purged_and_asked_for_its_consumers(bus: eb.Bus, topic: str) -> None:
    """Streams: messages can be purged, all or some, and the consumers listed."""
    p = bus.producer(topic)
    for n in range(5):
        await p.send({"n": n})
    stream = bus.stream(stream_of(topic))
    async with bus.consumer(topic, group="g") as c:
        await c.fetch(1)
        [consumer] = await stream.consumers()
        assert (consumer.name, consumer.stream, consumer.topics) == ("g", stream.name, [topic])
        assert (consumer.durable, consumer.ack_wait, consumer.paused) == (True, 30.0, False)
    assert await stream.purge(topic=topic, keep=3) == 2
    assert await stream.purge(before=5) == 2
    assert (await stream.info()).messages == 1
    assert await stream.purge() == 1
    with pytest.raises(eb.ConfigError, match="not both"):
        await stream.purge(keep=1, before=2)
    with pytest.raises(eb.ConfigError, match="keep"):
        await stream.purge(keep="all")  # pyright: ignore[reportArgumentType]
    with pytest.raises(eb.NotFoundError):
        await bus.stream("NONE").consumers()
    assert repr(stream) == f"<Stream name={stream.name!r}>"
