"""The event loop that calls belong to, and what to do where there is none."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from .errors import ConfigError

__all__ = ["NoLoop", "no_loop", "running"]


class NoLoop(ConfigError, RuntimeError):
    """No asyncio loop runs here."""


def running() -> asyncio.AbstractEventLoop:
    """The loop that runs in this thread.

    Raises:
        ConfigError: there is none; the error says why, and what to do.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise no_loop() from None


def no_loop() -> NoLoop:
    """The error of a call where no asyncio loop runs. The native module raises it, too."""
    if _under_trio():
        return NoLoop(
            "nats-eventbus needs an asyncio loop, and this runs under trio: open one with trio-asyncio "
            "(`async with trio_asyncio.open_loop():`, and `aio_as_trio` around calls), or start with asyncio.run"
        )
    return NoLoop(
        "nats-eventbus needs an asyncio loop, and none runs in this thread: call it within asyncio.run(...), or from "
        "another thread by asyncio.run_coroutine_threadsafe(..., loop)"
    )


def _under_trio() -> bool:
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True
