"""Handler mode: runs a handler for each message, a few at once, and tells the core how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeAlias

from . import _native

__all__ = ["Handler", "Reject", "RetryAfter", "Work"]

in_handler: ContextVar[bool] = ContextVar("nats_eventbus.in_handler", default=False)
"""Whether this is code of a handler, which must not wait for its own end."""

logger = logging.getLogger("nats_eventbus")

Handler: TypeAlias = Callable[[_native.Message], Awaitable[Any] | Any]
OnError: TypeAlias = Callable[[Exception, _native.Message], None]


class Reject(Exception):
    """Raised by a handler: no retry will help; the message becomes a dead letter at once."""


class RetryAfter(Exception):
    """Raised by a handler: deliver the message again after ``delay`` (seconds, timedelta or a string like "30s")."""

    def __init__(self, delay: float | timedelta | str) -> None:
        super().__init__(f"retry after {delay}")
        self.delay = delay


class Work:
    """One consumer's handlers at work, from the first message until it is closed."""

    def __init__(self, native: _native.Consumer, handler: Handler, on_error: OnError | None) -> None:
        self._native = native
        self._handler = handler
        is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004
        )
        self._handle: Callable[[_native.Message], Awaitable[Any]] = handler if is_async else self._in_thread
        self._on_error = on_error
        self._running: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[Any] | None = None
        self._given_up = False

    async def run(self) -> None:
        """Until the consumer is closed; raises what keeps it from going on. Ends when the last handler has."""
        places = self._native.concurrency
        self._native.handle()
        self._task = asyncio.current_task()
        try:
            if places == 1:
                await self._one_at_a_time()
            else:
                await self._several(places)
        except asyncio.CancelledError:
            for task in self._running:
                task.cancel()
            if not self._given_up:
                raise
            if self._task:
                self._task.uncancel()
        finally:
            if self._running:
                await asyncio.wait(self._running)
            self._native.handled()

    async def _one_at_a_time(self) -> None:
        """Without a task, or a coroutine of ours, for each."""
        handle = self._handle
        token = in_handler.set(True)
        try:
            async for m in self._native:
                try:
                    await handle(m)
                except BaseException as e:
                    self._failed(m, e)
                    if not isinstance(e, Exception):
                        raise
                else:
                    m.ack()
        finally:
            in_handler.reset(token)

    async def _several(self, places: int) -> None:
        async for m in self._native:
            task = asyncio.create_task(self._one(m))
            self._running.add(task)
            task.add_done_callback(self._over)
            if len(self._running) >= places:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def _one(self, m: _native.Message) -> None:
        # For this task, which has a context of its own.
        in_handler.set(True)
        try:
            await self._handle(m)
        except BaseException as e:
            self._failed(m, e)
            if not isinstance(e, Exception):
                raise
        else:
            m.ack()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        # A handler's `sys.exit` ends the loop by itself: asyncio need not tell of it once more.
        if not task.cancelled() and isinstance(e := task.exception(), Exception):
            logger.error("a message could not be settled", exc_info=e)

    def give_up(self) -> None:
        """The time for draining is over: handlers are cancelled, and their messages go to other workers."""
        self._given_up = True
        if self._task:
            self._task.cancel()

    async def _in_thread(self, m: _native.Message) -> None:
        """Plain functions run in threads, so that they may block."""
        result = await asyncio.to_thread(self._handler, m)
        if inspect.isawaitable(result):
            await result

    def _failed(self, m: _native.Message, e: BaseException) -> None:
        """What follows from what a handler raised."""
        if not isinstance(e, Exception):
            # Cancelled: another worker shall have it.
            m.nak()
            return
        if isinstance(e, Reject):
            self._native.finish(m, rejected=str(e) or "rejected")
        elif isinstance(e, RetryAfter):
            try:
                self._native.finish(m, retry_after=e.delay)
            except Exception as bad:
                # A delay that is none: the message has its end all the same.
                self._native.finish(m, failed=f"{type(bad).__name__}: {bad}")
                self._report(bad, m)
                return
            if m.stream is not None:
                return
            # In core mode there is no retry.
        else:
            self._native.finish(m, failed=f"{type(e).__name__}: {e}")
        self._report(e, m)

    def _report(self, e: Exception, m: _native.Message) -> None:
        if self._on_error is None:
            logger.warning("handler failed on %r", m, exc_info=e)
            return
        with contextlib.suppress(Exception):
            self._on_error(e, m)
