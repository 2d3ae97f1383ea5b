"""What an operator reads in Python's logging. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import logging

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_outcomes import silence


def said(caplog: pytest.LogCaptureFixture, kind: str) -> list[logging.LogRecord]:
    """The records of one kind of notice."""
    return [r for r in caplog.records if getattr(r, "nats_eventbus", {}).get("kind") == kind]


async def test_what_is_logged(bus: eb.Bus, jetstream: Server, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    """Notices: declared streams, retries, dead letters and give-backs are logged with what they name."""
    caplog.set_level(logging.INFO, "nats_eventbus")

    async def handle(m: eb.Message) -> None:
        if m.attempt == 1:
            raise ValueError("boom")
        raise eb.Reject("no use")

    async with bus.consumer(topic, group="g", backoff=eb.Backoff(initial=0.05, max=0.05)) as c:
        running = asyncio.create_task(c.run(handle))
        await bus.producer(topic).send(b"x")
        await until(lambda: len(said(caplog, "dead_letter")) == 1)
    await running
    [letter] = said(caplog, "dead_letter")
    assert letter.levelno == logging.WARNING
    assert "no use" in letter.getMessage()
    assert f"topic {topic!r}, group 'g'" in letter.getMessage()
    [retry] = said(caplog, "retry")
    assert (retry.levelno, "boom" in retry.getMessage()) == (logging.INFO, True)
    assert said(caplog, "stream_declared")[0].levelno == logging.INFO
    await bus.producer(topic).send_many([b"1", b"2", b"3"])
    async with bus.consumer(topic, group="g") as c:
        await c.fetch(1)
        await until(lambda: bus.metrics()["received"] >= 5)
    await until(lambda: len(said(caplog, "given_back")) >= 1)


async def test_a_loss_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Notices: a lost connection is a warning with its cause, the reconnect an info."""
    caplog.set_level(logging.INFO, "nats_eventbus")
    server = Server("-js")
    try:
        async with eb.connect(server.url, jetstream=True):
            server.kill()
            await until(lambda: any("lost" in r.getMessage() for r in said(caplog, "connection")))
            server.start()
            await until(lambda: any("reconnected" in r.getMessage() for r in said(caplog, "connection")))
    finally:
        server.close()
    lost = next(r for r in said(caplog, "connection") if "lost" in r.getMessage())
    assert (lost.levelno, str(server.port) in lost.getMessage()) == (logging.WARNING, True)


async def test_failures_that_were_never_asked_for(
    jetstream: Server, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Notices: closing with failures of send_nowait that no flush asked for warns with their count and the first."""
    await silence(jetstream, topic)
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        producer = bus.producer(topic, delivery_timeout=0.3, ack_timeout=0.1)
        producer.send_nowait(b"1")
        producer.send_nowait(b"2")
        await until(lambda: bus.metrics()["unknown"] == 2)
    await until(lambda: len(said(caplog, "failures_unseen")) == 1)
    [unseen] = said(caplog, "failures_unseen")
    assert unseen.levelno == logging.WARNING
    assert "2 messages failed" in unseen.getMessage()
