"""What happens inside a handler: its process dies, or something that it waits for is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal

CODE = 37
"""What a process that a message kills by `exit` ends with."""


def crash(how: str) -> None:
    """Ends this process at once: `exit`, as a library that gives up, or `kill`, as the kernel when memory is short."""
    if how == "exit":
        os._exit(CODE)
    os.kill(os.getpid(), signal.SIGKILL)


async def cancelled(n: int) -> None:
    """Lets out the CancelledError of a task of its own.

    By n: one cancelled before it starts, one cancelled while it is awaited, and one that comes in a group.
    """
    inner = asyncio.create_task(asyncio.sleep(60))
    if n % 3:
        inner.cancel()
    else:
        asyncio.get_running_loop().call_later(0.02, inner.cancel)
    try:
        await inner
    except asyncio.CancelledError as e:
        if n % 3 == 2:
            raise BaseExceptionGroup("cancelled inside", [e]) from None
        raise
