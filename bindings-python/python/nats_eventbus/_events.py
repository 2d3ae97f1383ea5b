"""What happens to a connection."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Self

from . import _native
from ._generated.records import Event
from ._loops import running
from .errors import ConfigError

__all__ = ["Event", "Events", "listen"]

logger = logging.getLogger("nats_eventbus")


class Events:
    """The events of a connection, as an async iterator; cancelling a wait loses none."""

    def __init__(self, native: _native.Events) -> None:
        self._native = native

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while (found := self._native.take()) is None:
            if self._native.is_over():
                raise StopAsyncIteration
            await self._native.ready()
        return Event._of(found)  # pyright: ignore[reportPrivateUsage]

    async def aclose(self) -> None:
        """Ends the listening."""
        self._native.close()


def listen(events: Events, listener: Callable[[Event], Any]) -> Callable[[], None]:
    """Calls a listener in a task of its own; what it raises is logged, and harms nothing."""
    if not callable(listener):
        raise ConfigError("give a function to be called with each event")
    loop = running()

    async def tell() -> None:
        async for event in events:
            try:
                told = listener(event)
                if inspect.isawaitable(told):
                    await told
            except (SystemExit, KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as e:
                # Also a cancellation from inside; one of this task ends the listening.
                if isinstance(e, asyncio.CancelledError) and task.cancelling():
                    raise
                logger.error("a listener failed on %r", event, exc_info=e)

    task = loop.create_task(tell())

    def stop() -> None:
        events._native.close()
        # The task may hold the listener until its next turn, and must be held itself until it ends.
        task.cancel()

    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return stop


_tasks: set[asyncio.Task[None]] = set()
