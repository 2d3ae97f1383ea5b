"""How what the package hands out is awaited: by tasks, groups, other threads, and one message at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server, free_port


async def test_a_task_opens(jetstream: Server, topic: str) -> None:
    """API: what is opened by ``await`` may be opened by a task, which shows what it does."""
    task = asyncio.create_task(eb.connect(jetstream.url, jetstream=True))
    assert "Connecting" in repr(task)
    bus = await task
    opening = asyncio.create_task(bus.consumer(topic, group="g"))
    assert topic in repr(opening)
    done, _ = await asyncio.wait([opening])
    assert isinstance(done.pop().result(), eb.Consumer)
    async with asyncio.TaskGroup() as tasks:
        one = tasks.create_task(bus.consumer(topic, group="g"))
        two = tasks.create_task(eb.connect(jetstream.url))
    assert isinstance(one.result(), eb.Consumer)
    await two.result().close()
    await bus.close()


async def test_openings_are_gathered(bus: eb.Bus, topic: str) -> None:
    """API: ``gather`` opens at once, and hands out failures where it is asked to."""
    nowhere = f"nats://127.0.0.1:{free_port()}"
    got = await asyncio.gather(
        bus.consumer(topic, group="a"),
        bus.consumer(topic, group="b"),
        bus.consumer(f"{topic}..x", group="c"),
        eb.connect(nowhere),
        return_exceptions=True,
    )
    assert [type(x) for x in got] == [eb.Consumer, eb.Consumer, eb.InvalidTopic, eb.ConnectionError]
    assert isinstance(await asyncio.wait_for(bus.consumer(topic, group="a"), 10), eb.Consumer)


async def test_an_opening_task_is_cancelled() -> None:
    """API: cancelling a task that opens ends it, begun or not."""
    came = asyncio.Event()

    def silence(*_: Any) -> None:
        came.set()

    silent = await asyncio.start_server(silence, "127.0.0.1", 0)
    url = f"nats://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    early = asyncio.create_task(eb.connect(url, connect_timeout=60))
    early.cancel()
    late = asyncio.create_task(eb.connect(url, connect_timeout=60))
    await asyncio.wait_for(came.wait(), 10)
    late.cancel()
    for task in (early, late):
        with pytest.raises(asyncio.CancelledError):
            await task
    unused: Any = eb.connect(url)
    unused.close()
    silent.close()


async def test_another_thread_opens(jetstream: Server, topic: str) -> None:
    """API: ``run_coroutine_threadsafe`` takes what is opened, too."""
    loop = asyncio.get_running_loop()

    def work() -> eb.Bus:
        return asyncio.run_coroutine_threadsafe(eb.connect(jetstream.url, jetstream=True), loop).result(10)

    bus = await asyncio.to_thread(work)
    assert await bus.producer(topic).send(b"x")
    await bus.close()


def test_a_runner_opens(jetstream: Server) -> None:
    """API: ``asyncio.run`` takes what is opened."""
    bus = asyncio.run(eb.connect(jetstream.url))
    assert isinstance(bus, eb.Bus)
    asyncio.run(bus.close())


async def test_one_message_at_a_time(bus: eb.Bus, topic: str) -> None:
    """Consuming: ``anext(consumer)`` gives the next message, and its default at the end."""
    await bus.producer(topic).send_many([b"1", b"2"])
    async with bus.consumer(topic, group="g") as c:
        assert (await anext(c)).body == b"1"
        [m] = await c.fetch()
        assert m.body == b"2"
    assert await anext(c, None) is None
    with pytest.raises(StopAsyncIteration):
        await anext(c)


async def test_fetch_takes_times_of_every_kind(bus: eb.Bus, topic: str) -> None:
    """Consuming: a fetch waits as long as it is asked to, and ends empty."""
    async with bus.consumer(topic, group="g") as c:
        loop = asyncio.get_running_loop()
        for timeout in (0.2, timedelta(seconds=0.2), "200ms"):
            began = loop.time()
            assert await c.fetch(2, timeout=timeout) == []
            assert 0.15 < loop.time() - began < 5
        for bad in (0, -1):
            with pytest.raises(eb.ConfigError, match="ask for 1 or more"):
                await c.fetch(bad)
        for none in (-1, float("nan"), "soon"):
            with pytest.raises(eb.ConfigError, match="timeout"):
                await c.fetch(1, timeout=none)
        waiting = asyncio.create_task(c.fetch(1, timeout=None))
        await bus.producer(topic).send(b"x")
        assert [m.body for m in await asyncio.wait_for(waiting, 10)] == [b"x"]


@pytest.mark.parametrize("given", [5, [5], {"nats://127.0.0.1"}])
async def test_addresses_that_are_none_are_refused_where_awaited(given: Any) -> None:
    """API: what ``connect`` cannot use is a ConfigError, where it is awaited."""
    opening = eb.connect(given)
    with pytest.raises(eb.ConfigError, match="servers: give an address"):
        await opening


async def test_an_encoder_that_is_none_is_refused_where_awaited(jetstream: Server) -> None:
    """API: an encoder must be a function."""
    given: Any = "json"
    opening = eb.connect(jetstream.url, encoder=given)
    with pytest.raises(eb.ConfigError, match="encoder: give a function"):
        await opening


async def test_a_setting_of_a_wrong_kind_is_named(bus: eb.Bus, topic: str) -> None:
    """API: a setting that cannot be one at all is a ConfigError that names it, where it is awaited."""
    thing: Any = object()
    opening = eb.connect(name=thing)
    with pytest.raises(eb.ConfigError, match="name: a setting cannot be a object"):
        await opening
    with pytest.raises(eb.ConfigError, match="prefetch: "):
        await bus.consumer(topic, group="g", prefetch=2**70)
