"""Handlers of every shape that programs have. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import nats_eventbus as eb
import pytest

from .test_bus import until

tenant: ContextVar[str] = ContextVar("tenant", default="none")


@contextlib.asynccontextmanager
async def running(bus: eb.Bus, topic: str, handler: Any, **settings: Any) -> AsyncGenerator[list[Any]]:
    errors: list[Any] = []
    consumer = await bus.consumer(topic, group="g", **settings)
    run = asyncio.create_task(consumer.run(handler, on_error=lambda e, m: errors.append(e)))
    yield errors
    await consumer.close()
    await run


@pytest.mark.parametrize("concurrency", [1, 20])
async def test_plain_functions_have_threads_of_their_own(bus: eb.Bus, topic: str, concurrency: int) -> None:
    """Consuming: `concurrency` plain functions run at once, in threads of the run's own, which end with it."""
    inside = threading.Barrier(concurrency)
    threads: set[threading.Thread] = set()

    def handle(_: eb.Message) -> None:
        threads.add(threading.current_thread())
        inside.wait(20)

    await bus.producer(topic).send_many([b"x"] * concurrency * 2)
    async with running(bus, topic, handle, concurrency=concurrency) as errors:
        await until(lambda: bus.metrics()["settled"] == concurrency * 2, 20)
    assert errors == []
    assert len(threads) == concurrency
    await until(lambda: not any(t.is_alive() for t in threads))


async def test_a_plain_function_that_never_ends_holds_up_nothing(jetstream: Any, topic: str) -> None:
    """Leaving: closing does not wait for a thread that never ends, beyond `drain_timeout`."""
    entered, go = threading.Event(), threading.Event()

    def handle(_: eb.Message) -> None:
        entered.set()
        go.wait(60)

    try:
        async with eb.connect(jetstream.url, jetstream=True, drain_timeout=0.2) as bus:
            await bus.producer(topic).send(b"x")
            bus.on(topic, group="g")(handle)
            run = asyncio.create_task(bus.run())
            await until(entered.is_set)
            started = time.monotonic()
            bus.stop()
            await run
            assert time.monotonic() - started < 10
    finally:
        go.set()


class Called:
    """An object that is called."""

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    async def __call__(self, m: eb.Message) -> None:
        await asyncio.sleep(0)
        self.seen.append(m.text())

    async def method(self, m: eb.Message) -> None:
        await self(m)

    async def two(self, prefix: str, m: eb.Message) -> None:
        await self(m)

    def gives_awaitable(self, m: eb.Message) -> Any:
        return self(m)

    def optional(self, m: eb.Message, *rest: Any, **more: Any) -> Any:
        return self(m)


def call(handler: Any, m: eb.Message) -> Any:
    return handler(m)


SHAPES: dict[str, Callable[[Called], Any]] = {
    "object": lambda o: o,
    "method": lambda o: o.method,
    "partial": lambda o: functools.partial(o.two, "x"),
    "partial of what gives an awaitable": lambda o: functools.partial(call, o),
    "gives an awaitable": lambda o: o.gives_awaitable,
    "optional parameters": lambda o: o.optional,
}


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("shape", SHAPES)
async def test_shapes(bus: eb.Bus, topic: str, shape: str, concurrency: int) -> None:
    """Consuming: a handler is any function of one message, async or plain, and is awaited to its end."""
    seen: list[str] = []
    await bus.producer(topic).send_many(["1", "2"])
    async with running(bus, topic, SHAPES[shape](Called(seen)), concurrency=concurrency) as errors:
        await until(lambda: bus.metrics()["settled"] == 2)
    assert sorted(seen) == ["1", "2"]
    assert errors == []


async def agen(m: eb.Message) -> AsyncIterator[None]:
    yield


def gen(m: eb.Message) -> Iterator[None]:
    yield


class Generates:
    async def __call__(self, m: eb.Message) -> AsyncIterator[None]:
        yield


async def nothing() -> None: ...


async def needs_two(m: eb.Message, other: str) -> None: ...


async def needs_a_keyword(m: eb.Message, *, other: str) -> None: ...


MISTAKES: dict[str, tuple[Any, str]] = {
    "async generator": (agen, "use return, not yield"),
    "generator": (gen, "use return, not yield"),
    "object that generates": (Generates(), "use return, not yield"),
    "partial of a generator": (functools.partial(gen), "use return, not yield"),
    "not callable": ("handler", "the handler is a str: give an async or plain function of one message"),
    "nothing": (None, "the handler is a NoneType"),
    "coroutine": (nothing, "cannot be called with one message"),
    "two parameters": (needs_two, "cannot be called with one message"),
    "a keyword": (needs_a_keyword, "cannot be called with one message"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_what_cannot_be_a_handler(bus: eb.Bus, core_bus: eb.Bus, topic: str, mistake: str) -> None:
    """Errors: what cannot be a handler is a ConfigError where it is given, which says what to do."""
    handler, words = MISTAKES[mistake]
    with pytest.raises(eb.ConfigError, match=words):
        bus.on(topic, group="g")(handler)
    with pytest.raises(eb.ConfigError, match="run without handlers"):
        await bus.run()
    async with bus.consumer(topic, group="g") as consumer:
        with pytest.raises(eb.ConfigError, match=words):
            await consumer.run(handler)
    with pytest.raises(eb.ConfigError, match=words):
        await core_bus.respond(topic, handler)


async def test_a_generator_that_is_returned_is_a_failure(bus: eb.Bus, topic: str) -> None:
    """Consuming: a plain function that gives a generator has not handled its message."""
    await bus.producer(topic).send("x")
    async with running(bus, topic, functools.partial(call, gen), max_deliver=1) as errors:
        await until(lambda: bus.metrics()["dead_letters"] == 1)
    assert "use return, not yield" in str(errors[0])


async def test_functions_without_a_signature(bus: eb.Bus, topic: str) -> None:
    """Consuming: a function whose parameters cannot be seen is taken as it is."""
    seen: list[Any] = []
    await bus.producer(topic).send("x")
    async with running(bus, topic, seen.append):
        await until(lambda: len(seen) == 1)
