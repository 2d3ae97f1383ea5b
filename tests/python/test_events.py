"""Issue 4, items 1 and 2, from Python: reconnects, and what happens to a connection as events."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
import weakref
from datetime import UTC, datetime, timedelta

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port

from .test_bus import until

QUICK = eb.Backoff(initial=0.02, max=0.05)


async def kind(events: eb.Events, wanted: str) -> eb.Event:
    """The next event of a kind, whatever comes before it."""
    async with asyncio.timeout(10):
        async for event in events:
            if event.kind == wanted:
                return event
    raise AssertionError(f"no {wanted}")


async def test_a_loss_is_told_and_the_last_event_is_the_end() -> None:
    """State and events: disconnected with cause, reconnected to whom, closed; as an async iterator."""
    with Server() as server:
        bus = await eb.connect(server.url, reconnect=QUICK)
        events = bus.events()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        waiting.cancel()
        server.kill()
        lost = await kind(events, "disconnected")
        assert lost.server == f"127.0.0.1:{server.port}"
        assert lost.cause
        assert datetime.now(UTC) - lost.time < timedelta(seconds=10)
        assert (await kind(events, "connecting")).cause
        server.start()
        assert (await kind(events, "reconnected")).server == f"127.0.0.1:{server.port}"
        assert bus.state == "connected"
        await bus.close()
        async with asyncio.timeout(5):
            rest = [event async for event in events]
        assert [(e.kind, e.cause, e.missed) for e in rest] == [("closed", "closed by its owner", 0)]
        assert [event async for event in bus.events()] == []


async def test_listeners_that_raise_or_are_slow_harm_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A slow or raising listener harms nothing; unsubscribing ends the calls."""
    with Server() as server:
        async with eb.connect(server.url) as bus:
            told: list[str] = []
            forever = asyncio.Event()

            async def slow(_: eb.Event) -> None:
                await forever.wait()

            def raises(_: eb.Event) -> None:
                raise ValueError("a listener's own mistake")

            def note(event: eb.Event) -> None:
                told.append(event.kind)

            idle = bus.events()
            unsubscribe = [bus.on_event(slow), bus.on_event(raises), bus.on_event(note)]
            with caplog.at_level(logging.ERROR, "nats_eventbus"):
                for n in (1, 2):
                    await bus.force_reconnect()
                    await until(lambda n=n: len(told) == 2 * n)
            assert told == ["disconnected", "reconnected"] * 2
            assert "a listener's own mistake" in caplog.text
            for stop in unsubscribe:
                stop()
                stop()
            await bus.force_reconnect()
            await bus.producer("t").send(b"x")
            await bus.producer("t").flush()
            assert len(told) == 4
            assert (await kind(idle, "disconnected")).cause == "a reconnect was asked for"
            await idle.aclose()
            assert [e async for e in idle] == []
            with pytest.raises(eb.ConfigError, match="give a function"):
                bus.on_event(None)  # type: ignore[arg-type]


async def test_a_listener_outlives_whatever_it_raises(caplog: pytest.LogCaptureFixture) -> None:
    """A cancellation from inside a listener, or a group of exceptions, is a failure like any other."""

    class Unreadable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with Server() as server:
        async with eb.connect(server.url) as bus:
            failures = [asyncio.CancelledError(), BaseExceptionGroup("two", [asyncio.CancelledError()]), Unreadable()]
            told: list[str] = []

            async def listen(event: eb.Event) -> None:
                told.append(event.kind)
                if event.kind == "disconnected" and failures:
                    raise failures.pop(0)

            stop = bus.on_event(listen)
            for n in range(1, 5):
                await bus.force_reconnect()
                await until(lambda n=n: len(told) == 2 * n)
            assert failures == []
            assert caplog.text.count("a listener failed on") == 3
            stop()


async def test_a_listener_is_forgotten_with_its_iterator() -> None:
    """An iterator that is dropped holds nothing."""
    with Server() as server:
        async with eb.connect(server.url) as bus:
            events = bus.events()
            gone = weakref.ref(events)
            del events
            gc.collect()
            assert gone() is None
            await bus.force_reconnect()


