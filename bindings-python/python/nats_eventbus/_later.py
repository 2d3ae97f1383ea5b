"""Calls that fail when they are made: the failure is raised where the call is awaited, as a coroutine's is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, Self

from ._loops import NoLoop, running

__all__ = ["Failed", "later"]

logger = logging.getLogger("nats_eventbus")


def later(
    error: BaseException, call: Callable[..., Awaitable[Any]], args: tuple[Any, ...], named: dict[str, Any]
) -> Coroutine[Any, Any, Any]:
    """What a call returns that failed with ``error`` when it was made.

    Without a loop nothing has failed yet: a coroutine that makes the call in the loop where it is awaited.
    """
    if isinstance(error, NoLoop):
        return _again(call, args, named)
    if not isinstance(error, Exception):
        raise error
    return Failed(error)


async def _again(call: Callable[..., Awaitable[Any]], args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    running()
    return await call(*args, **named)


class Failed(Coroutine[Any, Any, Any]):
    """Raises an error where it is awaited, each time. One that is never awaited reports it to the loop."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._raised = False

    def __await__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> NoReturn:
        self._raise()

    def send(self, value: Any, /) -> NoReturn:
        """A task's first step."""
        self._raise()

    def throw(self, *raised: Any) -> NoReturn:
        """Raises what cancelled the task before it began. The failure then counts as raised."""
        self._raised = True
        raise raised[0] if isinstance(raised[0], BaseException) else raised[0](*raised[1:2])

    def close(self) -> None:
        """Nothing runs."""
        self._raised = True

    def _raise(self) -> NoReturn:
        self._raised = True
        # Each that it is raised to begins a traceback of its own.
        raise self._error.with_traceback(None)

    def __del__(self) -> None:
        if self._raised:
            return
        message = "the exception of a nats-eventbus call was never retrieved"
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            logger.error(message, exc_info=self._error)
        else:
            loop.call_exception_handler({"message": message, "exception": self._error})

    def __repr__(self) -> str:
        return "<nats_eventbus awaitable, failed>"
