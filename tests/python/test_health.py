"""``bus.health()`` from Python: how a bus is, in and out of trouble; it never raises."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from datetime import timedelta

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_events import QUICK


async def health(bus: eb.Bus) -> eb.Health:
    """In time."""
    async with asyncio.timeout(8):
        return await bus.health(timeout=5)


async def test_a_bus_without_trouble() -> None:
    """Everything that is told, and as JSON."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus, bus.consumer("t.x", group="g") as c:
            responder = await bus.respond("ask", lambda m: None)
            h = await health(bus)
            assert (h.ok, h.alive, h.problems) == (True, True, [])
            assert (h.state, h.server) == ("connected", f"127.0.0.1:{server.port}")
            assert h.rtt is not None
            assert 0 < h.rtt < 1, "seconds"
            assert (h.jetstream, h.reconnects, h.pending_sends) == ("ok", 0, 0)
            assert h.consumers == [
                eb.ConsumerHealth("t.x", "g", c.stream, None, None),
                eb.ConsumerHealth("ask", "responders", None, None, None),
            ]
            assert json.loads(json.dumps(dataclasses.asdict(h)))["consumers"][0]["stream"] == "t_x_STREAM"
            await responder.close()
            assert len((await health(bus)).consumers) == 1
        async with eb.connect(server.url) as core:
            assert (await core.health(timeout=timedelta(seconds=1))).jetstream == "off"
            with pytest.raises(eb.ConfigError, match="timeout"):
                await core.health(timeout=-1)


async def test_an_outage_a_stall_and_the_end() -> None:
    """A lost server, one that stalls, a closed bus: told, never raised."""
    with Server("-js") as server:
        bus = await eb.connect(server.url, jetstream=True, reconnect=QUICK)
        p = bus.producer("t.x")
        await p.send(b"x")
        server.kill()
        await until(lambda: bus.state == "disconnected")
        p.send_nowait(b"x")
        h = await health(bus)
        assert (h.ok, h.alive, h.state, h.rtt, h.jetstream) == (False, True, "disconnected", None, "unknown")
        assert h.pending_sends == 1
        assert "the connection was lost" in h.problems[0]
        server.start()
        await p.flush()
        h = await health(bus)
        assert (h.ok, h.reconnects, h.pending_sends) == (True, 1, 0)
        server.pause()
        started = time.monotonic()
        h = await bus.health(timeout=0.2)
        assert time.monotonic() - started < 4
        assert (h.ok, h.alive, h.state, h.rtt) == (False, True, "connected", None)
        assert "did not answer" in h.problems[0]
        server.resume()
        await bus.close()
        h = await health(bus)
        assert (h.ok, h.alive, h.state) == (False, False, "closed")
        assert h.problems == ["the bus is closed: connect again"]


async def test_a_failed_consumer_is_a_problem_until_it_is_opened_again_or_dismissed() -> None:
    """A consumer that cannot go on keeps a bus from being ok and alive."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:
            await bus.producer("t.x").send(b"x")
            async with bus.consumer("t.x", group="g") as c:
                assert len(await c.fetch(1)) == 1
                await server.api("CONSUMER.DELETE.t_x_STREAM.g")
                with pytest.raises(eb.NotFoundError):
                    await c.fetch(1, timeout=10)
                h = await health(bus)
                assert (h.ok, h.alive, h.state) == (False, False, "connected")
                assert h.consumers[0].code == "not_found"
                assert "open it again" in h.problems[0]
            assert "open it again" in (await health(bus)).problems[0], "closing it mends nothing"
            async with bus.consumer("t.x", group="g"):
                assert (await health(bus)).ok
                await server.api("CONSUMER.DELETE.t_x_STREAM.g")
                async with asyncio.timeout(10):
                    while (await health(bus)).ok:  # noqa: ASYNC110 (asked, not waited for)
                        await asyncio.sleep(0.01)
            assert bus.dismiss("t.y") == 0
            assert bus.dismiss("t.x", group="g") == 1
            assert (await health(bus)).ok
