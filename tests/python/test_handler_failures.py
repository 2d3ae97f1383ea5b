"""What handlers let out, whatever it is, is a failed attempt, and the worker goes on.

Contract lines are named in the docstrings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_leaving import others_get

FAST = eb.Backoff(initial=0.02, max=0.02)
each_concurrency = pytest.mark.parametrize("concurrency", [1, 4])


class Detached(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("the session is gone")


class Stop(BaseException):
    """Not an Exception, and no end of the program."""


async def a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    task.cancel()
    await task


async def a_shared_task() -> None:
    """Something else cancels what the handler waits for."""
    task = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_soon(task.cancel)
    await task


async def itself() -> None:
    task = asyncio.current_task()
    assert task
    task.cancel()
    await asyncio.sleep(60)


async def a_task_group(*errors: BaseException) -> None:
    async def child(e: BaseException) -> None:
        await asyncio.sleep(0)
        raise e

    async with asyncio.TaskGroup() as group:
        for e in errors:
            group.create_task(child(e))


async def a_timeout() -> None:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)


def raising(e: BaseException) -> Callable[[], Any]:
    async def raise_it() -> None:
        raise e

    return raise_it


NOT_UTF8 = b"r\xe9sum\xe9".decode("utf-8", "surrogateescape")
IN_GROUP = "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): "

FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "a cancelled task": (a_cancelled_task, "CancelledError"),
    "a shared task": (a_shared_task, "CancelledError"),
    "cancels itself": (itself, "CancelledError"),
    "CancelledError": (raising(asyncio.CancelledError("closed")), "CancelledError: closed"),
    "a task group": (lambda: a_task_group(ValueError("no")), IN_GROUP + "ValueError: no"),
    "a group that is cancelled": (
        raising(BaseExceptionGroup("both", [asyncio.CancelledError()])),
        "BaseExceptionGroup: both (1 sub-exception): CancelledError",
    ),
    "a timeout": (a_timeout, "TimeoutError"),
    "no text": (raising(Detached()), "Detached"),
    "not UTF-8": (raising(ValueError(NOT_UTF8)), r"ValueError: r\udce9sum\udce9"),
    "StopAsyncIteration": (raising(StopAsyncIteration()), "StopAsyncIteration"),
    "StopIteration": (raising(StopIteration()), "RuntimeError: coroutine raised StopIteration"),
    "GeneratorExit": (raising(GeneratorExit()), "GeneratorExit"),
    "a BaseException": (raising(Stop("now")), "Stop: now"),
}


@contextlib.asynccontextmanager
async def running(bus: eb.Bus, topic: str, handler: Any, **settings: Any) -> AsyncGenerator[asyncio.Task[None]]:
    """A consumer's handlers at work; they must not have ended by themselves."""
    consumer = await bus.consumer(topic, group="g", backoff=FAST, max_deliver=2, **settings)
    run = asyncio.create_task(consumer.run(handler, on_error=lambda e, m: None))
    yield run
    assert not run.done(), run
    await consumer.close()
    await run


@each_concurrency
@pytest.mark.parametrize("case", FAILURES)
async def test_what_a_handler_lets_out_is_a_failed_attempt(
    bus: eb.Bus, topic: str, case: str, concurrency: int
) -> None:
    """Consuming: a cancellation or a group of exceptions from inside is a failure like any other."""
    fail, words = FAILURES[case]
    attempts: list[int] = []
    fine: list[str] = []

    async def handle(m: eb.Message) -> None:
        if m.text() != "bad":
            fine.append(m.text())
            return
        attempts.append(m.attempt)
        await fail()

    await bus.producer(topic).send_many(["bad", "1", "2"])
    async with running(bus, topic, handle, concurrency=concurrency) as run:
        await until(lambda: bus.metrics()["dead_letters"] == 1 or run.done())
        await bus.producer(topic).send("3")
        await until(lambda: sorted(fine) == ["1", "2", "3"])
    assert attempts == [1, 2]
    letters = [(x.text(), x.reason) async for x in bus.dead_letters(topic, group="g")]
    assert letters == [("bad", words)]


@each_concurrency
@pytest.mark.parametrize("kind", ["task group", "nested", "beside others"])
async def test_a_group_is_searched(bus: eb.Bus, topic: str, concurrency: int, kind: str) -> None:
    """Consuming: Reject anywhere in a group of exceptions: a dead letter at once; else RetryAfter: after that delay."""
    attempts: dict[str, list[int]] = {"reject": [], "later": []}

    def error(m: eb.Message) -> Exception:
        return eb.Reject("no document") if m.text() == "reject" else eb.RetryAfter(0.01)

    async def handle(m: eb.Message) -> None:
        attempts[m.text()].append(m.attempt)
        if m.text() == "later" and m.attempt > 1:
            return
        if kind == "task group":
            await a_task_group(error(m))
        elif kind == "nested":
            raise ExceptionGroup("outer", [ExceptionGroup("inner", [error(m)])])
        else:
            others = [ValueError("x"), eb.RetryAfter(60)] if m.text() == "reject" else [ValueError("x")]
            raise BaseExceptionGroup("all", [asyncio.CancelledError(), *others, error(m)])

    await bus.producer(topic).send_many(["reject", "later"])
    async with running(bus, topic, handle, concurrency=concurrency):
        await until(lambda: attempts["later"] == [1, 2] and bus.metrics()["dead_letters"] == 1)
    assert attempts["reject"] == [1]
    letters = [(x.text(), x.reason) async for x in bus.dead_letters(topic, group="g")]
    assert letters == [("reject", "no document")]


