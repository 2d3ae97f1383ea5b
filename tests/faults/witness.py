"""Another client, nats-py: makes streams and durables before a run, and reads what is left after it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError, TimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from .evidence import Stored


async def _quiet(_: Exception) -> None:
    """Errors show where something is asked for."""


class Witness:
    """A connection of its own. Made by `Witness.of`, closed with `async with`."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.js: JetStreamContext = client.jetstream(timeout=10)  # pyright: ignore[reportUnknownMemberType]

    @classmethod
    async def of(cls, url: str, within: float = 10, **settings: Any) -> Witness:
        """Connects, trying until the time is over; with settings of nats-py where given."""
        until = time.monotonic() + within
        while True:
            try:
                client = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
                    url.split(","), connect_timeout=2, error_cb=_quiet, max_reconnect_attempts=-1, **settings
                )
                return cls(client)
            except (OSError, Error):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> Witness:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def make_stream(self, name: str, subject: str, **settings: Any) -> StreamInfo:
        """A stream as the platform declares it, with other settings where given; waits for a cluster to be ready."""
        platform: dict[str, Any] = {"max_age": 24 * 3600, "max_msgs": 1_000_000, "max_bytes": 1 << 30}
        config = StreamConfig(name=name, subjects=[subject], **{**platform, **settings})
        until = time.monotonic() + 20
        while True:
            try:
                return await self.js.add_stream(config)  # pyright: ignore[reportUnknownMemberType]
            except (APIError, Error):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    async def make_durable(self, stream: str, name: str, topic: str, **settings: Any) -> ConsumerInfo:
        """A pull durable as the platform makes it, with other settings where given."""
        plain: dict[str, Any] = {"durable_name": name, "filter_subject": topic, "ack_policy": AckPolicy.EXPLICIT}
        config = ConsumerConfig(**{**plain, **settings})
        return await self.js.add_consumer(stream, config)  # pyright: ignore[reportUnknownMemberType]

    async def durable(self, stream: str, name: str) -> ConsumerInfo:
        """How a durable stands."""
        return await self.js.consumer_info(stream, name)

    async def leaders(self, stream: str, durable: str, within: float = 30) -> tuple[str, str]:
        """The servers that lead a stream and a durable, once both have one."""
        until = time.monotonic() + within
        quick = self.client.jetstream(timeout=0.5)  # pyright: ignore[reportUnknownMemberType]
        while True:
            try:
                s, d = (await quick.stream_info(stream)).cluster, (await quick.consumer_info(stream, durable)).cluster
                if s and d and s.leader and d.leader:
                    return s.leader, d.leader
            except (APIError, Error):
                pass  # Nobody leads now.
            if time.monotonic() > until:
                raise RuntimeError(f"{stream} and {durable} have no leaders after {within} s")
            await asyncio.sleep(0.05)

    async def led_apart(self, stream: str, durable: str, within: float = 30) -> tuple[str, str]:
        """The servers that lead a stream and a durable, once they are two: the durable's leader steps down until so."""
        until = time.monotonic() + within
        while True:
            s, d = await self.leaders(stream, durable)
            if s != d:
                return s, d
            await self.step_down(f"CONSUMER.LEADER.STEPDOWN.{stream}.{durable}")
            if time.monotonic() > until:
                raise RuntimeError(f"{stream} and {durable} are led by one server after {within} s")

    async def led_by(self, server: str, stream: str, durable: str, within: float = 60) -> None:
        """Has a stream's leader step down until it is this one."""
        until = time.monotonic() + within
        while (await self.leaders(stream, durable))[0] != server:
            if time.monotonic() > until:
                raise RuntimeError(f"{server} does not lead {stream} after {within} s")
            await self.step_down(f"STREAM.LEADER.STEPDOWN.{stream}")

    async def step_down(self, call: str) -> None:
        """Asks a leader to step down; in the middle of an election nobody answers, and whoever asks will ask again."""
        with contextlib.suppress(TimeoutError, NoRespondersError):
            await self.client.request(f"$JS.API.{call}", b"", timeout=2)

    async def messages(self, stream: str) -> list[Stored]:
        """Everything in a stream, oldest first; nothing when there is no such stream."""
        until = time.monotonic() + 30
        while True:
            try:
                left = (await self.js.stream_info(stream)).state.messages
                config = ConsumerConfig(ack_policy=AckPolicy.NONE)
                sub = await self.js.pull_subscribe("", stream=stream, config=config)  # pyright: ignore[reportUnknownMemberType]
                break
            except NotFoundError:
                return []
            except (APIError, Error):
                # Nobody leads now: that is no answer.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
        out: list[Stored] = []
        offset = time.monotonic() - time.time()
        while len(out) < left:
            try:
                out += [_stored(m, offset) for m in await sub.fetch(min(500, left - len(out)), timeout=5)]
            except TimeoutError:
                raise RuntimeError(f"{stream} holds {left} messages and gave only {len(out)}") from None
            except ServiceUnavailableError:
                # In a cluster: our server has not heard of the new consumer yet.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.05)
        await sub.unsubscribe()
        return out

    async def fill(self, topic: str, count: int, size: int = 0) -> None:
        """So many messages, as a producer named `fill` would send them, without waiting for single acks.

        `size`: bytes of a body, where it is to be larger than what it says.
        """

        def body(n: int) -> bytes:
            says = json.dumps({"id": f"fill-{n}", "n": n, "from": "fill", "do": "ok", "pad": ""})
            return f'{says[:-2]:x<{max(size - 2, 1)}}"}}'.encode()

        for n in range(1, count):
            await self.client.publish(topic, body(n))
        await self.js.publish(topic, body(count), timeout=60)

    async def left(self, stream: str, durable: str, within: float = 5) -> int:
        """How many messages a durable has still to deliver or waits for the acks of, once the last acks have come."""
        until = time.monotonic() + within
        while True:
            info = await self.durable(stream, durable)
            left = (info.num_pending or 0) + (info.num_ack_pending or 0)
            if not left or time.monotonic() > until:
                return left
            await asyncio.sleep(0.05)

    async def letters(self, stream: str) -> set[str]:
        """The ids of the messages of a stream that are dead letters now."""
        return {s.headers.get("Dlq-Id", "") for s in await self.messages(f"{stream}_DLQ")}

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> None:
        """Hears a subject from now on."""
        await self.client.subscribe(subject, cb=callback)  # pyright: ignore[reportUnknownMemberType]
        await self.client.flush()


def _stored(m: Msg, offset: float) -> Stored:
    headers = dict(m.headers or {})
    try:
        body: dict[str, Any] = json.loads(m.data)
    except ValueError:
        body = {}
    return Stored(
        seq=m.metadata.sequence.stream,
        id=headers.get("Nats-Msg-Id"),
        key=headers.get("Sharding-Key"),
        n=body.get("n"),
        origin=body.get("from"),
        t=m.metadata.timestamp.timestamp() + offset,
        headers=headers,
    )
