"""Responders answer always, and closing one is bounded. Contract lines are named in the docstrings."""

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
from .test_handler_failures import FAILURES, Stop


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("concurrency", [1, 64])
async def test_whatever_a_handler_lets_out_reaches_the_asker(
    core_bus: eb.Bus, topic: str, case: str, concurrency: int
) -> None:
    """Request and reply: a responder's error reaches the asker as a typed error, cancellation included."""
    fail, words = FAILURES[case]

    async def handle(m: eb.Message) -> str:
        if m.text() == "bad":
            await fail()
        return "fine"

    await core_bus.respond(topic, handle, concurrency=concurrency)
    for _ in range(2):
        with pytest.raises(eb.RequestFailed) as raised:
            await core_bus.request(topic, "bad")
        assert raised.value.server == words
        assert (await core_bus.request(topic, "good")).text() == "fine"


@pytest.mark.parametrize("answer", [object(), {"a": object()}, float("nan"), b"x" * (2 << 20)])
async def test_what_cannot_be_an_answer_reaches_the_asker(core_bus: eb.Bus, topic: str, answer: Any) -> None:
    """Request and reply: an answer that cannot be a body is a typed error for the asker."""

    async def handle(_: eb.Message) -> Any:
        return answer

    await core_bus.respond(topic, handle)
    with pytest.raises(eb.RequestFailed):
        await core_bus.request(topic, b"x")


async def test_a_plain_function_that_raises(core_bus: eb.Bus, topic: str) -> None:
    """Request and reply: the same of a plain function."""

    def handle(_: eb.Message) -> Any:
        raise Stop("now")

    await core_bus.respond(topic, handle)
    with pytest.raises(eb.RequestFailed) as raised:
        await core_bus.request(topic, b"x")
    assert raised.value.server == "Stop: now"


async def stubborn(go: asyncio.Event) -> None:
    """Ignores that it is cancelled."""
    while not go.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await go.wait()


@pytest.mark.parametrize("kind", ["waits", "ignores its cancellation"])
@pytest.mark.parametrize("closes", ["responder", "bus"])
@pytest.mark.parametrize("concurrency", [1, 64])
def test_closing_waits_no_longer_than_drain_timeout(
    core: Server, topic: str, run: Callable[[Any], Any], kind: str, closes: str, concurrency: int
) -> None:
    """Request and reply: after `drain_timeout` running requests are cancelled, and each asker gets a typed error."""

    async def main() -> None:
        entered, go = asyncio.Event(), asyncio.Event()

        async def handle(_: eb.Message) -> None:
            entered.set()
            await (go.wait() if kind == "waits" else stubborn(go))

        try:
            async with eb.connect(core.url) as asker:
                bus = await eb.connect(core.url, drain_timeout=0.3)
                responder = await bus.respond(topic, handle, concurrency=concurrency)
                # With one place the other one has arrived, and waits for it.
                asking = [asyncio.create_task(asker.request(topic, b"x", timeout=30)) for _ in range(2)]
                await entered.wait()
                await until(lambda: bus.metrics()["received"] == 2)
                started = time.monotonic()
                await (responder.close() if closes == "responder" else bus.close())
                assert 0.2 < time.monotonic() - started < 8
                await bus.close()
                for e in await asyncio.gather(*asking, return_exceptions=True):
                    assert isinstance(e, eb.RequestFailed), e
                    assert e.server == "the responder was closed before it had answered: ask again"
        finally:
            go.set()

    run(main())


@pytest.mark.parametrize("closes", ["responder", "bus"])
async def test_closing_inside_a_handler_does_not_wait_for_it(core: Server, topic: str, closes: str) -> None:
    """Leaving: `close()` inside a responder's handler begins the close; that request is answered."""
    async with eb.connect(core.url) as asker:
        bus = await eb.connect(core.url)

        async def handle(_: eb.Message) -> str:
            await (responder.close() if closes == "responder" else bus.close())
            assert bus.state == "connected"
            await asyncio.sleep(0.01)
            return "answered"

        responder = await bus.respond(topic, handle)
        assert (await asker.request(topic, b"x")).text() == "answered"
        await responder.close()
        await bus.close()
        assert bus.state == "closed"


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_concurrency_is_at_least_one(core_bus: eb.Bus, topic: str, concurrency: int) -> None:
    """Errors: a responder for less than one request at once is a ConfigError."""

    async def handle(_: eb.Message) -> None: ...

    with pytest.raises(eb.ConfigError, match="give 1 or more"):
        await core_bus.respond(topic, handle, concurrency=concurrency)
