"""Issue 4, items 2 to 4, from Python: credentials that rotate, warnings, TLS settings, WebSockets."""

from __future__ import annotations

import asyncio
import logging
import warnings
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import PASSWORD, Server, free_port

from .test_connection import USERS
from .test_events import QUICK, kind

OTHER = PASSWORD.replace("right", "other")


async def test_a_callback_gives_credentials_that_rotate() -> None:
    """A callback for rotating credentials, async: asked before every connection; told while they are refused."""
    password, asked = "right", 0

    async def source() -> dict[str, str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return {"user": "app", "password": password}

    with Server(config=PASSWORD) as server:
        async with eb.connect(server.url, credentials=source, reconnect=QUICK) as bus:
            assert asked == 1
            events = bus.events()
            server.kill()
            server.reconfigure(OTHER)
            server.start()
            refused = await kind(events, "auth_failed")
            assert "authorization violation" in (refused.cause or "").lower()
            password = "other"
            await kind(events, "reconnected")
            await bus.producer("t").send(b"x")


async def test_a_callback_of_each_kind(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function; one that raises or gives nonsense is an AuthError that does not repeat it."""
    monkeypatch.setenv("NATS_TOKEN", "left over")
    user = USERS[0]
    with Server(config=f"authorization {{ users = [ {{nkey: {user['public']}}} ] }}") as server:
        async with eb.connect(server.url, credentials=lambda: {"nkey": user["seed"]}):
            pass

        def raises() -> str:
            raise ValueError("hunter2")

        async def late() -> str:
            raise KeyError("hunter2")

        async def never() -> str:
            await asyncio.Event().wait()
            return ""

        bad: list[Any] = [
            raises,
            late,
            never,
            lambda: 7,
            lambda: None,
            lambda: {"secret": "hunter2"},
            lambda: "hunter2",
        ]
        with caplog.at_level(logging.CRITICAL, "nats_eventbus"):
            for source in bad:
                with pytest.raises(eb.AuthError) as caught:
                    await eb.connect(server.url, credentials=source, api_timeout=0.2)
                assert "hunter2" not in str(caught.value)
        with pytest.raises(eb.ConfigError):
            await eb.connect(server.url, credentials=lambda: {"token": "t"}, token="t")


async def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    """Files readable by others are a warning, once; an error where the application makes them one."""
    user = USERS[0]
    file = tmp_path / "user.nk"
    file.touch(0o644)
    file.write_text(user["seed"])
    with Server(config=f"authorization {{ users = [ {{nkey: {user['public']}}} ] }}") as server:
        with pytest.warns(eb.EventBusWarning, match=r"user\.nk.*chmod 600") as caught:
            async with eb.connect(server.url, nkey=str(file)):
                pass
        assert len(caught) == 1
        with pytest.raises(eb.EventBusWarning):
            await eb.connect(server.url, nkey=str(file))
        file.chmod(0o600)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            async with eb.connect(server.url, nkey=str(file)):
                pass


async def test_tls_settings() -> None:
    """TLS: what must be encrypted is never spoken in clear; a wrong name is an error; nothing switches it off."""
    with Server() as plain:
        for settings in ({"require_tls": True}, {"tls": eb.Tls(first=True)}):
            with pytest.raises(eb.TlsError):
                await eb.connect(plain.url, **settings)  # type: ignore[arg-type]
        with pytest.raises(eb.ConfigError, match="server_name"):
            await eb.connect(plain.url, tls=eb.Tls(server_name="not a name"))
        with pytest.raises(TypeError):
            eb.Tls(verify=False)  # type: ignore[call-arg]


async def test_websockets() -> None:
    """WebSocket URLs: everything works through them."""
    port = free_port()
    with Server("-js", config=f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}') as _:
        async with eb.connect(f"ws://127.0.0.1:{port}", jetstream=True) as bus:
            assert await bus.producer("t.x").send(b"x" * 200_000) is not None
            await bus.force_reconnect()
            async with bus.consumer("t.x", group="g") as c:
                async for m in c:
                    assert len(m.body) == 200_000
                    await m.ack_confirmed()
                    break
    with pytest.raises(eb.ConfigError, match="mixed"):
        await eb.connect(["ws://127.0.0.1:1", "nats://127.0.0.1:2"])