PLAIN: dict[str, BaseException] = {
    "RuntimeError: coroutine raised StopIteration": StopIteration(),
    "StopAsyncIteration": StopAsyncIteration(),
    "Stop": Stop(),
    "ExceptionGroup: g (1 sub-exception): OSError": ExceptionGroup("g", [OSError()]),
}


@each_concurrency
@pytest.mark.parametrize("words", PLAIN)
async def test_what_a_plain_function_lets_out(bus: eb.Bus, topic: str, concurrency: int, words: str) -> None:
    """Consuming: whatever a plain function lets out is a failed attempt, too."""

    def handle(m: eb.Message) -> None:
        if m.text() == "bad":
            raise PLAIN[words]

    await bus.producer(topic).send_many(["bad", "fine"])
    async with running(bus, topic, handle, concurrency=concurrency):
        await until(lambda: bus.metrics()["dead_letters"] == 1)
    assert [x.reason async for x in bus.dead_letters(topic, group="g")] == [words]


@each_concurrency
@pytest.mark.parametrize("way", ["cancel", "timeout", "task group"])
async def test_a_cancelled_run_ends_and_gives_back(
    jetstream: Server, bus: eb.Bus, topic: str, concurrency: int, way: str
) -> None:
    """Leaving: the run's own cancellation ends it, also after failures; the message goes to another worker."""
    entered = asyncio.Event()
    errors: list[Any] = []

    async def handle(m: eb.Message) -> None:
        if m.text() == "bad":
            # Leaves the handler's task with a cancellation on record, until Python 3.13.
            await a_task_group(eb.Reject("no"))
        entered.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        await entered.wait()
        raise RuntimeError("leave")

    async def within_a_timeout() -> None:
        async with asyncio.timeout(None) as limit:
            waiting = asyncio.create_task(entered.wait())
            waiting.add_done_callback(lambda _: limit.reschedule(0))
            await run

    async def in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run)
            group.create_task(leave())

    await bus.producer(topic).send_many(["bad", "waits"])
    consumer = await bus.consumer(topic, group="g", concurrency=concurrency)
    run = consumer.run(handle, on_error=lambda e, m: errors.append(e))
    if way == "cancel":
        task = asyncio.create_task(run)
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif way == "timeout":
        with pytest.raises(TimeoutError):
            await within_a_timeout()
    else:
        with pytest.raises(ExceptionGroup) as raised:
            await in_a_group()
        assert [str(e) for e in raised.value.exceptions] == ["leave"]
    await consumer.close()
    assert len(errors) == 1
    await others_get(jetstream, topic, 1)


@each_concurrency
@pytest.mark.parametrize("way", ["returns", "raises"])
async def test_a_handler_cannot_keep_the_runs_cancellation(bus: eb.Bus, topic: str, concurrency: int, way: str) -> None:
    """Leaving: a run that is cancelled ends with its handler, also where the handler makes something else of it."""
    entered = asyncio.Event()

    async def handle(_: eb.Message) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if way == "raises":
                raise RuntimeError("interrupted") from None

    await bus.producer(topic).send("x")
    consumer = await bus.consumer(topic, group="g", concurrency=concurrency)
    task = asyncio.create_task(consumer.run(handle))
    await entered.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=10)
    assert done
    assert task.cancelled()


@each_concurrency
async def test_on_error_is_called_with_it(bus: eb.Bus, topic: str, concurrency: int) -> None:
    """Consuming: what a handler let out is passed to `on_error`; what that raises harms nothing."""
    errors: list[Any] = []

    def on_error(e: BaseException, m: eb.Message) -> None:
        errors.append(e)
        raise asyncio.CancelledError

    async def handle(_: eb.Message) -> None:
        await a_cancelled_task()

    await bus.producer(topic).send("x")
    consumer = await bus.consumer(topic, group="g", backoff=FAST, max_deliver=2, concurrency=concurrency)
    run = asyncio.create_task(consumer.run(handle, on_error=on_error))
    await until(lambda: bus.metrics()["dead_letters"] == 1)
    await consumer.close()
    await run
    assert [type(e) for e in errors] == [asyncio.CancelledError] * 2
