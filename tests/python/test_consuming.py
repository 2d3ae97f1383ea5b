"""How messages are handed out, kept and settled, from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_guarantees import ignore
from .test_handlers import FAST
from .test_outcomes import has_stored, make, silence, stored, stream_of


async def state(server: Server, topic: str, group: str = "g") -> dict[str, Any]:
    """What the server knows of a group."""
    return await server.api(f"CONSUMER.INFO.{stream_of(topic)}.{group}")


async def reaches(server: Server, topic: str, group: str = "g", **want: Any) -> None:
    """Waits until the server's state of a group is this, with a deadline."""
    end = time.monotonic() + 15
    while {k: (info := await state(server, topic, group)).get(k) for k in want} != want:
        assert time.monotonic() < end, info
        await asyncio.sleep(0.01)


async def test_nothing_but_a_word_settles(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a message is settled only by the user's word: not by being taken, and not by time."""
    await bus.producer(topic).send_many([b"1", b"2", b"3"])
    async with bus.consumer(topic, group="g", ack_wait=2) as c:
        kept = [await anext(aiter(c)) for _ in range(3)]
        await reaches(jetstream, topic, num_ack_pending=3)
        assert await c.fetch(1, timeout=4.5) == [], "two ack waits: kept from redelivery"
        await reaches(jetstream, topic, num_ack_pending=3, num_redelivered=0)
        for m in kept:
            assert m.ack()
        await reaches(jetstream, topic, num_ack_pending=0)


async def test_a_handler_settles_by_its_end(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a message is settled by its handler's end, and not before."""
    await bus.producer(topic).send(b"x")
    entered, release = asyncio.Event(), asyncio.Event()

    async def handle(_: eb.Message) -> None:
        entered.set()
        await release.wait()

    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle))
        await entered.wait()
        assert await c.fetch(1, timeout=0.2) == []
        await reaches(jetstream, topic, num_ack_pending=1)
        release.set()
        await reaches(jetstream, topic, num_ack_pending=0)
    await running


async def test_handlers_end_as_they_should_and_when(bus: eb.Bus, topic: str) -> None:
    """Consuming: raises → retry after backoff, growing; `RetryAfter` → that delay; after 3 attempts → dead letter."""
    times: dict[str, list[float]] = {"raises": [], "later": []}

    async def handle(m: eb.Message) -> None:
        times[m.text()].append(time.monotonic())
        assert m.attempt == len(times[m.text()])
        if m.text() == "raises":
            raise ValueError("cannot")
        if m.attempt == 1:
            raise eb.RetryAfter(0.7)

    await bus.producer(topic).send_many(["raises", "later"])
    backoff = eb.Backoff(initial=0.3, factor=10, jitter=0, max=10)
    async with bus.consumer(topic, group="g", concurrency=2, backoff=backoff) as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: bus.metrics()["dead_letters"] == 1 and len(times["later"]) == 2)
    await running
    first, second, third = times["raises"]
    assert 0.29 <= second - first < 2.9 <= third - second < 20
    assert 0.69 <= times["later"][1] - times["later"][0] < 10


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_delay_that_is_none_fails_the_message_and_not_the_run(
    bus: eb.Bus, topic: str, concurrency: int
) -> None:
    """Consuming: whatever a handler raises ends its message, and the run goes on; `on_error` is told what was wrong."""
    told: list[Exception] = []
    handled: list[str] = []

    async def handle(m: eb.Message) -> None:
        handled.append(m.text())
        if m.text() == "bad":
            raise eb.RetryAfter("soon")

    await bus.producer(topic).send_many(["bad", "good"])
    async with bus.consumer(topic, group="g", concurrency=concurrency, max_deliver=1) as c:
        running = asyncio.create_task(c.run(handle, on_error=lambda e, _: told.append(e)))
        await until(lambda: bus.metrics()["dead_letters"] == 1 and "good" in handled)
        assert not running.done()
    await running
    assert handled.count("bad") == 1
    assert [type(e) for e in told] == [eb.ConfigError]
    assert "soon" in str(told[0])