async def test_giving_up_is_an_event_and_an_error_on_every_waiter() -> None:
    """Backoff.attempts: giving up is an event and an error on every waiter."""
    with Server("-js") as server:
        given = eb.Backoff(initial=0.02, max=0.05, attempts=2)
        bus = await eb.connect(server.url, jetstream=True, reconnect=given)
        events, p = bus.events(), bus.producer("t.x")
        await p.send(b"x")
        c = await bus.consumer("t.y", group="g")
        await bus.respond("ask", lambda m: None)

        @bus.on("t.x", group="h")
        async def handle(m: eb.Message) -> None: ...

        running = asyncio.create_task(bus.run())
        reading = asyncio.ensure_future(anext(aiter(c)))
        await until(lambda: bus.metrics()["settled"] == 1)
        server.kill()
        closed = await kind(events, "closed")
        assert "given up" in (closed.cause or "")
        assert bus.state == "closed"
        async with asyncio.timeout(10):
            for waiter in (running, reading, bus.request("nobody"), bus.streams()):
                with pytest.raises(eb.ConnectionError, match="given up") as caught:
                    await waiter
                assert caught.value.code == "connection"
            with pytest.raises(eb.ConnectionError, match="given up"):
                await p.send(b"x")
            with pytest.raises(eb.ConnectionError, match="given up"):
                p.send_nowait(b"x")
        async with asyncio.timeout(5):
            await bus.close()


async def test_sends_held_when_it_is_given_up_are_rejected() -> None:
    """Giving up: what was never handed to a live connection is not_sent, as the contract says, naming why."""
    url = f"nats://127.0.0.1:{free_port()}"
    given = eb.Backoff(initial=1, max=1, attempts=2)
    bus = await eb.connect(url, retry_on_initial_connect=True, reconnect=given)
    sending = [asyncio.ensure_future(bus.producer("t").send(b"x")) for _ in range(3)]
    async with asyncio.timeout(15):
        results = await asyncio.gather(*sending, return_exceptions=True)
    for e in results:
        assert isinstance(e, eb.NotSent)
        assert "given up" in str(e)
    await bus.close()


async def test_a_dead_peer_is_noticed_and_left() -> None:
    """Dead peers are noticed: three unanswered pings; force_reconnect says when it cannot."""
    with Server() as server:
        async with eb.connect(server.url, ping_interval=0.1, connect_timeout=1, api_timeout=1) as bus:
            events = bus.events()
            server.pause()
            started = time.monotonic()
            assert "did not answer" in ((await kind(events, "disconnected")).cause or "")
            assert time.monotonic() - started < 6
            with pytest.raises(eb.Timeout):
                await bus.force_reconnect()
            server.resume()
            await kind(events, "reconnected")


async def test_core_subscriptions_are_made_again() -> None:
    """After an outage: core consumers and responders are subscribed anew, without being asked to."""
    with Server() as server:
        async with eb.connect(server.url, reconnect=QUICK) as bus, bus.consumer("t", group="g") as c:
            await bus.respond("ask", lambda m: m.body)
            server.kill()
            await until(lambda: bus.state == "disconnected")
            server.start()
            await until(lambda: bus.state == "connected")
            assert (await bus.request("ask", b"x", timeout=10)).body == b"x"
            await bus.producer("t").send(b"y")
            assert [m.body for m in await c.fetch(1, timeout=10)] == [b"y"]


async def test_what_is_asked_in_an_outage() -> None:
    """During an outage: a request waits for its timeout, or is sent after it; a consumer cannot be opened."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True, reconnect=QUICK, api_timeout=2) as bus:
            await bus.respond("ask", lambda m: m.body)
            server.kill()
            await until(lambda: bus.state == "disconnected")
            with pytest.raises(eb.Timeout):
                await bus.request("ask", b"x", timeout=0.2)
            with pytest.raises(eb.EventBusError) as caught:
                await bus.consumer("t", group="g")
            assert caught.value.retryable
            asked = asyncio.ensure_future(bus.request("ask", b"x", timeout=20))
            server.start()
            assert (await asked).body == b"x"


async def test_settings_are_checked() -> None:
    """Every setting is declared once, with its errors."""
    with pytest.raises(eb.ConfigError, match="attempts"):
        await eb.connect(reconnect=eb.Backoff(attempts=0))
    with Server() as server:
        async with eb.connect(server.url, discovered_servers=False) as bus:
            with pytest.raises(eb.ConfigError, match="max_deliver"):
                await bus.consumer("t", group="g", backoff=eb.Backoff(attempts=3))
