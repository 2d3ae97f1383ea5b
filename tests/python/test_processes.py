"""Processes: interpreter exit with and without closing, from Python."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.server import Server

CLOSED = """
import asyncio, sys
import nats_eventbus as eb

async def main():
    bus = await eb.connect(sys.argv[1], jetstream=True)
    await bus.producer(sys.argv[2]).send(b"x")
    await bus.close()

asyncio.run(main())
"""

LIVE = """
import asyncio, os, sys
import nats_eventbus as eb

async def main():
    global bus, consumer, sends
    bus = await eb.connect(sys.argv[1], jetstream=True)
    p = bus.producer(sys.argv[2])
    consumer = await bus.consumer(sys.argv[2], group=f"g{os.getpid()}")
    sends = [p.send(b"x") for _ in range(500)]
    await anext(aiter(consumer))

asyncio.run(main())
"""


@pytest.mark.parametrize("script", [CLOSED, LIVE], ids=["closed", "live"])
async def test_interpreter_exit_is_clean(script: str, jetstream: Server, topic: str, tmp_path: Path) -> None:
    """Exit: no crash, no abort, no traceback, again and again, with everything closed and with everything live."""
    file = tmp_path / "script.py"
    file.write_text(script)

    async def once() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(file), jetstream.url, topic, stderr=asyncio.subprocess.PIPE
        )
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert (process.returncode, err.decode()) == (0, "")

    for _ in range(10):
        await asyncio.gather(once(), once())
