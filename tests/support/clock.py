"""Time limits that hold on a machine that stalls: the time this process did not get to run does not count."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator

LOOK = 0.01
"""Seconds between looks."""


class _Stalls:
    """The seconds so far for which a thread that wanted to run could not."""

    def __init__(self) -> None:
        self.seconds = 0.0
        threading.Thread(target=self._watch, name="stalls", daemon=True).start()

    def _watch(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(LOOK)
            self.seconds += max(0.0, time.monotonic() - began - 2 * LOOK)


class Clock:
    """How long something takes, but for what the machine took."""

    _stalls: _Stalls | None = None

    def __init__(self) -> None:
        if Clock._stalls is None:
            Clock._stalls = _Stalls()
        self._watch = Clock._stalls
        self._stalled = self._watch.seconds
        self._began = time.monotonic()

    def took(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began - (self._watch.seconds - self._stalled)


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncGenerator[None]:
    """What is done in it has its end within the limit."""
    clock = Clock()
    async with asyncio.timeout(seconds + 10):
        yield
    assert (took := clock.took()) < seconds, f"it took {took:.2f} s, and {seconds} s are the limit"
