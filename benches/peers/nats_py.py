"""nats-py, as its documentation shows it; on asyncio or on uvloop."""

# Its own types are partial.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NoMessages
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from .harness import CREDIT, Marks, Outcome, Spec, bursts, nothing, ready, round_trips, run
from .journey import Journey

Sub = JetStreamContext.PullSubscription


async def connect(spec: Spec) -> Client:
    return await nats.connect(spec.url)


async def core_publish(spec: Spec) -> Outcome:
    nc = await connect(spec)
    subject, body = spec.subject, spec.payload

    async def send(n: int) -> None:
        for _ in range(n):
            await nc.publish(subject, body)

    async def flush() -> None:
        # Its PING overtakes what is still buffered; the second one comes after.
        await nc.flush()
        await nc.flush()

    return await bursts(spec, send, flush)


def headers(spec: Spec) -> Callable[[], dict[str, Any] | None]:
    """What goes with a message: an id, a key, or nothing."""
    numbers = itertools.count()
    keys = itertools.cycle({"Sharding-Key": f"key-{i}"} for i in range(max(spec.keys, 1)))
    if spec.keys:
        return lambda: dict(next(keys))
    if spec.ids:
        return lambda: {"Nats-Msg-Id": f"bench.{next(numbers):016x}"}
    return lambda: None


async def js_publish(spec: Spec) -> Outcome:
    nc = await connect(spec)
    js = nc.jetstream(publish_async_max_pending=spec.window)
    subject, body, more = spec.subject, spec.payload, headers(spec)
    pending: deque[Awaitable[Any]] = deque()

    async def each(n: int) -> None:
        for _ in range(n):
            await js.publish(subject, body, headers=more())

    async def gather(n: int) -> None:
        await asyncio.gather(*[js.publish(subject, body, headers=more()) for _ in range(n)])

    async def publish_async(n: int) -> None:
        for _ in range(n):
            pending.append(await js.publish_async(subject, body, headers=more()))

    async def completed() -> None:
        await js.publish_async_completed()
        # Every one of them: a failed publish is no publish.
        await asyncio.gather(*pending)
        pending.clear()

    if spec.mode == "publish_async":
        return await bursts(spec, publish_async, completed)
    if spec.mode == "gather":
        return await bursts(spec, gather, nothing, spec.window)
    return await bursts(spec, each, nothing, 64)


async def core_receive(spec: Spec) -> Outcome:
    nc = await connect(spec)
    marks = Marks(spec)
    n = 0
    if spec.mode == "callback":
        done = asyncio.Event()

        async def callback(_: Msg) -> None:
            nonlocal n
            n += 1
            if not n & 255:
                if not n % CREDIT:
                    await nc.publish(spec.credit)
                if marks.due(n):
                    done.set()
                    await asyncio.sleep(3600)

        await nc.subscribe(spec.subject, cb=callback)
        await nc.flush()
        ready()
        await done.wait()
    else:
        sub = await nc.subscribe(spec.subject)
        await nc.flush()
        ready()
        async for _ in sub.messages:
            n += 1
            if not n & 255:
                if not n % CREDIT:
                    await nc.publish(spec.credit)
                if marks.due(n):
                    break
    return marks.outcome()


async def bind(js: JetStreamContext, stream: str, durable: str) -> Sub:
    return await js.pull_subscribe_bind(durable=durable, stream=stream)


async def js_consume(spec: Spec) -> Outcome:
    nc = await connect(spec)
    js = nc.jetstream()
    if spec.mode == "push":
        return await push(spec, js)
    sub = await bind(js, spec.stream, spec.durable)
    ready()
    marks = Marks(spec)
    n = 0
    while True:
        for m in await sub.fetch(spec.batch):
            n += 1
            if (spec.batch == 1 or not n & 15) and marks.due(n):
                await m.ack_sync()
                marks.close(n)
                return marks.outcome()
            await m.ack()


