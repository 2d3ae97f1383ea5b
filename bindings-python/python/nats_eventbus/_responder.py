"""The responder."""

from __future__ import annotations

import asyncio
import inspect
import logging

from . import _native
from ._contexts import is_inside, mark, task_outside
from ._failures import described, find
from ._handling import Handler, checked
from ._json import Encode, ready
from ._opening import Closing
from ._runs import GRACE
from .errors import ConfigError, EventBusError

__all__ = ["Responder"]

logger = logging.getLogger("nats_eventbus")

_CLOSED = "the responder was closed before it had answered: ask again"


class Responder(Closing):
    """Answers requests. Made by :meth:`Bus.respond`; close it, or the bus, to stop."""

    def __init__(
        self,
        native: _native.Consumer,
        handler: Handler,
        concurrency: int,
        drain_timeout: float,
        owner: object,
        encode: Encode | None = None,
    ) -> None:
        self._native = native
        self._encode = encode
        self._handler = handler
        self._places = asyncio.Semaphore(concurrency)
        self._drain_timeout = drain_timeout
        self._owner = owner
        self._running: dict[asyncio.Task[None], _native.Message] = {}
        self._is_over = False
        self._serving = asyncio.create_task(self._serve(), name=f"responder {native.topic}")
        self._closing: asyncio.Task[None] | None = None

    async def _serve(self) -> None:
        # Each request's task has a copy of this task's context, which is the caller's of `respond`.
        mark(self)
        mark(self._owner)
        try:
            async for m in self._native:
                await self._places.acquire()
                task = asyncio.create_task(self._answer(m))
                self._running[task] = m
                task.add_done_callback(self._done)
        except EventBusError as e:
            # Nothing awaits a responder; the bus's events say the same.
            logger.error("the responder of %r has ended: %s", self._native.topic, e)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._places.release()
        if not task.cancelled() and isinstance(e := task.exception(), Exception):
            logger.error("a request on %r could not be answered", self._native.topic, exc_info=e)

    async def _answer(self, m: _native.Message) -> None:
        """Ends in an answer, whatever the handler lets out."""
        if self._is_over:
            m._reply(error=_CLOSED)
            return
        try:
            answer = self._handler(m)
            if inspect.isawaitable(answer):
                answer = await answer
            m._reply(b"" if answer is None else ready(answer, self._encode))
        except BaseException as e:
            cancelled = self._is_over and isinstance(e, asyncio.CancelledError)
            m._reply(error=_CLOSED if cancelled else described(e))
            if end := find(e, KeyboardInterrupt, SystemExit):
                raise end from None
            if isinstance(e, GeneratorExit):
                raise

    async def close(self) -> None:
        """Takes no further requests; running ones may finish within the connection's ``drain_timeout``.

        Then their handlers are cancelled, and their askers get RequestFailed. Called by a handler of its own it only
        begins this.
        """
        if not self._native.is_ours():
            # A forked child's: requests and handlers are the parent's.
            return
        loop = self._serving.get_loop()
        if not loop.is_running():
            # Its handlers have ended with their loop.
            await self._native.close()
        elif loop is not asyncio.get_running_loop():
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.close(), loop))
        else:
            self._closing = self._closing or task_outside(self._end())
            if not is_inside(self):
                await asyncio.shield(self._closing)

    async def _end(self) -> None:
        await self._native.close()
        all_answered = asyncio.create_task(self._all_answered())
        await asyncio.wait([all_answered], timeout=self._drain_timeout)
        if all_answered.done():
            return
        self._is_over = True
        stuck = dict(self._running)
        for task in stuck:
            task.cancel()
            # Those that wait for a place are answered, too.
            self._places.release()
        await asyncio.wait([all_answered], timeout=GRACE)
        for task, m in stuck.items():
            if not task.done():
                # Its handler does not end when it is cancelled. The asker must not wait for it.
                m._reply(error=_CLOSED)

    async def _all_answered(self) -> None:
        # The iteration ends once what had arrived is being handled.
        await asyncio.wait([self._serving])
        while self._running:
            await asyncio.wait(self._running)

    def __repr__(self) -> str:
        return f"<Responder topic={self._native.topic!r} group={self._native.group!r}>"


def checked_responder(handler: Handler, concurrency: int) -> None:
    """Checks what is given to :meth:`Bus.respond`.

    Raises:
        ConfigError: ``concurrency`` is below 1, or ``handler`` is no function of one message.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency is {concurrency}: give 1 or more")
    checked(handler)
