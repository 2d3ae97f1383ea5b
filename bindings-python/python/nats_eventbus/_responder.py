"""The responder."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging

from . import _native
from ._handling import Handler
from ._json import Encode, ready
from ._opening import Closing
from .errors import EventBusError

__all__ = ["Responder"]

logger = logging.getLogger("nats_eventbus")


class Responder(Closing):
    """Answers requests. Made by :meth:`Bus.respond`; close it, or the bus, to stop."""

    def __init__(
        self, native: _native.Consumer, handler: Handler, concurrency: int, encode: Encode | None = None
    ) -> None:
        self._native = native
        self._encode = encode
        self._handler = handler
        self._places = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._loop = asyncio.create_task(self._serve(), name=f"responder {native.topic}")

    async def _serve(self) -> None:
        try:
            async for m in self._native:
                await self._places.acquire()
                task = asyncio.create_task(self._answer(m))
                self._running.add(task)
                task.add_done_callback(self._done)
        except EventBusError as e:
            # Nobody awaits a responder; the bus's events say the same.
            logger.error("the responder of %r has ended: %s", self._native.topic, e)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._places.release()

    async def _answer(self, m: _native.Message) -> None:
        try:
            answer = self._handler(m)
            if inspect.isawaitable(answer):
                answer = await answer
            m._reply(b"" if answer is None else ready(answer, self._encode))
        except Exception as e:
            m._reply(error=f"{type(e).__name__}: {e}")

    async def close(self) -> None:
        """Takes no further requests and lets the running handlers finish."""
        if not self._native.is_ours():
            # A forked child's: requests and handlers are the parent's.
            return
        await self._native.close()
        # The iteration ends once what had arrived is being handled.
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop
        if self._running:
            await asyncio.wait(self._running)

    def __repr__(self) -> str:
        return f"<Responder topic={self._native.topic!r} group={self._native.group!r}>"