async def push(spec: Spec, js: JetStreamContext) -> Outcome:
    """A push consumer with a callback: its own, the durable is for pulling."""
    marks = Marks(spec)
    done = asyncio.Event()
    n = 0

    async def callback(m: Msg) -> None:
        nonlocal n
        n += 1
        if not n & 15 and marks.due(n):
            await m.ack_sync()
            marks.close(n)
            done.set()
            await asyncio.sleep(3600)
        await m.ack()

    ready()
    config = ConsumerConfig(max_ack_pending=65_536)
    await js.subscribe(spec.subject, stream=spec.stream, cb=callback, manual_ack=True, config=config)
    await done.wait()
    return marks.outcome(own_consumer=True)


async def js_fetch1(spec: Spec) -> Outcome:
    spec.batch = 1
    return await js_consume(spec)


async def request(spec: Spec) -> Outcome:
    nc = await connect(spec)
    body = spec.payload
    return await round_trips(spec, lambda: nc.request(spec.subject, body))


async def fetching(sub: Sub, batch: int, handle: Callable[[Msg], None]) -> None:
    while True:
        try:
            for m in await sub.fetch(batch):
                handle(m)
                await m.ack()
        except NoMessages:
            pass


async def journey(spec: Spec) -> Outcome:
    nc = await connect(spec)
    trip = Journey(spec)

    def arrived(m: Msg) -> None:
        trip.arrived(m.data)

    if not spec.stream:

        async def callback(m: Msg) -> None:
            trip.arrived(m.data)

        await nc.subscribe(spec.subject, cb=callback)
        await nc.flush()
        return await trip.run(lambda body: nc.publish(spec.subject, body))
    js = nc.jetstream(publish_async_max_pending=spec.window)
    task = asyncio.create_task(fetching(await bind(js, spec.stream, spec.durable), spec.batch, arrived))
    outcome = await trip.run(lambda body: js.publish_async(spec.subject, body))
    task.cancel()
    return outcome


async def agent(spec: Spec) -> Outcome:
    nc = await connect(spec)
    js = nc.jetstream(publish_async_max_pending=spec.window)
    trip = Journey(spec, copies=3)
    event: dict[str, Any] = json.loads(spec.body)

    def handle(m: Msg) -> None:
        json.loads(m.data)
        trip.arrived(b"")

    async def send(_: bytes) -> None:
        event["meta"]["send_time_ms"] += 1
        await js.publish_async(spec.subject, json.dumps(event).encode())

    subs = [await bind(js, spec.stream, f"{spec.durable}-{i}") for i in range(3)]
    tasks = [asyncio.create_task(fetching(sub, spec.batch, handle)) for sub in subs]
    outcome = await trip.closed(send)
    for task in tasks:
        task.cancel()
    return outcome


async def fan_out(spec: Spec) -> Outcome:
    nc = await connect(spec)
    js = nc.jetstream()
    marks = Marks(spec)
    done = asyncio.Event()
    n = 0

    def handle(_: Msg) -> None:
        nonlocal n
        n += 1
        if not n & 15 and marks.due(n):
            done.set()

    subs = [await bind(js, spec.stream, f"{spec.durable}-{i}") for i in range(spec.consumers)]
    tasks = [asyncio.create_task(fetching(sub, spec.batch, handle)) for sub in subs]
    ready()
    await done.wait()
    for task in tasks:
        task.cancel()
    return marks.outcome()


async def idle(spec: Spec) -> Outcome:
    nc = await connect(spec)
    sub = await bind(nc.jetstream(), spec.stream, spec.durable)
    waiting = asyncio.create_task(sub.fetch(1, timeout=600))
    marks = Marks(spec)
    await asyncio.sleep(spec.warmup)
    marks.open(0)
    await asyncio.sleep(spec.seconds)
    marks.close(0)
    waiting.cancel()
    return marks.outcome()


WORK = (core_publish, js_publish, core_receive, js_consume, js_fetch1, request, journey, agent, fan_out, idle)

if __name__ == "__main__":
    run(WORK)
