"""What the Python producer and worker share: their settings, and the rig's commands on standard input."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer


def settings() -> dict[str, Any]:
    """The settings, a JSON object as the only argument."""
    return json.loads(sys.argv[1])


def opened(role: str, given: dict[str, Any]) -> Writer:
    """The ledger, begun."""
    ledger = Writer(given["ledger"])
    ledger.write("hello", role=role, pid=os.getpid())
    return ledger


def opening(given: dict[str, Any]) -> eb.Connecting:
    """The bus, about to be opened. `connect` are its settings; `password_file` is read again for every connection."""
    connect: dict[str, Any] = {"jetstream": True, "name": given["who"], **given["connect"]}
    if "tls" in connect:
        connect["tls"] = eb.Tls(**connect["tls"])
    if file := given.get("password_file"):
        connect["credentials"] = lambda: json.loads(Path(file).read_text())
    return eb.connect(given["servers"], **connect)


def tell_events(bus: eb.Bus, ledger: Writer) -> None:
    """Writes down what happens to the connection."""

    def tell(e: eb.Event) -> None:
        ledger.write("event", kind=e.kind, cause=e.cause, server=e.server, topic=e.topic)

    bus.on_event(tell)


def error_fields(e: BaseException) -> dict[str, Any]:
    """An error for a ledger."""
    bus = e if isinstance(e, eb.EventBusError) else None
    return {
        "code": bus.code if bus else f"!{type(e).__name__}",
        "text": str(e),
        "topic": bus and bus.topic,
        "stream": bus and bus.stream,
        "group": bus and bus.group,
    }


async def commands() -> AsyncIterator[str]:
    """Lines from the rig; when the rig is gone, so is this process. `block SECONDS` blocks the loop, here."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        while line := await reader.readline():
            command = line.decode().strip()
            if command.startswith("block "):
                time.sleep(float(command.removeprefix("block ")))  # noqa: ASYNC251, that is the fault
                continue
            yield command
        os._exit(70)
    finally:
        transport.close()


async def tell_metrics(bus: eb.Bus, ledger: Writer) -> None:
    """Writes the bus's counters down, again and again."""
    while True:
        ledger.write("metrics", counts=bus.metrics())
        await asyncio.sleep(0.2)


async def tell_health(bus: eb.Bus, ledger: Writer) -> None:
    """Writes down what the bus says of itself."""
    found = await bus.health()
    ledger.write("health", ok=found.ok, problems=found.problems, consumers=len(found.consumers))


def rest(bus: eb.Bus, ledger: Writer) -> None:
    """Nothing is to be done now: what memory can be given back is, and the rig may look."""
    gc.collect()
    ledger.write("metrics", counts=bus.metrics())
    ledger.write("rested")
