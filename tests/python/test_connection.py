"""The connection: made, lost, made again; from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from pathlib import Path

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port

from .test_bus import until
from .test_outcomes import stored

USERS = json.loads((Path(__file__).parents[1] / "shared" / "nkeys.json").read_text())["users"]


async def works(bus: eb.Bus, topic: str) -> None:
    """A message goes through to the server and back."""
    async with bus.consumer(topic, group="g") as c:
        await bus.producer(topic).send(b"x")
        assert [m.body for m in await c.fetch(1)] == [b"x"]


async def test_connect_fails_fast() -> None:
    """Connection: `connect` fails fast on the first connection."""
    started = time.monotonic()
    with pytest.raises(eb.ConnectionError) as caught:
        await eb.connect(f"nats://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 4
    assert (caught.value.code, caught.value.retryable) == ("connection", True)


@pytest.mark.parametrize("jetstream", [True, False], ids=["jetstream", "core"])
async def test_connect_waits_in_the_background_when_asked(topic: str, jetstream: bool) -> None:
    """Connection: with `retry_on_initial_connect` it waits in the background, and sends are held until there is one."""
    with Server("-js") as server:
        server.kill()
        quick = eb.Backoff(initial=0.05, max=0.2)
        async with asyncio.timeout(2):
            bus = await eb.connect(server.url, jetstream=jetstream, retry_on_initial_connect=True, reconnect=quick)
        assert bus.state == "connecting"
        sending = asyncio.create_task(bus.producer(topic).send(b"x"))
        _, pending = await asyncio.wait([sending], timeout=0.5)
        assert pending, "sent to nobody"
        server.start()
        ack = await asyncio.wait_for(sending, 10)
        assert bus.state == "connected"
        assert (ack is not None) == jetstream
        if jetstream:
            assert await stored(server, topic) == 1
        async with asyncio.timeout(5), bus.consumer(topic, group="g") as c:
            await bus.producer(topic).send(b"y")
            assert (await c.fetch(1))[0].body == (b"x" if jetstream else b"y")
        await bus.close()


async def test_one_that_waits_for_a_server_can_be_closed() -> None:
    """Connection: with `retry_on_initial_connect`, closing ends the wait, and what was held is rejected."""
    url = f"nats://127.0.0.1:{free_port()}"
    bus = await eb.connect(url, retry_on_initial_connect=True, drain_timeout=0.3)
    sending = asyncio.create_task(bus.producer("t").send(b"x"))
    await asyncio.sleep(0)
    await asyncio.wait_for(bus.close(), 3)
    with pytest.raises(eb.NotSent):
        await sending
    assert bus.state == "closed"


async def test_states(topic: str) -> None:
    """Connection: state is observable: connected, disconnected, connected again, closed."""
    with Server() as server:
        bus = await eb.connect(server.url)
        assert bus.state == "connected"
        server.kill()
        await until(lambda: bus.state == "disconnected")
        server.start()
        await until(lambda: bus.state == "connected")
        assert bus.metrics()["reconnects"] == 1
        await bus.close()
        assert bus.state == "closed"


async def test_reconnecting_backs_off_and_goes_on(topic: str) -> None:
    """Connection: reconnects for ever, with exponential backoff, capped: the waits are those of the setting."""
    calls: list[float] = []

    def called(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(time.monotonic())
        writer.close()

    with Server() as server:
        backoff = eb.Backoff(initial=0.1, factor=2, max=0.4, jitter=0)
        async with eb.connect(server.url, reconnect=backoff) as bus:
            server.kill()
            # Whoever listens there now hangs up at once.
            listener = await asyncio.start_server(called, "127.0.0.1", server.port)
            await until(lambda: len(calls) >= 8)
            listener.close()
            await listener.wait_closed()
            waits = [b - a for a, b in itertools.pairwise(calls)]
            assert all(w >= 0.39 for w in waits[4:]), waits
            assert min(waits[4:]) < 0.9, "uncapped they were longer, each of them"
            server.start()
            await until(lambda: bus.state == "connected")
            await works(bus, topic)


async def test_every_server_of_the_pool_is_tried(topic: str) -> None:
    """Connection: every server of the pool is tried, at first and after a loss."""
    with Server() as one, Server() as two:
        async with eb.connect([f"nats://127.0.0.1:{free_port()}", one.url]) as bus:
            assert bus.server.port == one.port
        async with eb.connect([one.url, two.url]) as bus:
            here, there = (one, two) if bus.server.port == one.port else (two, one)
            here.kill()
            await until(lambda: bus.server.port == there.port and bus.state == "connected")
            await works(bus, topic)


async def test_tls_anywhere_is_tls_everywhere() -> None:
    """Connection: `tls://` anywhere in the pool means TLS everywhere: a server without it is not used."""
    with Server() as plain:
        pool = f"{plain.url},tls://127.0.0.1:{free_port()}"
        with pytest.raises(eb.ConnectionError):
            await eb.connect(pool)
        with pytest.raises(eb.TlsError) as caught:
            await eb.connect(plain.url.replace("nats://", "tls://"))
        assert caught.value.code == "connection.tls"
        with pytest.raises(eb.TlsError):
            await eb.connect(plain.url, tls=eb.Tls())


async def test_credentials_are_read_again(topic: str, tmp_path: Path) -> None:
    """Connection: credentials files are read again on every reconnect: rotated ones are picked up."""
    old, new = USERS
    file = tmp_path / "user.nk"
    file.touch(0o600)
    file.write_text(old["seed"])
    with Server(config=f"authorization {{ users = [ {{nkey: {old['public']}}} ] }}") as server:
        async with eb.connect(server.url, nkey=str(file), reconnect=eb.Backoff(initial=0.05, max=0.2)) as bus:
            server.kill()
            await until(lambda: bus.state == "disconnected")
            server.reconfigure(f"authorization {{ users = [ {{nkey: {new['public']}}} ] }}")
            server.start()
            with pytest.raises(eb.NotSent):
                await bus.producer(topic, delivery_timeout=0.6).send(b"x")
            file.write_text(new["seed"])
            await until(lambda: bus.state == "connected")
            await works(bus, topic)
