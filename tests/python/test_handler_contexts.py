"""The context handlers start in, and what asyncio offers inside them. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until

tenant: ContextVar[Any] = ContextVar("tenant", default="none")
each_concurrency = pytest.mark.parametrize("concurrency", [1, 4])


class Odd:
    """Cannot be compared, as an array cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@each_concurrency
@pytest.mark.parametrize("kind", ["async", "suspending", "plain", "raising", "odd"])
@pytest.mark.parametrize("runs", ["bus.run", "consumer.run"])
def test_each_handler_has_a_copy_of_the_context(
    jetstream: Server, topic: str, run: Callable[[Any], Any], runs: str, kind: str, concurrency: int
) -> None:
    """Consuming: each handler starts in a copy of the context in which `run` was called, whatever the concurrency."""
    found: list[Any] = []
    later: list[Any] = []

    def look(m: eb.Message) -> None:
        found.append(tenant.get())
        tenant.set(Odd() if kind == "odd" else m.text())

    async def handle(m: eb.Message) -> None:
        look(m)
        # What a handler starts has what the handler had.
        asyncio.get_running_loop().call_soon(lambda: later.append(tenant.get()))
        if kind == "suspending":
            await asyncio.sleep(0)
            assert tenant.get() == m.text()
        if kind == "raising":
            raise eb.Reject("no")

    handler: Any = look if kind == "plain" else handle

    async def main() -> None:
        async with eb.connect(jetstream.url, jetstream=True) as bus:
            await bus.producer(topic).send_many(["1", "2", "3"])
            tenant.set("ours")
            settings: dict[str, Any] = {"group": f"g{kind}{runs[0]}", "concurrency": concurrency}
            if runs == "bus.run":
                tenant.set("before")
                bus.on(topic, on_error=lambda e, m: None, **settings)(handler)
                tenant.set("ours")
                running = asyncio.create_task(bus.run())
            else:
                consumer = await bus.consumer(topic, **settings)
                running = asyncio.create_task(consumer.run(handler, on_error=lambda e, m: None))
            await until(lambda: len(found) == 3)
            await bus.close()
            await running
            assert tenant.get() == "ours"

    run(main())
    assert found == ["ours"] * 3
    if kind not in ("plain", "odd"):
        assert sorted(later) == ["1", "2", "3"]


async def test_a_runs_own_context_stays_as_it_was(bus: eb.Bus, topic: str) -> None:
    """Consuming: what a handler sets is not there after the run, when the same task goes on."""
    await bus.producer(topic).send("x")
    consumer = await bus.consumer(topic, group="g")

    async def handle(_: eb.Message) -> None:
        tenant.set("handler's")
        await consumer.close()

    await consumer.run(handle)
    assert tenant.get() == "none"


async def test_responders_handlers_have_a_copy_of_the_context(core_bus: eb.Bus, topic: str) -> None:
    """Request and reply: each handler starts in a copy of the context in which `respond` was called."""

    async def handle(m: eb.Message) -> str:
        was = tenant.get()
        tenant.set(m.text())
        return was

    tenant.set("ours")
    await core_bus.respond(topic, handle)
    tenant.set("later")
    assert [(await core_bus.request(topic, body)).text() for body in ("1", "2")] == ["ours", "ours"]


@each_concurrency
def test_what_asyncio_offers_works_inside_handlers(
    jetstream: Server, topic: str, run: Callable[[Any], Any], concurrency: int
) -> None:
    """Consuming: the current task, timeouts, task groups, futures and bare yields are a handler's as in any task."""
    seen: list[str] = []

    async def child() -> str:
        await asyncio.sleep(0)
        return tenant.get()

    async def handle(m: eb.Message) -> None:
        tenant.set(m.text())
        task = asyncio.current_task()
        assert task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(child()) for _ in range(3)]
        assert [c.result() for c in children] == [m.text()] * 3
        assert await asyncio.gather(child(), child()) == [m.text()] * 2
        assert await asyncio.wait_for(child(), 5) == m.text()
        assert await asyncio.to_thread(tenant.get) == m.text()
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.wait_for(asyncio.Event().wait(), 0.001))
        assert asyncio.current_task() is task
        assert tenant.get() == m.text()
        seen.append(m.text())

    async def main() -> None:
        async with eb.connect(jetstream.url, jetstream=True) as bus:
            errors: list[Any] = []
            await bus.producer(topic).send_many(["1", "2", "3"])
            consumer = await bus.consumer(topic, group=f"g{concurrency}", concurrency=concurrency)
            running = asyncio.create_task(consumer.run(handle, on_error=lambda e, m: errors.append(e)))
            await until(lambda: len(seen) == 3 or bool(errors))
            await consumer.close()
            await running
            assert errors == []

    run(main())


async def test_one_at_a_time_needs_no_task_for_each(bus: eb.Bus, topic: str) -> None:
    """Consuming: handlers that run one at a time share a task, also where each has changed its context."""
    tasks: set[Any] = set()

    async def handle(m: eb.Message) -> None:
        tenant.set(m.text())
        tasks.add(asyncio.current_task())

    await bus.producer(topic).send_many([f"{n}" for n in range(10)])
    consumer = await bus.consumer(topic, group="g")
    running = asyncio.create_task(consumer.run(handle))
    await until(lambda: bus.metrics()["settled"] == 10)
    await consumer.close()
    await running
    assert len(tasks) == 1
