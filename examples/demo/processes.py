"""The processes around the demo's agent: the Node service, and the server that is killed."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import nats_eventbus as eb

SERVICE = Path(__file__).resolve().parent / "service.mjs"
START, STOP = 30.0, 30.0
"""Seconds the service may take."""
PROBE = 0.01
"""Seconds between two looks at the killed server's port."""


class ServiceError(Exception):
    """The Node service cannot be had."""


class Service:
    """The Node service: a process that prints JSON lines."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._ready = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.handled: dict[str, int] = {}
        """Events handled of each topic."""
        self.totals: dict[str, int] = dict.fromkeys(("redelivered", "repeated", "wrong", "failed"), 0)

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            said = json.loads(line)
            if said.pop("event") == "ready":
                self._ready.set()
            else:
                self.handled, self.totals = said.pop("handled"), said
        self._ready.set()

    @property
    def running(self) -> bool:
        """Whether it is still there."""
        return not self._reading.done()

    async def ready(self) -> None:
        """Waits until it takes events."""
        try:
            async with asyncio.timeout(START):
                await self._ready.wait()
        except TimeoutError:
            raise ServiceError(f"the Node service was not ready within {START:.0f} s") from None
        if not self.running:
            raise ServiceError(f"the Node service ended with code {await self._process.wait()}")

    async def stop(self) -> int:
        """Lets it finish what it has in hand, and gives its exit code."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP):
                await self._reading
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            return await self._process.wait()


@asynccontextmanager
async def node_service(server: str) -> AsyncGenerator[Service, None]:
    """The Node service, for as long as the block runs."""
    node = shutil.which("node")
    if node is None:
        raise ServiceError("the demo needs Node: there is no `node` in PATH")
    service = Service(await asyncio.create_subprocess_exec(node, SERVICE, server, stdout=PIPE))
    try:
        await service.ready()
        yield service
    finally:
        await service.stop()


def _server(folder: Path) -> dict[str, Any]:
    """What the keeper of the embedded server noted: among others its pid and port."""
    return json.loads((folder / ".nats-eventbus" / "server.json").read_text())


async def _greets(port: int) -> bool:
    """Whether a server at the port says INFO, which it does to every new connection."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        return await reader.read(4) == b"INFO"
    except OSError:
        return False
    finally:
        writer.close()


async def kill_server(folder: Path, bus: eb.Bus) -> float:
    """Kills the embedded server with SIGKILL; whoever uses it starts it again.

    Gives the seconds until the server greets again and the bus is connected to it.
    """
    old = _server(folder)
    killed = perf_counter()
    os.kill(old["pid"], signal.SIGKILL)
    while True:
        await asyncio.sleep(PROBE)
        restarted = _server(folder)["pid"] not in (0, old["pid"]) and await _greets(old["port"])
        if restarted and bus.state == "connected":
            return perf_counter() - killed
