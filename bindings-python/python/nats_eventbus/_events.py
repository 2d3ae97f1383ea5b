"""What happens to a connection."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeAlias

from . import _native
from ._loops import running
from .errors import ConfigError

__all__ = ["Event", "EventKind", "Events"]

EventKind: TypeAlias = Literal[
    "connecting",
    "connected",
    "disconnected",
    "reconnected",
    "auth_failed",
    "lame_duck",
    "slow_consumer",
    "permission_denied",
    "closed",
]
logger = logging.getLogger("nats_eventbus")


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened to a connection."""

    kind: EventKind
    """``connecting`` (a server could not be reached, others are tried), ``connected``, ``disconnected``,
    ``reconnected``, ``auth_failed`` (credentials refused, expired or revoked), ``lame_duck`` (the server is about to
    shut down), ``slow_consumer`` (core messages were dropped), ``permission_denied``, ``closed``."""
    server: str | None
    """The server concerned, as ``host:port``."""
    cause: str | None
    """Why, in words; never a secret."""
    topic: str | None
    """The topic concerned."""
    time: datetime
    """When, in UTC."""
    missed: int
    """Events before this one that this listener was too slow for."""


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
        found["time"] = datetime.fromtimestamp(found["time"], UTC)
        return Event(**found)

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
