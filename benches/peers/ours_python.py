"""This package, from Python: defaults throughout, but for `dedupe` where the workload says so."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import nats_eventbus as eb

from .harness import CREDIT, Marks, Outcome, Spec, bursts, ready, round_trips, run
from .journey import Journey

Producer = Any


def sender(p: Producer, spec: Spec, **options: Any) -> tuple[Callable[[int], Awaitable[None]], int]:
    """The workload's way of sending n messages, and how many at a time."""
    body = spec.payload
    keys = itertools.cycle(f"key-{i}" for i in range(max(spec.keys, 1)))
    pending: deque[Awaitable[Any]] = deque()

    async def each(n: int) -> None:
        for _ in range(n):
            await p.send(body)

    async def nowait(n: int) -> None:
        for _ in range(n):
            try:
                p.send_nowait(body)
            except eb.Backpressure:
                await p.send(body)

    async def many(n: int) -> None:
        for result in await p.send_many([body] * n):
            if isinstance(result, Exception):
                raise result

    async def gather(n: int) -> None:
        await asyncio.gather(*[p.send(body) for _ in range(n)])

    async def sliding(n: int) -> None:
        for _ in range(n):
            if len(pending) >= spec.window:
                await pending.popleft()
            pending.append(p.send(body))

    async def keyed(n: int) -> None:
        await asyncio.gather(*[p.send(body, key=key) for key in itertools.islice(keys, n)])

    ways = {
        "await": (each, 64),
        "nowait": (nowait, 256),
        "many": (many, 10 * spec.window if spec.workload == "js_publish" else spec.window),
        "gather": (gather, spec.window),
        "sliding": (sliding, 256),
        "keyed": (keyed, spec.window),
    }
    return ways[spec.mode]


async def core_publish(spec: Spec) -> Outcome:
    async with eb.connect(spec.url) as bus:
        p = bus.producer(spec.subject)
        send, chunk = sender(p, spec)
        return await bursts(spec, send, p.flush, chunk)


async def js_publish(spec: Spec) -> Outcome:
    async with eb.connect(spec.url, jetstream=True) as bus:
        p = bus.producer(spec.subject, dedupe=spec.ids)
        send, chunk = sender(p, spec)
        return await bursts(spec, send, p.flush, chunk)


async def core_receive(spec: Spec) -> Outcome:
    async with eb.connect(spec.url) as bus, bus.consumer(spec.subject, group="bench") as c:
        credit = bus.producer(spec.credit)
        marks = Marks(spec)
        n = 0
        if spec.mode == "handler":
            done = asyncio.Event()

            async def handler(_: eb.Message) -> None:
                nonlocal n
                n += 1
                if not n & 255:
                    if not n % CREDIT:
                        credit.send_nowait(b"")
                    if marks.due(n):
                        done.set()
                        await asyncio.sleep(3600)

            work = asyncio.create_task(c.run(handler))
            ready()
            await done.wait()
            work.cancel()
        else:
            ready()
            async for _ in c:
                n += 1
                if not n & 255:
                    if not n % CREDIT:
                        credit.send_nowait(b"")
                    if marks.due(n):
                        break
        return marks.outcome()


async def js_consume(spec: Spec) -> Outcome:
    async with eb.connect(spec.url, jetstream=True) as bus, bus.consumer(spec.subject, group=spec.durable) as c:
        marks = Marks(spec)
        n = 0
        ready()
        if spec.mode == "handler":
            done = asyncio.Event()

            async def handler(_: eb.Message) -> None:
                nonlocal n
                n += 1
                if not n & 15 and not done.is_set() and marks.due(n):
                    done.set()

            work = asyncio.create_task(c.run(handler))
            await done.wait()
            # Closing flushes the acks.
            total = n
            await c.close()
            marks.close(total)
            await work
        elif spec.mode == "iterate":
            async for m in c:
                n += 1
                if not n & 15 and marks.due(n):
                    await m.ack_confirmed()
                    break
                m.ack()
            marks.close(n)
        else:
            over = False
            while not over:
                for m in await c.fetch(spec.batch):
                    n += 1
                    if marks.due(n) if spec.batch == 1 else not n & 15 and marks.due(n):
                        await m.ack_confirmed()
                        over = True
                        break
                    m.ack()
            marks.close(n)
        return marks.outcome()


async def js_fetch1(spec: Spec) -> Outcome:
    spec.mode, spec.batch = "fetch", 1
    return await js_consume(spec)


async def request(spec: Spec) -> Outcome:
    async with eb.connect(spec.url) as bus:
        body = spec.payload
        return await round_trips(spec, lambda: bus.request(spec.subject, body))


async def journey(spec: Spec) -> Outcome:
    stored = bool(spec.stream)
    async with (
        eb.connect(spec.url, jetstream=stored) as bus,
        bus.consumer(spec.subject, group=spec.durable or "bench") as c,
    ):
        p = bus.producer(spec.subject)
        trip = Journey(spec)

        async def receive() -> None:
            async for m in c:
                trip.arrived(m.body)
                m.ack()

        async def send(body: bytes) -> None:
            try:
                p.send_nowait(body)
            except eb.Backpressure:
                await p.send(body)

        receiving = asyncio.create_task(receive())
        outcome = await trip.run(send)
        receiving.cancel()
        return outcome


async def agent(spec: Spec) -> Outcome:
    async with eb.connect(spec.url, jetstream=True) as bus:
        p = bus.producer(spec.subject)
        trip = Journey(spec, copies=3)
        event: dict[str, Any] = json.loads(spec.body)

        async def receive(durable: str) -> None:
            async with bus.consumer(spec.subject, group=durable) as c:
                async for m in c:
                    m.json()
                    m.ack()
                    trip.arrived(b"")

        async def send(_: bytes) -> None:
            event["meta"]["send_time_ms"] += 1
            try:
                p.send_nowait(event)
            except eb.Backpressure:
                await p.send(event)

        tasks = [asyncio.create_task(receive(f"{spec.durable}-{i}")) for i in range(3)]
        outcome = await trip.closed(send)
        for task in tasks:
            task.cancel()
        return outcome


async def fan_out(spec: Spec) -> Outcome:
    async with eb.connect(spec.url, jetstream=True) as bus:
        marks = Marks(spec)
        done = asyncio.Event()
        n = 0

        async def receive(c: eb.Consumer) -> None:
            nonlocal n
            async for m in c:
                m.ack()
                n += 1
                if not n & 15 and marks.due(n):
                    done.set()

        opened = [await bus.consumer(f"{spec.subject}.{i}", group=f"{spec.durable}-{i}") for i in range(spec.consumers)]
        tasks = [asyncio.create_task(receive(c)) for c in opened]
        ready()
        await done.wait()
        for task in tasks:
            task.cancel()
        return marks.outcome()


async def idle(spec: Spec) -> Outcome:
    async with eb.connect(spec.url, jetstream=True) as bus, bus.consumer(spec.subject, group=spec.durable) as c:
        waiting = asyncio.create_task(c.fetch(1, timeout=600))
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
