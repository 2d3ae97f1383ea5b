"""What becomes of every send, from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until


def stream_of(topic: str) -> str:
    """The name the platform gives a topic's stream."""
    return f"{topic.replace('.', '_')}_STREAM"


async def make(server: Server, topic: str, **settings: Any) -> str:
    """A topic's stream, made behind the bus's back, or made otherwise than it is."""
    config: dict[str, Any] = {"name": stream_of(topic), "subjects": [topic], **settings}
    name: str = config["name"]
    made = await server.api(f"STREAM.CREATE.{name}", config)
    if "error" in made:
        made = await server.api(f"STREAM.UPDATE.{name}", config)
    assert "error" not in made, made
    return name


async def silence(server: Server, topic: str, **settings: Any) -> str:
    """A stream that stores and never acks: every ack is lost."""
    return await make(server, topic, no_ack=True, **settings)


async def stored(server: Server, topic: str = "", *, name: str = "") -> int:
    """How many messages a topic's stream has, or the one of that name."""
    info = await server.api(f"STREAM.INFO.{name or stream_of(topic)}")
    return info["state"]["messages"]


async def has_stored(server: Server, count: int, topic: str = "", *, name: str = "") -> None:
    """Waits until it has so many, with a deadline."""
    end = time.monotonic() + 10
    while (n := await stored(server, topic, name=name)) != count:
        assert time.monotonic() < end, f"{n} stored, and not {count}"
        await asyncio.sleep(0.01)


async def test_every_message_carries_an_id(bus: eb.Bus, topic: str) -> None:
    """Publishing: JetStream sends carry an id always: given, or generated and different each time."""
    p = bus.producer(topic)
    await p.send(b"x", id="mine")
    await p.send(b"x")
    p.send_nowait(b"x", headers={"tenant": "t1"}, key="k")
    await p.send_many([b"x", b"x"])
    async with bus.consumer(topic, group="g") as c:
        ids = [m.id for m in await c.fetch(5)]
    assert all(ids)
    assert ids[0] == "mine"
    assert len(set(ids)) == 5


