"""One call of ``Bus.run``: opens the consumers, runs their handlers, drains them at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial
from typing import Any, NamedTuple

from ._consumer import Consumer
from ._handling import Handler, OnError
from ._runs import GRACE, Runs

__all__ = ["Registered", "Running"]


class Registered(NamedTuple):
    """A handler, and the consumer to open for it."""

    topic: str
    handler: Handler
    on_error: OnError | None
    settings: dict[str, Any]


class Running:
    """Serves handlers until it is stopped, a consumer cannot continue, or it is cancelled."""

    def __init__(self, open_: Callable[[Registered], Awaitable[Consumer]], runs: Runs, drain_timeout: float) -> None:
        self._open = open_
        self._runs = runs
        self._drain_timeout = drain_timeout
        self._context = copy_context()
        self.loop = asyncio.get_running_loop()
        self.over: Future[None] = Future()
        self.stopped = False
        """Whether it was asked to end."""
        self._to_open: deque[Registered] = deque()
        self._opening: asyncio.Task[None] | None = None
        self._work: dict[asyncio.Task[None], Consumer] = {}
        self._change = asyncio.Event()
        self._signals = 0
        self._hurry: asyncio.Future[None] = self.loop.create_future()

    def add(self, registered: Registered) -> None:
        """Opens one more consumer, after those before it; from any thread."""
        self._call(partial(self._add, registered))

    def stop(self) -> None:
        """Asks it to end; from any thread."""
        self._call(self._stop)

    def on_signal(self) -> None:
        """The first signal asks it to end, the second to wait for no handler."""
        self._call(self._signalled)

    async def serve(self, handlers: Iterable[Registered]) -> None:
        """Runs until it is asked to end or fails, then drains. Raises the reason when nothing asked it to end."""
        try:
            for registered in handlers:
                self._add(registered)
            await self._change.wait()
        finally:
            await self._drained()
        for task in [self._opening, *self._work]:
            if task and task.done() and not task.cancelled():
                task.result()

    async def finish(self, closing: asyncio.Task[None]) -> None:
        """Waits until the bus is closed; in a hurry only for what is written already."""
        if await self._all_ended([closing], None):
            await asyncio.wait([closing], timeout=GRACE)

    def _call(self, function: Callable[[], object]) -> None:
        # A closed loop runs nothing.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function)

    def _stop(self) -> None:
        self.stopped = True
        self._change.set()

    def _signalled(self) -> None:
        self._signals += 1
        self._stop()
        if self._signals > 1:
            self._hurry_up()

    def _hurry_up(self) -> None:
        if not self._hurry.done():
            self._hurry.set_result(None)

    def _add(self, registered: Registered) -> None:
        self._to_open.append(registered)
        if self._opening is None or self._opening.done():
            self._opening = self._start(self._open_all())

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # A handler registered by a handler has the context of the run all the same.
        task = self._context.copy().run(self.loop.create_task, coroutine)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is not self._opening or task.cancelled() or task.exception():
            self._change.set()

    async def _open_all(self) -> None:
        while self._to_open and not self._change.is_set():
            registered = self._to_open.popleft()
            consumer = await self._open(registered)
            # Nothing waits in between: what is open is closed at the end.
            self._work[self._start(consumer._run(registered.handler, registered.on_error))] = consumer

    async def _drained(self) -> None:
        """Drains, also if it is cancelled; cancelled again, it waits for no handler."""
        drain = asyncio.create_task(self._drain())
        cancelled: asyncio.CancelledError | None = None
        while not drain.done():
            try:
                await asyncio.wait([drain])
            except asyncio.CancelledError as e:
                cancelled = cancelled or e
                self._hurry_up()
        if cancelled:
            raise cancelled
        drain.result()

    async def _drain(self) -> None:
        self._change.set()
        if self._opening and not self._opening.done():
            self._opening.cancel()
            await asyncio.wait([self._opening])
        going = list(self._work.values())
        closing = [asyncio.create_task(c.close()) for c in going]
        await self._all_ended(closing, None)
        for task in await self._all_ended(self._work, self._drain_timeout):
            self._runs.give_up(self._work[task])
        if late := [task for task in self._work if not task.done()]:
            await asyncio.wait(late, timeout=GRACE)
        for task in [*self._work, *closing]:
            if task.done() and not task.cancelled():
                # A handler's `sys.exit` ends the loop by itself: asyncio need not tell of it once more.
                task.exception()

    async def _all_ended(self, tasks: Iterable[asyncio.Task[None]], timeout: float | None) -> set[asyncio.Task[None]]:
        """Waits for tasks up to a time, and not once it is in a hurry; those that have not ended."""
        end = None if timeout is None else self.loop.time() + timeout
        pending: set[asyncio.Task[None]] = {task for task in tasks if not task.done()}
        while pending and not self._hurry.done():
            left = None if end is None else end - self.loop.time()
            if left is not None and left <= 0:
                break
            until: set[asyncio.Future[None]] = {*pending, self._hurry}
            await asyncio.wait(until, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            pending = {task for task in pending if not task.done()}
        return pending
