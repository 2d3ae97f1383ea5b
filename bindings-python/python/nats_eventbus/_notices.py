"""What operators should read: the core's notices, in Python's logging."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from . import _native

__all__ = ["log_notices"]

logger = logging.getLogger("nats_eventbus")

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_tasks: set[asyncio.Task[None]] = set()


def log_notices(native: _native.Bus) -> None:
    """Logs the notices of a bus on ``nats_eventbus`` until it is closed, from a task of the running loop."""
    task = asyncio.get_running_loop().create_task(_log(native.notices()), name="nats_eventbus notices")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _log(notices: _native.Events) -> None:
    while True:
        while (found := notices.take()) is None:
            if notices.is_over():
                return
            await notices.ready()
        _write(found)


def _write(notice: dict[str, Any]) -> None:
    named = [f"{name} {notice[name]!r}" for name in ("topic", "group", "stream") if notice[name]]
    where = f" [{', '.join(named)}]" if named else ""
    missed = f" ({notice['missed']} notices before it were missed)" if notice["missed"] else ""
    extra = {"nats_eventbus": notice}
    logger.log(_LEVELS[notice["level"]], "%s%s%s", notice["text"], where, missed, extra=extra)
