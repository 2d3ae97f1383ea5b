"""The root of all errors."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["EventBusError"]


class EventBusError(Exception):
    """The root of all errors of the bus.

    Attributes:
        code: the stable code of the kind, such as ``"publish.unknown"``.
        retryable: whether the same call may succeed later unchanged.
        topic, stream, group: what is concerned, if anything.
        server: the server's own text, if it said anything.
        id: of a send, the message's id, given or generated: to look for it, or to send it again.
        failures: for a flush, the single failures behind it (at most 100 are kept).
    """

    code: str = "error"
    retryable: bool = False

    def __init__(
        self,
        *args: object,
        topic: str | None = None,
        stream: str | None = None,
        group: str | None = None,
        server: str | None = None,
        id: str | None = None,
        failures: Sequence[EventBusError] = (),
    ) -> None:
        super().__init__(*args)
        self.topic = topic
        self.stream = stream
        self.group = group
        self.server = server
        self.id = id
        self.failures = list(failures)
