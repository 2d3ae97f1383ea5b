"""Time limits that hold on a machine that stalls: the time in which nothing got to run does not count.

What keeps Python from running while the machine could does count, a lock of ours included: a process of its own looks.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from typing import ClassVar

LOOK = 0.01
"""Seconds between looks."""

WATCH = """
import mmap, os, struct, sys, time
look, parent = float(sys.argv[2]), os.getppid()
with open(sys.argv[1], "r+b") as f, mmap.mmap(f.fileno(), 16) as shared:
    stalled, last = 0.0, time.monotonic()
    while os.getppid() == parent:
        time.sleep(look)
        now = time.monotonic()
        stalled += max(0.0, now - last - 2 * look)
        last = now
        shared[:16] = struct.pack("dd", stalled, last)
"""


class _Stalls:
    """The seconds so far for which a process that wanted to run could not."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(struct.pack("dd", 0.0, time.monotonic()))
            file.flush()
            self._shared = mmap.mmap(os.dup(file.fileno()), 16)
            watch = subprocess.Popen([sys.executable, "-c", WATCH, file.name, str(LOOK)])
            began = self._look()
            # It has opened the file once it has written there.
            while self._look() == began and watch.poll() is None:
                time.sleep(LOOK)
        assert watch.poll() is None, "the process that looks for stalls has ended"
        atexit.register(watch.kill)

    def _look(self) -> tuple[float, float]:
        return struct.unpack("dd", self._shared[:16])

    @property
    def seconds(self) -> float:
        """With a stall that has just ended and was not seen yet."""
        seen, last = self._look()
        return seen + max(0.0, time.monotonic() - last - 2 * LOOK)


class Clock:
    """How long something takes, but for what the machine took."""

    _stalls: ClassVar[_Stalls | None] = None

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
