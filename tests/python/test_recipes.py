"""The recipes of examples/recipes, as real servers that get real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port

from .test_consuming import reaches

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"


def call(port: int, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read()
        return response.status, json.loads(text) if text else None


async def test_fastapi_shuts_down_without_loss(jetstream: Server, bus: eb.Bus, topic: str) -> None:
    """Leaving: in a FastAPI service under uvicorn SIGTERM lets the running handler finish; others get the rest."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning"]
    env = {**os.environ, "NATS_SERVER_URL": jetstream.url, "TOPIC": topic, "WORK": "1"}
    service = await asyncio.create_subprocess_exec(
        *command, cwd=RECIPES, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert service.stdout
    assert service.stderr
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await asyncio.to_thread(call, port, "/readyz") == (200, {"problems": []})
                    break
                except OSError:
                    await asyncio.sleep(0.05)
            assert (await asyncio.to_thread(call, port, "/livez"))[0] == 200
            for n in range(3):
                assert await asyncio.to_thread(call, port, "/events", {"n": n}) == (200, {"sequence": n + 1})
            assert await service.stdout.readline() == b'begun {"n":0}\n'
            service.send_signal(signal.SIGTERM)
            out, errors = await service.communicate()
    finally:
        if service.returncode is None:
            service.kill()
    assert out == b'done {"n":0}\n', errors
    # uvicorn raises the signal again once it has shut down.
    assert service.returncode in (0, -signal.SIGTERM), errors
    async with bus.consumer(topic, group="indexer") as c:
        left = await c.fetch(2, timeout=10)
        assert sorted(m.json()["n"] for m in left) == [1, 2]
        for m in left:
            await m.ack_confirmed()
    await reaches(jetstream, topic, "indexer", num_ack_pending=0, num_pending=0)
