"""The errors of the bus: one tree, one stable ``code`` each, the same in every language.

Catch :class:`EventBusError` for all of them, or the kind you can do something about. Where Python has a class of the
same meaning (ValueError, TimeoutError, ConnectionError, PermissionError), the kind is that, too.
"""

from ._error import EventBusError
from ._generated.errors import (
    CLASSES,
    AuthError,
    Backpressure,
    ClosedError,
    ConfigError,
    ConflictError,
    ConnectionError,
    DecodeError,
    InternalError,
    InvalidHeader,
    InvalidTopic,
    NoResponders,
    NotFoundError,
    NotSent,
    NotSupportedError,
    PermissionError,
    PublishRejected,
    PublishUnknown,
    RequestFailed,
    StreamFull,
    Timeout,
    TlsError,
    TooLarge,
    WrongSequence,
)

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

for _class in CLASSES.values():
    # As users import them, and as tracebacks and pickles name them.
    _class.__module__ = "nats_eventbus"
