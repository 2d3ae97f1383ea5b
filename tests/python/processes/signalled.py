"""A program that gets signals: ``signalled.py URL TOPIC KIND``. It says what it does, line by line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import nats_eventbus as eb
import uvloop


def say(*words: object) -> None:
    print(*words, flush=True)


async def serving(url: str, topic: str, kind: str) -> None:
    """A worker whose handler takes for ever, or until the run's end is asked for."""
    forever = "stuck" in kind
    async with eb.connect(url, jetstream=True) as bus:

        @bus.on(topic, group="g", ack_wait=60, concurrency=4 if "several" in kind else 1)
        async def handle(m: eb.Message) -> None:
            say("handling", m.text())
            try:
                if forever:
                    await asyncio.Event().wait()
                # Until no more messages come: the run drains.
                while (await bus.health()).consumers:
                    pass
            except asyncio.CancelledError:
                say("cancelled", m.text())
                raise
            say("handled", m.text())

        await bus.run()
        say("run has ended", bus.state)
    say("left")


async def afterwards(url: str, topic: str, kind: str) -> None:
    """A program that goes on after the run; its SIGINT is the interpreter's again."""
    async with eb.connect(url, jetstream=True) as bus:

        @bus.on(topic, group="g")
        async def handle(m: eb.Message) -> None:
            bus.stop()

        await bus.run()
    say("run has ended", bus.state, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
    try:
        await asyncio.Event().wait()
    finally:
        say("clean-up")


def terminated(child: int) -> int:
    """Signals a child until it has ended: what comes before its interpreter has begun is lost."""
    while True:
        os.kill(child, signal.SIGTERM)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status


async def forking(url: str, topic: str, kind: str) -> None:
    """A program that forks while its bus runs."""
    async with eb.connect(url, jetstream=True) as bus:

        @bus.on(topic, group="g")
        async def handle(m: eb.Message) -> None:
            child = os.fork()
            if child == 0:
                while True:
                    signal.pause()
            status = await asyncio.to_thread(terminated, child)
            say("child ended by", signal.Signals(os.WTERMSIG(status)).name)
            bus.stop()

        await bus.run()
    say("left")


if __name__ == "__main__":
    kinds: dict[str, Any] = {"afterwards": afterwards, "forking": forking}
    main = kinds.get(sys.argv[3].split()[0], serving)
    # Children of a shell in the background ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "uvloop" in sys.argv[3]:
        uvloop.run(main(*sys.argv[1:]))
    else:
        asyncio.run(main(*sys.argv[1:]))
