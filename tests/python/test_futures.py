"""What calls return: a future in full, on whatever loop, without an asyncio future behind it."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import time
from typing import Any

import nats_eventbus as eb
import pytest

from .test_bus import until


def refused(p: eb.Producer) -> Any:
    """A send that the server rejects."""
    return p.send(b"x", expected_last_sequence=10**9)


async def test_it_is_a_future(bus: eb.Bus, topic: str) -> None:
    """API: what `send` returns answers to all that asyncio asks of a future."""
    p = bus.producer(topic)
    wait: Any = p.send(b"x")
    assert asyncio.isfuture(wait)
    assert wait.get_loop() is asyncio.get_running_loop()
    assert not wait.done()
    for early in (wait.result, wait.exception):
        with pytest.raises(asyncio.InvalidStateError):
            early()
    called: list[Any] = []
    wait.add_done_callback(called.append)
    wait.add_done_callback(called.append)
    assert wait.remove_done_callback(called.append) == 2
    wait.add_done_callback(called.append)
    ack = await wait
    assert (ack, wait.result(), wait.exception(), wait.done(), wait.cancelled()) == (ack, ack, None, True, False)
    assert called == [wait]
    assert not wait.cancel()
    # Of one that has ended, in a turn of the loop's own.
    wait.add_done_callback(called.append)
    assert called == [wait]
    await asyncio.sleep(0)
    assert called == [wait, wait]
    assert await wait == ack


async def test_many_wait_for_one(bus: eb.Bus, topic: str) -> None:
    """API: several tasks may wait for one send; a failure is raised to each."""
    p = bus.producer(topic)

    async def waits(wait: Any) -> Any:
        return await wait

    one = p.send(b"x")
    acks = await asyncio.gather(*(waits(one) for _ in range(3)), one)
    assert len({a.sequence for a in acks}) == 1
    bad = refused(p)
    failures = await asyncio.gather(*(waits(bad) for _ in range(3)), bad, return_exceptions=True)
    assert [type(f) for f in failures] == [eb.WrongSequence] * 4


async def test_cancelled_by_hand(bus: eb.Bus, topic: str) -> None:
    """API: cancelling stops the wait, and whoever waits is told so in a turn of its own; the message goes on."""
    p = bus.producer(topic)
    wait: Any = p.send(b"x")
    told: list[bool] = []

    def tell(w: Any) -> None:
        told.append(w.cancelled())

    wait.add_done_callback(tell)
    assert wait.cancel("enough")
    assert told == []
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await wait
    await asyncio.sleep(0)
    assert told == [True]
    await p.flush()
    ack = await p.send(b"y")
    assert ack
    assert ack.sequence == 2


async def test_callbacks_run_in_their_context(bus: eb.Bus, topic: str) -> None:
    """API: a callback runs in the context it was given, or that of whoever added it."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="none")
    p = bus.producer(topic)
    wait: Any = p.send(b"x")
    seen: list[str] = []

    def see(_: Any) -> None:
        seen.append(name.get())

    name.set("mine")
    wait.add_done_callback(see)
    wait.add_done_callback(see, context=contextvars.Context())
    name.set("later")
    await wait
    assert seen == ["mine", "none"]


async def test_a_callback_that_raises_harms_nobody(bus: eb.Bus, topic: str) -> None:
    """API: what a callback raises is the loop's exception handler's; the others come all the same."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: told.append(f"{c['message']}: {c['exception']}"))
    p = bus.producer(topic)
    seen: list[Any] = []

    def bad(_: Any) -> None:
        raise ValueError("bad callback")

    for _ in range(3):
        wait: Any = p.send(b"x")
        wait.add_done_callback(bad)
        wait.add_done_callback(seen.append)
    await p.flush()
    await until(lambda: len(seen) == 3)
    assert told == ["a callback of a nats-eventbus call failed: bad callback"] * 3


async def test_a_loop_run_within_a_callback(bus: eb.Bus, topic: str) -> None:
    """API: a callback may run the loop itself, as notebooks do: what came in the same batch still arrives."""
    loop: Any = asyncio.get_running_loop()
    p = bus.producer(topic)
    await p.send(b"first")
    waits: list[Any] = [p.send(b"x") for _ in range(50)]
    inside: list[int] = []

    def nested(_: Any) -> None:
        # A selector's wait is short, for there is always something to do here.
        end = time.monotonic() + 5
        while not all(w.done() for w in waits) and time.monotonic() < end:
            loop.call_soon(lambda: None)
            loop._run_once()
        inside.append(sum(w.done() for w in waits))

    waits[0].add_done_callback(nested)
    await asyncio.gather(*waits)
    assert inside == [50]


async def test_a_failure_nobody_asked_for_is_told(bus: eb.Bus, topic: str) -> None:
    """API: a failure that somebody keeps and never looks at is told to the loop's exception handler."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: told.append(c))
    p = bus.producer(topic)
    await p.send(b"x")
    kept = refused(p)
    await p.flush()
    assert kept.done()
    del kept
    gc.collect()
    assert [type(c["exception"]) for c in told] == [eb.WrongSequence]


async def test_a_dropped_sends_failure_is_the_next_flushs(bus: eb.Bus, topic: str) -> None:
    """Publishing: a wait that was dropped still counts in `flush`, which tells its failure, once."""
    p = bus.producer(topic)
    await p.send(b"x")
    refused(p)
    with pytest.raises(eb.WrongSequence):
        await p.flush()
    await p.flush()
