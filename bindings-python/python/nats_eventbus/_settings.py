"""Groups of settings. Defaults and meaning are the core's; here only names, so that editors know them."""

from __future__ import annotations

import dataclasses
import os
from datetime import timedelta
from typing import Any

__all__ = ["Backoff", "EventBusWarning", "Tls"]


class EventBusWarning(UserWarning):
    """Something that is allowed and still unwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backoff:
    """How waiting grows between tries: exponential, jittered, capped. Times in seconds, as a timedelta or
    as text ("250ms")."""

    initial: float | timedelta | str | None = None
    """The first wait; default 0.1 s."""
    max: float | timedelta | str | None = None
    """The longest wait; default 8 s."""
    factor: float | None = None
    """What each wait is multiplied by for the next; default 2."""
    jitter: float | None = None
    """The share of a wait that is random, 0 to 1; default 0.2."""
    attempts: int | None = None
    """Reconnecting: how many times all servers are tried before it is given up; default: for ever."""

    def _settings(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if v is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tls:
    """TLS files, in PEM, read again for every connection. Given at all, TLS is required of every server."""

    ca: str | os.PathLike[str] | None = None
    """The authority to trust, instead of the system's."""
    cert: str | os.PathLike[str] | None = None
    """The client's certificate; needs ``key``."""
    key: str | os.PathLike[str] | None = None
    """The client's private key; needs ``cert``."""
    first: bool | None = None
    """Whether TLS begins before the server's greeting (its ``handshake_first``); default False."""
    server_name: str | None = None
    """The name the servers' certificates must be for; the name sent to them (SNI) stays the host dialled. Default: the
    host dialled."""

    def _settings(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if v is not None}
