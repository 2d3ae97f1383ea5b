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
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004
        )
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
            async for m in self._native:
                if not self._native.admit(m):
                    continue
                if places == 1:
                    # One at a time needs no task of its own.
                    await self._handle(m)
                    continue
                task = asyncio.create_task(self._handle(m))
                self._running.add(task)
                task.add_done_callback(self._over)
                if len(self._running) >= places:
                    await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
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

    async def _handle(self, m: _native.Message) -> None:
        token = in_handler.set(True)
        try:
            # Plain functions run in threads, so that they may block.
            result = self._handler(m) if self._is_async else await asyncio.to_thread(self._handler, m)
            if inspect.isawaitable(result):
                await result
        except Reject as e:
            self._native.finish(m, rejected=str(e) or "rejected")
            self._report(e, m)
        except RetryAfter as e:
            self._native.finish(m, retry_after=e.delay)
            if m.stream is None:
                # In core mode there is no retry.
                self._report(e, m)
        except Exception as e:
            self._native.finish(m, failed=f"{type(e).__name__}: {e}")
            self._report(e, m)
        except BaseException:
            # Cancelled: another worker shall have it.
            m.nak()
            raise
        else:
            self._native.finish(m)
        finally:
            in_handler.reset(token)

    def _report(self, e: Exception, m: _native.Message) -> None:
        if self._on_error is None:
            logger.warning("handler failed on %r", m, exc_info=e)
            return
        with contextlib.suppress(Exception):
            self._on_error(e, m)
