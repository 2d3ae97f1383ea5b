"""Names that other NATS clients have and this package has not: the error for each names ours."""

from __future__ import annotations

from typing import Any, NoReturn

from ._bus import Bus
from ._consumer import Consumer
from ._generated.nouns import DeadLetter
from ._native import Message, Producer

__all__: list[str] = []

_REPLY = "what a responder's handler returns is the reply: see bus.respond(topic, handler)"
_JETSTREAM = "connect(..., jetstream=True) is all; then bus.producer(topic), bus.consumer(topic, group=...)"
_CONSUMER = "bus.consumer(topic, group=...), or bus.on(topic, group=...) with bus.run()"
_STATE = 'bus.state, which is "connecting", "connected", "disconnected" or "closed"'

_OURS: dict[type, dict[str, str]] = {
    Message: {
        "data": "m.body, m.text() or m.json()",
        "subject": "m.topic",
        "header": "m.headers",
        "metadata": "m.attempt, m.sequence, m.stream and m.timestamp",
        "reply": _REPLY,
        "respond": _REPLY,
        "ack_sync": "await m.ack_confirmed()",
        "is_acked": "what m.ack() returns: False when it was settled before",
    },
    DeadLetter: {
        "data": "letter.body, letter.text() or letter.json()",
        "subject": "letter.topic",
        "ack": "await letter.replay(), or await letter.discard()",
    },
    Producer: {
        "publish": "await producer.send(body)",
        "publish_async": "producer.send(body) without waiting for it at once, or producer.send_nowait(body)",
        "drain": "await producer.flush()",
    },
    Consumer: {
        "messages": "async for m in consumer",
        "next_msg": "await anext(consumer), or await consumer.fetch()",
        "next": "await anext(consumer), or await consumer.fetch()",
        "consume": "async for m in consumer, or await consumer.run(handler)",
        "subscribe": "async for m in consumer, or await consumer.run(handler)",
        "unsubscribe": "await consumer.close()",
        "drain": "await consumer.close()",
    },
    Bus: {
        "publish": "await bus.producer(topic).send(body)",
        "subscribe": _CONSUMER,
        "pull_subscribe": _CONSUMER,
        "jetstream": _JETSTREAM,
        "jsm": _JETSTREAM,
        "add_stream": "await bus.declare_stream(name, subjects)",
        "stream_info": "await bus.stream(name).info()",
        "drain": "await bus.close()",
        "flush": "await producer.flush()",
        "rtt": "await bus.health()",
        "is_connected": _STATE,
        "is_connecting": _STATE,
        "is_closed": _STATE,
        "is_reconnecting": _STATE,
        "connected_url": "bus.server",
        "connected_server_version": "bus.server.version",
        "max_payload": "bus.server.max_payload",
        "last_error": "bus.events(), or await bus.health()",
    },
}


class _Elsewhere:
    """A name of other clients."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, of: Any, owner: type) -> NoReturn:
        text = f"a {owner.__name__} of nats-eventbus has no {self._name!r}: use {self._ours}"
        raise AttributeError(text, name=self._name, obj=owner if of is None else of)


def _teach(owner: Any, names: dict[str, str]) -> None:
    for name, ours in names.items():
        elsewhere = _Elsewhere(ours)
        elsewhere.__set_name__(owner, name)
        # Found only where nothing else is: what the class has costs nothing more.
        setattr(owner, name, elsewhere)

    def names_of(this: Any) -> list[str]:
        return sorted(set(object.__dir__(this)) - names.keys())

    owner.__dir__ = names_of


for _owner, _names in _OURS.items():
    _teach(_owner, _names)
