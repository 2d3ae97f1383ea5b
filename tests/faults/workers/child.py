"""A fork in the middle of a handling: the child is told at once whose objects it has, and connects for itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import traceback
from typing import Any

import nats_eventbus as eb

from tests.faults.ledger import Writer

SENDS = 20


def _told(m: eb.Message) -> None:
    start = time.monotonic()
    told = ""
    try:
        m.ack()
    except eb.ClosedError as e:
        told = str(e)
    assert "connect again here" in told, f"settling a message of the parent's said {told!r}"
    assert time.monotonic() - start < 1


async def _own(given: dict[str, Any]) -> None:
    async with eb.connect(given["servers"], jetstream=True, name="child") as bus:
        acks = await bus.producer(f"{given['topic']}.children").send_many([b"x"] * SENDS)
        assert not [a for a in acks if not isinstance(a, eb.PubAck) or a.duplicate], acks


async def fork(m: eb.Message, given: dict[str, Any], ledger: Writer) -> None:
    """Forks, and writes down that the child ended well, or an error."""
    pid = os.fork()
    if not pid:
        code = 1
        signal.alarm(20)
        try:
            _told(m)
            asyncio.run(_own(given))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        ledger.write("error", code="child", text=f"the child ended with {code}")
    ledger.write("forked")