async def test_one_at_a_time_by_default(bus: eb.Bus, topic: str) -> None:
    """Consuming: one message at a time by default, as the platform's guide asks."""
    now = most = done = 0

    async def handle(_: eb.Message) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        done += 1

    await bus.producer(topic).send_many([b"x"] * 40)
    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: done == 40)
    await running
    assert most == 1


async def test_one_that_died_with_its_handlers_is_a_dead_letter(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a message that was found with the mark of its start, at its last attempt, is not handed out again."""
    await bus.producer(topic).send_many(["killer", "fine"])
    async with bus.consumer(topic, group="g") as c:
        [killer] = [m for m in await c.fetch(2, timeout=10) if m.text() == "killer" or not m.ack()]
        killer.nak()
    stream = f"{topic.replace('.', '_')}_STREAM"
    config = {"name": f"{stream}_ATTEMPTS", "subjects": [f"attempts.{stream}.>"]}
    await jetstream.api(f"STREAM.CREATE.{stream}_ATTEMPTS", config)
    # As a worker leaves it that dies while the message runs alone.
    left = {"failures": 1, "deaths": 1, "attempt": 1, "started": True}
    await bus.producer(f"attempts.{stream}.g.1").send(left)
    seen: list[str] = []

    async def handle(m: eb.Message) -> None:
        seen.append(m.text())

    await bus.producer(topic).send("last")
    async with bus.consumer(topic, group="g", max_deliver=2) as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: bus.metrics()["dead_letters"] == 1 and "last" in seen)
    await running
    assert seen == ["last"]
    [letter] = [d async for d in bus.dead_letters(topic, group="g")]
    assert letter.text() == "killer"
    assert letter.attempts >= 2
    assert letter.failures == 2
    assert "its process died 2 times" in letter.reason


async def test_what_is_buffered_or_handled_is_kept(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a handler of more than three ack waits, and what is buffered behind it, are handled once."""
    await bus.producer(topic).send_many([f"{n}" for n in range(5)])
    seen: list[str] = []

    async def handle(m: eb.Message) -> None:
        seen.append(m.text())
        if m.text() == "0":
            await asyncio.sleep(6.5)

    async with bus.consumer(topic, group="g", ack_wait=2) as c:
        running = asyncio.create_task(c.run(handle))
        await until(lambda: len(seen) == 5)
        await reaches(jetstream, topic, num_ack_pending=0, num_pending=0)
    await running
    assert seen == ["0", "1", "2", "3", "4"]
    assert (await state(jetstream, topic))["delivered"]["consumer_seq"] == 5, "each was delivered once"


async def test_a_stuck_handler_holds_a_message_no_longer_than_the_cap(
    bus: eb.Bus, jetstream: Server, topic: str
) -> None:
    """Consuming: the ack wait is extended up to `max_processing`: a stuck handler does not hold a message for ever."""
    await bus.producer(topic).send(b"x")
    entered, release = asyncio.Event(), asyncio.Event()

    async def stuck(_: eb.Message) -> None:
        entered.set()
        await release.wait()

    async with (
        bus.consumer(topic, group="g", ack_wait=2, max_processing=4, prefetch=1) as c,
        eb.connect(jetstream.url, jetstream=True) as other,
    ):
        running = asyncio.create_task(c.run(stuck))
        await entered.wait()
        started = time.monotonic()
        async with other.consumer(topic, group="g") as free:
            [m] = await free.fetch(1, timeout=20)
            assert m.attempt == 2
            assert time.monotonic() - started > 3, "not while it was kept"
            await m.ack_confirmed()
        release.set()
    await running


async def test_a_dead_letter_on_the_wire(bus: eb.Bus, topic: str) -> None:
    """Consuming: a dead letter is stored in `<STREAM>_DLQ` with body, headers and why, by these names."""

    async def handle(_: eb.Message) -> None:
        raise eb.Reject("cannot\nbe")

    await bus.producer(topic).send(b"\xff\x00body", key="doc-7", id=f"evt-{topic}", headers={"tenant": "t1"})
    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: bus.metrics()["dead_letters"] == 1)
    await running
    async with bus.consumer(f"dlq.{stream_of(topic)}.g", group="reader") as letters:
        [m] = await letters.fetch(1)
    assert (m.body, m.key, m.stream) == (b"\xff\x00body", "doc-7", f"{stream_of(topic)}_DLQ")
    headers = dict(m.headers)
    stored_at = datetime.fromtimestamp(int(headers.pop("Dlq-Time")) / 1000, UTC)
    assert abs((datetime.now(UTC) - stored_at).total_seconds()) < 60
    assert m.id != f"evt-{topic}", "the original's id would deduplicate it"
    headers.pop("Nats-Msg-Id")
    assert headers == {
        "Dlq-Reason": "cannot be",
        "Dlq-Attempts": "1",
        "Dlq-Failures": "1",
        "Dlq-Topic": topic,
        "Dlq-Group": "g",
        "Dlq-Stream": stream_of(topic),
        "Dlq-Sequence": "1",
        "Dlq-Id": f"evt-{topic}",
        "Sharding-Key": "doc-7",
        "tenant": "t1",
    }


