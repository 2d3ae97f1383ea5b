"""The consumer, as asyncio code uses it."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator

from . import _native
from ._contexts import is_inside
from ._generated.defaults import FETCH_TIMEOUT
from ._generated.settings import Seconds
from ._handling import Handler, OnError, Work
from ._opening import Closing
from ._runs import Runs
from .errors import ConfigError, EventBusError

__all__ = ["Consumer"]


class Consumer(Closing):
    """Receives the messages of a topic for a group. Made by :meth:`Bus.consumer`.

    Iterate it, or :meth:`fetch`. Every message is to be settled by ``ack``, ``nak`` or ``term``; until then it is
    kept from redelivery, for up to ``max_processing``. Nothing is lost by cancelling a wait.
    """

    def __init__(self, native: _native.Consumer, runs: Runs) -> None:
        self._native = native
        self._runs = runs

    @property
    def topic(self) -> str:
        """The topic, with its wildcards."""
        return self._native.topic

    @property
    def group(self) -> str:
        """The group: durable (JetStream) or queue group (core)."""
        return self._native.group

    @property
    def stream(self) -> str | None:
        """The stream it reads; None in core mode."""
        return self._native.stream

    def __aiter__(self) -> AsyncIterator[_native.Message]:
        return self._native

    async def __anext__(self) -> _native.Message:
        """The next message, for ``anext(consumer)``."""
        return await self._native.__anext__()

    async def fetch(self, max: int = 1, timeout: Seconds | None = FETCH_TIMEOUT) -> list[_native.Message]:
        """Up to ``max`` messages (default 1), waiting for them up to ``timeout`` (seconds, default 5; None: no limit).

        Fewer, or none, when the time runs out first; fewer when the consumer ends meanwhile. A cancelled fetch gives
        back what it had taken.

        Raises:
            ClosedError: the consumer is closed. NotFoundError: its durable or stream was deleted. ConfigError: ``max``
            or ``timeout`` is none.
        """
        if max < 1:
            raise ConfigError(f"max: fetch of {max} messages: ask for 1 or more")
        seconds = None if timeout is None else _native.seconds(timeout, "timeout")
        out = self._native.take(max)
        if len(out) == max:
            return out
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                while len(out) < max:
                    await self._native.ready()
                    out += self._native.take(max - len(out))
        except BaseException as e:
            if isinstance(e, TimeoutError) and limit.expired():
                return out
            if out and isinstance(e, EventBusError):
                # Cut short by a close, or by the end of its durable: the next fetch tells.
                return out
            self._native.put_back(out)
            raise
        return out

    async def run(self, handler: Handler, *, on_error: OnError | None = None) -> None:
        """Runs ``handler(message)`` for each message until the consumer is closed; ``concurrency`` at once.

        Returns → ack. Raises → delivered again after ``backoff``. Raises :class:`Reject` → dead letter at once. Raises
        :class:`RetryAfter` → delivered again after that delay. After ``max_deliver`` attempts → dead letter. Both are
        looked for in exception groups too; anything else that a handler lets out is a failed attempt, a CancelledError
        of something it awaited included. In core mode there is no redelivery. Closing lets running handlers finish;
        cancelling the run cancels them, and their messages go to other workers.

        Each handler starts in a copy of the context in which this was called. A plain function runs in a thread, of up
        to ``concurrency`` that this run has for itself.

        Args:
            handler: async or plain function of one message; it does not settle the message itself.
            on_error: called with what a handler raised, any BaseException, and the message; without it a warning is
                logged.

        Raises:
            ConfigError: ``handler`` is no function of one message, or a generator. NotFoundError: the durable or stream
                was deleted.
        """
        await self._run(handler, on_error)
        closing = self._runs.closing
        if closing and closing.get_loop() is asyncio.get_running_loop() and not is_inside(self._runs):
            # A handler has closed the bus: what its last acks need is open until that is done.
            await asyncio.wait([closing])

    async def _run(self, handler: Handler, on_error: OnError | None) -> None:
        work = Work(self._native, handler, on_error, self._runs)
        run = self._runs.begin(self, work)
        try:
            await work.run()
        finally:
            self._runs.end(run)

    async def close(self) -> None:
        """Stops pulling and gives back what is buffered, so that another worker has it now. The durable stays."""
        await self._native.close()

    def __repr__(self) -> str:
        stream = f" stream={self.stream!r}" if self.stream else ""
        return f"<Consumer topic={self.topic!r} group={self.group!r}{stream}>"

    def _repr_html_(self) -> str:
        return f"<b>Consumer</b> <code>{html.escape(self.topic)}</code> for <code>{html.escape(self.group)}</code>"
