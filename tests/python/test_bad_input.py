"""Bad input gives the right typed error within 2 s, and harms nothing: the table all languages share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.clock import within
from tests.support.server import Server, free_port

CASES = json.loads((Path(__file__).parents[1] / "shared" / "bad_input.json").read_text())["cases"]


async def attempt(case: dict[str, Any], url: str) -> None:
    settings: dict[str, Any] = {
        "servers": url,
        "jetstream": case["server"] == "jetstream",
        **case.get("settings", {}),
    }
    bus = await eb.connect(**settings)
    try:
        if case["do"] == "connect":
            return
        body = b"x" * case.get("body_size", 1)
        if case.get("closed"):
            p = bus.producer(case["topic"])
            await bus.close()
            if case["do"] == "send":
                await p.send(body)
        match case["do"]:
            case "send":
                await bus.producer(case["topic"]).send(body, headers=case.get("headers"))
            case "send_nowait":
                bus.producer(case["topic"]).send_nowait(body)
            case "consume":
                await bus.consumer(case["topic"], group=case["group"])
            case "request":
                await bus.request(case["topic"], body, timeout=1)
            case other:
                raise AssertionError(other)
    except eb.EventBusError:
        if not case.get("closed"):
            # The connection lives on.
            assert bus.state == "connected"
            await bus.producer("still.alive").send(b"x")
        raise
    finally:
        await bus.close()


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
async def test_bad_input(case: dict[str, Any], jetstream: Server, core: Server, password: Server) -> None:
    servers = {"jetstream": jetstream, "core": core, "password": password}
    server = servers.get(case["server"])
    url = server.url if server else f"nats://127.0.0.1:{free_port()}"
    async with within(2):
        with pytest.raises(eb.EventBusError) as caught:
            await attempt(case, url)
    assert caught.value.code == case["code"]
    assert "wrong" not in str(caught.value), "no secret in an error"
