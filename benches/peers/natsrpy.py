"""natsrpy, as its type stubs and examples show it."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
from typing import Any

from .harness import CREDIT, Marks, Outcome, Spec, bursts, nothing, ready, round_trips, run
from .journey import Journey

# By name, for it is not installed where the linters run.
Nats: Any = importlib.import_module("natsrpy").Nats


async def connect(spec: Spec) -> Any:
    nats = Nats([spec.url])
    await nats.startup()
    return nats


async def core_publish(spec: Spec) -> Outcome:
    nats = await connect(spec)
    subject, body = spec.subject, spec.payload

    async def each(n: int) -> None:
        for _ in range(n):
            await nats.publish(subject, body)

    async def gather(n: int) -> None:
        await asyncio.gather(*[nats.publish(subject, body) for _ in range(n)])

    if spec.mode == "gather":
        return await bursts(spec, gather, nats.flush, spec.window)
    return await bursts(spec, each, nats.flush, 64)


async def js_publish(spec: Spec) -> Outcome:
    nats = await connect(spec)
    js = await nats.jetstream()
    subject, body = spec.subject, spec.payload
    numbers = itertools.count()

    def publish() -> Any:
        headers = None
        if spec.ids:
            headers = {"Nats-Msg-Id": f"bench.{next(numbers):016x}"}
        elif spec.keys:
            headers = {"Sharding-Key": f"key-{next(numbers) % spec.keys}"}
        return js.publish(subject, body, headers=headers, wait=True)

    async def each(n: int) -> None:
        for _ in range(n):
            await publish()

    async def gather(n: int) -> None:
        await asyncio.gather(*[publish() for _ in range(n)])

    if spec.mode == "gather":
        return await bursts(spec, gather, nothing, spec.window)
    return await bursts(spec, each, nothing, 64)


async def core_receive(spec: Spec) -> Outcome:
    nats = await connect(spec)
    marks = Marks(spec)
    n = 0
    if spec.mode == "callback":
        done = asyncio.Event()

        async def callback(_: Any) -> None:
            nonlocal n
            n += 1
            if not n & 63:
                if not n % CREDIT:
                    await nats.publish(spec.credit, b"")
                if not done.is_set() and marks.due(n):
                    done.set()

        subscription = await nats.subscribe(spec.subject, callback).detatch()
        await nats.flush()
        ready()
        await done.wait()
        await subscription.unsubscribe()
    else:
        async with nats.subscribe(spec.subject) as messages:
            await nats.flush()
            ready()
            async for _ in messages:
                n += 1
                if not n & 63:
                    if not n % CREDIT:
                        await nats.publish(spec.credit, b"")
                    if marks.due(n):
                        break
    return marks.outcome()


async def bind(nats: Any, stream: str, durable: str) -> Any:
    js = await nats.jetstream()
    return await (await js.streams.get(stream)).consumers.get_pull(durable)


async def js_consume(spec: Spec) -> Outcome:
    nats = await connect(spec)
    consumer = await bind(nats, spec.stream, spec.durable)
    ready()
    marks = Marks(spec)
    n = 0

    async def handle(m: Any) -> bool:
        nonlocal n
        n += 1
        if (spec.batch == 1 or not n & 15) and marks.due(n):
            await m.ack(double=True)
            marks.close(n)
            return True
        await m.ack()
        return False

    if spec.mode == "fetch":
        while True:
            for m in await consumer.fetch(spec.batch):
                if await handle(m):
                    return marks.outcome()
    async with consumer.consume() as messages:
        async for m in messages:
            if await handle(m):
                break
    return marks.outcome()


async def js_fetch1(spec: Spec) -> Outcome:
    spec.mode, spec.batch = "fetch", 1
    return await js_consume(spec)


async def request(spec: Spec) -> Outcome:
    nats = await connect(spec)
    body = spec.payload
    # Its calls give futures that need a loop: a coroutine function around them has one.
    return await round_trips(spec, lambda: nats.request(spec.subject, body))


async def receiving(consumer: Any, trip: Journey, as_json: bool) -> None:
    async with consumer.consume() as messages:
        async for m in messages:
            if as_json:
                json.loads(m.payload)
            trip.arrived(m.payload)
            await m.ack()


async def journey(spec: Spec) -> Outcome:
    nats = await connect(spec)
    trip = Journey(spec)
    if not spec.stream:

        async def callback(m: Any) -> None:
            trip.arrived(m.payload)

        # Held: it ends with its last reference.
        subscription = await nats.subscribe(spec.subject, callback).detatch()
        await nats.flush()
        outcome = await trip.run(lambda body: nats.publish(spec.subject, body))
        await subscription.unsubscribe()
        return outcome
    js = await nats.jetstream()
    task = asyncio.create_task(receiving(await bind(nats, spec.stream, spec.durable), trip, False))
    unsettled: set[asyncio.Future[Any]] = set()

    async def send(body: bytes) -> None:
        future = asyncio.ensure_future(js.publish(spec.subject, body, wait=True))
        unsettled.add(future)
        future.add_done_callback(unsettled.discard)

    outcome = await trip.run(send)
    task.cancel()
    return outcome


async def agent(spec: Spec) -> Outcome:
    nats = await connect(spec)
    js = await nats.jetstream()
    trip = Journey(spec, copies=3)
    event: dict[str, Any] = json.loads(spec.body)
    unsettled: set[asyncio.Future[Any]] = set()

    async def send(_: bytes) -> None:
        event["meta"]["send_time_ms"] += 1
        future = asyncio.ensure_future(js.publish(spec.subject, json.dumps(event), wait=True))
        unsettled.add(future)
        future.add_done_callback(unsettled.discard)

    consumers = [await bind(nats, spec.stream, f"{spec.durable}-{i}") for i in range(3)]
    tasks = [asyncio.create_task(receiving(consumer, trip, True)) for consumer in consumers]
    outcome = await trip.closed(send)
    for task in tasks:
        task.cancel()
    return outcome


async def fan_out(spec: Spec) -> Outcome:
    nats = await connect(spec)
    marks = Marks(spec)
    done = asyncio.Event()
    n = 0

    async def receive(consumer: Any) -> None:
        nonlocal n
        async with consumer.consume() as messages:
            async for m in messages:
                await m.ack()
                n += 1
                if not n & 15 and marks.due(n):
                    done.set()

    consumers = [await bind(nats, spec.stream, f"{spec.durable}-{i}") for i in range(spec.consumers)]
    tasks = [asyncio.create_task(receive(consumer)) for consumer in consumers]
    ready()
    await done.wait()
    for task in tasks:
        task.cancel()
    return marks.outcome()


async def idle(spec: Spec) -> Outcome:
    nats = await connect(spec)
    consumer = await bind(nats, spec.stream, spec.durable)

    async def wait() -> None:
        async with consumer.consume() as messages:
            async for _ in messages:
                pass

    waiting = asyncio.create_task(wait())
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