async def test_a_lost_ack_is_asked_for_again(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: a lost ack: sent again with the same id until it comes; stored once; the duplicate is reported."""
    await silence(jetstream, topic)
    p = bus.producer(topic, ack_timeout=0.1)
    sending = asyncio.create_task(p.send(b"x"))
    await until(lambda: bus.metrics()["retried"] >= 2)
    assert not sending.done()
    await make(jetstream, topic)
    ack = await sending
    assert ack
    assert (ack.sequence, ack.duplicate) == (1, True)
    assert await stored(jetstream, topic) == 1


async def test_no_responders_are_asked_again(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: no responders, as in an election: tried again until a stream answers; if none does, rejected."""
    await make(jetstream, topic)
    p, hasty = bus.producer(topic, declare=False), bus.producer(topic, declare=False, delivery_timeout=2)
    await asyncio.gather(p.send(b"before"), hasty.send(b"before"))
    await jetstream.api(f"STREAM.DELETE.{stream_of(topic)}")
    sending = asyncio.create_task(p.send(b"x"))
    ends: list[eb.EventBusError] = []
    # Unknown: the deadline came before the answer to its last attempt.
    while len(ends) < 5 and all(isinstance(e, eb.PublishUnknown) for e in ends):
        with pytest.raises(eb.EventBusError, match="no leader") as caught:
            await hasty.send(b"y")
        ends.append(caught.value)
    assert isinstance(ends[-1], eb.PublishRejected)
    assert ends[-1].topic == topic
    assert not sending.done()
    await make(jetstream, topic)
    ack = await sending
    assert ack
    assert (ack.sequence, await stored(jetstream, topic)) == (1, 1)


async def test_an_unsettled_id_is_asked_for_again(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: `10158`, the server has not settled this id yet: tried again with the same id."""
    await silence(jetstream, topic)
    ids: list[str | None] = []

    async def server(m: eb.Message) -> Any:
        ids.append(m.id)
        if len(ids) < 3:
            return {"error": {"code": 503, "err_code": 10158, "description": "not settled"}}
        return {"stream": "S", "seq": 7}

    async with eb.connect(jetstream.url) as other:
        await other.respond(topic, server)
        ack = await bus.producer(topic).send(b"x")
    assert ack
    assert (ack.stream, ack.sequence) == ("S", 7)
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0]


async def test_the_delivery_timeout_is_below_the_streams_window(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: `delivery_timeout` (default 30 s) must stay below the stream's real dedupe window: a config error."""
    await make(jetstream, topic, duplicate_window=5_000_000_000)
    for timeout in (5.0, 7.5, None):
        p = bus.producer(topic, delivery_timeout=timeout)
        with pytest.raises(eb.ConfigError, match=f"delivery_timeout is {timeout or 30:g} s .* 5 s") as caught:
            await p.send(b"x")
        assert (caught.value.topic, caught.value.stream) == (topic, stream_of(topic))
    assert await stored(jetstream, topic) == 0
    assert await bus.producer(topic, delivery_timeout=4.9).send(b"x")
    assert await bus.producer(topic, dedupe=False).send(b"x"), "without ids there is nothing to remember"


async def test_without_dedupe_a_lost_ack_is_unknown(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: `dedupe=False` leaves ids out; a lost ack is not retried, it is unknown."""
    await silence(jetstream, topic)
    p = bus.producer(topic, dedupe=False, delivery_timeout=2, ack_timeout=0.1)
    with pytest.raises(eb.PublishUnknown) as caught:
        await p.send(b"x", key="k", headers={"tenant": "t1"})
    assert (caught.value.code, caught.value.topic, caught.value.id) == ("publish.unknown", topic, None)
    assert bus.metrics()["retried"] == 0
    assert await stored(jetstream, topic) == 1
    found = await jetstream.api(f"STREAM.MSG.GET.{stream_of(topic)}", {"seq": 1})
    async with bus.consumer(topic, group="g") as c:
        [m] = await c.fetch(1)
    assert "hdrs" in found["message"]
    assert (m.id, dict(m.headers)) == (None, {"tenant": "t1", "Sharding-Key": "k"})


async def test_an_id_given_is_never_stored_twice(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: a retry never stores twice, also of an id given where `dedupe=False` makes none."""
    await silence(jetstream, topic, duplicate_window=500_000_000)
    p = bus.producer(topic, dedupe=False, delivery_timeout=3, ack_timeout=1)
    with pytest.raises(eb.EventBusError):
        await p.send(b"x", id="mine")
    assert await stored(jetstream, topic) <= 1


async def test_nothing_is_sent_again_after_its_outcome(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: unknown by the deadline, and not later; what was told unknown is not sent again silently."""
    await silence(jetstream, topic)
    p = bus.producer(topic, delivery_timeout=2, ack_timeout=0.1)
    seen: Counter[str] = Counter()
    async with eb.connect(jetstream.url) as other, other.consumer(topic, group="spy") as spy:

        async def watch() -> None:
            async for m in spy:
                seen[m.text() if m.body != b"x" else m.id or ""] += 1

        watching = asyncio.create_task(watch())
        told: list[str] = []
        copies: list[int] = []
        for n in range(2):
            started = time.monotonic()
            with pytest.raises(eb.PublishUnknown) as caught:
                await p.send(b"x")
            told.append(caught.value.id or "")
            assert 2 <= time.monotonic() - started < 10
            # Behind all that this connection has sent so far.
            with contextlib.suppress(eb.Timeout):
                await bus.request(topic, f"mark {n}", timeout=0.1)
            await until(lambda n=n: seen[f"mark {n}"] > 0)
            copies.append(seen[told[0]])
        watching.cancel()
    assert set(seen) == {*told, "mark 0", "mark 1"}
    assert copies[0] == copies[1] > 1, "tried again until its outcome, and not after it"


async def test_what_was_never_handed_over_is_not_sent(topic: str) -> None:
    """Publishing: never handed to a live connection by its deadline: rejected as not sent, and never stored later."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, drain_timeout=1) as bus:
            p = bus.producer(topic, delivery_timeout=2)
            await p.send(b"1")
            server.kill()
            await until(lambda: bus.state == "disconnected")
            started = time.monotonic()
            sends = [
                p.send(b"lost", key="k"),
                p.send(b"lost"),
                bus.producer("un.known", delivery_timeout=2).send(b"lost"),
            ]
            for e in await asyncio.gather(*sends, return_exceptions=True):
                assert isinstance(e, eb.NotSent), e
                assert (e.code, e.retryable) == ("publish.rejected.not_sent", True)
            assert time.monotonic() - started < 10
            server.start()
            await until(lambda: bus.state == "connected")
            ack = await bus.producer(topic).send(b"2")
            assert ack
            assert (ack.sequence, await stored(server, topic)) == (2, 2)


async def test_sends_are_held_while_disconnected(topic: str) -> None:
    """Publishing: while disconnected sends are held, and stored once each after the reconnect."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            p = bus.producer(topic)
            await p.send(b"first")
            server.kill()
            await until(lambda: bus.state == "disconnected")
            sends = [asyncio.create_task(p.send(f"{n}", key=f"k{n % 3}")) for n in range(30)]
            p.send_nowait(b"31")
            await asyncio.sleep(0)
            assert not any(s.done() for s in sends)
            server.start()
            acks = await asyncio.gather(*sends)
            await p.flush()
            assert not any(a.duplicate for a in acks if a)
            assert await stored(server, topic) == 32


async def test_the_window(topic: str) -> None:
    """Publishing: at most `max_in_flight` (default 1000) are unsettled: `send` waits, `send_nowait` is Backpressure."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            small, usual = bus.producer(topic, max_in_flight=3), bus.producer(topic)
            await asyncio.gather(small.send(b"x"), usual.send(b"x"))
            server.pause()
            for p, places in ((small, 3), (usual, 1000)):
                for _ in range(places):
                    p.send_nowait(b"x")
                with pytest.raises(eb.Backpressure) as caught:
                    p.send_nowait(b"x")
                assert (caught.value.topic, caught.value.retryable) == (topic, True)
            waiting = asyncio.create_task(small.send(b"x"))
            flushing = asyncio.create_task(small.flush())
            done, _ = await asyncio.wait([waiting, flushing], timeout=0.2)
            assert not done
            server.resume()
            await asyncio.gather(waiting, flushing)
            await usual.flush()
            assert await stored(server, topic) == 2 + 3 + 1000 + 1


async def test_pipelined_without_a_key(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Publishing: without a key sends are pipelined; of a key one is under way, and other keys are unaffected."""
    await silence(jetstream, topic)
    p = bus.producer(topic, ack_timeout=0.1)
    sends = [p.send({"n": n, "key": key}, key=key) for n in range(3) for key in ("a", "b", None)]
    waiting = asyncio.gather(*sends)
    await has_stored(jetstream, 5, topic)
    # Each of the five was sent again by now, and nothing but them.
    await until(lambda: bus.metrics()["retried"] >= 10)
    assert await stored(jetstream, topic) == 5
    await make(jetstream, topic)
    await waiting
    order: dict[str | None, list[int]] = defaultdict(list)
    async with bus.consumer(topic, group="g") as c:
        for m in await c.fetch(9):
            order[m.key].append(m.json()["n"])
    assert order.pop(None)
    assert order == {"a": [0, 1, 2], "b": [0, 1, 2]}


async def test_keys_keep_their_order_through_a_kill(topic: str) -> None:
    """Publishing: messages of a key are stored in the order sent, retries included; each acked one once."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            p = bus.producer(topic, ack_timeout=0.2)

            def send(first: int, end: int) -> asyncio.Future[list[eb.PubAck | None]]:
                return asyncio.gather(*[p.send({"n": n}, key=f"k{n % 7}") for n in range(first, end)])

            acks = await send(0, 1000)
            # Stopped first: what is under way at the kill has no answer.
            server.pause()
            retried = bus.metrics()["retried"]
            rest = send(1000, 2000)
            await until(lambda: bus.metrics()["retried"] > retried)
            server.kill()
            server.start()
            acks += await rest
            assert len({a.sequence for a in acks if a}) == 2000
            order: dict[str | None, list[int]] = defaultdict(list)
            async with bus.consumer(topic, group="g") as c:
                while (n := sum(map(len, order.values()))) < 2000:
                    got = await c.fetch(2000 - n)
                    assert got
                    for m in got:
                        order[m.key].append(m.json()["n"])
            for numbers in order.values():
                assert numbers == sorted(numbers)


async def test_every_send_has_one_outcome(topic: str) -> None:
    """Publishing: every send ends in exactly one of three outcomes, once, by its deadline; what was acked is stored."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, drain_timeout=1) as bus:
            p = bus.producer(topic, delivery_timeout=3, max_in_flight=100)
            sends = [asyncio.create_task(p.send(b"x", expected_last_sequence=10**6))]
            sends += [asyncio.create_task(p.send(b"x")) for _ in range(5000)]
            await until(lambda: bus.metrics()["acked"] > 200)
            server.kill()
            started = time.monotonic()
            outcomes = await asyncio.gather(*sends, return_exceptions=True)
            assert time.monotonic() - started < 10
            kinds = [type(o) for o in outcomes]
            acked, rejected = kinds.count(eb.PubAck), sum(issubclass(k, eb.PublishRejected) for k in kinds)
            unknown = kinds.count(eb.PublishUnknown)
            assert kinds[0] is eb.WrongSequence
            assert acked + rejected + unknown == 5001
            assert acked > 200
            metrics = bus.metrics()
            assert [metrics[k] for k in ("sent", "acked", "rejected", "unknown")] == [5001, acked, rejected, unknown]
            server.start()
            assert acked <= await stored(server, topic) <= acked + unknown


async def test_a_flush_in_core_mode_is_a_round_trip(topic: str) -> None:
    """Publishing: in core mode `flush` is a real PING/PONG: a server that does not answer is a Timeout."""
    with Server() as server:
        async with eb.connect(server.url) as bus:
            p, hasty = bus.producer(topic), bus.producer(topic, delivery_timeout=0.5)
            await p.flush()
            server.pause()
            await hasty.send(b"x")
            with pytest.raises(eb.Timeout):
                await hasty.flush()
            server.resume()
            await p.flush()


async def test_a_flush_outlives_its_producer(core_bus: eb.Bus, topic: str) -> None:
    """Publishing: `flush` ends when all before it is settled, also when nobody has the producer any more."""
    for _ in range(50):
        await core_bus.producer(topic).flush()


@pytest.mark.parametrize("jetstream", [True, False], ids=["jetstream", "core"])
async def test_memory_is_bounded(topic: str, jetstream: bool) -> None:
    """Publishing: memory is bounded whatever the caller does: a server that stalls becomes Backpressure."""
    body = b"x" * (256 << 10)
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=jetstream, drain_timeout=0.1) as bus:
            p = bus.producer(topic, max_in_flight=50)
            await p.send(b"x")
            server.pause()

            # 12 MiB are the window's, and some are in the sockets' buffers: long before 64 MiB it must be full.
            async def too_much() -> None:
                for _ in range(256):
                    p.send_nowait(body)
                    await asyncio.sleep(0.001)

            with pytest.raises(eb.Backpressure):
                await too_much()


async def test_what_the_server_would_refuse_names_the_limit(bus: eb.Bus, topic: str) -> None:
    """Publishing: a payload, header or topic the server would refuse is rejected unsent, naming the limit."""
    p = bus.producer(topic)
    for body, headers in ((b"x" * (bus.server.max_payload + 1), {}), (b"x", {"long": "x" * bus.server.max_payload})):
        with pytest.raises(eb.TooLarge, match=str(bus.server.max_payload)) as caught:
            await p.send(body, headers=headers)
        assert caught.value.topic == topic
    with pytest.raises(eb.InvalidTopic, match="1024"):
        bus.producer("x" * 1025)
    with pytest.raises(eb.InvalidHeader, match="tenant"):
        await p.send(b"x", headers={"tenant": "a\nb"})
    assert bus.metrics()["sent"] == 0


async def test_what_a_send_returns_can_be_waited_for(bus: eb.Bus, topic: str) -> None:
    """API: what `send` returns suits `as_completed` as it is, and `asyncio.wait` as a task."""
    p = bus.producer(topic)
    done, _ = await asyncio.wait([asyncio.create_task(p.send(b"x")), asyncio.create_task(p.send(b"x"))])
    acks = [d.result() for d in done]
    acks += [await a for a in asyncio.as_completed([p.send(b"x"), p.send(b"x")])]
    assert sorted(a.sequence for a in acks if a) == [1, 2, 3, 4]
