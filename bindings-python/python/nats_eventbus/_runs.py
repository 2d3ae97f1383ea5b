"""The handlers at work on a bus, so that closing the bus ends them first."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from typing import Protocol

from ._handling import Work

__all__ = ["GRACE", "Run", "Runs", "ended"]

GRACE = 1.0
"""Seconds that a handler may take to end once it is cancelled."""


class _Consumer(Protocol):
    async def close(self) -> None: ...


class Run:
    """Handlers of one consumer at work, on one loop."""

    def __init__(self, consumer: _Consumer, work: Work) -> None:
        self.consumer = consumer
        self.over: Future[None] = Future()
        self.loop = asyncio.get_running_loop()
        self.given_up = False
        self._work = work

    def give_up(self) -> None:
        """Cancels the handlers; from any thread."""
        self.given_up = True
        # A closed loop runs none.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._work.give_up)


class Runs:
    """Those of one bus."""

    def __init__(self, drain_timeout: float) -> None:
        self._drain_timeout = drain_timeout
        self._runs: set[Run] = set()
        self.closing: asyncio.Task[None] | None = None
        """The bus that is being closed."""

    def begin(self, consumer: _Consumer, work: Work) -> Run:
        """A run that begins now."""
        run = Run(consumer, work)
        self._runs.add(run)
        return run

    def end(self, run: Run) -> None:
        """A run that has ended."""
        self._runs.discard(run)
        run.over.set_result(None)

    def give_up(self, consumer: _Consumer) -> None:
        """Cancels the handlers of a consumer."""
        for run in self._runs:
            if run.consumer is consumer:
                run.give_up()

    async def drain(self) -> None:
        """Hands out no more messages. Running handlers get the drain timeout to finish, then they are cancelled."""
        # Handlers that do not end when they are cancelled had their time.
        runs = [run for run in self._runs if run.loop.is_running() and not run.given_up]
        if not runs:
            return
        await asyncio.gather(*(run.consumer.close() for run in runs))
        over = {asyncio.wrap_future(run.over): run for run in runs}
        _, late = await asyncio.wait(over, timeout=self._drain_timeout)
        for future in late:
            over[future].give_up()
        if late:
            await asyncio.wait(late, timeout=GRACE)


async def ended(over: Future[None]) -> None:
    """Waits for a future of another loop, perhaps; cancelling the wait does not cancel it."""
    await asyncio.wait([asyncio.wrap_future(over)])
