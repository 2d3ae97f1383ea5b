"""The rows of tests/spec/servers.json: what servers of each version do, and what the bus makes of it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import nats_eventbus as eb
import pytest
from nats_eventbus import errors

from tests.support.server import Server

from .test_bus import until

SPEC: dict[str, Any] = json.loads((Path(__file__).parents[1] / "spec" / "servers.json").read_text())
ROWS: list[dict[str, Any]] = SPEC["rows"]


def number(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in version.split(".")[:2])


async def declare(server: Server, row: dict[str, Any], stream: str, topic: str) -> None:
    """The row's stream, that of its source, and its durable, made behind the bus's back."""
    takes = {"subjects": [f"{topic}.>"]}
    if row.get("source"):
        assert "error" not in await server.api(f"STREAM.CREATE.{stream}O", {"name": f"{stream}O", **takes})
        takes = {"sources": [{"name": f"{stream}O"}]}
    made = await server.api(f"STREAM.CREATE.{stream}", {"name": stream, **takes, **row.get("stream", {})})
    assert "error" not in made, made
    if "durable" in row:
        config = {"durable_name": "g", "ack_policy": "explicit", "filter_subject": f"{topic}.>", **row["durable"]}
        made = await server.api(f"CONSUMER.CREATE.{stream}.g", {"stream_name": stream, "config": config})
        assert "error" not in made, made


async def publish(server: Server, row: dict[str, Any], topic: str) -> None:
    """Sends the row's messages as they are."""
    at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    peer = await nats.connect(server.url)  # pyright: ignore[reportUnknownMemberType]
    for m in row["publish"]:
        headers = {k: v.replace("{at}", at).replace("{topic}", topic) for k, v in m["headers"].items()}
        reply = await peer.request(f"{topic}.{m['to']}", m["body"].encode(), 5, headers=headers or None)
        assert b"error" not in reply.data, reply.data
    await peer.close()


async def is_stored(server: Server, stream: str, subject: str, header: str) -> bool:
    found = await server.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    return header.encode() in base64.b64decode(found.get("message", {}).get("hdrs", ""))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
async def test_row(bus: eb.Bus, jetstream: Server, row: dict[str, Any], topic: str) -> None:
    """Newer servers: each behaviour of the table, on the server of this run."""
    version = number(bus.server.version)
    if version < number(row.get("from", "0.0")) or version >= number(row.get("below", "99.0")):
        pytest.skip(f"not of {bus.server.version}")
    stream = topic.replace(".", "_").upper()
    await declare(jetstream, row, stream, topic)
    if "send" in row:
        sending = bus.producer(f"{topic}.a").send(b"x", **row["send"])
        if row["outcome"] == "acked":
            assert await sending
        else:
            with pytest.raises(errors.CLASSES[row["outcome"]]):
                await sending
            assert (await bus.stream(stream).info()).messages == 0
        return
    handled: list[tuple[str, float]] = []

    async def handle(m: eb.Message) -> None:
        handled.append((m.text(), time.monotonic()))
        if row.get("handle") == "reject":
            raise eb.Reject("no use")
        if row.get("handle") == "retry_after" and len(handled) == 1:
            raise eb.RetryAfter(row["after"])

    async with bus.consumer(f"{topic}.>", group="g", stream=stream) as c:
        running = asyncio.create_task(c.run(handle))
        await publish(jetstream, row, topic)
        if stored := row.get("stored"):
            until_stored = time.monotonic() + 10
            while not await is_stored(jetstream, stream, f"{topic}.{stored['to']}", stored["header"]):
                assert time.monotonic() < until_stored
                await asyncio.sleep(0.05)
        await until(lambda: len(handled) >= len(row["handled"]))
        # Nothing follows: all there is was settled.
        settled: Any = {}
        while settled.get("num_pending", 1) + settled.get("num_ack_pending", 1):
            settled = await jetstream.api(f"CONSUMER.INFO.{stream}.g")
    await running
    assert [body for body, _ in handled] == row["handled"]
    if within := row.get("within"):
        assert within[0] <= handled[1][1] - handled[0][1] <= within[1]
    if "letters" in row:
        letters = [d async for d in bus.dead_letters(f"{topic}.>", group="g", stream=stream)]
        assert len(letters) == row["letters"]
