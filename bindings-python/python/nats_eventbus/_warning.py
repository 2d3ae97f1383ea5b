"""What the package warns of."""

from __future__ import annotations

__all__ = ["EventBusWarning"]


class EventBusWarning(UserWarning):
    """Something that is allowed and still unwise."""
