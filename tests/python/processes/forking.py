"""Processes that fork. Arguments: the server's address, a topic, what to do. Whatever is not as it should be is raised.

A child that hangs is ended by its alarm, which fails the parent.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import nats_eventbus as eb

GROUP = "g"
SECONDS = 30
"""Until a child is taken to hang."""


class Open(NamedTuple):
    """What a parent has when it forks."""

    bus: eb.Bus
    producer: eb.Producer
    consumer: eb.Consumer
    message: eb.Message
    events: Any
    listener: Any


def child(work: Callable[[], object]) -> int:
    """Forks; the child works and leaves at once, with 1 if it failed. Returns its pid."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(SECONDS)
    code = 0
    try:
        work()
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


async def well(pid: int) -> None:
    """Waits for a child's end, which must be a good one."""
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"


@asynccontextmanager
async def traffic(bus: eb.Bus, topic: str) -> AsyncGenerator[None]:
    """Sends and handles all the while, so that forks come at any moment; all that was acked is handled in the end."""
    sent, handled, over = set[str](), set[str](), asyncio.Event()
    producer = bus.producer(topic, max_in_flight=100)

    async def send() -> None:
        while not over.is_set():
            ids = [f"{topic}-{len(sent) + n}" for n in range(50)]
            await asyncio.gather(*(producer.send(id_, id=id_) for id_ in ids))
            sent.update(ids)

    async def handle(m: eb.Message) -> None:
        handled.add(m.text())

    consumer = await bus.consumer(topic, group=GROUP, concurrency=4)
    sending, handling = asyncio.create_task(send()), asyncio.create_task(consumer.run(handle))
    yield
    over.set()
    await sending
    until = time.monotonic() + 20
    while sent - handled:
        assert time.monotonic() < until, f"{len(sent - handled)} of {len(sent)} acked messages were not handled"
        await asyncio.sleep(0.01)
    await consumer.close()
    await handling
    assert len(sent) > 100, "there was no traffic"


@asynccontextmanager
async def opened(url: str, topic: str) -> AsyncGenerator[Open]:
    """A bus with one of everything on it, in traffic; it must be unharmed in the end."""
    async with eb.connect(url, jetstream=True) as bus:
        producer, consumer = bus.producer(topic), await bus.consumer(topic, group=GROUP)
        await producer.send(b"first")
        (message,) = await consumer.fetch(1)
        async with traffic(bus, f"{topic}.traffic"):
            yield Open(bus, producer, consumer, message, bus.events(), bus.dead_letters(topic, group=GROUP))
        assert await message.ack_confirmed() is None
        await producer.send(b"last")
        (message,) = await consumer.fetch(1)
        assert message.text() == "last"
        message.ack()


def told(o: Open) -> None:
    """In the child: every call says at once that this is another process's; closing does nothing; showing works."""

    async def take() -> None:
        async for _ in o.consumer:
            pass

    calls: dict[str, Callable[[], Any]] = {
        "send": lambda: o.producer.send(b"x"),
        "send with a key": lambda: o.producer.send(b"x", key="k"),
        "send_nowait": lambda: o.producer.send_nowait(b"x"),
        "send_many": lambda: o.producer.send_many([b"x"]),
        "flush": lambda: o.producer.flush(),
        "producer": lambda: o.bus.producer("t"),
        "consumer": lambda: o.bus.consumer("t", group=GROUP),
        "request": lambda: o.bus.request("t"),
        "respond": lambda: o.bus.respond("t", lambda m: None),
        "streams": lambda: o.bus.streams(),
        "stream": lambda: o.bus.stream("S"),
        "declare_stream": lambda: o.bus.declare_stream("S", ["s"]),
        "events": lambda: o.bus.events(),
        "metrics": lambda: o.bus.metrics(),
        "force_reconnect": lambda: o.bus.force_reconnect(),
        "fetch": lambda: o.consumer.fetch(1),
        "iterate": take,
        "run": lambda: o.consumer.run(lambda m: None),
        "ack": lambda: o.message.ack(),
        "nak": lambda: o.message.nak(),
        "term": lambda: o.message.term(),
        "in_progress": lambda: o.message.in_progress(),
        "ack_confirmed": lambda: o.message.ack_confirmed(),
        "next event": lambda: anext(o.events),
        "dead letters": lambda: o.listener.replay(),
    }

    async def call(f: Callable[[], Any]) -> None:
        result = f()
        if hasattr(result, "__await__"):
            await result

    start = time.monotonic()
    for name, f in calls.items():
        said = "nothing"
        try:
            asyncio.run(call(f))
        except eb.ClosedError as e:
            said = str(e)
        assert "connect again here" in said, f"{name} said {said}"
    took = time.monotonic() - start
    assert took < 5, f"it took {took:.1f} s to be told"
    assert o.bus.state == "closed"
    assert "forked" in repr(o.bus)
    assert GROUP in repr(o.consumer)
    assert o.message.text() == "first"

    async def close() -> None:
        await o.consumer.close()
        await o.bus.close()

    asyncio.run(close())


