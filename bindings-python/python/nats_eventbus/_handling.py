"""Handler mode: runs a handler for each message, a few at once, and tells the core how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from typing import Any, TypeAlias

from . import _native
from ._contexts import handler_context, renewed, running_in_copies
from ._failures import Reject, RetryAfter, described, find, reason
from .errors import ConfigError

__all__ = ["Handler", "OnError", "Reject", "RetryAfter", "Work", "checked"]

logger = logging.getLogger("nats_eventbus")

Handler: TypeAlias = Callable[[_native.Message], Awaitable[Any] | Any]
OnError: TypeAlias = Callable[[Any, _native.Message], Any]
"""Called with what a handler raised (any BaseException) and its message."""


def _is(test: Callable[[Any], bool], handler: Any) -> bool:
    """Whether a function, or the call of an object, is of a kind."""
    return test(handler) or test(getattr(handler, "__call__", None))  # noqa: B004


def checked(handler: Handler) -> Handler:
    """The handler, if it can be one.

    Raises:
        ConfigError: it is no function of one message, or a generator.
    """
    if not callable(handler):
        raise ConfigError(f"the handler is a {type(handler).__name__}: give an async or plain function of one message")
    if _is(inspect.isgeneratorfunction, handler) or _is(inspect.isasyncgenfunction, handler):
        raise ConfigError(f"the handler {handler!r} is a generator, which would never run: use return, not yield")
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError):
        # Some functions written in C have none.
        return handler
    try:
        signature.bind(None)
    except TypeError:
        raise ConfigError(
            f"the handler {handler!r} cannot be called with one message: its parameters are {signature}"
        ) from None
    return handler


def _called(handler: Handler, m: _native.Message) -> tuple[Any, BaseException | None]:
    """In a thread: what came of it. A future cannot carry every exception."""
    try:
        return handler(m), None
    except BaseException as e:
        return None, e


class Work:
    """One consumer's handlers at work, from the first message until it is closed."""

    def __init__(self, native: _native.Consumer, handler: Handler, on_error: OnError | None, owner: object) -> None:
        self._native = native
        self._handler = checked(handler)
        self._on_error = on_error
        self._owner = owner
        self._pool: ThreadPoolExecutor | None = None
        self._handle: Callable[[_native.Message], Awaitable[Any]] = handler
        if not _is(inspect.iscoroutinefunction, handler):
            self._pool = ThreadPoolExecutor(native.concurrency, thread_name_prefix="nats-eventbus-handler")
            self._handle = self._in_thread
        self._running: set[asyncio.Task[None]] = set()
        self._caller: asyncio.Task[Any] | None = None
        self._cancelled_before = 0
        self._task: asyncio.Task[None] | None = None
        self._clean: Context | None = None
        self._given_up = False

    async def run(self) -> None:
        """Until the consumer is closed; raises what keeps it from going on. Ends when the last handler has."""
        self._native.handle()
        # Handlers have a task of their own: what they do to theirs (a task group that fails leaves it cancelled, until
        # Python 3.13) is never taken for an end that the caller asks for.
        self._caller = asyncio.current_task()
        self._cancelled_before = self._caller.cancelling() if self._caller else 0
        task = self._task = asyncio.create_task(self._serve())
        cancelled: asyncio.CancelledError | None = None
        try:
            while left := [t for t in (task, *self._running) if not t.done()]:
                try:
                    await asyncio.wait(left)
                except asyncio.CancelledError as e:
                    cancelled = cancelled or e
                    self._interrupt()
        finally:
            self._native.handled()
            if self._pool:
                # A thread cannot be stopped: one that never ends is not waited for.
                self._pool.shutdown(wait=False, cancel_futures=True)
        if cancelled:
            # What the task ended with is known: asyncio need not tell of it.
            _ = task.cancelled() or task.exception()
            raise cancelled
        if not (task.cancelled() and self._given_up):
            task.result()

    async def _serve(self) -> None:
        places = self._native.concurrency
        work = self._one_at_a_time() if places == 1 else self._several(places)
        await running_in_copies(work, handler_context(self._owner))

    async def _one_at_a_time(self) -> None:
        """Without a task, or a coroutine of ours, for each."""
        handle = self._handle
        self._clean = copy_context()
        async for m in self._native:
            try:
                await handle(m)
            except BaseException as e:
                self._failed(m, e)
            else:
                m.ack()
            try:
                if copy_context() == self._clean:
                    continue
            except Exception:
                # A value that cannot be compared is not the one that was there.
                pass
            if self._is_cancelled:
                # The handler has kept the cancellation to itself.
                raise asyncio.CancelledError
            await renewed()
            self._clean = copy_context()

    async def _several(self, places: int) -> None:
        async for m in self._native:
            task = asyncio.create_task(self._one(m))
            self._running.add(task)
            task.add_done_callback(self._over)
            if len(self._running) >= places:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    async def _one(self, m: _native.Message) -> None:
        # A task has a context of its own.
        try:
            await self._handle(m)
        except BaseException as e:
            self._failed(m, e)
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
        self._interrupt()

    def _interrupt(self) -> None:
        self._clean = None
        for task in (self._task, *self._running):
            if task:
                task.cancel()

    @property
    def _is_cancelled(self) -> bool:
        """Whether the run itself is cancelled, and not only something that a handler awaits."""
        if self._given_up or self._caller is None:
            return self._given_up
        return self._caller.cancelling() > self._cancelled_before

    def _is_current(self) -> bool:
        """Whether one of our tasks runs this code."""
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
            return task is self._task or task in self._running
        return False

    async def _in_thread(self, m: _native.Message) -> None:
        """Plain functions run in threads, so that they may block."""
        context, loop = copy_context(), asyncio.get_running_loop()
        result, e = await loop.run_in_executor(self._pool, lambda: context.run(_called, self._handler, m))
        if e is not None:
            raise e
        if inspect.isawaitable(result) and not isinstance(result, _native.Settled):
            await result
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise TypeError("the handler returned a generator, which never ran: use return, not yield")

    def _failed(self, m: _native.Message, e: BaseException) -> None:
        """Settles by what a handler let out; raises what ends the run, or the program."""
        if end := find(e, KeyboardInterrupt, SystemExit):
            m.nak()
            raise end
        if isinstance(e, GeneratorExit) and not self._is_current():
            # The coroutine is thrown away, with its loop.
            m.nak()
            raise e
        cancelled = self._is_cancelled
        if rejected := find(e, Reject):
            self._native.finish(m, rejected=reason(rejected))
            self._report(e, m)
        elif retry := find(e, RetryAfter):
            self._retry(m, retry)
        elif cancelled:
            # It was interrupted: another worker shall have it.
            m.nak()
        else:
            self._native.finish(m, failed=described(e))
            self._report(e, m)
        if cancelled:
            # Where the handler has made something else of it, too.
            raise e if isinstance(e, asyncio.CancelledError) else asyncio.CancelledError

    def _retry(self, m: _native.Message, retry: RetryAfter) -> None:
        try:
            self._native.finish(m, retry_after=retry.delay)
        except Exception as bad:
            # A delay that is none: the message has its end all the same.
            self._native.finish(m, failed=described(bad))
            self._report(bad, m)
            return
        if m.stream is None:
            # In core mode there is no retry.
            self._report(retry, m)

    def _report(self, e: BaseException, m: _native.Message) -> None:
        if self._on_error is None:
            logger.warning("handler failed on %r", m, exc_info=e)
            return
        with contextlib.suppress(Exception, asyncio.CancelledError):
            self._on_error(e, m)
