"""The errors of the bus: one tree, one stable ``code`` each, the same in every language.

Catch :class:`EventBusError` for all of them, or the kind you can do something about. Where Python has a class of the
same meaning (ValueError, TimeoutError, ConnectionError, PermissionError), the kind is that, too.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence

__all__ = [
    "CLASSES",
    "AuthError",
    "Backpressure",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "ConnectionError",
    "DecodeError",
    "EventBusError",
    "InternalError",
    "InvalidHeader",
    "InvalidTopic",
    "NoResponders",
    "NotFoundError",
    "NotSent",
    "NotSupportedError",
    "PermissionError",
    "PublishRejected",
    "PublishUnknown",
    "RequestFailed",
    "StreamFull",
    "Timeout",
    "TlsError",
    "TooLarge",
    "WrongSequence",
]


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


class ConfigError(EventBusError, ValueError):
    """A setting is wrong: fix the setting named."""

    code = "config"


class ConnectionError(EventBusError, builtins.ConnectionError):
    """No connection: the rest is retried for you."""

    code = "connection"
    retryable = True


class AuthError(ConnectionError):
    """The server refused the credentials: fix them."""

    code = "connection.auth"
    retryable = False


class TlsError(ConnectionError):
    """The TLS handshake failed: fix certificates or names."""

    code = "connection.tls"
    retryable = False


class PermissionError(EventBusError, builtins.PermissionError):
    """The server denies the subject named: ask for the right."""

    code = "permission"


class NotFoundError(EventBusError):
    """The stream, consumer or JetStream itself does not exist: declare it."""

    code = "not_found"


class NotSupportedError(EventBusError):
    """The server or the stream cannot do what was asked: nothing was done."""

    code = "not_supported"


class ConflictError(EventBusError):
    """What exists differs from what was asked: correct one of them."""

    code = "conflict"


class PublishRejected(EventBusError):
    """The message is not stored and never will be: change it or make room."""

    code = "publish.rejected"


class TooLarge(PublishRejected):
    """Body, headers or topic are over a limit."""

    code = "publish.rejected.too_large"


class WrongSequence(PublishRejected):
    """An expected sequence did not match."""

    code = "publish.rejected.wrong_sequence"


class StreamFull(PublishRejected):
    """The stream is at its limit and discards new messages."""

    code = "publish.rejected.stream_full"
    retryable = True


class NotSent(PublishRejected):
    """The message was never handed to a live connection before its deadline."""

    code = "publish.rejected.not_sent"
    retryable = True


class InvalidTopic(PublishRejected, ValueError):
    """The topic cannot be used."""

    code = "publish.rejected.invalid_topic"


class InvalidHeader(PublishRejected, ValueError):
    """A header name or value cannot be sent."""

    code = "publish.rejected.invalid_header"


class PublishUnknown(EventBusError):
    """The deadline passed and the message may be stored: check, or send again with the same id."""

    code = "publish.unknown"
    retryable = True


class Backpressure(EventBusError):
    """The window is full: slow down."""

    code = "backpressure"
    retryable = True


class Timeout(EventBusError, TimeoutError):
    """The time given ran out."""

    code = "timeout"
    retryable = True


class NoResponders(EventBusError):
    """Nobody answers the topic."""

    code = "request.no_responders"
    retryable = True


class RequestFailed(EventBusError):
    """The responder failed; ``server`` holds its own text."""

    code = "request.failed"


class ClosedError(EventBusError):
    """The bus, producer or consumer is closed."""

    code = "closed"


class DecodeError(EventBusError, ValueError):
    """A body is not what it was read as."""

    code = "decode"


class InternalError(EventBusError):
    """A defect in this library: please report it."""

    code = "internal"


CLASSES: dict[str, type[EventBusError]] = {
    c.__name__: c
    for c in (
        ConfigError,
        ConnectionError,
        AuthError,
        TlsError,
        PermissionError,
        NotFoundError,
        NotSupportedError,
        ConflictError,
        PublishRejected,
        TooLarge,
        WrongSequence,
        StreamFull,
        NotSent,
        InvalidTopic,
        InvalidHeader,
        PublishUnknown,
        Backpressure,
        Timeout,
        NoResponders,
        RequestFailed,
        ClosedError,
        DecodeError,
        InternalError,
    )
}
