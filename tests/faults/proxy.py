"""A TCP proxy between a client and a server whose rules change while it runs.

Rules hold for all connections and are changed at any time, one for each way: `up` is client to server, `down` is server
to client. Half-closing and resetting are not rules but blows: they hit the connections there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from .frames import Chunks, Frame, Frames

Way = Literal["up", "down"]
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Rule:
    """What happens to what passes one way."""

    stall: bool = False
    """A black hole: nothing passes, nobody is told, and all of it comes when the hole is gone."""
    delay: float = 0.0
    jitter: float = 0.0
    """Each frame is late by `delay` ± `jitter` seconds; the order stays."""
    rate: float | None = None
    """Bytes a second."""
    drop: Callable[[Frame], bool] | None = None
    """Which frames are lost."""


PASS = Rule()
STALL = Rule(stall=True)


class Proxy:
    """Listens on `port` and dials `upstream`, both on loopback; another upstream holds for new connections."""

    def __init__(
        self, port: int, upstream: int, random: Random, *, buffer: int = _BUFFER, opaque: bool = False
    ) -> None:
        self.port, self.upstream = port, upstream
        self.buffer = buffer
        """Bytes held for each way; beyond, the sender feels the pressure."""
        self.opaque = opaque
        """Whether what passes is not to be understood: no rule or blow that asks for payloads has an effect then."""
        self.random = random
        self.rules: dict[Way, Rule] = {"up": PASS, "down": PASS}
        self.watchers: list[Callable[[Way, Frame], None]] = []
        """Called with every frame as it is received, before any rule is applied to it."""
        self.changed = asyncio.Event()
        self.connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._spawn(self._accept())

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def set(self, *, up: Rule = PASS, down: Rule = PASS) -> None:
        """Changes the rules, at once, also for what is held back."""
        self.rules = {"up": up, "down": down}
        self.changed.set()
        self.changed = asyncio.Event()

    def heal(self) -> None:
        """Everything passes. Connections that were half-closed stay so."""
        self.set()

    def half_close(self, way: Way) -> None:
        """Ends this way of every connection as if its sender had; the other way stays open, and no end passes it."""
        for c in self.connections:
            c.half_close(way)

    def reset_mid_payload(self, way: Way) -> None:
        """The next message that passes each connection this way is torn, and the connection reset."""
        for c in self.connections:
            c.ways[way].tear = True

    async def sever(self) -> None:
        """Resets every connection; what is held back is lost."""
        for c in list(self.connections):
            c.reset()
            await c.closed.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listener)
            self._spawn(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(self, client, server)
        try:
            await asyncio.get_running_loop().sock_connect(server, ("127.0.0.1", self.upstream))
        except OSError:
            # As if the server itself refused.
            connection.close()
            return
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            connection.close()

    async def close(self) -> None:
        """Severs everything and stops listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()


class _Connection:
    """One client's connection: two sockets, two ways."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._sockets = (client, server)
        self.ways: dict[Way, _Half] = {
            "up": _Half(self, proxy, "up", client, server),
            "down": _Half(self, proxy, "down", server, client),
        }
        self._over = asyncio.Event()
        self.closed = asyncio.Event()

    async def run(self) -> None:
        """Until both ways have ended, or it is reset."""
        halves = asyncio.gather(*(h.run() for h in self.ways.values()), return_exceptions=True)
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([over, halves], return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The sockets are closed only when nobody reads or writes them any more.
            for task in (halves, over):
                task.cancel()
            await asyncio.gather(halves, over, return_exceptions=True)

    def half_close(self, way: Way) -> None:
        for half in self.ways.values():
            half.swallow_end = True
        self.ways[way].finish()

    def reset(self) -> None:
        """Ends it, with what is held back."""
        self._over.set()

    def close(self) -> None:
        """RST to both sides."""
        for s in self._sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        self.closed.set()


class _Half:
    """One way of one connection: reads frames, lets each go when the rule in force says."""

    def __init__(self, whole: _Connection, proxy: Proxy, way: Way, source: socket.socket, sink: socket.socket) -> None:
        self._whole, self._proxy = whole, proxy
        self._way: Way = way
        self._source, self._sink = source, sink
        self._queue: asyncio.Queue[tuple[float, float, Frame | None]] = asyncio.Queue()
        self._held = 0
        self._room = asyncio.Event()
        self._last = 0.0
        self._finished = False
        self.tear = False
        self.swallow_end = False

    def finish(self) -> None:
        """The sink sees the end; what comes after is swallowed."""
        self._finished = True
        with contextlib.suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)

    async def run(self) -> None:
        reader = asyncio.create_task(self._read())
        try:
            await self._write()
        except OSError:
            # The sink is gone: so is the connection, unless its end is to be hidden.
            if not self.swallow_end:
                self._whole.reset()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        loop, frames = asyncio.get_running_loop(), Chunks() if self._proxy.opaque else Frames()
        try:
            while data := await loop.sock_recv(self._source, _BUFFER):
                for frame in frames.feed(data):
                    for watch in self._proxy.watchers:
                        watch(self._way, frame)
                    self._held += len(frame.raw)
                    self._queue.put_nowait((loop.time(), self._proxy.random.uniform(-1, 1), frame))
                while self._held >= self._proxy.buffer and not self._finished:
                    self._room.clear()
                    await self._room.wait()
        except OSError:
            pass
        self._queue.put_nowait((loop.time(), 0.0, None))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrived, luck, frame = await self._queue.get()
            rule = await self._turn(arrived, luck, len(frame.raw) if frame else 0)
            if frame is None:
                if not self.swallow_end:
                    self._sink.shutdown(socket.SHUT_WR)
                return
            self._held -= len(frame.raw)
            self._room.set()
            if self._finished or (rule.drop and rule.drop(frame)):
                continue
            if self.tear and frame.body:
                await loop.sock_sendall(self._sink, frame.raw[: frame.middle])
                self._whole.reset()
                return
            await loop.sock_sendall(self._sink, frame.raw)

    async def _turn(self, arrived: float, luck: float, size: int) -> Rule:
        """Waits until a frame may go on, by the rule in force, however often it changes meanwhile."""
        loop = asyncio.get_running_loop()
        while True:
            rule, changed = self._proxy.rules[self._way], self._proxy.changed
            if rule.stall:
                await changed.wait()
                continue
            at = arrived + rule.delay + rule.jitter * luck
            if rule.rate:
                at = max(at, self._last, arrived) + size / rule.rate
            self._last = max(at, self._last)
            wait = self._last - loop.time() if rule != PASS else 0.0
            if wait <= 0:
                return rule
            try:
                await asyncio.wait_for(changed.wait(), wait)
                self._last = 0.0
            except TimeoutError:
                return rule
