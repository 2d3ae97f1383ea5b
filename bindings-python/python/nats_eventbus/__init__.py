"""An event bus on NATS: async producers and consumers over one Rust core.

import nats_eventbus as eb

async with eb.connect("nats://127.0.0.1:4222", jetstream=True) as bus:
    await bus.producer("coze.workflow.42.done").send({"ok": True}, key="doc-7")
    async with bus.consumer("coze.workflow.42.done", group="indexer") as c:
        async for m in c:
            m.ack()
"""

from . import _check_interpreter as _check_interpreter  # first: it says where the rest cannot be loaded
from . import _habits as _habits
from . import _later as _later  # the native module calls it, also in a forked child, which should load nothing
from ._bus import Bus
from ._connect import Connecting
from ._consumer import Consumer
from ._events import Events
from ._generated.connect import connect
from ._generated.nouns import DeadLetter, DeadLetterCursor, DeadLetters, Kv, KvEntry, KvWatch, Stream
from ._generated.records import ConsumerHealth, ConsumerInfo, Event, Health, KvStatus, ServerInfo, StreamInfo
from ._generated.settings import Backoff, KvConfig, Tls
from ._handling import Reject, RetryAfter
from ._native import Message, Producer, PubAck, __version__, topic
from ._responder import Responder
from ._warning import EventBusWarning
from .errors import (
    AuthError,
    Backpressure,
    ClosedError,
    ConfigError,
    ConflictError,
    ConnectionError,
    DecodeError,
    EventBusError,
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
    "AuthError",
    "Backoff",
    "Backpressure",
    "Bus",
    "ClosedError",
    "ConfigError",
    "ConflictError",
    "Connecting",
    "ConnectionError",
    "Consumer",
    "ConsumerHealth",
    "ConsumerInfo",
    "DeadLetter",
    "DeadLetterCursor",
    "DeadLetters",
    "DecodeError",
    "Event",
    "EventBusError",
    "EventBusWarning",
    "Events",
    "Health",
    "InternalError",
    "InvalidHeader",
    "InvalidTopic",
    "Kv",
    "KvConfig",
    "KvEntry",
    "KvStatus",
    "KvWatch",
    "Message",
    "NoResponders",
    "NotFoundError",
    "NotSent",
    "NotSupportedError",
    "PermissionError",
    "Producer",
    "PubAck",
    "PublishRejected",
    "PublishUnknown",
    "Reject",
    "RequestFailed",
    "Responder",
    "RetryAfter",
    "ServerInfo",
    "Stream",
    "StreamFull",
    "StreamInfo",
    "Timeout",
    "Tls",
    "TlsError",
    "TooLarge",
    "WrongSequence",
    "__version__",
    "connect",
    "topic",
]
