"""Handler mode from Python. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until

FAST = eb.Backoff(initial=0.02, max=0.1)


async def test_returns_raises_rejects_retries(bus: eb.Bus, topic: str) -> None:
    """Consuming: returns → ack; raises → retry; Reject → dead letter at once; RetryAfter; max_deliver → dead letter."""
    tries: dict[str, list[int]] = {}
    errors: list[str] = []
    stream = f"{topic.replace('.', '_')}_STREAM"

    async def handle(m: eb.Message) -> None:
        tries.setdefault(m.text(), []).append(m.attempt)
        match m.text():
            case "poison":
                raise ValueError("cannot")
            case "reject":
                raise eb.Reject("never")
            case "later" if m.attempt == 1:
                raise eb.RetryAfter(0.05)
            case _:
                return

    await bus.producer(topic).send_many(["fine", "poison", "reject", "later"])
    c = await bus.consumer(topic, group="g", max_deliver=3, backoff=FAST)
    running = asyncio.create_task(c.run(handle, on_error=lambda e, m: errors.append(f"{m.text()}: {e}")))
    await until(lambda: bus.metrics()["dead_letters"] == 2 and len(tries.get("later", [])) == 2)
    await c.close()
    await running
    assert tries == {"fine": [1], "poison": [1, 2, 3], "reject": [1], "later": [1, 2]}
    assert sorted(errors) == ["poison: cannot"] * 3 + ["reject: never"]
    async with bus.consumer(f"dlq.{stream}.g", group="reader") as letters:
        got = {m.text(): m.headers for m in await letters.fetch(2)}
    assert got["poison"]["Dlq-Reason"] == "ValueError: cannot"
    assert got["poison"]["Dlq-Attempts"] == "3"
    assert got["reject"]["Dlq-Reason"] == "never"
    assert got["reject"]["Dlq-Topic"] == topic


@pytest.mark.parametrize("concurrency", [1, 5])
async def test_concurrency(bus: eb.Bus, topic: str, concurrency: int) -> None:
    """Consuming: one message at a time by default, `concurrency=N` runs N."""
    now = most = done = 0

    async def handle(_: eb.Message) -> None:
        nonlocal now, most, done
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        done += 1

    await bus.producer(topic).send_many([b"x"] * 50)
    c = await bus.consumer(topic, group="g", concurrency=concurrency)
    running = asyncio.create_task(c.run(handle))
    await until(lambda: done == 50)
    await c.close()
    await running
    assert most == concurrency


async def test_plain_functions_run_in_threads(bus: eb.Bus, topic: str) -> None:
    """Consuming: plain `def` handlers run in threads."""
    threads: set[int] = set()

    def handle(_: eb.Message) -> None:
        threads.add(threading.get_ident())

    await bus.producer(topic).send_many([b"x"] * 3)
    c = await bus.consumer(topic, group="g")
    running = asyncio.create_task(c.run(handle))
    await until(lambda: bus.metrics()["settled"] == 3)
    await c.close()
    await running
    assert threads
    assert threading.get_ident() not in threads


async def test_run_serves_all_handlers_until_close(bus: eb.Bus, topic: str) -> None:
    """Leaving: `run` until close; running handlers finish."""
    done: list[Any] = []
    entered, release = asyncio.Event(), asyncio.Event()

    @bus.on(f"{topic}.a", group="g")
    async def _(m: eb.Message) -> None:
        entered.set()
        await release.wait()
        done.append(m.body)

    @bus.on(f"{topic}.b", group="g", concurrency=4)
    async def _(m: eb.Message) -> None:
        done.append(m.body)

    await bus.producer(f"{topic}.a").send(b"a")
    await bus.producer(f"{topic}.b").send(b"b")
    running = asyncio.create_task(bus.run())
    await until(lambda: done == [b"b"])
    await entered.wait()
    closing = asyncio.create_task(bus.close())
    release.set()
    await closing
    await running
    assert done == [b"b", b"a"]


async def test_a_handler_may_ask_for_the_end(bus: eb.Bus, topic: str) -> None:
    """Leaving: a handler that closes the bus ends `run`, and its own message is acked."""

    @bus.on(topic, group="g")
    async def _(_: eb.Message) -> None:
        await bus.close()

    await bus.producer(topic).send(b"x")
    await asyncio.wait_for(bus.run(), 5)
    assert bus.metrics()["settled"] == 1


async def test_a_handler_on_a_deleted_durable_raises(topic: str) -> None:
    """Consuming: a consumer that cannot go on says so: never a stall, never a plain end."""
    with Server("-js") as server:
        async with eb.connect(server.url, jetstream=True) as bus:

            async def handle(_: eb.Message) -> None: ...

            bus.on(topic, group="g")(handle)
            running = asyncio.create_task(bus.run())
            stream = f"{topic.replace('.', '_')}_STREAM"

            async def there() -> bool:
                found = [s for s in await bus.streams() if s.name == stream and s.consumers]
                return bool(found)

            end = time.monotonic() + 10
            while not await there():
                assert time.monotonic() < end
            # The API of the server itself, through the bus.
            import nats

            client = await nats.connect(server.url)  # pyright: ignore[reportUnknownMemberType]
            await client.jetstream().delete_consumer(stream, "g")  # pyright: ignore[reportUnknownMemberType]
            await client.close()
            with pytest.raises(eb.NotFoundError):
                await asyncio.wait_for(running, 10)


async def test_what_is_buffered_is_not_begun_after_close(bus: eb.Bus, topic: str) -> None:
    """Leaving: closing stops handing out: running handlers finish, what is buffered goes to other workers."""
    begun: list[str] = []

    async def handle(m: eb.Message) -> None:
        begun.append(m.text())
        closing.append(asyncio.create_task(c.close()))
        await asyncio.sleep(0)

    closing: list[asyncio.Task[None]] = []
    await bus.producer(topic).send_many([f"{n}" for n in range(200)])
    c = await bus.consumer(topic, group="g", prefetch=256)
    await until(lambda: bus.metrics()["received"] == 200)
    await c.run(handle)
    assert len(begun) <= 2
    async with bus.consumer(topic, group="g") as other:
        assert len(await other.fetch(200 - len(begun), timeout=10)) == 200 - len(begun)
        assert await other.fetch(1, timeout=0.2) == []


WORKER = """
import asyncio, sys
import nats_eventbus as eb

async def main():
    async with eb.connect(sys.argv[1], jetstream=True) as bus:
        @bus.on(sys.argv[2], group="g")
        async def handle(m):
            print("handling", m.text(), flush=True)
            await asyncio.sleep(3)
            print("handled", m.text(), flush=True)
        await bus.run()
    print("left", flush=True)

asyncio.run(main())
"""


async def test_sigterm_drains(jetstream: Server, bus: eb.Bus, topic: str, tmp_path: Path) -> None:
    """Leaving: SIGTERM: the running handler finishes, buffered messages go to another worker within 1 s."""
    await bus.producer(topic).send_many([f"{n}" for n in range(20)])
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    worker = subprocess.Popen(
        [sys.executable, str(script), jetstream.url, topic], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert worker.stdout
        assert worker.stdout.readline() == "handling 0\n"
        worker.send_signal(signal.SIGTERM)
        out = await asyncio.to_thread(worker.stdout.read)
        assert out == "handled 0\nleft\n"
        assert worker.wait(5) == 0
        async with bus.consumer(topic, group="g") as c:
            started = time.monotonic()
            got = await c.fetch(19, timeout=5)
            assert len(got) == 19
            assert time.monotonic() - started < 5
    finally:
        worker.kill()
        worker.wait()
