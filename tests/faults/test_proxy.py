"""The proxy itself: frames are cut where they end, and every rule does what it says, to a server that only echoes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from .frames import Frames
from .proxy import STALL, Proxy, Rule
from .servers import port

HEADERS = b"NATS/1.0\r\nNats-Msg-Id: p1-17 \r\n\r\n"
MESSAGE = b"HPUB a.b _INBOX.1 %d %d\r\n%shello\r\n" % (len(HEADERS), len(HEADERS) + 5, HEADERS)
ACK = b'MSG _INBOX.1 1 27\r\n{"stream":"S", "seq":17   }\r\n'


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_frames(size: int) -> None:
    route = b"RMSG $G a.b 10\r\nPING\r\nPING\r\n"
    text = b'INFO {"a":1}\r\n' + MESSAGE + b"PING\r\n" + ACK + b"PUB x 0\r\n\r\n" + route
    cutter = Frames()
    found = [f for at in range(0, len(text), size) for f in cutter.feed(text[at : at + size])]
    assert b"".join(f.raw for f in found) == text
    assert [f.body for f in found] == [None, b"hello", None, b'{"stream":"S", "seq":17   }', b"", b"PING\r\nPING"]
    assert [f.message_id for f in found] == [None, "p1-17", None, None, None, None]
    assert [f.is_pub_ack for f in found] == [False, False, False, True, False, False]
    assert found[1].subject == "a.b"
    assert found[1].raw[: found[1].middle].endswith(b"\r\n\r\nhe")


class Through:
    """A connection through a proxy to an echo."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer

    async def comes_back(self, data: bytes, within: float = 2) -> float | None:
        """Seconds until it is echoed; None when it is not."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.writer.write(data)
        try:
            async with asyncio.timeout(within):
                assert await self.reader.readexactly(len(data)) == data
        except TimeoutError:
            return None
        return loop.time() - start


@asynccontextmanager
async def through(seen_end: asyncio.Event | None = None) -> AsyncGenerator[Through]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        if seen_end:
            seen_end.set()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", upstream := port()):
        proxy = Proxy(port(), upstream, Random(1))
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield Through(proxy, reader, writer)
        finally:
            writer.close()
            await proxy.close()


async def test_passes() -> None:
    async with through() as t:
        assert await t.comes_back(MESSAGE * 5000, within=10)


async def test_black_hole_holds_and_gives_back() -> None:
    async with through() as t:
        for rules in ({"up": STALL}, {"down": STALL}, {"up": STALL, "down": STALL}):
            t.proxy.set(**rules)
            assert await t.comes_back(b"PING\r\n", within=0.2) is None
            t.proxy.heal()
            assert await t.reader.readexactly(6) == b"PING\r\n"


async def test_delay() -> None:
    async with through() as t:
        t.proxy.set(up=Rule(delay=0.2, jitter=0.1))
        times = [await t.comes_back(b"PING\r\n") for _ in range(5)]
        assert all(0.09 < took < 2 for took in times if took)
        # Late, not slow: all are under way at the same time.
        took = await t.comes_back(b"PING\r\n" * 100)
        assert took
        assert took < 2


async def test_rate_and_its_end() -> None:
    async with through() as t:
        t.proxy.set(up=Rule(rate=1000))
        took = await t.comes_back(b"PING\r\n" * 50)
        assert took
        assert 0.25 < took < 2
        assert await t.comes_back(b"PING\r\n" * 2000, within=0.3) is None
        t.proxy.heal()
        async with asyncio.timeout(1):
            await t.reader.readuntil(b"PING\r\n" * 1500)


async def test_drops_only_acks() -> None:
    async with through() as t:
        t.proxy.set(down=Rule(drop=lambda frame: frame.is_pub_ack))
        t.writer.write(ACK + MESSAGE + ACK + b"PONG\r\n")
        async with asyncio.timeout(2):
            assert await t.reader.readexactly(len(MESSAGE) + 6) == MESSAGE + b"PONG\r\n"


async def test_half_close_up() -> None:
    """The server sees an end; the client, nothing."""
    seen = asyncio.Event()
    async with through(seen) as t:
        assert await t.comes_back(b"PING\r\n")
        t.proxy.half_close("up")
        await asyncio.wait_for(seen.wait(), 1)
        assert await t.comes_back(b"PING\r\n", within=0.2) is None
        assert not t.reader.at_eof()


async def test_half_close_down() -> None:
    """The client sees an end; the server, nothing."""
    seen = asyncio.Event()
    async with through(seen) as t:
        assert await t.comes_back(b"PING\r\n")
        t.proxy.half_close("down")
        assert await asyncio.wait_for(t.reader.read(), 1) == b""
        assert not seen.is_set()


async def _torn(t: Through) -> None:
    t.writer.write(b"PING\r\n" + MESSAGE)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(t.reader.readexactly(len(MESSAGE) + 6), 1)


async def _severed(t: Through) -> None:
    t.proxy.set(up=STALL)
    assert await t.comes_back(b"PING\r\n", within=0.1) is None
    await t.proxy.sever()
    t.proxy.heal()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(t.reader.readexactly(6), 1)


@pytest.mark.parametrize("blow", [_torn, _severed])
async def test_resets(blow: Callable[[Through], Awaitable[None]]) -> None:
    async with through() as t:
        assert await t.comes_back(b"PING\r\n")
        if blow is _torn:
            t.proxy.reset_mid_payload("up")
        await blow(t)
        reader, writer = await asyncio.open_connection("127.0.0.1", t.proxy.port)
        assert await Through(t.proxy, reader, writer).comes_back(b"PING\r\n")
        writer.close()
