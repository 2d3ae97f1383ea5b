"""How a bus is."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

__all__ = ["ConsumerHealth", "Health"]

State: TypeAlias = Literal["connecting", "connected", "disconnected", "closed"]


@dataclasses.dataclass(frozen=True)
class ConsumerHealth:
    """A consumer, or a responder, that is open or has failed."""

    topic: str
    """Its topic, with its wildcards."""
    group: str
    """Its group."""
    stream: str | None
    """The stream it reads; None in core mode."""
    error: str | None
    """Why it cannot go on; None while it does."""
    code: str | None
    """The code of that error, such as ``"not_found"``."""


@dataclasses.dataclass(frozen=True)
class Health:
    """How a bus is: for readiness and liveness endpoints. ``dataclasses.asdict`` makes it JSON."""

    ok: bool
    """Whether it can do its work now, which is when there are no problems: readiness."""
    alive: bool
    """Whether it needs no help: False when only a new bus, consumer or process mends it, and not while it is
    reconnecting: liveness."""
    state: State
    """Where the connection stands."""
    server: str | None
    """The server connected to, or last connected to, as ``host:port``."""
    rtt: float | None
    """A round trip to the server and back, through all that is queued before it, in seconds; None without an answer
    in time."""
    jetstream: Literal["off", "ok", "failed", "unknown"]
    """``off``: core mode. ``ok``: it answers. ``failed``: it does not, see ``problems``. ``unknown``: it could not be
    asked, without a connection or without the right to (``$JS.API.INFO``)."""
    reconnects: int
    """Connections made again after a loss."""
    pending_sends: int
    """Sends that have no outcome yet."""
    consumers: list[ConsumerHealth]
    """Consumers and responders, but for those that were closed. One that has failed stays until it is closed, or
    another one of its topic and group goes on."""
    problems: list[str]
    """What is wrong, each with what to do; empty when it is ok."""

    @classmethod
    def _of(cls, found: dict[str, Any]) -> Health:
        consumers = [ConsumerHealth(**c) for c in found.pop("consumers")]
        return cls(consumers=consumers, **found)