async def test_a_dead_letter_is_confirmed_before_the_original_ends(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: a dead letter is stored and confirmed; only then is the original terminated; never the other order."""
    dlq = f"dlq.{stream_of(topic)}.>"
    name = f"{stream_of(topic)}_DLQ"
    await silence(jetstream, dlq, name=name)

    async def handle(_: eb.Message) -> None:
        raise eb.Reject("cannot")

    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g", ack_wait=0.5) as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        # It is stored, but nobody says so: whoever does not wait for that has ended the original by now.
        await has_stored(jetstream, 1, name=name)
        assert await c.fetch(1, timeout=0.3) == []
        await reaches(jetstream, topic, num_ack_pending=1)
        assert bus.metrics()["dead_letters"] == 0
        await make(jetstream, dlq, name=name)
        await until(lambda: bus.metrics()["dead_letters"] == 1, 15)
        await reaches(jetstream, topic, num_ack_pending=0)
        assert await stored(jetstream, name=name) == 1, "one letter"
    await running


async def test_acks_do_not_wait_and_confirmed_ones_do(topic: str) -> None:
    """Consuming: `ack()` is immediate, also when the server is not; `ack_confirmed()` waits for the server's word."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            await bus.producer(topic).send_many([b"x"] * 301)
            async with bus.consumer(topic, group="g", prefetch=400) as c:
                *many, last = await c.fetch(301)
                server.pause()
                started = time.monotonic()
                assert all(m.ack() for m in many)
                assert time.monotonic() - started < 5
                with pytest.raises(eb.Timeout) as caught:
                    await last.ack_confirmed(timeout=0.3)
                assert (caught.value.topic, caught.value.group) == (topic, "g")
                server.resume()
                await reaches(server, topic, num_ack_pending=0)


async def test_prefetch_is_never_above_max_ack_pending(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: prefetch is by credit, never above the durable's max ack pending, by what is asked of the server."""
    await bus.producer(topic).send_many([b"x"] * 20)
    async with (
        eb.connect(jetstream.url) as other,
        other.consumer(f"$JS.API.CONSUMER.MSG.NEXT.{stream_of(topic)}.g", group="spy") as spy,
        bus.consumer(topic, group="g", prefetch=100, max_ack_pending=5) as c,
    ):
        for _ in range(20):
            [m] = await c.fetch(1)
            m.ack()
        asked = [json.loads(m.text())["batch"] for m in await spy.fetch(100, timeout=0.3)]
    assert asked
    assert max(asked) == 5


async def test_settings_not_given_are_the_durables(bus: eb.Bus, jetstream: Server, topic: str) -> None:
    """Consuming: settings the user did not give adapt to the durable's: its max deliver is the last attempt."""
    await make(jetstream, topic)
    config = {"durable_name": "g", "filter_subject": topic, "ack_policy": "explicit", "max_deliver": 2}
    call = f"CONSUMER.DURABLE.CREATE.{stream_of(topic)}.g"
    assert "error" not in await jetstream.api(call, {"stream_name": stream_of(topic), "config": config})
    attempts: list[int] = []

    async def handle(m: eb.Message) -> None:
        attempts.append(m.attempt)
        raise ValueError("cannot")

    await bus.producer(topic).send(b"x")
    async with bus.consumer(topic, group="g", backoff=FAST) as c:
        running = asyncio.create_task(c.run(handle, on_error=ignore))
        await until(lambda: bus.metrics()["dead_letters"] == 1)
    await running
    assert attempts == [1, 2]
    with pytest.raises(eb.ConflictError, match="max_deliver"):
        await bus.consumer(topic, group="g", max_deliver=5)


@pytest.mark.parametrize("way", ["iteration", "handler", "fetch"])
@pytest.mark.parametrize("gone", ["durable", "stream", "everything, while disconnected"])
async def test_a_consumer_that_cannot_go_on_says_so(topic: str, gone: str, way: str) -> None:
    """Consuming: durable or stream gone: an error, never a silent stall, never a plain end of iteration."""

    async def handle(_: eb.Message) -> None: ...

    async def work(c: eb.Consumer) -> None:
        match way:
            case "iteration":
                async for _ in c:
                    pass
            case "handler":
                await c.run(handle)
            case _:
                while True:
                    await c.fetch(1, timeout=30)

    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus, bus.consumer(topic, group="g") as c:
            working = asyncio.create_task(work(c))
            await reaches(server, topic, num_waiting=1)
            match gone:
                case "durable":
                    await server.api(f"CONSUMER.DELETE.{stream_of(topic)}.g")
                case "stream":
                    await server.api(f"STREAM.DELETE.{stream_of(topic)}")
                case _:
                    server.kill()
                    shutil.rmtree(Path(server.dir) / "jetstream")
                    server.start()
            with pytest.raises(eb.NotFoundError) as caught:
                await asyncio.wait_for(working, 15)
            e = caught.value
            assert (e.code, e.topic, e.stream, e.group) == ("not_found", topic, stream_of(topic), "g")
            with pytest.raises(eb.NotFoundError):
                await c.fetch(1)


WORKER = """
import asyncio, sys
import nats_eventbus as eb

async def main():
    async with eb.connect(sys.argv[1], jetstream=True) as bus, bus.consumer(
        sys.argv[2], group="g", ack_wait=0.5, prefetch=20
    ) as c:
        async for m in c:
            print(m.text(), flush=True)
            m.ack() if m.text() == "0" else None
            await asyncio.sleep(0 if m.text() == "0" else 60)

asyncio.run(main())
"""


async def test_a_crash_loses_nothing_buffered(bus: eb.Bus, jetstream: Server, topic: str, tmp_path: Path) -> None:
    """Consuming: at least once: what a worker that is killed had taken or buffered comes to another one."""
    await bus.producer(topic).send_many([f"{n}" for n in range(20)])
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(script), jetstream.url, topic, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert worker.stdout
        assert [await worker.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
        await reaches(jetstream, topic, num_ack_pending=19, num_pending=0)
    finally:
        worker.kill()
        await worker.wait()
    async with bus.consumer(topic, group="g") as c:
        got = await c.fetch(19, timeout=10)
        assert sorted(int(m.text()) for m in got) == list(range(1, 20))
        assert min(m.attempt for m in got) >= 2
