"""Messages that a Python peer sends and receives itself: when each was to be sent, when it came, how many are out."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from .harness import Marks, Outcome, Spec, clock, percentiles, ready, resident_kb

STAMP = 8
GIVE_UP = 10.0


async def ticks() -> AsyncIterator[bytes]:
    """The times at which the pacer wants messages, as it writes them: 8 bytes each, nanoseconds, monotonic clock."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(sys.stdin.fileno(), "rb"))
    rest = b""
    while data := await reader.read(1 << 16):
        data = rest + data
        whole = len(data) // STAMP * STAMP
        rest = data[whole:]
        for at in range(0, whole, STAMP):
            yield data[at : at + STAMP]


class Journey:
    """From ``send`` to ``arrived``, at the pacer's times or with a window; each message arrives ``copies`` times."""

    def __init__(self, spec: Spec, copies: int = 1) -> None:
        self._spec = spec
        self._copies = copies
        self._padding = b"x" * (spec.size - STAMP)
        self._marks = Marks(spec)
        self._times: list[float] = []
        self._memory: list[tuple[int, int]] = []
        self._sent = self._got = 0
        self._room: asyncio.Future[None] | None = None
        self._over = False
        self._sample = max(spec.count // 50, 1)

    def arrived(self, body: bytes) -> None:
        """A message came back."""
        self._got += 1
        if self._spec.rate:
            sent = int.from_bytes(body[:STAMP], "little")
            self._times.append((time.monotonic_ns() - sent) / 1e9)
        elif not self._got & 15:
            self._over = self._over or self._marks.due(self._got // self._copies)
            if self._spec.count and self._got // self._sample > len(self._memory):
                self._memory.append((self._got, resident_kb()))
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _until(self, there: Callable[[], bool], limit: float = 60.0) -> None:
        end = clock() + limit
        while not there() and clock() < end:
            self._room = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._room], timeout=end - clock())
            self._room = None

    async def closed(self, send: Callable[[bytes], Awaitable[object]]) -> Outcome:
        """As fast as it goes with at most ``window`` between the two ends."""
        ready()
        body = bytes(STAMP) + self._padding
        window = self._spec.window * self._copies

        def between() -> int:
            return self._sent * self._copies - self._got

        while not self._over:
            if between() >= window:
                await self._until(lambda: between() < window // 2 or self._over)
            await send(body)
            self._sent += 1
        return self._marks.outcome(**({"memory": self._memory} if self._memory else {}))

    async def paced(self, send: Callable[[bytes], Awaitable[object]]) -> Outcome:
        """At the pacer's times, whatever comes back; each latency counts from the time it was to be sent."""
        ready()
        spec = self._spec
        self._marks.open(0)
        async for stamp in ticks():
            await send(stamp + self._padding)
            self._sent += 1
        await self._until(lambda: self._got >= self._sent, GIVE_UP)
        self._marks.close(self._got)
        warm = int(spec.warmup * spec.rate)
        measured = self._times[warm:]
        return self._marks.outcome(latency=percentiles(measured), lost=self._sent - self._got)

    async def run(self, send: Callable[[bytes], Awaitable[object]]) -> Outcome:
        """Paced, when there is a rate."""
        return await (self.paced(send) if self._spec.rate else self.closed(send))