async def own(url: str, topic: str) -> None:
    """In the child: a connection of its own, to send and to receive."""
    async with eb.connect(url, jetstream=True) as bus:
        acks = await bus.producer(topic).send_many([f"{n}" for n in range(20)])
        assert not [a for a in acks if not isinstance(a, eb.PubAck) or a.duplicate], acks
        async with bus.consumer(topic, group=GROUP) as c:
            texts = list[str]()
            while len(texts) < 20:
                for m in await c.fetch(20):
                    texts.append(m.text())
                    m.ack()
        assert texts == [f"{n}" for n in range(20)], texts


def both(o: Open, url: str, topic: str) -> None:
    """In the child: told, and then with a connection of its own, while the parent's is still at hand."""
    told(o)
    asyncio.run(own(url, topic))


async def from_the_loop(url: str, topic: str) -> None:
    """`os.fork` on the loop's thread, again and again, in traffic."""
    async with opened(url, topic) as o:
        for n in range(10):
            await well(child(lambda n=n: both(o, url, f"{topic}.child{n}")))


async def from_a_thread(url: str, topic: str) -> None:
    """`os.fork` on another thread, while the loop works."""
    async with opened(url, topic) as o:
        for n in range(5):
            await well(await asyncio.to_thread(child, lambda n=n: both(o, url, f"{topic}.child{n}")))


async def by_multiprocessing(url: str, topic: str) -> None:
    """Processes of `multiprocessing`, some at a time."""
    fork = multiprocessing.get_context("fork")
    async with opened(url, topic) as o:
        children = [fork.Process(target=both, args=(o, url, f"{topic}.child{n}")) for n in range(4)]
        for p in children:
            p.start()
        for p in children:
            await asyncio.to_thread(p.join, SECONDS)
        assert [p.exitcode for p in children] == [0] * 4


def leaving(url: str, topic: str) -> None:
    """A child that ends as a program does collects its copies of the parent's objects; the parent's live on.

    The loop runs on another thread: a child that left through a loop's copy would undo what the parent's watches.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    there = opened(url, topic)
    o = asyncio.run_coroutine_threadsafe(there.__aenter__(), loop).result(SECONDS)
    for n in range(10):
        pid = os.fork()
        if not pid:
            signal.alarm(SECONDS)
            if n % 2:
                both(o, url, f"{topic}.child{n}")
            sys.exit(0)
        asyncio.run(well(pid))
    asyncio.run_coroutine_threadsafe(there.__aexit__(None, None, None), loop).result(SECONDS)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


async def siblings(url: str, topic: str) -> None:
    """Made ids differ between a parent and its children: else the server would take messages for duplicates."""
    count, each = 4, 100

    async def send() -> None:
        async with eb.connect(url, jetstream=True) as bus:
            acks = await bus.producer(topic).send_many([b"x"] * each)
            assert not [a for a in acks if not isinstance(a, eb.PubAck) or a.duplicate], "taken for duplicates"

    async with eb.connect(url, jetstream=True) as bus:
        await bus.producer(topic).send(b"x")
        pids = [child(lambda: asyncio.run(send())) for _ in range(count)]
        await send()
        for pid in pids:
            await well(pid)
        (stream,) = [s for s in await bus.streams() if topic in s.subjects]
        assert stream.messages == 1 + each * (count + 1), stream


async def grandchildren(url: str, topic: str) -> None:
    """A child with a bus of its own forks, too."""
    async with opened(url, topic) as o:

        async def second() -> None:
            async with opened(url, f"{topic}.second") as mine:
                await well(child(lambda: (told(o), both(mine, url, f"{topic}.third"))))

        await well(child(lambda: asyncio.run(second())))


async def waiting(url: str, topic: str) -> None:
    """What the parent waits for ends in the parent alone: sends, a request, an iteration, all pending at the fork."""
    async with opened(url, topic) as o:
        waits = [asyncio.create_task(_await(o.producer.send(b"x"))) for _ in range(50)]
        asking = asyncio.create_task(o.bus.request(f"{topic}.nobody", timeout=5))
        taking = asyncio.create_task(o.consumer.fetch(50, timeout=10))
        await asyncio.sleep(0)
        pid = child(lambda: asyncio.run(own(url, f"{topic}.child")))
        acks = await asyncio.wait_for(asyncio.gather(*waits), 10)
        assert len({a.sequence for a in acks}) == 50
        assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], eb.NoResponders)
        got = await taking
        assert len(got) == 50
        for m in got:
            m.ack()
        await well(pid)


async def _await(a: Awaitable[Any]) -> Any:
    return await a


CASES: dict[str, Callable[[str, str], Awaitable[None] | None]] = {
    "loop": from_the_loop,
    "thread": from_a_thread,
    "multiprocessing": by_multiprocessing,
    "leaving": leaving,
    "siblings": siblings,
    "grandchildren": grandchildren,
    "waiting": waiting,
}


def main() -> None:
    url, topic, case = sys.argv[1:]
    work = CASES[case](url, topic)
    if asyncio.iscoroutine(work):
        asyncio.run(work)


if __name__ == "__main__":
    main()
