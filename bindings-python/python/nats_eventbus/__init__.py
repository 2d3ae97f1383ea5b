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
from ._bus import Bus, ServerInfo
from ._connect import Connecting, connect
from ._consumer import Consumer
from ._dead_letters import DeadLetters
from ._events import Event, Events
from ._handling import Reject, RetryAfter
from ._health import ConsumerHealth, Health
from ._native import DeadLetter, Message, Producer, PubAck, __version__, topic
from ._responder import Responder
from ._settings import Backoff, EventBusWarning, Tls
from ._stream import Stream, StreamInfo
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
    "DeadLetter",
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
