"""Issue 4, item 5, from Python: a denied publish or subscribe fails the very call concerned within 1 s."""

from __future__ import annotations

import asyncio
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.clock import within
from tests.support.server import Server

from .test_bus import until
from .test_events import kind


def config(permissions: str) -> str:
    return (
        f'authorization {{ users = [ {{user: "app", password: "right", permissions: {{ {permissions} }} }},'
        ' {user: "admin", password: "right"} ] }'
    )


def bus(server: Server, **settings: Any) -> eb.Connecting:
    return eb.connect(server.url, user="app", password="right", **settings)


async def test_a_denied_send_of_each_kind() -> None:
    """A denied publish: stored sends, sends that nobody waits for, requests; others go on."""
    with Server("-js", config=config('publish: {deny: ["t.secret"]}')) as server:
        async with bus(server, jetstream=True) as stored:
            await stored.declare_stream("T", ["t.>"])
            p = stored.producer("t.secret")
            async with within(1):
                with pytest.raises(eb.PermissionError) as caught:
                    await p.send(b"x")
            assert (caught.value.topic, caught.value.code, caught.value.retryable) == ("t.secret", "permission", False)
            assert "t.secret" in str(caught.value)
            assert "Permissions Violation" in (caught.value.server or "")
            p.send_nowait(b"x")
            async with within(1):
                with pytest.raises(eb.PermissionError):
                    await p.flush()
            async with within(1):
                with pytest.raises(eb.PermissionError, match=r"t\.secret"):
                    await stored.request("t.secret", b"x", timeout=30)
            assert await stored.producer("t.open").send(b"x") is not None
        async with bus(server, jetstream=False) as core:
            failed: list[eb.EventBusError] = []
            p = core.producer("t.secret", on_error=failed.append)
            assert await p.send(b"x") is None
            async with within(1):
                await p.flush()
                await until(lambda: bool(failed))
            assert isinstance(failed[0], eb.PermissionError)


async def test_a_denied_subscription_fails_the_opening() -> None:
    """A denied subscribe: consumers, responders, and the inbox, which names what to do."""
    with Server(config=config('subscribe: {deny: ["private.>"]}')) as server:
        async with bus(server) as core, within(2):
            with pytest.raises(eb.PermissionError, match=r"private\.a"):
                await core.consumer("private.a", group="g")
            with pytest.raises(eb.PermissionError, match=r"private\.b"):
                await core.respond("private.b", lambda m: None)
    with Server(config=config('subscribe: {deny: ["_INBOX.>"]}')) as server:
        with pytest.raises(eb.PermissionError, match=r"inbox_prefix.*_INBOX\."):
            await bus(server)
        async with bus(server, inbox_prefix="_INBOX_app") as core:
            with pytest.raises(eb.NoResponders):
                await core.request("nobody")
        with pytest.raises(eb.ConfigError, match="inbox_prefix"):
            await bus(server, inbox_prefix="a.*")


async def test_rights_lost_while_running() -> None:
    """A later loss of rights ends iteration and handlers with that error, and is an event."""
    with Server(config=config("")) as server:
        async with bus(server) as core:
            events = core.events()
            c, handled = await core.consumer("t.x", group="g"), await core.consumer("t.y", group="g")

            async def handler(m: eb.Message) -> None:
                raise AssertionError

            running = asyncio.create_task(handled.run(handler))
            server.reload(config('subscribe: {deny: ["t.>"]}'))
            async with asyncio.timeout(5):
                with pytest.raises(eb.PermissionError, match=r"t\.x"):
                    async for _ in c:
                        pass
                with pytest.raises(eb.PermissionError, match=r"t\.y"):
                    await running
                event = await kind(events, "permission_denied")
            assert (event.kind, event.topic in ("t.x", "t.y")) == ("permission_denied", True)
            assert core.state == "connected"
