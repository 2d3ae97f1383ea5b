"""The server a bus talks to."""

from __future__ import annotations

import dataclasses

__all__ = ["ServerInfo"]


@dataclasses.dataclass(frozen=True)
class ServerInfo:
    """The server a bus talks to."""

    name: str
    version: str
    host: str
    port: int
    max_payload: int
    """The largest message it takes, in bytes."""
    jetstream: bool
    cluster: str | None
