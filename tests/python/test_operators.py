"""Streams as operators have them: elsewhere, mirrored, full, gone. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port

from .test_bus import until
from .test_outcomes import make, stored, stream_of


async def create(server: Server, name: str, **config: Any) -> None:
    assert "error" not in await server.api(f"STREAM.CREATE.{name}", {"name": name, **config})


@pytest.fixture(scope="module")
def leaf() -> Iterator[Server]:
    """A leaf node without JetStream; its hub has a domain."""
    port = free_port()
    hub = f'jetstream {{ domain: hub }}\nleafnodes {{ listen: "127.0.0.1:{port}" }}'
    remote = f'leafnodes {{ remotes: [{{ url: "nats://127.0.0.1:{port}" }}] }}'
    with Server(config=hub), Server(config=remote) as server:
        yield server


async def test_a_domain_reaches_jetstream_behind_a_leaf_node(leaf: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams: `domain` reaches JetStream elsewhere: sending, consuming, dead letters; so does the environment."""
    with pytest.raises(eb.NotFoundError, match="domain"):
        await eb.connect(leaf.url, jetstream=True)
    with pytest.raises(eb.ConfigError, match="api_prefix"):
        await eb.connect(leaf.url, jetstream=True, domain="hub", api_prefix="$JS.hub.API")
    monkeypatch.setenv("NATS_JS_DOMAIN", "hub")
    async with eb.connect(leaf.url, jetstream=True) as bus:
        assert (await bus.health()).ok
        assert await bus.producer("far").send(b"x")
        async with bus.consumer("far", group="g", max_deliver=1) as c:

            async def fail(_: eb.Message) -> None:
                raise eb.Reject("no")

            running = asyncio.create_task(c.run(fail))
            await until(lambda: bus.metrics()["dead_letters"] == 1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert [x.reason async for x in bus.dead_letters("far", group="g")] == ["no"]


async def test_a_stream_by_name(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Streams: `stream` names one, such as a mirror; its dead letters are found by its name."""
    origin = stream_of(topic)
    await make(jetstream, topic)
    await create(jetstream, f"{origin}_M", mirror={"name": origin})
    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g", stream=f"{origin}_M") as c:
        [m] = await c.fetch(1)
        assert (m.stream, m.topic) == (f"{origin}_M", topic)
        await m.ack_confirmed()
    assert [x async for x in bus.dead_letters(topic, group="g", stream=f"{origin}_M")] == []
    with pytest.raises(eb.NotFoundError):
        await bus.consumer(topic, group="g", stream="NONE")


async def test_a_durable_by_name(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: `durable` binds to an existing one with its own filters; without it the conflict says so."""
    name = stream_of(topic)
    await create(jetstream, name, subjects=[f"{topic}.>"])
    filters = {"ack_policy": "explicit", "filter_subjects": [f"{topic}.a", f"{topic}.b"], "durable_name": "two"}
    made = await jetstream.api(f"CONSUMER.DURABLE.CREATE.{name}.two", {"stream_name": name, "config": filters})
    assert "error" not in made
    for token in "abc":
        await bus.producer(f"{topic}.{token}").send(b"x")
    async with bus.consumer(f"{topic}.a", group="g", durable="two") as c:
        got = await c.fetch(2)
        assert [m.topic for m in got] == [f"{topic}.a", f"{topic}.b"]
        for m in got:
            await m.ack_confirmed()
    with pytest.raises(eb.ConflictError, match=r"\(durable\)"):
        await bus.consumer(f"{topic}.a", group="two")


async def test_one_stream_a_family() -> None:
    """Streams: one a family where `stream_layout` asks for it."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, stream_layout="family") as bus:
            acks = [await bus.producer(f"coze.agent.{n}.made").send(b"x") for n in range(3)]
            assert {a.stream for a in acks if a} == {"coze_agent_ALL_STREAM"}
            async with bus.consumer("coze.agent.*.made", group="g") as c:
                assert len(await c.fetch(3)) == 3


async def test_few_replicas_warn_once(jetstream: Server, topic: str) -> None:
    """Streams: a stream with fewer replicas than asked for warns, once."""
    await make(jetstream, topic)
    async with eb.connect(jetstream.url, jetstream=True, replicas=3) as bus:
        assert bus.warnings == []
        await bus.producer(topic).send(b"x")
        async with bus.consumer(topic, group="g"):
            [text] = bus.warnings
        assert stream_of(topic) in text


async def test_want_of_storage_says_what_to_do() -> None:
    """Streams: an error for want of storage says what is reserved, that a topic reserves 1 GiB, and what to do."""
    with Server(config="jetstream { max_file_store: 1500MB }") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            await bus.producer("a").send(b"x")
            with pytest.raises(eb.ConfigError, match=r"reserve 1\.00 GiB already.*1 GiB.*stream_layout") as caught:
                await bus.producer("b").send(b"x")
            assert not caught.value.retryable


async def test_a_living_producer_declares_a_lost_stream_again(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Streams: a lost stream is declared again by a living producer."""
    p = bus.producer(topic)
    await p.send(b"1")
    await jetstream.api(f"STREAM.DELETE.{stream_of(topic)}")
    acks = await p.send_many([b"2", b"3", b"4"], key="k")
    assert [a.sequence for a in acks if isinstance(a, eb.PubAck)] == [1, 2, 3]
    assert await stored(jetstream, topic) == 3


async def test_a_streams_ack_is_no_reply(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Request and reply: a stream's ack is never taken for a reply."""
    await make(jetstream, topic)
    with pytest.raises(eb.ConflictError, match="a stream stores this topic") as caught:
        await bus.request(topic, b"x")
    assert caught.value.stream == stream_of(topic)


async def test_a_time_to_live_is_refused_where_it_would_not_be_kept(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: `ttl` on a stream that takes none is a typed error before anything is stored."""
    await make(jetstream, topic)
    for _ in range(2):
        with pytest.raises(eb.NotSupportedError, match="allow_msg_ttl"):
            await bus.producer(topic).send(b"x", ttl=5)
    assert await stored(jetstream, topic) == 0
    with pytest.raises(eb.InvalidHeader, match="ttl argument"):
        await bus.producer(topic).send(b"x", headers={"Nats-TTL": "5"})


async def test_what_only_jetstream_has_is_a_config_error_in_core_mode(core_bus: eb.Bus, topic: str) -> None:
    """Core mode: settings that only JetStream has are a config error that names them."""
    options: dict[str, Any]
    for options in ({"ttl": 5}, {"id": "x"}, {"expected_last_sequence": 1}):
        with pytest.raises(eb.ConfigError, match="jetstream on"):
            await core_bus.producer(topic).send(b"x", **options)
    settings: dict[str, Any]
    for settings in ({"max_deliver": 3}, {"order": "stream"}, {"deliver": "new"}, {"stream": "S"}, {"durable": "d"}):
        with pytest.raises(eb.ConfigError, match=f"(?s){next(iter(settings))}.*jetstream on"):
            await core_bus.consumer(topic, group="g", **settings)
